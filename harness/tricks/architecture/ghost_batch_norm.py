"""Ghost batch normalisation: statistics of small parts of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tricks.contract import Info, ModelStage, NoEffect, Run, Search, Trick, at
from harness.tricks.modules import replace_modules

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class GhostNorm(nn.BatchNorm2d):
    """A batch norm that in training normalises each of N // size nearly equal parts of the batch by itself.

    Running statistics take one step of the momentum for each part, in order (algorithm 1 of the paper).
    """

    def __init__(self, norm: nn.BatchNorm2d, size: int) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.load_state_dict(norm.state_dict())
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        parts = len(x) // self.size if self.training else 1
        if parts < 2:
            return super().forward(x)
        return torch.cat([super(GhostNorm, self).forward(part) for part in x.tensor_split(parts)])


class GhostBatchNorm(Trick):
    """Hoffer, Hubara & Soudry 2017, 1705.08741, section 4 and algorithm 1."""

    info: ClassVar = Info(
        name="ghost_batch_norm",
        family="architecture",
        summary="normalise by small parts of the batch",
        paper="Hoffer, Hubara, Soudry 2017, arXiv:1705.08741, section 4, algorithm 1",
        formula="(x - mean) / sqrt(var + eps) scale + shift with mean and var of each of N // size parts of the batch",
        expect=(
            "Gives large batches back the noise of small ones: the paper closes a part of their gap. At batches of a "
            "hundred or fewer a mild regulariser at most, at the price of time."
        ),
        differs=(
            "Parts are nearly equal, with `size` images at least, where the batch is no multiple. The rule for the "
            "rate and the longer training of the paper are tricks of their own."
        ),
        cost=1.3,
        excludes={"batch_norm": "each replaces every batch norm", "group_norm": "each replaces every batch norm"},
    )
    size: Annotated[int, Field(ge=2), Search(8, 64, log=True)] = 32

    @at(ModelStage.NORM)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Swap every plain batch norm; subclasses, which may do more, stay."""
        if run.recipe.batch_size < 2 * self.size:
            raise NoEffect(f"a batch of {run.recipe.batch_size} is not two parts of size = {self.size}")

        def ghost(norm: nn.Module) -> nn.Module:
            assert isinstance(norm, nn.BatchNorm2d)
            return GhostNorm(norm, self.size).to(run.device)

        replace_modules(model, lambda m: type(m) is nn.BatchNorm2d, ghost, "BatchNorm2d")
        return model
