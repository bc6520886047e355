"""Group normalisation in place of batch normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from harness.tricks.contract import Choice, Info, ModelStage, Run, Trick, at
from harness.tricks.modules import replace_modules

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def group_count(channels: int, most: int) -> int:
    """The largest divisor of `channels` that is at most min(most, channels / 4), or one."""
    limit = max(1, min(most, channels // 4))
    return next(g for g in range(limit, 0, -1) if channels % g == 0)


def to_group_norm(norm: nn.Module, most: int) -> nn.Module:
    """A group norm with the batch norm's scale, shift and eps, followed by what was fused into it."""
    assert isinstance(norm, nn.BatchNorm2d)
    groups = group_count(norm.num_features, most)
    new = nn.GroupNorm(groups, norm.num_features, eps=norm.eps, affine=norm.affine)
    if norm.affine:
        new.to(norm.weight.device, norm.weight.dtype)
        with torch.no_grad():
            new.weight.copy_(norm.weight)
            new.bias.copy_(norm.bias)
    # timm's batch norm with built-in activation holds its drop layer and activation as children.
    return nn.Sequential(new, *norm.children()) if list(norm.children()) else new


class GroupNorm(Trick):
    """Wu & He 2018, 1803.08494."""

    info: ClassVar = Info(
        name="group_norm",
        family="architecture",
        summary="normalise groups of channels of each image in place of the batch",
        paper="Wu, He 2018, arXiv:1803.08494",
        formula="(x - mean) / sqrt(var + eps) * scale + shift, mean and var over (C / G, H, W) of each image",
        expect=(
            "Helps where batches are too small for batch statistics (the paper: below 8 per device). At "
            "usual batch sizes somewhat worse than batch normalisation, whose noise regularises, and it "
            "wants its own learning rate."
        ),
        differs=(
            "G is the largest divisor of C that is at most min(groups, C / 4), since 32 groups in a thin "
            "net would leave one channel each. Every BatchNorm2d is swapped; scale, shift and eps are kept."
        ),
        cost=1.1,
        measured=(
            "A finding: −12.7 points [−18.5, −6.9] on digits, −18.2 [−25.9, −10.5] on noisy digits (n = 10), where "
            "rate, decay and epochs were tuned for batch normalisation. With rate 0.1, decay 5e-4 and twice the "
            "epochs it is −1.4 [−3.5, 0.6] (n = 5; harness ablate group_norm --set recipe.lr=0.1 --set "
            "recipe.weight_decay=0.0005 --set recipe.epochs=160 --experiment digits --seeds 5)."
        ),
    )
    groups: Annotated[int, Field(ge=1), Choice((1, 2, 4, 8, 16, 32))] = 32

    @at(ModelStage.NORM)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Swap every batch norm."""
        replace_modules(
            model,
            lambda m: isinstance(m, nn.BatchNorm2d),
            lambda m: to_group_norm(m, self.groups),
            "BatchNorm2d",
        )
        return model
