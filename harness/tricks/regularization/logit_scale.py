"""A constant factor on the logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from harness.tricks.contract import Info, ModelStage, NoOp, Run, Search, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class Scaled:
    """Forward hook that multiplies a module's output."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """The new output."""
        return self.scale * output


class LogitScale(Trick):
    """Page 2018 (myrtle.ai); Jordan 2024, 2404.00498, appendix."""

    info: ClassVar = Info(
        name="logit_scale",
        family="regularization",
        summary="multiply the logits by a constant",
        paper="Page 2018 (myrtle.ai, How to train your ResNet), with 1/8; Jordan 2024, arXiv:2404.00498, with 1/9",
        formula="z = scale W f + scale b, in training and evaluation",
        expect=(
            "Keeps first predictions flat at high rates, and slows the head down by the square of the scale against "
            "the rest. Part of the fastest CIFAR-10 trainings; alone and at usual rates a slower head, so expect a "
            "loss in short runs. The most probable class stays the same."
        ),
        differs="nothing",
    )
    scale: Annotated[float, Field(gt=0), Search(0.02, 0.5, log=True), NoOp(1)] = 1 / 9

    @at(ModelStage.WRAP)  # after surgery on the head, which would lose the hook
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Hook the head."""
        model.head.register_forward_hook(Scaled(self.scale))
        return model
