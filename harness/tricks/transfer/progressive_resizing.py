"""Train on small images first, at full size in the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from harness.tricks.contract import Batch, BatchStage, Info, NoEffect, NoOp, Run, Search, Trick, at
from harness.tricks.images import resized
from harness.tricks.modules import check_forward


def side(size: int, scale: float, increment: float) -> int:
    """Pixels of a side at a scale in (0, 1], rounded to a multiple of `increment` (a fraction of the side)."""
    grid = max(1, round(increment * size))
    return min(size, max(grid, round(scale * size / grid) * grid))


class ProgressiveResizing(Trick):
    """Howard 2018 (fast.ai, DAWNBench); the schedule is that of Composer; Tan & Le 2021, 2104.00298."""

    info: ClassVar = Info(
        name="progressive_resizing",
        family="transfer",
        kind="protocol",
        summary="let the images grow during training",
        paper=(
            "Howard 2018 (fast.ai, DAWNBench entry); Tan, Le 2021, arXiv:2104.00298 (there with growing "
            "regularisation); schedule: Composer's ProgressiveResizing"
        ),
        formula=(
            "images of side s H, s = initial_scale for the first `delay` of training, then linear to 1, where it "
            "stays for the last `finetune`; sides are multiples of increment H"
        ),
        expect=(
            "Saves time on large images, at little or no loss; the papers use it for speed. Tiny images lose "
            "what defines them: below some ten pixels expect harm. Compare at equal time, too."
        ),
        differs=(
            "Bilinear with antialiasing; every batch is resized after it was made at full size. Strength of "
            "augmentation does not grow with the size as in 2104.00298."
        ),
        cost=0.6,
        measured=(
            "A finding on tiny images: −16.8 points [−19.5, −14.0] on digits (n = 10), which are 4 pixels wide for "
            "half of training. Started at 6 pixels it is −3.4 [−6.2, −0.5]; growing at once and training the last "
            "half at full size, −0.8 [−2.8, 1.2] (n = 5; harness ablate progressive_resizing --set "
            "progressive_resizing.delay=0.0 --set progressive_resizing.finetune=0.5 --experiment digits --seeds 5)."
        ),
    )
    initial_scale: Annotated[float, Field(gt=0, le=1), Search(0.25, 0.9), NoOp(1)] = 0.5
    delay: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.6)] = 0.5
    finetune: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.3)] = 0.2
    increment: Annotated[float, Field(gt=0, le=0.5), Search(0.0625, 0.25)] = 0.125

    @model_validator(mode="after")
    def _fits(self) -> ProgressiveResizing:
        if self.delay + self.finetune > 1:
            raise ValueError(f"delay + finetune = {self.delay + self.finetune:g} exceeds one")
        return self

    def scale(self, progress: float) -> float:
        """Scale of the side at a fraction of training."""
        if progress >= 1 - self.finetune:
            return 1.0
        growth = max(0.0, progress - self.delay) / max(1e-9, 1 - self.finetune - self.delay)
        return self.initial_scale + (1 - self.initial_scale) * min(1.0, growth)

    def prepare(self, run: Run) -> None:
        """Try the smallest size."""
        smallest = side(run.data.size, self.scale(0.0), self.increment)
        if smallest == run.data.size:
            raise NoEffect("images have their full size all through training")
        check_forward(run.model, run, smallest, f"images of {smallest} pixels a side")

    @at(BatchStage.RESIZE)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Resize the batch to the size of the hour."""
        full = batch.x.shape[-1]
        now = side(full, self.scale(run.progress), self.increment)
        if now == full:
            return batch
        return replace(batch, x=resized(batch.x, now))
