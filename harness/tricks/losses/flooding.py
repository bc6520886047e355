"""Flooding: keep the training loss from falling below a level."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from harness.tricks.contract import PARTS, Info, LossStage, NoOp, Run, Search, Trick, at


def flood(loss: Tensor, level: Tensor | float) -> Tensor:
    """|loss - level| + level: gradient descent above the level, ascent below, none at it."""
    return (loss - level).abs() + level


class Flooding(Trick):
    """Ishida et al. 2020, 2002.08709, equation 4."""

    info: ClassVar = Info(
        name="flooding",
        family="losses",
        summary="keep the training loss above a level",
        paper="Ishida, Yamane, Sakai, Niu, Sugiyama 2020, arXiv:2002.08709",
        formula=(
            "L = |L - b| + b on the mean loss of the batch, before other loss terms are added; w (|L - b| + b) where "
            "another trick gives it weight w"
        ),
        expect=(
            "Helps nets that reach zero training loss, above all with label noise, and only after the loss "
            "touches b. Does nothing where the targets' entropy keeps the loss above b (label smoothing 0.1 "
            "on ten classes: 0.5; mixup)."
        ),
        differs="nothing; the unflooded loss is logged as loss/flooding.raw",
        excludes={PARTS: "the level belongs to the loss of the whole batch, not of its parts"},
    )
    b: Annotated[float, Field(ge=0), Search(0.005, 0.2, log=True), NoOp(0)] = 0.05

    @at(LossStage.SHAPE)
    def reduce_loss(self, loss: Tensor, run: Run) -> Tensor:
        """Flood the mean loss of the batch; the level has the weight of the loss."""
        run.log("loss/flooding.raw", loss)
        return flood(loss, self.b * run.weight)
