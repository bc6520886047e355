"""Layers stop learning from the input on, as training nears its end."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from harness.tricks.contract import Info, NoEffect, Run, Search, Trick


def frozen_count(layers: int, progress: float, start: float, level: float) -> int:
    """How many layers are frozen: none until `start`, then linear to `level` of them at the end."""
    return int(layers * level * max(0.0, progress - start) / (1 - start) + 1e-9)


def layers_of(model: nn.Module) -> list[nn.Module]:
    """Modules that have parameters of their own, in the order in which they are registered."""
    return [m for m in model.modules() if any(True for _ in m.parameters(recurse=False))]


class LayerFreezing(Trick):
    """Composer's LayerFreezing, after Brock et al. 2017, 1706.04983 (FreezeOut), and Raghu et al. 2017, 1706.05806."""

    info: ClassVar = Info(
        name="layer_freezing",
        family="regularization",
        summary="stop training layers from the input on towards the end",
        paper=(
            "Composer (LayerFreezing); Brock, Lim, Ritchie, Weston 2017, arXiv:1706.04983 (FreezeOut); Raghu, Gilmer, "
            "Yosinski, Sohl-Dickstein 2017, arXiv:1706.05806 (freeze training)"
        ),
        formula=(
            "from the fraction `start` of training, the first floor(level (t - start) / (1 - start) n) of n layers "
            "have no gradients in the epoch that begins at t"
        ),
        expect=(
            "Saves backward passes, for speed: accuracy stays or falls a little. As a regulariser nothing is known of "
            "it. With few epochs the last steps, at low rates, are taken by the upper layers alone."
        ),
        differs=(
            "Composer's schedule, by whole layers and epochs; FreezeOut anneals a rate for each layer. Running "
            "statistics of frozen norms still follow the data."
        ),
        cost=0.9,
        excludes={
            "bn_freeze": "each decides which parameters have gradients",
            "gradual_unfreezing": "this freezes what it unfreezes",
        },
    )
    start: Annotated[float, Field(ge=0, lt=1), Search(0.2, 0.8)] = 0.5
    level: Annotated[float, Field(gt=0, le=1), Search(0.25, 1.0)] = 1.0

    def prepare(self, run: Run) -> None:
        """Refuse a run in which no layer is ever frozen."""
        last = (run.recipe.epochs - 1) / run.recipe.epochs
        if not frozen_count(len(layers_of(run.model)), last, self.start, self.level):
            raise NoEffect(f"no layer is frozen before the last of {run.recipe.epochs} epochs; lower start")

    def epoch_start(self, run: Run) -> None:
        """Freeze; the optimizer passes over parameters without gradients."""
        layers = layers_of(run.model)
        for layer in layers[: frozen_count(len(layers), run.epoch / run.recipe.epochs, self.start, self.level)]:
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(False)
