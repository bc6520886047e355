"""Test on larger images than were trained."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from harness.tricks.contract import Info, NoEffect, NoOp, Predict, Run, Search, Trick
from harness.tricks.images import resized
from harness.tricks.modules import check_forward


class TestResolution(Trick):
    """Touvron et al. 2019, 1906.06423, section 3; as in torchvision's and RSB's recipes."""

    __test__: ClassVar = False  # the name is not that of a test case
    info: ClassVar = Info(
        name="test_resolution",
        family="evaluation",
        summary="test on images of a larger side",
        paper="Touvron, Vedaldi, Douze, Jégou 2019, arXiv:1906.06423, section 3; torchvision 2021; RSB 2021",
        formula="evaluation sees images resized to round(scale S) pixels a side, bilinear; training is as before",
        expect=(
            "Undoes what random resized crops do to the size of objects: some tenths to a point on ImageNet, at a "
            "larger side in the test. Without such crops objects have sizes that are new to the network: it loses."
        ),
        differs="The whole image is resized, where recipes also choose the share of it that is cropped",
    )
    scale: Annotated[float, Field(gt=0, le=4), Search(1.05, 1.5), NoOp(1)] = 8 / 7

    def prepare(self, run: Run) -> None:
        """Try the size."""
        side = round(self.scale * run.data.size)
        if side == run.data.size:
            raise NoEffect(f"scale = {self.scale:g} of {run.data.size} pixels is the full size")
        check_forward(run.model, run, side, f"images of {side} pixels a side")

    def predictor(self, predict: Predict, run: Run) -> Predict:
        """Predict from resized images."""
        return lambda x: predict(resized(x, round(self.scale * x.shape[-1])))
