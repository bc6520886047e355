"""Weight clipping: after every update, weights are cut to a range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from harness.tricks.contract import Choice, Info, NoEffect, Run, Search, Trick

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


@torch.no_grad()
def clip(weights: list[Tensor], bound: float) -> Tensor:
    """Cut weights to [-bound, bound] in place; returns whether any was outside, as a tensor."""
    outside = torch.stack(torch._foreach_norm(weights, ord=torch.inf)).amax() > bound
    torch._foreach_clamp_min_(weights, -bound)
    torch._foreach_clamp_max_(weights, bound)
    return outside


class WeightClip(Trick):
    """Arjovsky, Chintala, Bottou 2017, 1701.07875, algorithm 1: the constraint on its critic."""

    info: ClassVar = Info(
        name="weight_clip",
        family="regularization",
        summary="cut weights to a range after every update",
        paper="Arjovsky, Chintala, Bottou 2017, arXiv:1701.07875",
        formula="w = min(max(w, -c), c) after each update",
        expect=(
            "In the paper it keeps a critic Lipschitz, and its authors call it a terrible way to do so. In a "
            "classifier a small c on the head limits logits and confidence. Behind batch normalisation the scale of "
            "weights means nothing, so there it mostly distorts them; on all weights it also cuts the norms' scales, "
            "which start at one."
        ),
        differs=(
            "Only this piece of the Wasserstein GAN, on a classifier: no critic, no second network. By default on "
            "the head alone, with a much wider range than the paper's 0.01."
        ),
        cost=1.01,
    )
    c: Annotated[float, Field(gt=0), Search(0.01, 5.0, log=True)] = 0.2
    scope: Annotated[Literal["head", "all"], Choice(("head", "all"))] = "head"

    def wrap_optimizer(self, optimizer: Optimizer, run: Run) -> Optimizer:
        """Clip after each update."""
        module = run.model.head if self.scope == "head" else run.model
        weights: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
        if not weights:
            raise NoEffect(f"nothing trainable in the scope '{self.scope}'")

        run.state[self.name] = {"acted": torch.zeros((), dtype=torch.bool, device=run.device)}

        def after(*_: Any) -> None:
            state = run.state[self.name]
            state["acted"] = state["acted"] | clip(weights, self.c)

        optimizer.register_step_post_hook(after)
        return optimizer

    def finalize(self, model: Classifier, run: Run) -> Classifier:
        """Refuse a run in which no weight ever left the range."""
        if not run.rehearsal and not run.state[self.name]["acted"]:  # one step shows nothing
            raise NoEffect(f"no weight ever left ±{self.c:g}, so this was the baseline")
        return model
