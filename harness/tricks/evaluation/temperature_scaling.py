"""Temperature scaling: one number, fitted on held-out images, divides the logits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import (
    Info,
    NotApplicable,
    Predict,
    Rows,
    Run,
    Search,
    TrainingSet,
    Trick,
    at_once,
    to_pixels,
)

LOWEST, HIGHEST, ROUNDS = math.log(0.05), math.log(50.0), 60
"""Logarithms of the temperatures between which it is looked for, and halvings of that range."""


def fitted_temperature(logits: Tensor, label: Tensor) -> float:
    """The T > 0 that minimises the mean cross-entropy of logits / T (N, K), which is convex in 1 / T; by bisection."""
    z = logits.double()
    own = z.gather(1, label[:, None])[:, 0]
    low, high = LOWEST, HIGHEST
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        # The slope with respect to 1 / T: mean of the expected minus the right logit.
        slope = ((z * F.softmax(z / math.exp(middle), -1)).sum(-1) - own).mean()
        low, high = (middle, high) if slope > 0 else (low, middle)
    return math.exp((low + high) / 2)


class Kept:
    """Images with labels that training does not see."""

    def __init__(self, rows: Rows, label: Tensor, peak: int) -> None:
        self.rows, self.label, self.peak = rows, label, peak

    def state_dict(self) -> dict[str, Any]:
        """Nothing: it is made again from the data."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class TemperatureScaling(Trick):
    """Guo et al. 2017, 1706.04599, section 4.2."""

    info: ClassVar = Info(
        name="temperature_scaling",
        family="evaluation",
        summary="divide the logits by a number that is fitted on held-out images",
        paper="Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599, section 4.2",
        formula="softmax(z / T), T minimises the cross-entropy on the images that were held out",
        expect=(
            "Better calibration (ECE, NLL) of overconfident networks, the same class everywhere. Accuracy can only "
            "lose, by the images that training does not see."
        ),
        differs=(
            "The images are a `share` of the training split, since the validation split decides about arms; the paper "
            "fits on a validation set. T is fitted anew before every evaluation, in [0.05, 50]."
        ),
    )
    share: Annotated[float, Field(gt=0, lt=1), Search(0.05, 0.3)] = 0.1

    def dataset(self, train: TrainingSet, run: Run) -> TrainingSet:
        """Hold some images out."""
        order = torch.from_numpy(run.numpy(self.name).permutation(len(train.label)))
        held = max(1, round(self.share * len(order)))
        if len(order) - held < run.recipe.batch_size:
            raise NotApplicable(f"share = {self.share:g} leaves {len(order) - held} images, which is less than a batch")
        out, kept = order[:held].sort().values, order[held:].sort().values
        run.state[self.name] = Kept(train.rows.select(out), train.label[out], train.peak)
        y = None if train.y is None else train.y[kept]
        return replace(train, images=train.rows.select(kept), label=train.label[kept], index=train.index[kept], y=y)

    @torch.no_grad()
    def predictor(self, predict: Predict, run: Run) -> Predict:
        """Fit the temperature, and divide by it."""
        kept: Kept = run.state[self.name]
        parts = []
        for at in torch.split(torch.arange(len(kept.rows)), at_once(kept.rows.side, 500, run.device)):
            x = to_pixels(kept.rows.take(at).to(run.device), kept.peak, run.recipe.channels_last)
            parts.append(predict(x).float())
        temperature = fitted_temperature(torch.cat(parts), kept.label.to(run.device))
        return lambda x: predict(x) / temperature
