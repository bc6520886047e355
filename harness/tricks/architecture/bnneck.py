"""Batch normalisation between the features and a head without bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from harness.tricks.contract import Info, ModelStage, NoEffect, NotApplicable, Run, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def bnneck(head: nn.Linear) -> nn.Sequential:
    """Batch norm whose shift stays zero, then the head's weights without its bias."""
    norm = nn.BatchNorm1d(head.in_features, device=head.weight.device)
    norm.bias.requires_grad_(False)
    linear = nn.Linear(head.in_features, head.out_features, bias=False, device="meta")
    linear.weight = head.weight
    return nn.Sequential(norm, linear)


class Bnneck(Trick):
    """Luo et al. 2019, 1906.08332, section 3.6 (also 1903.07071)."""

    info: ClassVar = Info(
        name="bnneck",
        family="architecture",
        summary="normalise the features before a head without bias",
        paper="Luo, Jiang, Gu, Liu, Liao, Lai, Gu 2019, arXiv:1906.08332; Luo et al. 2019, arXiv:1903.07071",
        formula="logits = W (scale (f - mean) / sqrt(var + eps)), statistics over the batch; no shift, no bias",
        expect=(
            "The papers use it to let a metric loss act on the features before it and cross-entropy after it, "
            "and gain in retrieval of people. With cross-entropy alone expect a faster start and little at the end."
        ),
        differs=(
            "The head keeps the baseline's weights, where the paper draws smaller ones. Features for metric "
            "losses are those before the norm, which is what the model reports."
        ),
    )

    @at(ModelStage.HEAD)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Put the norm before the head and drop its bias."""
        if not isinstance(model.head, nn.Linear):
            raise NoEffect("needs a linear head, and the model has another one")
        if run.recipe.batch_size < 2:
            raise NotApplicable("batch norm of features needs batches of at least two images")
        model.set_head(bnneck(model.head))
        return model
