"""Test-time augmentation of airbench: mirror images, and two diagonal shifts by a pixel."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Info, NotApplicable, Predict, Run, Search, Trick


def diagonal(x: Tensor, step: int) -> Tensor:
    """Images (N, C, H, W) moved down and right by `step` pixels (up and left if negative), reflected at the border."""
    pad = abs(step)
    padded = F.pad(x, [pad] * 4, mode="reflect")
    start, side = pad - step, x.shape[-1]
    return padded[..., start : start + x.shape[-2], start : start + side]


class MirrorShiftTta(Trick):
    """Jordan 2024, 2404.00498, section 3.5 ("multi-crop" evaluation)."""

    info: ClassVar = Info(
        name="mirror_shift_tta",
        family="evaluation",
        summary="average over the image and two shifts, half the weight each, and their mirror images",
        paper="Jordan 2024, arXiv:2404.00498, section 3.5 and code (tta_level = 2)",
        formula=(
            "m(x) / 2 + m(x moved up and left) / 4 + m(x moved down and right) / 4, m(x) = [f(x) + f(mirror x)] / 2, f "
            "the logits"
        ),
        expect=(
            "About half a point on CIFAR-10 after training with such flips and shifts, for six times the evaluation. "
            "Less where training is long; nothing where it saw no shifts."
        ),
        differs=(
            "A pixel of 32 is a share of 1/32 of the side, and at least a pixel. No mirror images where they may have "
            "another class."
        ),
    )
    shift: Annotated[float, Field(gt=0, le=0.5), Search(0.03, 0.125)] = 0.03125

    def predictor(self, predict: Predict, run: Run) -> Predict:
        """Average over the views."""
        step, allowed = max(1, round(self.shift * run.data.size)), run.data.invariances
        if step / run.data.size > allowed.shift:
            raise NotApplicable(
                f"a shift of {step} pixels is more than the {allowed.shift:g} that this data set allows"
            )

        def both(x: Tensor) -> Tensor:
            logits = predict(x).float()
            return (logits + predict(x.flip(-1)).float()) / 2 if allowed.flip else logits

        return lambda x: both(x) / 2 + (both(diagonal(x, -step)) + both(diagonal(x, step))) / 4
