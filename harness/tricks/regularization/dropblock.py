"""DropBlock: squares of a feature map are dropped together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from harness.tricks.contract import Info, ModelStage, NoEffect, NoOp, Run, Search, Trick, at
from harness.tricks.modules import conv_norm_names, residual_blocks

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def dropped_blocks(x: Tensor, rate: float, side: int, generator: torch.Generator) -> Tensor:
    """Maps (N, C, H, W) without squares of `side` units, of which about `rate` is dropped; the rest keeps the mean.

    The upper left corners of squares that lie in the map are drawn with the chance gamma of equation 1.
    """
    height, width = x.shape[-2:]
    corners = (height - side + 1) * (width - side + 1)
    gamma = rate * height * width / (side**2 * corners)
    seeds = torch.rand(*x.shape[:2], height - side + 1, width - side + 1, generator=generator, device=x.device) < gamma
    covered = F.max_pool2d(F.pad(seeds.to(x.dtype), [side - 1] * 4), side, stride=1)
    kept = 1 - covered
    return x * kept * (kept.numel() / kept.sum().clamp(min=1))


class DropBlocks:
    """Forward hook that drops squares of a module's output while it trains, more of them as training goes on."""

    def __init__(self, rate: float, size: float, run: Run, name: str) -> None:
        self.rate, self.size, self.run, self.name = rate, size, run, name

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """The new output; None keeps it."""
        if not module.training:
            return None
        side = max(1, round(self.size * min(output.shape[-2:])))
        return dropped_blocks(output, self.rate * self.run.progress, side, self.run.rng(self.name))

    def __deepcopy__(self, memo: dict[int, Any]) -> DropBlocks:
        return self


class Dropblock(Trick):
    """Ghiasi, Lin & Le 2018, 1810.12890, section 3 and 4.1."""

    info: ClassVar = Info(
        name="dropblock",
        family="regularization",
        summary="drop squares of feature maps in training",
        paper="Ghiasi, Lin, Le 2018, arXiv:1810.12890, sections 3 and 4.1",
        formula=(
            "x = x M numel(M) / sum(M); M is zero in squares whose corners have the chance gamma = p (H W) / (b^2 "
            "(H - b + 1)(W - b + 1)); p rises linearly from 0 to `rate` over training"
        ),
        expect=(
            "The paper gains 1.6 points with ResNet-50 in 270 epochs of ImageNet, more than by dropout, which "
            "neighbours undo. Needs large maps and long training; on small maps and in short runs expect harm."
        ),
        differs=(
            "The side is a fraction of the map's; the paper's 7 is half of the 14 of its third group. Behind each norm "
            "and each sum of the residual blocks of the last two stages, as there; the norms stand before activations."
        ),
        eager="its rate grows from step to step",
    )
    rate: Annotated[float, Field(ge=0, lt=1), Search(0.02, 0.3), NoOp(0)] = 0.1
    size: Annotated[float, Field(gt=0, le=1), Search(0.1, 0.5)] = 0.5

    @at(ModelStage.WRAP)  # after surgery on the blocks, which would lose the hooks
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Hook the norms and the sums in the last two stages."""
        blocks = residual_blocks(model)
        if model.stages:
            late = {m for stage in model.stages[-2:] for m in model.stage(stage).modules()}
            blocks = [block for block in blocks if block in late]
        if not blocks:
            raise NoEffect("needs residual blocks in the last two stages, and the model has none there")
        drop = DropBlocks(self.rate, self.size, run, self.name)
        for block in blocks:
            for _, norm in conv_norm_names(block):
                getattr(block, norm).register_forward_hook(drop)
            block.register_forward_hook(drop)
        return model
