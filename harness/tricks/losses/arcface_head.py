"""ArcFace: logits are scaled cosines, and training demands an angular margin from the right class."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import MIXING, Choice, Info, ModelStage, Run, Search, Trick, at
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.modules import with_cosines

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def with_margin(cosine: Tensor, target: Tensor, margin: float, easy: bool = False) -> Tensor:
    """Cosines (N, K) in which that of `target` (N,) becomes cos(angle + margin).

    Past angle = pi - margin, where this would rise again, it goes on as cos(angle) - margin sin(margin). `easy`
    asks for the margin only where the angle is acute.
    """
    own = cosine.gather(1, target[:, None])
    sine = (1 - own.square()).clamp(min=1e-12).sqrt()
    moved = own * math.cos(margin) - sine * math.sin(margin)
    if easy:
        moved = torch.where(own > 0, moved, own)
    else:
        moved = torch.where(own > -math.cos(margin), moved, own - margin * math.sin(margin))
    return cosine.scatter(1, target[:, None], moved)


class ArcfaceHead(Trick):
    """Deng et al. 2018, 1801.07698, section 3.1.

    m: the margin in radians. warm: fraction of training over which it grows from zero.
    """

    info: ClassVar = Info(
        name="arcface_head",
        family="losses",
        summary="cosine logits with an angular margin in training",
        paper="Deng, Guo, Yang, Xue, Kotsia, Zafeiriou 2018, arXiv:1801.07698",
        formula=(
            "logits s cos(a_k), a_k the angle between features and class weight; in training the target's is "
            "s cos(a_y + m)"
        ),
        expect=(
            "The paper gains in face verification, with many identities and few images of each. On few balanced "
            "classes near nothing or a loss. Gradients grow with s, so with a large s or m training may not start at "
            "the recipe's rate. Changes the scale of the logits, so look at calibration."
        ),
        differs=(
            "The head starts from the baseline's weights, without bias. m = 0.2 and s = 16 suit few classes and rates "
            "that were tuned for a linear head; the paper has 0.5 and 64. `warm` is an addition, `easy_margin` is "
            "from the authors' code. With smoothed targets the margin is that of the most probable class."
        ),
        excludes={MIXING: "the margin needs one right class for each image"},
        eager="its margin may grow from step to step",
    )
    s: Annotated[float, Field(gt=0), Search(8.0, 64.0, log=True)] = 16.0
    m: Annotated[float, Field(ge=0, lt=math.pi / 2), Search(0.0, 0.6)] = 0.2
    warm: Annotated[float, Field(ge=0, le=1), Search(0.0, 0.5)] = 0.1
    easy_margin: Annotated[bool, Choice((False, True))] = False

    @at(ModelStage.HEAD)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Put cosines in the place of the linear head."""
        return with_cosines(model, self.s)

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """Cross-entropy with the margin, which evaluation never sees."""
        margin = self.m * min(1.0, run.progress / self.warm) if self.warm else self.m
        cosine = with_margin(logits / self.s, y.argmax(-1), margin, self.easy_margin)
        return soft_cross_entropy(self.s * cosine, y)
