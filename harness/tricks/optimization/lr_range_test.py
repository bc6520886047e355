"""Learning-rate range test: a short sweep before training proposes the peak rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from harness.tricks.contract import RATE, Added, Batch, Choice, Info, NotApplicable, Run, Search, Trick
from harness.tricks.images import TrainingPixels
from harness.tricks.probes import preserved

Rule = Literal["valley", "steep", "minimum", "slide"]

APART, FLAT = 15, 0.005
"""Of `slide`: how many losses its window spans, and below which difference their slopes are alike."""


def sweep(low: float, high: float, steps: int) -> list[float]:
    """Rates from `low` on in equal ratios; `high` would be the next one."""
    return [low * (high / low) ** (i / steps) for i in range(steps)]


def judged(losses: Sequence[float], steps: int) -> slice:
    """What a rule looks at of the losses of a sweep: not the first tenth, the last 5, or anything from NaN on."""
    finite = next((i for i, loss in enumerate(losses) if math.isnan(loss)), len(losses) - 5)
    return slice(steps // 10, max(0, min(finite, steps - 5)))


def longest_fall(losses: Sequence[float]) -> tuple[int, int]:
    """Length and last position of the longest falling sequence of losses, gaps allowed; the first of equal ones."""
    length = [1] * len(losses)
    for i in range(len(losses)):
        length[i] += max((length[j] for j in range(i) if losses[j] > losses[i]), default=0)
    last = max(range(len(losses)), key=length.__getitem__)
    return length[last], last


def propose(lrs: Sequence[float], losses: Sequence[float], rule: Rule) -> float:
    """The rate that a rule of fastai reads off a curve of smoothed losses, over rates in equal ratios.

    valley: half-way through as many rates as the longest falling sequence of losses has, up to its end. steep: the rate
    from which the loss falls fastest to the next. minimum: a tenth of the rate of least loss. slide: a window goes back
    from the end as long as the slopes at its edges differ; the left edge of the last one.

    Raises:
        NotApplicable: the curve has fewer points than the rule's window.
    """
    if rule == "minimum":
        return lrs[min(range(len(losses)), key=losses.__getitem__)] / 10
    if rule == "steep":
        falls = [b - a for a, b in pairwise(losses)]
        return lrs[min(range(len(falls)), key=falls.__getitem__)]
    if rule == "valley":
        length, last = longest_fall(losses)
        return lrs[max(0, last - length + length // 3 + length // 6)]
    if len(losses) <= APART:
        raise NotApplicable(f"rule = slide needs {APART + 1} losses, and the sweep left {len(losses)}; raise `steps`")
    slopes = np.gradient(np.asarray(losses))
    left = len(losses) - 1 - APART
    found = left
    while left >= 0 and abs(slopes[left + APART] - slopes[left]) > FLAT:
        found, left = left, left - 1
    return lrs[found]


class LrRangeTest(Trick):
    """Smith 2017, 1506.01186, section 3.3; sweep, rules and defaults are those of the fastai library.

    low, high: the sweep's ends. smoothing: weight of the past in the running mean of the losses. share: of the rate
    that is found, so much is used.
    """

    info: ClassVar = Info(
        name="lr_range_test",
        family="optimization",
        kind="value",
        summary="find the peak learning rate by a short sweep before training",
        paper="Smith 2017, arXiv:1506.01186; sweep and rules: fastai, Howard, Gugger 2020, arXiv:2002.04688",
        formula=(
            "lr_i = low (high / low)^(i / n) at updates i < n, until the smoothed loss is 4 times the least; from the "
            "losses, without the first tenth and the last 5, take the rate half-way through the longest fall (valley), "
            "of the steepest fall, a tenth of that of the least loss, or where the slope settles from the end (slide)"
        ),
        expect=(
            "Helps a recipe whose rate was never tuned, on a new data set or network. A tuned rate it can only miss: "
            "the sweep sees few updates, and with momentum and small batches its curve is noisy."
        ),
        differs=(
            "The paper raises the rate linearly over some epochs and reads two bounds of a cyclical rate off the "
            "accuracy by eye; the geometric sweep of losses and its rules are fastai's. There, the rate found is the "
            "peak of one cycle; here, of the arm's schedule. Batches come from the training split with the recipe's "
            "augmentation, under the arm's loss, network and optimizer, but without its batch and gradient tricks and "
            "in one precision. Weights, buffers, optimizer, streams and state are put back to the bit. Groups keep "
            "the ratios of their rates."
        ),
        version=2,
        excludes={"linear_lr_scaling": "the test replaces the rate that it scales"},
        measured=(
            "It misses rates that were tuned: −12.4 points [−18.7, −6.1] on digits, −2.9 [−6.7, 0.8] on noisy "
            "digits (n = 10)."
        ),
    )
    low: Annotated[float, Field(gt=0), Search(1e-8, 1e-5, log=True)] = 1e-7
    high: Annotated[float, Field(gt=0), Search(1.0, 100.0, log=True)] = 10.0
    steps: Annotated[int, Field(ge=20), Search(50, 400, log=True)] = 100
    smoothing: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.98, log1m=True)] = 0.98
    rule: Annotated[Rule, Choice(("valley", "steep", "minimum", "slide"))] = "valley"
    share: Annotated[float, Field(gt=0), RATE, Added(1.0)] = 1.0

    def prepare(self, run: Run) -> None:
        """Sweep, put everything back, and set the rates."""
        with preserved(run):
            lrs, losses = self._sweep(run)
        if run.rehearsal:  # one update, which says nothing of rates
            run.state[self.name] = {"lr": self.low}
            return
        kept = judged(losses, self.steps)
        if len(losses[kept]) < 3:
            raise NotApplicable(f"the loss left all bounds after {len(losses)} updates; lower `low` or raise `steps`")
        lr = self.share * propose(lrs[kept], losses[kept], self.rule)
        reference = run.optimizer.param_groups[0]["initial_lr"]
        for group in run.optimizer.param_groups:
            group["initial_lr"] = lr * (group["initial_lr"] / reference)
        run.state[self.name] = {"lr": lr}

    def _sweep(self, run: Run) -> tuple[list[float], list[float]]:
        """Rates and smoothed losses, up to the end or the first loss that is four times the least, or no number."""
        pixels, stream, groups = TrainingPixels(run), run.rng(self.name), run.optimizer.param_groups
        label, index = run.train.label.to(run.device), run.train.index.to(run.device)
        reference = groups[0]["initial_lr"]
        lrs: list[float] = []
        losses: list[float] = []
        mean = 0.0
        run.model.train()
        for i, lr in enumerate(sweep(self.low, self.high, self.steps)[: 1 if run.rehearsal else None]):
            for group in groups:
                group["lr"] = lr * (group["initial_lr"] / reference)
            positions = torch.randperm(len(label), generator=stream, device=run.device)[: run.recipe.batch_size]
            x, y = pixels.draw(positions, stream, run.data.size)
            run.optimizer.zero_grad(set_to_none=True)
            loss = run.loss(Batch(x, y, label[positions], index[positions]))
            torch.autograd.backward(loss)
            run.optimizer.step()
            mean = self.smoothing * mean + (1 - self.smoothing) * float(loss.detach())
            smooth = mean / (1 - self.smoothing ** (i + 1))
            lrs.append(lr)
            losses.append(smooth)
            if not math.isfinite(smooth) or smooth > 4 * min(losses):
                break
        return lrs, losses

    def epoch_end(self, run: Run) -> None:
        """Log the rate that was found, once."""
        if run.epoch == 0:
            run.log("lr_range_test.lr", torch.tensor(run.state[self.name]["lr"], device=run.device))
