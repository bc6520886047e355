"""Identity initialisation: convolutions that keep the width start by passing their input on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from harness.tricks.contract import Info, InitStage, NoEffect, Run, Search, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def keeps_width(module: nn.Module) -> bool:
    """A convolution whose kernel has a centre and that has as many output as input channels."""
    return (
        isinstance(module, nn.Conv2d)
        and module.in_channels == module.out_channels
        and all(k % 2 == 1 for k in module.kernel_size)
    )


class IdentityInit(Trick):
    """Le, Jaitly & Hinton 2015, 1504.00941, carried over from recurrent nets to convolutions."""

    info: ClassVar = Info(
        name="identity_init",
        family="architecture",
        summary="convolutions that keep the width start as the identity",
        paper="Le, Jaitly, Hinton 2015, arXiv:1504.00941 (recurrent nets)",
        formula=("weight = Dirac kernel + noise * n, n ~ N(0, 1), where the channels in and out are equal; bias 0"),
        expect=(
            "Keeps the signal's norm in deep plain nets, which allows higher learning rates. Residual nets "
            "have an identity path already: near nothing or harmful, because all channels start alike up to "
            "the noise."
        ),
        differs=(
            "Convolutions in place of the recurrent matrix. Layers that change the width keep the "
            "baseline's weights, because their Dirac kernels would be zero in part. `noise` is an addition."
        ),
        excludes={"kaiming_init": "the later of two initialisations would overwrite the earlier"},
    )
    noise: Annotated[float, Field(ge=0), Search(0.0, 0.01)] = 0.0

    @at(InitStage.DRAW)
    @torch.no_grad()
    def init(self, model: Classifier, run: Run) -> None:
        """Set the kernels."""
        layers = [m for m in model.modules() if isinstance(m, nn.Conv2d) and keeps_width(m)]
        if not layers:
            raise NoEffect("needs convolutions with as many output as input channels, and the model has none")
        for layer in layers:
            noise = torch.randn(layer.weight.shape, generator=run.rng(self.name), device=run.device)
            nn.init.dirac_(layer.weight, layer.groups)
            layer.weight.add_(noise.to(layer.weight), alpha=self.noise)
            if layer.bias is not None:
                layer.bias.zero_()
