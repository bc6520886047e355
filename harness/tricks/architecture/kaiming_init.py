"""Kaiming initialisation of convolutions and hidden linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tricks.contract import Choice, Info, InitStage, NoEffect, Run, Search, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def fan(weight: Tensor, groups: int, mode: Literal["fan_in", "fan_out"]) -> int:
    """Inputs of one output (fan_in), or outputs that one input reaches, of a weight (out, in, ...)."""
    taps = weight[0, 0].numel()
    return weight.shape[1] * taps if mode == "fan_in" else weight.shape[0] // groups * taps


def rescale(noise: Tensor, dist: Literal["normal", "uniform"], std: float) -> Tensor:
    """Numbers with deviation `std` from standard normal ones, or from uniform ones in [0, 1)."""
    return noise * std if dist == "normal" else (2 * noise - 1) * 3**0.5 * std


class KaimingInit(Trick):
    """He et al. 2015, 1502.01852, section 2.2."""

    info: ClassVar = Info(
        name="kaiming_init",
        family="architecture",
        summary="draw weights with variance gain^2 / fan",
        paper="He, Zhang, Ren, Sun 2015, arXiv:1502.01852",
        formula="weights with mean 0 and variance gain^2 / fan, gain = sqrt(2) for relu; biases 0",
        expect=(
            "Decides whether deep nets without normalisation train; near nothing with it, which hides the "
            "scale. The residual nets of this package start from fan_out, normal, sqrt(2) already, so for "
            "them the default changes the layers that widen and redraws the rest."
        ),
        differs=("The last layer keeps the baseline's weights. Grouped convolutions count the fan of one group."),
        excludes={"identity_init": "the later of two initialisations would overwrite the earlier"},
    )
    mode: Annotated[Literal["fan_in", "fan_out"], Choice(("fan_in", "fan_out"))] = "fan_in"
    dist: Annotated[Literal["normal", "uniform"], Choice(("normal", "uniform"))] = "normal"
    gain: Annotated[float, Field(gt=0), Search(0.1, 3.0, log=True)] = 2**0.5

    @at(InitStage.DRAW)
    @torch.no_grad()
    def init(self, model: Classifier, run: Run) -> None:
        """Redraw every convolution and linear layer but the head."""
        head = set(model.head.modules())
        layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear) and m not in head]
        if not layers:
            raise NoEffect("needs convolutions or hidden linear layers, and the model has none")
        draw = torch.randn if self.dist == "normal" else torch.rand
        for layer in layers:
            std = self.gain / fan(layer.weight, getattr(layer, "groups", 1), self.mode) ** 0.5
            noise = draw(layer.weight.shape, generator=run.rng(self.name), device=run.device)
            layer.weight.copy_(rescale(noise, self.dist, std))
            if layer.bias is not None:
                layer.bias.zero_()
