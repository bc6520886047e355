"""Mix switch: mixup or CutMix, drawn for each batch."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from harness.tricks.contract import Batch, BatchStage, Info, NoOp, Run, Search, Trick, at
from harness.tricks.mixtures import box, cutmix, mixup


class MixSwitch(Trick):
    """timm's Mixup with both alphas; in the recipe of Touvron et al. 2020, 2012.12877, table 9 (DeiT)."""

    info: ClassVar = Info(
        name="mix_switch",
        family="mixing",
        summary="mixup or CutMix, drawn for each batch",
        paper=(
            "Zhang, Cisse, Dauphin, Lopez-Paz 2017, arXiv:1710.09412; Yun et al. 2019, arXiv:1905.04899; the switch: "
            "timm, in Touvron et al. 2020, arXiv:2012.12877, table 9"
        ),
        formula=(
            "with probability prob a batch is mixed: by cutmix with cutmix_alpha with probability switch_prob, else by "
            "mixup with mixup_alpha; none in the last `off` of training"
        ),
        expect=(
            "A part of nearly every recipe for ImageNet since 2020: large nets in long training gain from both, on the "
            "sum of what each gives. Nets that underfit lose, and training accuracy is meaningless under it."
        ),
        differs=(
            "As timm's, but partners are a random permutation (timm takes the batch in reverse), draws are for batches "
            "alone, and label smoothing, which timm adds by default, is another trick. torchvision draws one of both "
            "with alphas 0.2 and 1; RSB has 0.1 to 0.2 and 1; the defaults are DeiT's."
        ),
    )
    mixup_alpha: Annotated[float, Field(gt=0), Search(0.05, 2.0, log=True)] = 0.8
    cutmix_alpha: Annotated[float, Field(gt=0), Search(0.1, 4.0, log=True)] = 1.0
    switch_prob: Annotated[float, Field(ge=0, le=1), Search(0.0, 1.0)] = 0.5
    prob: Annotated[float, Field(ge=0, le=1), Search(0.25, 1.0), NoOp(0)] = 1.0
    off: Annotated[float, Field(ge=0, le=1), Search(0.0, 0.3), NoOp(1)] = 0.0

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw which of both, its weight and the partners, and mix."""
        host, size = run.numpy(self.name), (batch.x.shape[-2], batch.x.shape[-1])
        mixes, cuts = host.random() < self.prob, host.random() < self.switch_prob
        weight, keep = (float(host.beta(a, a)) for a in (self.mixup_alpha, self.cutmix_alpha))
        row, column = (int(host.random() * side) for side in size)
        partner = torch.randperm(len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        if not mixes or run.progress >= 1 - self.off:
            return batch
        return cutmix(batch, partner, box(size, keep, row, column)) if cuts else mixup(batch, partner, weight)
