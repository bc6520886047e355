"""Batch norms that keep their running statistics, or their scales and shifts."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from harness.tricks.contract import Choice, Info, NoEffect, Run, Search, Trick
from harness.tricks.modules import batch_norms


class BnFreeze(Trick):
    """fast.ai's bn_freeze; in detection He et al. 2015, 1512.03385, appendix A."""

    info: ClassVar = Info(
        name="bn_freeze",
        family="transfer",
        kind="fine-tuning",
        summary="stop batch norms from following the batch",
        paper="fastai (bn_freeze); He, Zhang, Ren, Sun 2015, arXiv:1512.03385, appendix A",
        formula=(
            "from the first epoch at or after `start`: batch norms normalise by their running statistics, which "
            "stay (stats), and their scale and shift are not trained (affine)"
        ),
        expect=(
            "Helps fine-tuning with small batches or on data that resemble the source. In a network trained "
            "from scratch `start = 0` means no normalisation at all, because statistics stay at mean 0 and "
            "variance 1; a late start makes training see what evaluation sees."
        ),
        differs=(
            "The method keeps statistics that were learned before. The networks here start from scratch and have none, "
            "so the arm measures their absence; `start` is an addition that lets them be learned first."
        ),
        cost=0.95,
        excludes={"gradual_unfreezing": "each decides which parameters have gradients"},
        measured=(
            "As expected from scratch: −78.3 points [−86.5, −70.1] on digits, with one seed of ten diverged, and "
            "−76.8 [−79.3, −74.3] on noisy digits (n = 10)."
        ),
    )
    stats: Annotated[Literal["frozen", "live"], Choice(("frozen", "live"))] = "frozen"
    affine: Annotated[Literal["frozen", "live"], Choice(("frozen", "live"))] = "live"
    start: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.9)] = 0.0

    def prepare(self, run: Run) -> None:
        """Refuse to pretend."""
        if self.stats == self.affine == "live":
            raise NoEffect("neither statistics nor scales are frozen, as in the baseline")
        if not batch_norms(run.model):
            raise NoEffect("needs batch norms with running statistics, and the model has none")
        if math.ceil(self.start * run.recipe.epochs) >= run.recipe.epochs:
            raise NoEffect(f"no epoch of {run.recipe.epochs} begins at or after start = {self.start:g}")

    def epoch_start(self, run: Run) -> None:
        """Batch norms follow `model.train()`, so they are frozen again before every epoch."""
        if run.epoch < self.start * run.recipe.epochs:
            return
        for norm in batch_norms(run.model):
            if self.stats == "frozen":
                norm.eval()
            if self.affine == "frozen":  # without gradients, the optimizer passes them over
                for parameter in norm.parameters(recurse=False):
                    parameter.requires_grad_(False)
