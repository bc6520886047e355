"""Ten crops: the mean prediction over the corners, the centre and their mirror images."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Info, NoEffect, NoOp, NotApplicable, Predict, Run, Search, Trick
from harness.tricks.modules import check_forward


def corners(size: int, side: int) -> list[tuple[int, int]]:
    """Upper left corners of the crops of `side` pixels: four corners of the image, and the centre."""
    end, middle = size - side, (size - side) // 2
    return [(0, 0), (0, end), (end, 0), (end, end), (middle, middle)]


class TenCrop(Trick):
    """Krizhevsky, Sutskever & Hinton 2012, section 4.1."""

    info: ClassVar = Info(
        name="ten_crop",
        family="evaluation",
        summary="average the predictions for corners, centre and mirror images",
        paper="Krizhevsky, Sutskever, Hinton 2012 (NeurIPS 25), section 4.1",
        formula="log mean over ten crops of round(share S) pixels a side of softmax f(crop)",
        expect=(
            "A point or two for networks that were trained on such crops; ten times the time of a test. Where training "
            "saw whole images, a part of each shows things at a place and with a border that are new: expect a loss."
        ),
        differs=(
            "Crops have their own size, which networks with global pooling take. Five crops where a mirror image may "
            "have another class. share = 7/8 is the paper's 224 of 256."
        ),
    )
    share: Annotated[float, Field(gt=0, le=1), Search(0.75, 0.95), NoOp(1)] = 0.875

    def prepare(self, run: Run) -> None:
        """Refuse crops that the data set or the network cannot bear."""
        size = run.data.size
        side = round(self.share * size)
        if side in (0, size):
            raise NoEffect(f"share = {self.share:g} of {size} pixels is {side or 'no'} pixels")
        if (size - side) / size / 2 > run.data.invariances.shift:
            raise NotApplicable(
                f"share = {self.share:g} moves the centre by more than the {run.data.invariances.shift:g} of the side "
                "that this data set allows"
            )
        check_forward(run.model, run, side, f"images of {side} pixels a side")

    def predictor(self, predict: Predict, run: Run) -> Predict:
        """Average over the crops."""

        def predicted(x: Tensor) -> Tensor:
            side = round(self.share * x.shape[-1])
            crops = [x[..., top : top + side, left : left + side] for top, left in corners(x.shape[-1], side)]
            if run.data.invariances.flip:
                crops += [crop.flip(-1) for crop in crops]
            logs = torch.stack([predict(crop.contiguous()).float().log_softmax(-1) for crop in crops])
            return logs.logsumexp(0) - math.log(len(crops))

        return predicted
