"""Generalised mean pooling before the head, between average and maximum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tricks.contract import Choice, Info, ModelStage, NoEffect, Run, Search, Trick, at
from harness.tricks.modules import check_forward

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

LEAST = 1e-6
"""Units below count as this, as in the authors' code: the slope of a power is not finite at zero."""


def generalised_mean(x: Tensor, p: Tensor | float) -> Tensor:
    """(mean x^p)^(1/p) over the map, (N, C), for maps (N, C, H, W) of units that are not negative."""
    return x.clamp(min=LEAST).pow(p).mean((-2, -1)).pow(1 / p)


class GemPooling(nn.Module):
    """`generalised_mean` with one exponent, which may be learned."""

    def __init__(self, p: float, learn: bool, device: torch.device) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p, device=device), requires_grad=learn)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C), in float32, since powers leave the range of half precision."""
        with torch.autocast(x.device.type, enabled=False):
            return generalised_mean(x.float(), self.p)


class GemPool(Trick):
    """Radenović, Tolias & Chum 2017, 1711.02512, section 3.2."""

    info: ClassVar = Info(
        name="gem_pool",
        family="architecture",
        summary="pool the last map by a generalised mean",
        paper="Radenović, Tolias, Chum 2017, arXiv:1711.02512, section 3.2",
        formula="f_c = (mean over the map of x_c^p)^(1/p): p = 1 is the average, p to infinity the maximum",
        expect=(
            "Made for image retrieval, where one strong spot should count more than the average of a large map. On the "
            "small last maps of classifiers near nothing; features grow with p, so a high rate may not survive it."
        ),
        differs="nothing; one exponent for all channels, which starts at 3 and is learned, as in the paper",
        excludes={"concat_pool": "each replaces the pooling"},
    )
    p: Annotated[float, Field(ge=1), Search(1.5, 10.0, log=True)] = 3.0
    learn: Annotated[bool, Choice((True, False))] = True

    @at(ModelStage.BLOCK)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Replace the global pooling."""
        name = next((n for n in ("pool", "global_pool") if isinstance(getattr(model.net, n, None), nn.Module)), None)
        if name is None:
            raise NoEffect("needs a global pooling module, and the model has none")
        if self.p == 1 and not self.learn:
            raise NoEffect("p = 1 is the average of the baseline, unless it is learned")
        setattr(model.net, name, GemPooling(self.p, self.learn, run.device))
        check_forward(model, run, run.data.size, "features from this pooling")
        return model
