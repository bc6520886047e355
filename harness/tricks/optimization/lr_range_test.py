"""Learning-rate range test: a short sweep before training proposes the peak rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from harness.tricks.contract import RATE, Added, Batch, Choice, Info, NotApplicable, Run, Search, Trick
from harness.tricks.images import TrainingPixels
from harness.tricks.probes import preserved

Rule = Literal["steepest", "valley", "min_over_10"]


def sweep(start: float, end: float, steps: int) -> list[float]:
    """Rates from `start` to `end` in equal ratios."""
    return [start * (end / start) ** (i / (steps - 1)) for i in range(steps)]


def propose(lrs: Sequence[float], losses: Sequence[float], rule: Rule) -> float:
    """The rate that a rule reads off a curve of smoothed losses.

    steepest: where the loss falls fastest against log lr. min_over_10: a tenth of the rate of least loss.
    valley: half-way through the longest falling sequence of losses, gaps allowed.
    """
    if rule == "min_over_10":
        return lrs[min(range(len(losses)), key=losses.__getitem__)] / 10
    if rule == "steepest":
        slopes = [losses[i + 1] - losses[i - 1] for i in range(1, len(losses) - 1)]
        return lrs[1 + min(range(len(slopes)), key=slopes.__getitem__)]
    length, before = [1] * len(losses), [-1] * len(losses)
    for i in range(len(losses)):
        for j in range(i):
            if losses[j] > losses[i] and length[j] + 1 > length[i]:
                length[i], before[i] = length[j] + 1, j
    last = first = max(range(len(losses)), key=length.__getitem__)
    while before[first] >= 0:
        first = before[first]
    return lrs[(first + last) // 2]


class LrRangeTest(Trick):
    """Smith 2015, 1506.01186, section 3.3; the rules and defaults are those of the fastai library.

    low, high: the sweep's ends. smoothing: weight of the past in the running mean of the losses. share: of the rate
    that is found, so much is used.
    """

    info: ClassVar = Info(
        name="lr_range_test",
        family="optimization",
        kind="value",
        summary="find the peak learning rate by a short sweep before training",
        paper="Smith 2015, arXiv:1506.01186; rules: Howard, Gugger 2020, arXiv:2002.04688",
        formula=(
            "lr_i = low (high / low)^(i / (n - 1)) for n updates; from the smoothed losses, without the first tenth "
            "and the last 5, take the rate of steepest fall, the middle of the valley, or a tenth of that of the least"
        ),
        expect=(
            "Helps a recipe whose rate was never tuned, on a new data set or network. A tuned rate it can only miss: "
            "the sweep sees few updates, and with momentum and small batches its curve is noisy."
        ),
        differs=(
            "Batches come from the training split with the recipe's augmentation, under the arm's loss, network and "
            "optimizer, but without its batch and gradient tricks and in one precision. Weights, buffers, optimizer, "
            "streams and state are put back to the bit. Groups keep the ratios of their rates."
        ),
        excludes={"linear_lr_scaling": "the test replaces the rate that it scales"},
        measured=(
            "Unstable on noisy digits: −14.6 points [−34.3, 5.1] (n = 10); in three of ten seeds the steepest fall of "
            "a noisy curve lies at a rate that ruins the run. On clean digits −0.4 [−2.0, 1.1]. The valley rule errs "
            "the other way: rates of 0.001 to 0.007, −64.6 points [−84.2, −45.0] in 40 epochs (n = 5)."
        ),
    )
    low: Annotated[float, Field(gt=0), Search(1e-8, 1e-5, log=True)] = 1e-7
    high: Annotated[float, Field(gt=0), Search(1.0, 100.0, log=True)] = 10.0
    steps: Annotated[int, Field(ge=20), Search(50, 400, log=True)] = 100
    smoothing: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.98, log1m=True)] = 0.98
    rule: Annotated[Rule, Choice(("steepest", "valley", "min_over_10"))] = "steepest"
    share: Annotated[float, Field(gt=0), RATE, Added(1.0)] = 1.0

    def prepare(self, run: Run) -> None:
        """Sweep, put everything back, and set the rates."""
        with preserved(run):
            lrs, losses = self._sweep(run)
        if run.rehearsal:  # one update, which says nothing of rates
            run.state[self.name] = {"lr": self.low}
            return
        kept = slice(self.steps // 10, len(losses) - 5)
        if len(losses[kept]) < 3:
            raise NotApplicable(f"the loss left all bounds after {len(losses)} updates; lower `low` or raise `steps`")
        lr = self.share * propose(lrs[kept], losses[kept], self.rule)
        reference = run.optimizer.param_groups[0]["initial_lr"]
        for group in run.optimizer.param_groups:
            group["initial_lr"] = lr * (group["initial_lr"] / reference)
        run.state[self.name] = {"lr": lr}

    def _sweep(self, run: Run) -> tuple[list[float], list[float]]:
        """Rates and smoothed losses, until the end or until the loss is four times the least."""
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
            if not math.isfinite(smooth) or (losses and smooth > 4 * min(losses)):
                break
            lrs.append(lr)
            losses.append(smooth)
        return lrs, losses

    def epoch_end(self, run: Run) -> None:
        """Log the rate that was found, once."""
        if run.epoch == 0:
            run.log("lr_range_test.lr", torch.tensor(run.state[self.name]["lr"], device=run.device))
