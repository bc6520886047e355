"""Repeated augmentation: batches of fewer images, each several times under other augmentations."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Info, NoOp, Run, Search, TrainingSet, Trick


def repeated(order: Tensor, repeats: int) -> Tensor:
    """Positions `order` (N,), each `repeats` times in a row, cut to N."""
    return order.repeat_interleave(repeats)[: len(order)]


class RepeatedAugmentation(Trick):
    """Berman et al. 2019, 1902.05509, section 3.2; Hoffer et al. 2019, 1901.09335."""

    info: ClassVar = Info(
        name="repeated_augmentation",
        family="augment",
        summary="each image several times in a batch, augmented anew",
        paper=(
            "Berman, Jegou, Vedaldi, Kokkinos, Douze 2019, arXiv:1902.05509, section 3.2; Hoffer, Ben-Nun, Hubara, "
            "Giladi, Hoefler, Soudry 2019, arXiv:1901.09335 (there in larger batches)"
        ),
        formula=(
            "an epoch visits N / repeats images, chosen at random, each `repeats` times in a row; batch size and "
            "updates stay"
        ),
        expect=(
            "A part of recipes for long training with strong augmentation: 0.2 points of a ResNet-50 on ImageNet in "
            "torchvision's recipe. Fewer images in a batch make gradients noisier; in short training, or where the "
            "augmentation is weak, the repeats are nearly copies and it costs accuracy."
        ),
        differs=(
            "As the sampler of DeiT and timm on one device: Hoffer et al. enlarge the batch and keep the images. Which "
            "images an epoch leaves out is drawn anew each time."
        ),
        cost=1.0,
    )
    repeats: Annotated[int, Field(ge=1, le=100), Search(2, 5), NoOp(1)] = 3

    def sampler(self, train: TrainingSet, run: Run) -> Tensor:
        """A shuffled part of the split, each image in a row."""
        return repeated(torch.from_numpy(run.numpy(self.name).permutation(len(train.rows))), self.repeats)
