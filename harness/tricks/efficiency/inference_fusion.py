"""Inference fusion: fold batch normalisation into the convolution before it, after training."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from harness.tricks.contract import Info, NoEffect, NotApplicable, Run, Trick, at_once

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

IMAGES = 256
"""Training images on which both networks must agree."""


def pairs(model: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """Parents with the names of a convolution and of the batch normalisation registered right after it.

    Only the plain classes: a subclass may do more, as timm's norms with an activation inside do.
    """
    found = []
    for parent in model.modules():
        children = list(parent.named_children())
        for (first, conv), (second, norm) in pairwise(children):
            fits = type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and norm.track_running_stats
            if fits and conv.out_channels == norm.num_features:
                found.append((parent, first, second))
    return found


def fuse(model: nn.Module) -> int:
    """Fold every pair in place, for evaluation; returns how many. What follows a norm is left as it is."""
    found = pairs(model.eval())
    for parent, conv, norm in found:
        setattr(parent, conv, fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm)))
        setattr(parent, norm, nn.Identity())
    return len(found)


class InferenceFusion(Trick):
    """The fold of Ioffe & Szegedy 2015, 1502.03167, section 3.1, after training."""

    info: ClassVar = Info(
        name="inference_fusion",
        family="efficiency",
        kind="protocol",
        summary="fold batch normalisation into convolutions after training",
        paper="Ioffe, Szegedy 2015, arXiv:1502.03167; as part of RepVGG Ding et al. 2021, arXiv:2101.03697",
        formula="w' = w gamma / sqrt(var + eps), b' = beta + (b - mean) gamma / sqrt(var + eps), for each channel out",
        expect=(
            "Faster evaluation and less memory for nets with batch normalisation, at the same predictions up to "
            "rounding: no effect on accuracy or on training is to be expected."
        ),
        differs=(
            "Only convolutions with a batch normalisation registered right after them. The fused net must give the "
            "same logits on training images, up to `tolerance` times the largest one, or the run is refused. No "
            "parallel branches as in RepVGG."
        ),
        cost=1.0,
    )
    tolerance: Annotated[float, Field(gt=0)] = 1e-4

    def prepare(self, run: Run) -> None:
        """Refuse a network that has nothing to fuse before it is trained."""
        if not pairs(run.model):
            raise NoEffect("needs convolutions followed by batch normalisation, and the model has none")

    @torch.no_grad()
    def finalize(self, model: Classifier, run: Run) -> Classifier:
        """Fuse a copy, and check it against the original."""
        fused = copy.deepcopy(model)
        fuse(fused)
        images = run.train.images[: at_once(run.data.size, IMAGES, run.device)].to(run.device)
        x = images.permute(0, 3, 1, 2).double() / run.train.peak
        # In float64, where fast convolutions of the device cannot blur the comparison.
        old, new = (copy.deepcopy(m).double().eval()(x) for m in (model, fused))
        gap = float((new - old).abs().max() / old.abs().max().clamp(min=1))
        if not gap <= self.tolerance:
            raise NotApplicable(f"fused logits are off by {gap:.1e} of the largest, more than {self.tolerance:g}")
        return fused
