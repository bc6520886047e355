"""Mixup inside classes: partners share the label, so that targets stay what they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, Run, Search, Trick, at
from harness.tricks.functional import mix


def permute_within(label: Tensor, keys: Tensor) -> Tensor:
    """A permutation (N,) that maps each class onto itself, drawn by keys (N,), uniform in [0, 1)."""
    partner = torch.empty_like(label)
    partner[label.argsort(stable=True)] = (label + keys.double()).argsort()
    return partner


class MixupSameClass(Trick):
    """Zhang et al. 2017, 1710.09412, section 3.8, arm SC + RP."""

    info: ClassVar = Info(
        name="mixup_same_class",
        family="mixing",
        summary="mixup of images of one class",
        paper="Zhang, Cisse, Dauphin, Lopez-Paz 2017, arXiv:1710.09412, section 3.8",
        formula=(
            "x = w x_i + (1 - w) x_j, w ~ Beta(alpha, alpha) per batch, j a random permutation within each class "
            "of the batch; y unchanged"
        ),
        expect=(
            "An arm that shows what mixing across classes is worth: in the paper it gains little over no mixing. "
            "With many classes in small batches most images meet themselves, see `mixup_same_class.unmixed`."
        ),
    )
    alpha: Annotated[float, Field(gt=0), Search(0.05, 8.0, log=True)] = 1.0

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw one weight and partners of the same class, and mix the pixels."""
        weight = float(run.numpy(self.name).beta(self.alpha, self.alpha))
        keys = torch.rand(len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        partner = permute_within(batch.label, keys)
        itself = partner == torch.arange(len(partner), device=partner.device)
        run.log(f"{self.name}.unmixed", itself.float().mean())
        return replace(batch, x=mix(batch.x, partner, weight))
