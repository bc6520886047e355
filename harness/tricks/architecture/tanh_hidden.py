"""Hyperbolic tangent in hidden layers, with the initialisation made for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from harness.tricks.contract import Info, InitStage, ModelStage, Run, Search, Trick, at
from harness.tricks.modules import replace_modules

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class TanhHidden(Trick):
    """LeCun et al. 1998, section 4.4; the initialisation is Glorot & Bengio 2010."""

    info: ClassVar = Info(
        name="tanh_hidden",
        family="architecture",
        kind="removal",
        summary="tanh in place of ReLU, with Xavier initialisation",
        paper="LeCun, Bottou, Orr, Mueller 1998 (Efficient BackProp); Glorot, Bengio 2010 (AISTATS)",
        formula="act(x) = tanh(x); weights N(0, 2 gain^2 / (fan_in + fan_out)) but for the head, biases 0",
        expect=(
            "Between the hidden states of recurrent nets, tanh keeps values bounded. In convolutional nets ReLU "
            "replaced it because tanh saturates: expect a loss that grows with depth, less with batch norm."
        ),
        differs="plain tanh(x), not the authors' 1.7159 tanh(2x / 3); gain 5/3 makes up for its slope",
        cost=1.05,
        excludes={
            "identity_init": "the later of two initialisations would overwrite the earlier",
            "init_sweep": "the later of two initialisations would overwrite the earlier",
            "kaiming_init": "the later of two initialisations would overwrite the earlier",
            "relu": "each replaces every ReLU",
            "soft_threshold_act": "each replaces every ReLU",
        },
    )
    gain: Annotated[float, Field(gt=0), Search(0.5, 3.0, log=True)] = 5 / 3

    @at(ModelStage.ACT)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Swap every ReLU."""
        replace_modules(model, lambda m: isinstance(m, nn.ReLU), lambda m: nn.Tanh(), "ReLU modules")
        return model

    @at(InitStage.DRAW)
    @torch.no_grad()
    def init(self, model: Classifier, run: Run) -> None:
        """Redraw convolutions and hidden linear layers."""
        head = set(model.head.modules())
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer not in head:
                nn.init.xavier_normal_(layer.weight, self.gain, generator=run.rng(self.name))
                if layer.bias is not None:
                    layer.bias.zero_()
