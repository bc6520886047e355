"""Train on smaller images than are tested."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from harness.tricks.contract import Batch, BatchStage, Info, NoEffect, NoOp, Run, Search, Trick, at
from harness.tricks.images import resized
from harness.tricks.modules import check_forward


class TrainResolution(Trick):
    """Touvron et al. 2019, 1906.06423, section 3; as in torchvision's recipe of 2021."""

    info: ClassVar = Info(
        name="train_resolution",
        family="evaluation",
        summary="train on images of a smaller side, test at the full one",
        paper="Touvron, Vedaldi, Douze, Jégou 2019, arXiv:1906.06423, section 3; torchvision 2021 (176 for 224)",
        formula="training batches are resized to round(scale S) pixels a side, bilinear; evaluation sees S",
        expect=(
            "Random crops make objects larger in training than in tests, which a smaller training size undoes, at half "
            "the time: +0.16 points in torchvision's recipe. Without such crops there is nothing to undo, and on tiny "
            "images the loss of detail and the mismatch hurt."
        ),
        differs="Images of one size are resized after augmentation, where the paper crops photographs at another size",
        cost=0.65,
    )
    scale: Annotated[float, Field(gt=0, le=2), Search(0.5, 0.95), NoOp(1)] = 0.786

    def prepare(self, run: Run) -> None:
        """Try the size."""
        side = round(self.scale * run.data.size)
        if side == run.data.size:
            raise NoEffect(f"scale = {self.scale:g} of {run.data.size} pixels is the full size")
        check_forward(run.model, run, side, f"images of {side} pixels a side")

    @at(BatchStage.RESIZE)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Resize."""
        return replace(batch, x=resized(batch.x, round(self.scale * batch.x.shape[-1])))
