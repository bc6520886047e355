"""LDAM: rarer classes have larger margins, and late in training larger weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import MIXING, Batch, Info, ModelStage, Run, Search, Trick, at
from harness.tricks.functional import class_shares, effective_weights, soft_cross_entropy, table
from harness.tricks.modules import with_cosines

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def margins(counts: Sequence[int], largest: float) -> tuple[float, ...]:
    """Margins in proportion to n^(-1/4), the largest of them as given; an empty class counts as one image."""
    raw = [max(n, 1) ** -0.25 for n in counts]
    return tuple(largest * m / max(raw) for m in raw)


class LdamDrw(Trick):
    """Cao et al. 2019, 1906.07413, sections 3.1 and 3.3."""

    info: ClassVar = Info(
        name="ldam_drw",
        family="losses",
        summary="margins that grow with the rarity of the class, and deferred weights",
        paper="Cao, Wei, Gaidon, Arechiga, Ma 2019, arXiv:1906.07413, sections 3.1 and 3.3",
        formula=(
            "w_y CE(y, s (cos a - margin one-hot)), margin_k = max_m (n_k / n_min)^(-1/4); w = 1 until `start`, then "
            "in proportion to (1 - beta) / (1 - beta^n_k) with sum K; evaluation reads s cos a"
        ),
        expect=(
            "Several points of mean class accuracy after long-tailed training in the paper, about half of them from "
            "the deferred weights. Refused on balanced classes."
        ),
        differs=(
            "The mean over the batch is over images, not over their weights. s = 16 suits rates that were tuned for a "
            "linear head; the paper's code has 30."
        ),
        excludes={
            "arcface_head": "each replaces the head by cosines",
            "cosface": "each replaces the head by cosines",
            "deferred_reweighting": "it is a part of this",
            MIXING: "the margin needs one right class",
        },
        eager="its weights begin at a step",
    )
    max_m: Annotated[float, Field(ge=0, lt=2), Search(0.1, 1.0)] = 0.5
    s: Annotated[float, Field(gt=0), Search(8.0, 64.0, log=True)] = 16.0
    start: Annotated[float, Field(ge=0, le=1), Search(0.5, 0.95)] = 0.8
    beta: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.99999, log1m=True)] = 0.9999

    @at(ModelStage.HEAD)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Put cosines in the place of the linear head."""
        class_shares(run.data.train_counts)
        return with_cosines(model, self.s)

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """Cross-entropy with the margins, which evaluation never sees."""
        off = self.s * table(margins(run.data.train_counts, self.max_m), logits)
        return soft_cross_entropy(logits - off * F.one_hot(y.argmax(-1), y.shape[-1]), y)

    def example_weights(self, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """The classes' weights, once they have begun."""
        if run.progress < self.start:
            return logits.new_ones(len(logits))
        return batch.y @ table(effective_weights(run.data.train_counts, self.beta), logits)
