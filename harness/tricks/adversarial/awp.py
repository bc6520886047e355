"""Adversarial weight perturbation: the gradient at weights moved up the loss, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tricks.contract import Batch, Choice, Info, NoEffect, NoOp, NotApplicable, Passes, Run, Search, Trick, at
from harness.tricks.modules import frozen_statistics

LIMIT = 0.01
"""Largest relative change of a weight in the forms 'kaggle' and 'fast', unless `limit` says otherwise."""


@torch.no_grad()
def ascend(
    weights: Sequence[Tensor], directions: Sequence[Tensor], gamma: float, limit: float | None = None
) -> list[Tensor]:
    """Move each tensor w by gamma ||w|| d / ||d||, no entry by more than limit |w|; return copies of what they were.

    The length of d does not matter, so gradients of a scaled loss need no unscaling. Infinite ones give NaN,
    which a gradient scaler then finds in the gradients at the moved weights.
    """
    before = [w.clone() for w in weights]
    for w, d in zip(weights, directions, strict=True):
        move = d * (gamma * w.norm() / d.norm().clamp(min=1e-12))
        if limit is not None:
            reach = limit * w.abs()
            move = torch.minimum(torch.maximum(move, -reach), reach)
        w.add_(move)
    return before


class Awp(Trick):
    """Wu, Xia, Wang 2020, 2004.05884, algorithm 1, and two forms of Kaggle notebooks."""

    info: ClassVar = Info(
        name="awp",
        family="adversarial",
        summary="take the gradient at weights moved up the loss",
        paper="Wu, Xia, Wang 2020, arXiv:2004.05884",
        formula=(
            "v_l = gamma ||w_l|| d_l / ||d_l|| for each layer, g = grad L(w + v), w moves by the optimizer's step "
            "with g. d = grad L(w) on the same batch, or in form 'fast' the optimizer's running mean of gradients"
        ),
        expect=(
            "Helps adversarial training (combine it with pgd_training): the paper gains a few points of robust "
            "accuracy on CIFAR-10. On clean data it acts as a layerwise SAM; competition results report gains on "
            "text. 'fast' costs nothing and is the weakest. Too early or too large, it slows training down."
        ),
        differs=(
            "'paper' moves tensors of two and more dimensions; 'kaggle' and 'fast' move all named weight, the scales "
            "of norms too, and clip each entry to ±limit |w| (0.01 unless given). Weights are put back from a copy "
            "before the optimizer's step, so weight decay acts on w, not on w + v. As in the authors' code running "
            "statistics follow the pass at w + v, and the loss there is the one reported. The paper starts at once."
        ),
        cost=2.0,
        eager="it perturbs the weights only from some step on",
    )
    gamma: Annotated[float, Field(ge=0), Search(1e-4, 0.1, log=True), NoOp(0)] = 0.01
    form: Annotated[Literal["paper", "kaggle", "fast"], Choice(("paper", "kaggle", "fast"))] = "paper"
    limit: Annotated[float | None, Field(gt=0), Search(1e-4, 0.01, log=True)] = None
    start: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.5)] = 0.1

    def prepare(self, run: Run) -> None:
        """Refuse what would leave every weight in place."""
        if not self._weights(run):
            raise NoEffect(f"form = '{self.form}' finds no weight to perturb in this model")
        kept = [group.get("momentum") or "betas" in group for group in run.optimizer.param_groups]
        if self.form == "fast" and not any(kept):
            raise NotApplicable("form = 'fast' needs an optimizer with momentum; this one keeps no mean of gradients")

    def _weights(self, run: Run) -> list[nn.Parameter]:
        named = [(name, p) for name, p in run.model.named_parameters() if p.requires_grad]
        if self.form == "paper":
            return [p for _, p in named if p.ndim > 1]
        return [p for name, p in named if name.rpartition(".")[2] == "weight"]

    def _directions(self, closure: Callable[[Batch], Tensor], batch: Batch, run: Run) -> dict[nn.Parameter, Tensor]:
        if self.form == "fast":
            states = [(p, run.optimizer.state.get(p, {})) for p in self._weights(run)]
            means = [(p, state.get("exp_avg", state.get("momentum_buffer"))) for p, state in states]
            return {p: mean for p, mean in means if mean is not None}  # empty before the first update
        with frozen_statistics(run.model):
            run.backward(closure(batch))
        found = {p: p.grad for p in self._weights(run) if p.grad is not None}
        run.optimizer.zero_grad(set_to_none=True)
        return found

    @at(Passes.WHOLE)
    def gradient(self, closure: Callable[[Batch], Tensor], batch: Batch, run: Run) -> Tensor:
        """Climb, take the gradient there, and come back."""
        moved = self._directions(closure, batch, run) if run.progress >= self.start else {}
        limit = LIMIT if self.limit is None and self.form != "paper" else self.limit
        before = ascend(list(moved), list(moved.values()), self.gamma, limit)
        loss = closure(batch)
        run.backward(loss)
        with torch.no_grad():
            for w, old in zip(moved, before, strict=True):
                w.copy_(old)
        return loss.detach()
