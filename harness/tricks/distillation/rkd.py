"""Relational distillation: distances and angles between images agree with the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import PARTS, Batch, Info, ModelStage, NoEffect, Run, Search, at
from harness.tricks.modules import FeatureTap
from harness.tricks.taught import Taught

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def distances(features: Tensor) -> Tensor:
    """Distances (N, N) between features (N, D), over their mean without the diagonal."""
    squared = (features[:, None] - features).square().sum(-1)
    apart = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    distance = squared.clamp(min=1e-12).sqrt() * apart
    return distance / (distance.sum() / apart.sum()).clamp(min=1e-12)


def angles(features: Tensor) -> Tensor:
    """Cosines (N, N, N) of the angles at i between the directions to j and to k, for features (N, D)."""
    ways = F.normalize(features - features[:, None], dim=-1)
    return ways @ ways.transpose(1, 2)


class Rkd(Taught):
    """Park et al. 2019, 1904.05068, section 3.2."""

    info: ClassVar = Info(
        name="rkd",
        family="distillation",
        summary="distances and angles between images as the teacher has them",
        paper="Park, Kim, Lu, Cho 2019, arXiv:1904.05068, section 3.2",
        formula=(
            "L + distance mean huber(d^S_ij - d^T_ij) + angle mean huber(cos^S_ijk - cos^T_ijk), d distances of the "
            "head's inputs over their mean, cos of the angle at i between j and k"
        ),
        expect=(
            "The paper gains most in metric learning, where students pass their teachers; in classification some "
            "tenths over the plain loss, and it adds to classical distillation. With a teacher no better than the"
            " student little; the teacher's training counts as this arm's cost."
        ),
        differs=(
            "The teacher is the wider baseline, as in knowledge_distillation. Weights 25 and 50 are the paper's for "
            "CIFAR-100, where huber is the smooth absolute error of width one."
        ),
        cost=2.5,
        excludes={PARTS: "images are compared with all of the batch"},
    )
    distance: Annotated[float, Field(ge=0), Search(1.0, 50.0, log=True)] = 25.0
    angle: Annotated[float, Field(ge=0), Search(1.0, 100.0, log=True)] = 50.0

    @at(ModelStage.WRAP)  # after surgery on the head, which would lose the hook
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Tap the features."""
        if self.distance == self.angle == 0:
            raise NoEffect("distance = 0 and angle = 0 leave the loss as it is in the baseline")
        tap = FeatureTap()
        model.head.register_forward_pre_hook(tap)
        run.state[self.name] = {"tap": tap}
        return model

    def reduce_loss(self, loss: Tensor, run: Run) -> Tensor:
        """Keep this pass's features before any term runs the network again; the loss stays."""
        run.state[self.name]["tap"].hold()
        return loss

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The relational losses against the teacher's features of the very pixels that the student saw."""
        state = run.state[self.name]
        own = state["tap"].take()
        with torch.no_grad(), run.autocast():
            _, taught = state["teacher"].forward_with_features(batch.x)
        terms = {}
        for name, weight, relation in (("distance", self.distance, distances), ("angle", self.angle, angles)):
            if weight:
                terms[name] = weight * F.smooth_l1_loss(relation(own), relation(taught.float()))
        return terms
