"""Pure functions that several tricks and the baseline share. Schedules map progress in [0, 1) to a factor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import NoEffect, NotApplicable, Run, Schedule


def soft_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy -sum_k y_k log p_k of each example, (N,), for soft targets y (N, K)."""
    return -(y * F.log_softmax(logits, dim=-1)).sum(-1)


def table(values: tuple[Any, ...], like: Tensor) -> Tensor:
    """A few numbers as a tensor of `like`'s type on its device; not to be written to.

    They travel to the device once a process: a transfer at every step would make the host wait for the device.
    """
    return _table(values, like.device, like.dtype)


@lru_cache(maxsize=256)
def _table(values: tuple[Any, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # one that a prediction made would be of no use in training
        return torch.tensor(values, device=device, dtype=dtype)


def class_shares(counts: Sequence[int]) -> tuple[float, ...]:
    """The share of each class in the training split, of which an empty one has as much as with one image.

    Raises:
        NoEffect: all classes are equally frequent, so what corrects for their frequency does nothing.
    """
    if len(set(counts)) == 1:
        raise NoEffect("all classes are equally frequent, so there is nothing to correct")
    return tuple(max(n, 1) / sum(counts) for n in counts)


def adjusted(logits: Tensor, counts: Sequence[int], tau: float) -> Tensor:
    """Logits (N, K) plus tau times the logarithms of the class shares (Menon et al. 2020, 2007.07314, equation 10)."""
    return logits + tau * table(tuple(math.log(share) for share in class_shares(counts)), logits)


def effective_weights(counts: Sequence[int], beta: float) -> tuple[float, ...]:
    """(1 - beta) / (1 - beta^n) of each class, scaled to the sum K (Cui et al. 2019, 1901.05555).

    An empty class counts as one image.
    """
    raw = [(1 - beta) / (1 - beta ** max(n, 1)) for n in counts]
    return tuple(w * len(raw) / sum(raw) for w in raw)


def constant() -> Schedule:
    """Factor one all through training."""
    return lambda progress: 1.0


def step(milestones: Sequence[float], gamma: float) -> Schedule:
    """Times `gamma` at each milestone, given as fractions of training."""
    return lambda progress: gamma ** sum(progress >= m for m in milestones)


def cosine(final: float = 0.0) -> Schedule:
    """Half a cosine from one to `final` (Loshchilov & Hutter 2016, 1608.03983, without restarts)."""
    return lambda progress: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def polynomial(power: float, final: float = 0.0) -> Schedule:
    """From one to `final` as a power of what is left of training."""
    return lambda progress: final + (1 - final) * (1 - progress) ** power


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


def gradient_norm(parameters: Sequence[Tensor]) -> Tensor:
    """Global L2 norm of all gradients, as a scalar tensor on their device."""
    grads = [p.grad for p in parameters if p.grad is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    return norm


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(softmax(teacher / T) || softmax(logits / T)), mean over the batch, for logits (N, K)."""
    student, target = (F.log_softmax(z / temperature, dim=-1) for z in (logits, teacher))
    return temperature**2 * F.kl_div(student, target, reduction="batchmean", log_target=True)


def supervised_contrast(z: Tensor, keys: Tensor, positive: Tensor, candidate: Tensor, tau: float) -> Tensor:
    """-mean over an anchor's positives of log softmax over its candidates of z_i k_j / tau; mean over anchors.

    z: (N, D) and keys: (M, D), unit rows. positive, candidate: (N, M); an anchor without positives is left out.
    """
    positive = positive & candidate
    similarity = (z @ keys.T / tau).masked_fill(~candidate, -1e9)  # finite, for rows with no candidate
    scores = F.log_softmax(similarity, dim=1).masked_fill(~positive, 0.0).sum(1)
    count = positive.sum(1)
    return -(scores / count.clamp(min=1)).sum() / (count > 0).sum().clamp(min=1)
