"""CosFace: logits are scaled cosines, and training takes a margin off that of the right class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import MIXING, Info, ModelStage, Run, Search, Trick, at
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.modules import with_cosines

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class Cosface(Trick):
    """Wang et al. 2018, 1801.09414, section 3.2."""

    info: ClassVar = Info(
        name="cosface",
        family="losses",
        summary="cosine logits with an additive margin in training",
        paper="Wang, Wang, Zhou, Ji, Gong, Zhou, Li, Liu 2018, arXiv:1801.09414, section 3.2",
        formula="logits s cos(a_k), a_k between features and class weight; the target's is s (cos a_y - m) in training",
        expect=(
            "The paper gains in face verification, with many identities. On few balanced classes near nothing or a "
            "loss; gradients grow with s, so a large one may not start at the recipe's rate. The scale of logits "
            "changes, so look at calibration."
        ),
        differs=(
            "The head starts from the baseline's weights, without bias. s = 16 and m = 0.2 suit few classes and rates "
            "that were tuned for a linear head; the paper has 64 and 0.35. With smoothed targets the margin is that of "
            "the most probable class."
        ),
        excludes={"arcface_head": "each replaces the head by cosines", MIXING: "the margin needs one right class"},
    )
    s: Annotated[float, Field(gt=0), Search(8.0, 64.0, log=True)] = 16.0
    m: Annotated[float, Field(ge=0, lt=2), Search(0.0, 0.5)] = 0.2

    @at(ModelStage.HEAD)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Put cosines in the place of the linear head."""
        return with_cosines(model, self.s)

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """Cross-entropy with the margin, which evaluation never sees."""
        target = F.one_hot(y.argmax(-1), y.shape[-1])
        return soft_cross_entropy(logits - self.s * self.m * target, y)
