"""Steps of more than one pass, or of one over several batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.tricks.contract import Batch, Run
from harness.tricks.modules import frozen_statistics


def together(*batches: Batch) -> Batch:
    """One batch after another as one, for a pass over all of them."""
    return Batch(*(torch.cat([getattr(b, part) for b in batches]) for part in ("x", "y", "label", "index")))


def gradient_elsewhere(
    move: Callable[[list[Tensor]], None], closure: Callable[[Batch], Tensor], batch: Batch, run: Run
) -> Tensor:
    """Leave in `.grad` the gradient at weights that `move` makes of the present ones and their gradients.

    `move` changes the weights in place; they are put back from a copy, to the bit. Running statistics follow the first
    pass only. Returns the first pass's loss.
    """
    loss = closure(batch)
    run.backward(loss)
    weights: list[Tensor] = [p for p in run.model.parameters() if p.grad is not None]
    before = [p.detach().clone() for p in weights]
    with torch.no_grad():
        move(weights)
    run.optimizer.zero_grad(set_to_none=True)
    with frozen_statistics(run.model):
        run.backward(closure(batch))
    with torch.no_grad():
        torch._foreach_copy_(weights, before)
    return loss.detach()
