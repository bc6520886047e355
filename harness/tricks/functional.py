"""Pure functions that several tricks and the baseline share. Schedules map progress in [0, 1) to a factor."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.tricks.contract import NoEffect, NotApplicable, Run, Schedule


def soft_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy -sum_k y_k log p_k of each example, (N,), for soft targets y (N, K)."""
    return -(y * F.log_softmax(logits, dim=-1)).sum(-1)


def constant() -> Schedule:
    """Factor one all through training."""
    return lambda progress: 1.0


def step(milestones: Sequence[float], gamma: float) -> Schedule:
    """Times `gamma` at each milestone, given as fractions of training."""
    return lambda progress: gamma ** sum(progress >= m for m in milestones)


def cosine(final: float = 0.0) -> Schedule:
    """Half a cosine from one to `final` (Loshchilov & Hutter 2016, 1608.03983, without restarts)."""
    return lambda progress: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup(main: Schedule, share: float, tick: float, ramp: Callable[[float], float], prefix: bool = False) -> Schedule:
    """`main` after a warm-up over the first `share` of training; `tick` is one update as a fraction of it.

    `ramp` maps the share of the warm-up that is done after an update, in (0, 1], to a factor on the rate at
    the end of the warm-up: update t of W has factor ramp((t + 1) / W). With `prefix`, `main` starts after
    the warm-up and spans the rest; without, it is what it was.
    """

    def factor(progress: float) -> float:
        if progress < share:
            return ramp(min(1.0, (progress + tick) / share)) * main(0.0 if prefix else share)
        if not prefix:
            return main(progress)
        return main(round((progress - share) / (1 - share), 12))  # so that no milestone is missed by 1e-17

    return factor


def share_of_training(epochs: float, run: Run) -> float:
    """A number of epochs as a fraction of the run.

    Raises:
        NotApplicable: the run is not longer than that.
    """
    if epochs >= run.recipe.epochs:
        raise NotApplicable(f"epochs = {epochs:g} leaves nothing of a run of {run.recipe.epochs} epochs")
    return epochs / run.recipe.epochs


def mix(a: Tensor, partner: Tensor, weight: Tensor | float) -> Tensor:
    """Mix as weight * a + (1 - weight) * a[partner] along the first axis; weight is a scalar or (N,)."""
    if isinstance(weight, Tensor):
        weight = weight.to(a.dtype).view(-1, *[1] * (a.ndim - 1))
    return weight * a + (1 - weight) * a[partner]


def replace_modules(
    root: nn.Module, match: Callable[[nn.Module], bool], build: Callable[[nn.Module], nn.Module], needs: str
) -> int:
    """Replace every submodule that `match` accepts by `build(module)`; return how many.

    Raises:
        NoEffect: nothing matched; the message says that the trick needs `needs`.
    """
    found = [(path, module) for path, module in root.named_modules() if path and match(module)]
    if not found:
        raise NoEffect(f"needs {needs}, and the model has none")
    for path, module in found:
        parent, _, leaf = path.rpartition(".")
        new = build(module)
        new.train(module.training)
        setattr(root.get_submodule(parent), leaf, new)
    return len(found)


def gradient_norm(parameters: Sequence[Tensor]) -> Tensor:
    """Global L2 norm of all gradients, as a scalar tensor on their device."""
    grads = [p.grad for p in parameters if p.grad is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    return norm


def box_mask(top: Tensor, left: Tensor, height: Tensor, width: Tensor, size: tuple[int, int]) -> Tensor:
    """True inside boxes, given by integers of one shape (...): (..., H, W). They may leave the image."""
    rows = torch.arange(size[0], device=top.device) - top[..., None]
    columns = torch.arange(size[1], device=top.device) - left[..., None]
    in_rows = (rows >= 0) & (rows < height[..., None])
    in_columns = (columns >= 0) & (columns < width[..., None])
    return in_rows[..., :, None] & in_columns[..., None, :]


def batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The batch-normalisation layers that keep running statistics."""
    found = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [m for m in found if m.track_running_stats]


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Forward passes inside normalise as before but leave running statistics, and their counters, alone."""
    norms = batch_norms(model)
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@torch.no_grad()
def recompute_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set running statistics to their mean over batches, with all else in evaluation mode; stays so."""
    model.eval()
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the cumulative average
        norm.train()
    for x in batches if norms else ():
        model(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


class WeightAverage:
    """A running average of a network: parameters and floating buffers averaged, integer buffers copied."""

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.count = 1

    @torch.no_grad()
    def update(self, model: nn.Module, weight: float) -> None:
        """Move the average towards `model`: average + weight * (model - average)."""
        mine = [*self.model.parameters(), *self.model.buffers()]
        new = [t.detach() for t in (*model.parameters(), *model.buffers())]
        floating = [i for i, t in enumerate(mine) if t.is_floating_point()]
        torch._foreach_lerp_([mine[i] for i in floating], [new[i] for i in floating], weight)
        for a, b in zip(mine, new, strict=True):
            if not a.is_floating_point():
                a.copy_(b)
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights and the number of networks in them."""
        return {"model": self.model.state_dict(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.count = state["count"]
