"""Test-time augmentation: average the predictions for several views of an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Choice, Info, Invariances, NoOp, NotApplicable, Predict, Run, Search, Trick

View = Callable[[Tensor], Tensor]


def mirror(x: Tensor) -> Tensor:
    """Left and right exchanged."""
    return x.flip(-1)


def shifted(x: Tensor, down: int, right: int) -> Tensor:
    """Images (N, C, H, W) moved by whole pixels, with black where nothing moved in."""
    out = torch.zeros_like(x)
    height, width = x.shape[-2:]
    into = (slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0)))
    origin = (slice(max(-down, 0), height + min(-down, 0)), slice(max(-right, 0), width + min(-right, 0)))
    out[..., into[0], into[1]] = x[..., origin[0], origin[1]]
    return out


def average(predict: Predict, views: Sequence[View], identity_weight: float, space: str) -> Predict:
    """Predictions for the image itself, weighing `identity_weight`, and for `views`, sharing the rest.

    In the space "logit" the result is the weighted mean of logits; in "prob" it is the logarithm of the
    weighted mean of probabilities.
    """
    share = (1 - identity_weight) / max(1, len(views))

    def predicted(x: Tensor) -> Tensor:
        out = [(identity_weight, predict(x).float())] + [(share, predict(view(x)).float()) for view in views]
        if space == "logit":
            return torch.stack([weight * z for weight, z in out]).sum(0)
        logs = [z.log_softmax(-1) + math.log(weight) for weight, z in out if weight > 0]
        return torch.stack(logs).logsumexp(0)

    return predicted


def views_for(kind: str, allowed: Invariances, size: int, fraction: float) -> list[View]:
    """The views of a kind: the mirror image, or one step in each of four directions.

    Raises:
        NotApplicable: a view would show another class, or the step is less than half a pixel.
    """
    kind = ("flip" if allowed.flip else "shift") if kind == "auto" else kind
    views: list[View] = []
    if "flip" in kind:
        if not allowed.flip:
            raise NotApplicable("a mirror image of this data set may show another class; use views = 'shift'")
        views.append(mirror)
    if "shift" in kind:
        step = round(fraction * size)
        if fraction > allowed.shift:
            raise NotApplicable(f"shift = {fraction} is more than the {allowed.shift} that this data set allows")
        if step == 0:
            raise NotApplicable(f"shift = {fraction} is less than half a pixel of {size}")
        moves = ((step, 0), (-step, 0), (0, step), (0, -step))
        views += [partial(shifted, down=down, right=right) for down, right in moves]
    return views


class TestTimeAugmentation(Trick):
    """Krizhevsky, Sutskever, Hinton 2012, section 4.1; Shanmugam et al. 2020, 2011.11156."""

    __test__: ClassVar = False  # the name is not that of a test case
    info: ClassVar = Info(
        name="test_time_augmentation",
        family="evaluation",
        summary="average predictions over mirrored or shifted views",
        paper="Krizhevsky, Sutskever, Hinton 2012 (NeurIPS 25); Shanmugam et al. 2020, arXiv:2011.11156",
        formula=("w f(x) + (1 - w) mean over views v of f(v(x)), for logits f, or probabilities then logarithm"),
        expect=(
            "Helps a little where training saw such views or the classes allow them; hurts where the net "
            "never saw them. Training costs the same; evaluation costs one forward pass more for each "
            "view."
        ),
        differs=(
            "auto: mirror where the data set allows it, else one step of `shift` in four directions with "
            "black border; fixed weights, not learned ones"
        ),
    )
    views: Annotated[
        Literal["auto", "flip", "shift", "flip+shift"], Choice(("auto", "flip", "shift", "flip+shift"))
    ] = "auto"
    shift: Annotated[float, Field(gt=0, le=0.5), Search(0.03, 0.125)] = 0.125
    identity_weight: Annotated[float, Field(ge=0, le=1), Search(0.0, 0.9), NoOp(1)] = 0.5
    space: Annotated[Literal["logit", "prob"], Choice(("logit", "prob"))] = "logit"

    def predictor(self, predict: Predict, run: Run) -> Predict:
        """Average over the image and its views."""
        views = views_for(self.views, run.data.invariances, run.data.size, self.shift)
        return average(predict, views, self.identity_weight, self.space)
