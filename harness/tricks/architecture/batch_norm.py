"""Batch normalisation: its momentum and eps, or another layer in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tricks.contract import Choice, Info, ModelStage, NoEffect, NotApplicable, Run, Search, Trick, at
from harness.tricks.modules import replace_modules

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

MOMENTUM, EPS = 0.1, 1e-5
"""The baseline's values."""


class Shift(nn.Module):
    """Add a learned number per channel, as the bias of the convolution before it would."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return x + self.bias.view(-1, 1, 1)


def replacement(old: nn.Module, kind: str, eps: float) -> nn.Module:
    """What stands in for a batch norm: it keeps scale and shift and what was fused into the norm."""
    assert isinstance(old, nn.BatchNorm2d)
    c, affine = old.num_features, old.affine
    new: nn.Module
    if kind == "none":
        new = Shift(c)
    elif kind == "layer":
        new = nn.GroupNorm(1, c, eps=eps, affine=affine)
    else:
        new = nn.InstanceNorm2d(c, eps=eps, affine=affine)
    new.to(next(iter(old.state_dict().values()), torch.empty(0)).device)
    names = {name for name, _ in new.named_parameters()}
    new.load_state_dict({k: v for k, v in old.state_dict().items() if k in names}, strict=affine)
    # timm's batch norm with built-in activation holds its drop layer and activation as children.
    return nn.Sequential(new, *old.children()) if list(old.children()) else new


class BatchNorm(Trick):
    """Ioffe & Szegedy 2015, 1502.03167: what the baseline's normalisation is worth."""

    info: ClassVar = Info(
        name="batch_norm",
        family="architecture",
        kind="removal",
        summary="take batch normalisation away, replace it, or change its constants",
        paper=(
            "Ioffe, Szegedy 2015, arXiv:1502.03167; layer: Ba, Kiros, Hinton 2016, arXiv:1607.06450; instance: "
            "Ulyanov, Vedaldi, Lempitsky 2016, arXiv:1607.08022"
        ),
        formula=(
            "batch: (x - mean) / sqrt(var + eps) * scale + shift over the batch and the map, running statistics "
            "move by `momentum`; layer: over channels and map of each image; instance: over each map; none: x + shift"
        ),
        expect=(
            "The baseline has batch normalisation, so `norm = 'none'` is the negative arm and should lose at the "
            "baseline's learning rate; the paper's claim is that normalisation bears higher rates, so compare at "
            "a rate tuned for each. Less momentum suits long training, more suits short runs whose last "
            "statistics count. Instance normalisation removes contrast, which some classes need."
        ),
        differs=(
            "The baseline is the paper's method; the default arm removes it and leaves a shift per channel, "
            "which is the bias of the convolution before. Layer normalisation has a scale and shift per channel."
        ),
        cost=0.9,
        excludes={"group_norm": "each replaces every batch norm"},
        measured=(
            "As expected of the arm without normalisation: −64.1 points [−80.0, −48.1] on digits (n = 10). A lower "
            "rate does not save it: −36.0 [−41.2, −30.9] at 0.005 and, without decay, −39.9 [−64.2, −15.7] at 0.02 (n "
            "= 5)."
        ),
    )
    norm: Annotated[Literal["batch", "none", "layer", "instance"], Choice(("batch", "none", "layer", "instance"))] = (
        "none"
    )
    momentum: Annotated[float, Field(gt=0, le=1), Search(0.01, 0.4, log=True)] = MOMENTUM
    eps: Annotated[float, Field(gt=0), Search(1e-6, 1e-2, log=True)] = EPS

    @at(ModelStage.NORM)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Swap every batch norm, or set its constants."""
        if self.norm != "batch" and self.momentum != MOMENTUM:
            raise NotApplicable(f"momentum belongs to norm = 'batch', and norm is '{self.norm}'")
        if self.norm == "none" and self.eps != EPS:
            raise NotApplicable("eps belongs to a normalisation, and norm is 'none'")
        if self.norm == "batch" and (self.momentum, self.eps) == (MOMENTUM, EPS):
            raise NoEffect("this is the baseline's batch normalisation; change momentum or eps")

        def is_norm(module: nn.Module) -> bool:
            return isinstance(module, nn.BatchNorm2d)

        if self.norm != "batch":
            replace_modules(model, is_norm, lambda m: replacement(m, self.norm, self.eps), "BatchNorm2d")
            return model
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        if not norms:
            raise NoEffect("needs BatchNorm2d, and the model has none")
        for norm in norms:
            norm.momentum, norm.eps = self.momentum, self.eps
        return model
