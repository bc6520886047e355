"""RegMixup: learn from mixtures beside the images, not in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import MIXING, Batch, Info, NoOp, Passes, Run, Search, Trick, at
from harness.tricks.mixtures import mixup
from harness.tricks.passes import together


class RegMixup(Trick):
    """Pinto et al. 2022, 2206.14502, section 3."""

    info: ClassVar = Info(
        name="regmixup",
        family="mixing",
        summary="learn from mixtures beside the images",
        paper="Pinto, Yang, Lim, Torr, Dokania 2022, arXiv:2206.14502, section 3",
        formula=(
            "L = CE(p(x_i), y_i) + eta CE(p(m), w y_i + (1 - w) y_j), m = w x_i + (1 - w) x_j, w ~ Beta(alpha, alpha), "
            "j a random permutation"
        ),
        expect=(
            "Above mixup in accuracy and in how well it tells unknown images, in the paper; alpha of 10 and more mixes "
            "nearly by halves. Two images in place of one: compare with a baseline of twice the epochs. Both losses "
            "are added, which for eta = 1 doubles the gradient."
        ),
        differs="nothing: one pass over images and mixtures, which share batch statistics, as in the authors' code",
        cost=2.0,
        excludes={MIXING: "its first term needs images as they are"},
        eager="the host draws the weight of each step's mixtures",
    )
    eta: Annotated[float, Field(ge=0), Search(0.1, 5.0, log=True), NoOp(0)] = 1.0
    alpha: Annotated[float, Field(gt=0), Search(0.5, 30.0, log=True)] = 10.0

    @at(Passes.WHOLE)
    def gradient(self, closure: Callable[[Batch], Tensor], batch: Batch, run: Run) -> Tensor:
        """One pass over the images and their mixtures."""
        weight = float(run.numpy(self.name).beta(self.alpha, self.alpha))
        partner = torch.randperm(len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        run.state[self.name] = True  # a probe of the loss hands in images alone
        loss = closure(together(batch, mixup(batch, partner, weight)))
        del run.state[self.name]
        run.backward(loss)
        return loss.detach()

    def example_weights(self, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """Two for images and 2 eta for mixtures, so that the mean over both is the sum of two means."""
        if self.name not in run.state:
            return logits.new_ones(len(logits))
        half = logits.new_full((len(logits) // 2,), 2.0)
        return torch.cat((half, self.eta * half))
