"""Initial weights from the usual schemes, for a sweep over schemes and scales."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tricks.contract import Choice, Info, InitStage, NoEffect, Run, Search, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

FIXED_STD = {"constant": 0.01, "small": 1e-3, "trunc_normal": 0.02}
"""Deviations that do not look at the layer's size."""


def draw(weight: Tensor, scheme: str, scale: float, generator: torch.Generator) -> None:
    """Fill a weight (out, in, ...) in place, `scale` times the scheme's own size."""
    if scheme == "xavier":
        nn.init.xavier_normal_(weight, scale, generator=generator)
    elif scheme == "orthogonal":
        nn.init.orthogonal_(weight, scale, generator=generator)
    elif scheme == "trunc_normal":
        std = scale * FIXED_STD[scheme]
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)
    else:
        nn.init.normal_(weight, std=scale * FIXED_STD[scheme], generator=generator)


class InitSweep(Trick):
    """Glorot & Bengio 2010; Saxe, McClelland & Ganguli 2013, 1312.6120; Krizhevsky et al. 2012."""

    info: ClassVar = Info(
        name="init_sweep",
        family="architecture",
        summary="draw initial weights from another scheme, at another scale",
        paper=(
            "xavier: Glorot, Bengio 2010 (AISTATS); orthogonal: Saxe, McClelland, Ganguli 2013, arXiv:1312.6120; "
            "constant: Krizhevsky, Sutskever, Hinton 2012 (NeurIPS 25)"
        ),
        formula=(
            "scale times: xavier N(0, 2 / (fan_in + fan_out)); orthogonal rows or columns; trunc_normal "
            "N(0, 0.02^2) cut at 2 deviations; constant N(0, 0.01^2); small N(0, 0.001^2); biases 0"
        ),
        expect=(
            "Normalisation hides the scale, so with it expect little but through the effective learning rate: "
            "smaller weights turn faster. Without it (see batch_norm) small and constant should stop deep nets "
            "from learning, which is the case that the papers solve."
        ),
        differs="the head keeps the baseline's weights; the other layers' scheme is the only thing that changes",
        excludes={
            "identity_init": "the later of two initialisations would overwrite the earlier",
            "kaiming_init": "the later of two initialisations would overwrite the earlier",
            "tanh_hidden": "the later of two initialisations would overwrite the earlier",
        },
    )
    scheme: Annotated[
        Literal["xavier", "orthogonal", "trunc_normal", "small", "constant"],
        Choice(("xavier", "orthogonal", "trunc_normal", "small", "constant")),
    ] = "xavier"
    scale: Annotated[float, Field(gt=0), Search(0.01, 3.0, log=True)] = 1.0

    @at(InitStage.DRAW)
    @torch.no_grad()
    def init(self, model: Classifier, run: Run) -> None:
        """Redraw every convolution and linear layer but the head."""
        head = set(model.head.modules())
        layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear) and m not in head]
        if not layers:
            raise NoEffect("needs convolutions or hidden linear layers, and the model has none")
        for layer in layers:
            draw(layer.weight, self.scheme, self.scale, run.rng(self.name))
            if layer.bias is not None:
                layer.bias.zero_()
