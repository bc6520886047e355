"""Monte Carlo dropout: the mean prediction of several dropout masks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tricks.contract import Info, ModelStage, NoOp, Predict, Run, Search, Trick, at
from harness.tricks.modules import dropout

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class Masks:
    """Forward pre-hook that drops a module's input in training, and in evaluation while it is asked to."""

    def __init__(self, p: float, training: torch.Generator, evaluation: torch.Generator) -> None:
        self.p, self.training, self.evaluation, self.active = p, training, evaluation, False

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """The module's new arguments; None keeps them."""
        if not (module.training or self.active):
            return None
        return (dropout(args[0], self.p, self.training if module.training else self.evaluation),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Masks:
        return self

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the run keeps its generators."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class McDropout(Trick):
    """Gal & Ghahramani 2015, 1506.02142, section 3."""

    info: ClassVar = Info(
        name="mc_dropout",
        family="evaluation",
        summary="average the predictions of several dropout masks",
        paper="Gal, Ghahramani 2015, arXiv:1506.02142, sections 3 and 4",
        formula="log mean over `passes` masks of softmax f(x, mask); dropout of p before the head, in training, too",
        expect=(
            "Better calibrated probabilities than dropout with one scaled pass, most for images unlike the training's; "
            "accuracy as with dropout, within a few tenths. Compare with dropout at the same p."
        ),
        differs=(
            "Dropout before the last layer alone, where the paper has it before every layer of weights: the posterior "
            "is that of the head."
        ),
        excludes={"dropout": "this brings dropout of its own at the same place"},
    )
    p: Annotated[float, Field(ge=0, lt=1), Search(0.05, 0.7), NoOp(0)] = 0.2
    passes: Annotated[int, Field(ge=1), Search(5, 50, log=True)] = 20

    @at(ModelStage.WRAP)  # after surgery on the head, which would lose the hook
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Hook the head."""
        masks = Masks(self.p, run.rng(self.name), run.rng(f"{self.name}/evaluation"))
        model.head.register_forward_pre_hook(masks)
        run.state[self.name] = masks
        return model

    def predictor(self, predict: Predict, run: Run) -> Predict:
        """Average over masks."""
        masks: Masks = run.state[self.name]

        def predicted(x: Tensor) -> Tensor:
            masks.active = True
            try:
                logs = torch.stack([predict(x).float().log_softmax(-1) for _ in range(self.passes)])
            finally:
                masks.active = False
            return logs.logsumexp(0) - math.log(self.passes)

        return predicted
