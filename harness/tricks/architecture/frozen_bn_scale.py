"""Scales of batch normalisation that stay one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from harness.tricks.contract import Info, ModelStage, NoEffect, Run, Trick, at
from harness.tricks.modules import batch_norms

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class FrozenBnScale(Trick):
    """Page 2018 (myrtle.ai); Jordan 2024, 2404.00498, section 2."""

    info: ClassVar = Info(
        name="frozen_bn_scale",
        family="architecture",
        summary="do not train the scales of batch normalisation",
        paper="Page 2018 (myrtle.ai, How to train your ResNet 7); Jordan 2024, arXiv:2404.00498, section 2",
        formula="norm(x) = (x - mean) / sqrt(var + eps) + shift, the scale stays what it starts as, one",
        expect=(
            "Part of the fastest CIFAR-10 trainings, where it saves time and lets biases have a high rate. The next "
            "layer can do what the scale did, so expect nothing in accuracy, except in networks whose last norms "
            "scale residual branches."
        ),
        differs="nothing; `bias_lr_scale` is the rate of the shifts that goes with it",
        excludes={
            "bn_freeze": "each decides which scales are trained",
            "zero_gamma": "residual branches would stay zero",
        },
    )

    @at(ModelStage.WRAP)  # after surgery on norms
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Freeze every scale, so that the optimizer never sees it."""
        scales = [norm.weight for norm in batch_norms(model) if norm.affine]
        if not scales:
            raise NoEffect("needs batch norms with a scale, and the model has none")
        for scale in scales:
            scale.requires_grad_(False)
        return model
