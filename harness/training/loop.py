"""The training loop. Every hook of the contract that acts during training is called from here.

for each epoch
    epoch_start
    for each batch                  already augmented, on the device
        batch                       images and targets change together
        step                        on a GPU it can be captured once and replayed, see graph.py
            gradient( closure )     forward, criterion, example weights, mean, reduce_loss, loss terms
            on_gradients            at their true scale
            optimizer step          learning rate read from a table
        after_step
    epoch_end, validation           the only transfers to the host
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.data.rows import memory_format
from harness.training.precision import Amp
from harness.tricks.contract import PARTS, Batch, Run
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.probes import preserved
from harness.tricks.stack import Stack


class Batches(Protocol):
    """What gives the batches of an epoch; `data.batches.Loader`, or a part of it."""

    def epoch(self, positions: Tensor | None = None) -> Iterator[Batch]:
        """The batches of one epoch, of these positions or of all in a new order."""
        ...


class Diverged(Exception):
    """The training loss is not finite any more."""


@dataclass
class Clock:
    """Time spent in whole epochs of training, evaluation left out: wall and process CPU seconds."""

    wall: float = 0.0
    cpu: float = 0.0
    steps: int = 0


@dataclass(frozen=True)
class CurvePoint:
    """One value of a curve, after `epoch` epochs and `step` updates."""

    epoch: int
    step: int
    split: str
    metric: str
    value: float


def total_loss(run: Run, stack: Stack, amp: Amp) -> Callable[[Batch], Tensor]:
    """The function from a batch to the loss that is minimised: forward pass, criterion, weights, mean, terms."""
    criterion = stack.slot("criterion", lambda logits, y, run: soft_cross_entropy(logits, y))
    forward = compiled(run, amp) if run.recipe.compile else run.model
    parts = stack.plays(PARTS)

    def loss_of(batch: Batch) -> Tensor:
        with amp.autocast():
            logits = forward(batch.x)
        logits = logits.float()
        losses = stack.weigh(criterion(logits, batch.y, run), batch, logits, run)
        loss = stack.add_terms(stack.fold("reduce_loss", losses.mean(), run), batch, logits, run)
        run.again = not parts
        return loss

    return loss_of


def compiled(run: Run, amp: Amp) -> Callable[[Tensor], Tensor]:
    """The network compiled for training batches, and tried on one, so that no step is timed with the compiler."""
    # A worker compiles for many arms. Unless told to look at hooks, the compiler takes what it made for a network
    # without them for one that differs in them alone.
    torch._dynamo.config.skip_nnmodule_hook_guards = False
    forward: Callable[[Tensor], Tensor] = torch.compile(run.model)
    side = run.data.size
    x = torch.zeros(run.recipe.batch_size, run.data.channels, side, side, device=run.device)
    with preserved(run):
        with amp.autocast():
            logits = forward(x.contiguous(memory_format=memory_format(run.recipe.channels_last)))
        torch.autograd.backward(logits.float().sum())
    return forward


def default_gradient(closure: Callable[[Batch], Tensor], batch: Batch, run: Run) -> Tensor:
    """One forward and one backward pass."""
    loss = closure(batch)
    run.backward(loss)
    return loss


def step_of(run: Run, stack: Stack, amp: Amp) -> Callable[[Batch], Tensor]:
    """The function from a batch to its loss that makes one update: gradient, gradient hooks, optimizer."""
    gradient, on_gradients = stack.slot("gradient", default_gradient), stack.hooks("on_gradients")
    parameters = [p for group in run.optimizer.param_groups for p in group["params"]]

    def step(batch: Batch) -> Tensor:
        run.optimizer.zero_grad(set_to_none=True)
        run.again = False
        loss: Tensor = gradient(run.loss, batch, run)
        if on_gradients:
            run.unscale()
            for hook in on_gradients:
                hook(parameters, run)
        amp.step(run.optimizer)
        return loss

    return step


def train(
    run: Run,
    stack: Stack,
    loader: Batches,
    step: Callable[[Batch], Tensor],
    lr_factors: Sequence[float],
    validate: Callable[[], dict[str, float]],
    clock: Clock,
    check: bool = False,
) -> Iterator[list[CurvePoint]]:
    """Train from `run.epoch` to the end, yielding the curve points of each epoch.

    Args:
        run: with model and optimizer ready; its step, epoch and logs are advanced.
        stack: the arm's tricks.
        loader: batches of the training split.
        step: makes one update on a batch and returns the loss; `step_of` or a graph of it.
        lr_factors: factor on every group's initial rate, one for each update.
        validate: metrics of the validation split with the weights that would be evaluated now.
        clock: collects the time of training steps.
        check: verify the contract's invariants at every step (slow).

    Raises:
        Diverged: the mean loss of an epoch is not finite.
    """
    after_step = stack.hooks("after_step")
    evaluate_after = evaluation_epochs(run.recipe.epochs, run.recipe.evaluations)
    sampler = stack.slot("sampler", lambda train, run: None)
    while run.epoch < run.recipe.epochs:
        wall, cpu = time.perf_counter(), time.process_time()
        run.model.train()
        first = run.step
        stack.notify("epoch_start", run)
        for batch in loader.epoch(sampler(run.train, run)):
            for group in run.optimizer.param_groups:
                set_rate(group, group["initial_lr"] * lr_factors[run.step])
            changed = stack.fold("batch", batch, run)
            if check:
                verify(batch, changed)
            run.log("loss", step(changed))
            run.step += 1
            for hook in after_step:
                hook(run)
        stack.notify("epoch_end", run)
        run.epoch += 1

        points = [_point(run, "train", name, float(total) / n) for name, (total, n) in run.logged.items()]
        run.logged.clear()  # float() above waited for the device, so the clock below is honest
        clock.wall += time.perf_counter() - wall
        clock.cpu += time.process_time() - cpu
        clock.steps += run.step - first
        points.append(_point(run, "train", "lr", float(run.optimizer.param_groups[0]["lr"])))
        mean_loss = next(p.value for p in points if p.metric == "loss")
        if not math.isfinite(mean_loss):
            raise Diverged(f"the training loss is {mean_loss} in epoch {run.epoch} of {run.recipe.epochs}")
        if run.epoch in evaluate_after:
            points += [_point(run, "val", name, value) for name, value in validate().items()]
        yield points


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Set a group's learning rate; in place where a captured step reads it from the device."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def _point(run: Run, split: str, metric: str, value: float) -> CurvePoint:
    return CurvePoint(run.epoch, run.step, split, metric, value)


def evaluation_epochs(epochs: int, evaluations: int) -> frozenset[int]:
    """The epochs, counted from one, after which validation is read: evenly spaced, always with the last."""
    n = min(epochs, evaluations)
    return frozenset(round((i + 1) * epochs / n) for i in range(n))


def verify(before: Batch, after: Batch) -> None:
    """Check what the contract promises of a batch.

    Raises:
        AssertionError: targets are not rows of probabilities, or label or index changed.
    """
    assert torch.equal(before.label, after.label), "a trick changed batch.label"
    assert torch.equal(before.index, after.index), "a trick changed batch.index"
    assert after.y.shape[0] == after.x.shape[0], "images and targets differ in number"
    assert bool((after.y >= 0).all()), "a target is negative"
    sums = after.y.sum(-1)
    assert torch.allclose(sums, torch.ones_like(sums), atol=1e-5), "a row of targets does not sum to one"
