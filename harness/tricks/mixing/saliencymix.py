"""SaliencyMix: CutMix whose box lies around what stands out in the other image."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, NoOp, Run, Search, Trick, at
from harness.tricks.images import box_mask
from harness.tricks.mixtures import masked
from harness.tricks.operations import gray

SURROUNDINGS = (12 / 224, 24 / 224, 48 / 224, 28 / 224, 56 / 224, 112 / 224)
"""How far the surroundings of a pixel reach, in shares of the side: those of OpenCV's fine-grained saliency in 224."""


def mean_around(image: Tensor, reach: int) -> Tensor:
    """The mean of all pixels (..., H, W) at most `reach` rows and columns away, of those inside the image."""
    for axis in (-1, -2):
        place = torch.arange(image.shape[axis], device=image.device)
        near = ((place[:, None] - place).abs() <= reach).to(image.dtype)
        near = near / near.sum(1, keepdim=True)
        image = image @ near.mT if axis == -1 else near @ image
    return image


def fine_grained(x: Tensor) -> Tensor:
    """How far each pixel's grey is from that of surroundings of six sizes, summed, (N, H, W)."""
    grey = gray(x)[:, 0]
    reaches = [max(1, round(share * x.shape[-1])) for share in SURROUNDINGS]
    return torch.stack([(grey - mean_around(grey, reach)).abs() for reach in reaches]).sum(0)


def salient_boxes(x: Tensor, keep: float) -> Tensor:
    """True in a box of area about 1 - `keep` around each image's most salient pixel, clipped: (N, H, W)."""
    height, width = x.shape[-2:]
    peak = fine_grained(x).flatten(1).argmax(1)
    half = [int(side * (1 - keep) ** 0.5) // 2 for side in (height, width)]
    tall, broad = (torch.full_like(peak, 2 * h) for h in half)
    return box_mask(peak // width - half[0], peak % width - half[1], tall, broad, (height, width))


class SaliencyMix(Trick):
    """Uddin et al. 2020, 2006.01791, section 3."""

    info: ClassVar = Info(
        name="saliencymix",
        family="mixing",
        summary="CutMix whose box lies around what stands out",
        paper="Uddin, Monira, Shin, Chung, Bae 2020, arXiv:2006.01791, section 3",
        formula=(
            "w ~ Beta(alpha, alpha); a box with sides sqrt(1 - w) of the image's, centred on the most salient pixel of "
            "x_j and clipped, comes from x_j, j a random permutation; y mixes by the share of pixels that stay"
        ),
        expect=(
            "The pasted box holds the object more often than CutMix's, so that its target is right: in OpenMixup's "
            "table of CIFAR-100 level with it. Little where objects fill the image."
        ),
        differs=(
            "Each image has its own box; the authors' code takes that of one image for the batch. Saliency is the "
            "distance from surroundings of six sizes in shares of the side, after Montabone & Soto 2010, which "
            "OpenCV's fine-grained saliency follows in pixels. The default prob = 0.5 is the authors' for CIFAR; for "
            "ImageNet they have 1.0."
        ),
        cost=1.02,
    )
    alpha: Annotated[float, Field(gt=0), Search(0.1, 4.0, log=True)] = 1.0
    prob: Annotated[float, Field(ge=0, le=1), Search(0.25, 1.0), NoOp(0)] = 0.5

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw the area and the partners, find the boxes, and paste."""
        host = run.numpy(self.name)
        keep, skip = float(host.beta(self.alpha, self.alpha)), host.random() >= self.prob
        partner = torch.randperm(len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        if skip:
            return batch
        return masked(batch, partner, salient_boxes(batch.x[partner], keep))
