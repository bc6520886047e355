"""Bounded outputs: logits pass through a scaled tanh, so that confidence has a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from harness.tricks.contract import Info, ModelStage, Run, Search, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def soft_cap(z: Tensor, cap: float) -> Tensor:
    """Cap tanh(z / cap): in (-cap, cap), with slope one at zero."""
    return cap * (z / cap).tanh()


class CapOutput:
    """Forward hook that bounds a module's output; the module keeps its path and its type."""

    def __init__(self, cap: float) -> None:
        self.cap = cap

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """The bounded output, computed in float32 since it saturates."""
        return soft_cap(output.float(), self.cap)


class SigmoidRange(Trick):
    """fast.ai's sigmoid range for outputs of known range; for logits in the form of Gemma 2, 2408.00118."""

    info: ClassVar = Info(
        name="sigmoid_range",
        family="losses",
        summary="bound the logits by a scaled tanh",
        paper=(
            "practice of the fast.ai courses (Howard et al. 2018, collaborative filtering); on logits Bello, Pham, "
            "Le, Norouzi, Bengio 2016, arXiv:1611.09940; Gemma Team 2024, arXiv:2408.00118"
        ),
        formula="z' = c tanh(z / c), in training and evaluation",
        expect=(
            "Near nothing at the default, since small nets stay within it. A small c bounds the confidence and "
            "with it the loss from below, at log(1 + (K - 1) exp(-2 c)): then it acts like label smoothing, "
            "which may help under label noise. Bounds logits that would run away in long or unstable training."
        ),
        differs=(
            "The original y = lo + (hi - lo) sigmoid(z) is for regression; a classifier has no known range of "
            "outputs, so the range is the choice c. 2 c sigmoid(2 z / c) - c is the same function."
        ),
        excludes={"arcface_head": "its loss reads cosines off logits, which a cap would bend"},
    )
    cap: Annotated[float, Field(gt=0), Search(5.0, 100.0, log=True)] = 30.0

    @at(ModelStage.WRAP)  # after surgery on the head, which would lose the hook
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Hook the head."""
        model.head.register_forward_hook(CapOutput(self.cap))
        return model
