"""Style of another image by its low frequencies: Fourier domain adaptation inside the batch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Choice, Info, Run, Search, Trick, at

BANDS = {"swap": 0.05, "blend": 0.5}
"""Bands of the papers: one of FDA's three (0.01, 0.05, 0.09), and all frequencies, as FACT has it."""


def transfer_amplitude(x: Tensor, partner: Tensor, band: float, weight: Tensor) -> Tensor:
    """Move low-frequency amplitudes towards those of `partner` (a permutation, (N,)), phases kept.

    `band` bounds the frequencies along both axes, as a fraction of the shorter side and in whole cycles an image
    (FDA, equation 1): 0 is the mean alone, 0.5 all. `weight` (N,) is the partner's share. The result may leave [0, 1].
    """
    height, width = x.shape[-2:]
    spectrum = torch.fft.rfft2(x)
    amplitude = spectrum.abs()
    cycles = math.floor(band * min(height, width) + 1e-9)  # so that 0.29 of 100 is 29
    along = torch.arange(height, device=x.device)
    rows = torch.minimum(along, height - along) <= cycles
    columns = torch.arange(width // 2 + 1, device=x.device) <= cycles
    share = weight.view(-1, 1, 1, 1) * (rows[:, None] & columns)
    mixed = torch.lerp(amplitude, amplitude[partner], share)
    restyled: Tensor = torch.fft.irfft2(torch.polar(mixed, spectrum.angle()), s=(height, width))
    return restyled


class DomainTransferAug(Trick):
    """Yang & Soatto 2020, 2004.05498 (FDA), in the place of a generative network such as 1703.10593."""

    info: ClassVar = Info(
        name="domain_transfer_aug",
        family="augment",
        summary="take low-frequency amplitudes from another image, or blend all",
        paper=(
            "Yang, Soatto 2020, arXiv:2004.05498 (swap); Xu, Zhang, Zhang, Wang, Tian 2021, arXiv:2105.11120 (blend)"
        ),
        formula=(
            "F(x) = A exp(i P); A_i = (1 - m) A_i + m A_j up to floor(band side) cycles on both axes, P_i kept; "
            "swap: m = 1, band 0.05; blend: m ~ U(0, 1) per image, band 0.5 (all); j a random permutation; "
            "clipped to [0, 1]; y unchanged"
        ),
        expect=(
            "The papers' gains are on shifted test sets (other cameras, weather, styles). On a test set like the "
            "training set expect nothing or a small loss. Below 20 pixels the band of swap is the mean colour alone."
        ),
        differs=(
            "Partners come from the training batch, not from a target domain, which a training run does not have. "
            "Every image is restyled; FACT trains on the originals beside them and has a teacher of both. FDA's "
            "entropy term on the target domain and its mean over three bands have no place here."
        ),
        cost=1.05,
        version=2,
    )
    band: Annotated[float | None, Field(ge=0, le=0.5), Search(0.01, 0.5, log=True)] = None
    mode: Annotated[Literal["swap", "blend"], Choice(("swap", "blend"))] = "swap"

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw the partners and weights, and exchange amplitudes."""
        n, device, generator = len(batch.x), batch.x.device, run.rng(self.name)
        partner = torch.randperm(n, generator=generator, device=device)
        u = torch.rand(n, generator=generator, device=device)
        weight = torch.ones_like(u) if self.mode == "swap" else u
        band = BANDS[self.mode] if self.band is None else self.band
        return replace(batch, x=transfer_amplitude(batch.x, partner, band, weight).clamp(0, 1))
