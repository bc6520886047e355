"""FMix: mix two images by a mask of random smooth shape."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, NoOp, Run, Search, Trick, at
from harness.tricks.mixtures import masked


def low_pass(noise: Tensor, width: int, decay: float) -> Tensor:
    """A grey image (H, width) whose spectrum is `noise` (2, H, width // 2 + 1) over frequency to the power `decay`.

    Frequencies below one period of the longer side count as that.
    """
    height = noise.shape[1]
    down = torch.fft.fftfreq(height, device=noise.device)[:, None]
    along = torch.fft.rfftfreq(width, device=noise.device)
    frequency = (down.square() + along.square()).sqrt().clamp(min=1 / max(height, width))
    real, imaginary = noise / frequency**decay
    image: Tensor = torch.fft.irfft2(torch.complex(real, imaginary), s=(height, width))
    return image


def largest(image: Tensor, count: int) -> Tensor:
    """True in the `count` largest pixels of an image (H, W)."""
    rank = image.flatten().argsort(descending=True, stable=True).argsort()
    return (rank < count).view(image.shape)


class FMix(Trick):
    """Harris et al. 2020, 2002.12047, section 4."""

    info: ClassVar = Info(
        name="fmix",
        family="mixing",
        summary="mix two images by a mask of random smooth shape",
        paper="Harris, Marcu, Painter, Niranjan, Prugel-Bennett, Hare 2020, arXiv:2002.12047, section 4",
        formula=(
            "w ~ Beta(alpha, alpha); a grey image of complex Gaussian noise over frequency^decay is cut so that a "
            "share w of its pixels is above; there x = x_i, elsewhere x_j, j a random permutation; y = w y_i "
            "+ (1 - w) y_j"
        ),
        expect=(
            "As CutMix, with shapes of any kind in place of boxes; near it in OpenMixup's tables of CIFAR-10 and "
            "CIFAR-100. Weak where small images hold little to share."
        ),
        differs=(
            "w is the exact share of the pixels that stay; the authors' targets have the w that was drawn, and their "
            "count of pixels is rounded by chance. `prob` is an addition; one mask for the batch, as theirs."
        ),
        cost=1.01,
    )
    alpha: Annotated[float, Field(gt=0), Search(0.1, 4.0, log=True)] = 1.0
    decay: Annotated[float, Field(ge=0, le=10), Search(1.0, 5.0)] = 3.0
    prob: Annotated[float, Field(ge=0, le=1), Search(0.25, 1.0), NoOp(0)] = 1.0

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw the share, the mask and the partners, and mix."""
        host, generator, device = run.numpy(self.name), run.rng(self.name), batch.x.device
        height, width = batch.x.shape[-2:]
        keep, skip = float(host.beta(self.alpha, self.alpha)), host.random() >= self.prob
        noise = torch.randn(2, height, width // 2 + 1, generator=generator, device=device)
        partner = torch.randperm(len(batch.x), generator=generator, device=device)
        if skip:
            return batch
        stays = largest(low_pass(noise, width, self.decay), round(keep * height * width))
        return masked(batch, partner, ~stays[None])
