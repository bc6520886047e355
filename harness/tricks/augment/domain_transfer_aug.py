"""Style of another image by its low frequencies: Fourier domain adaptation inside the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Choice, Info, Run, Search, Trick, at


def transfer_amplitude(x: Tensor, partner: Tensor, band: float, weight: Tensor) -> Tensor:
    """Move low-frequency amplitudes towards those of `partner` (a permutation, (N,)), phases kept.

    `band` bounds the frequencies along both axes, in cycles per pixel, itself excluded; `weight` (N,) is the
    partner's share. The result may leave [0, 1].
    """
    height, width = x.shape[-2:]
    spectrum = torch.fft.rfft2(x)
    amplitude = spectrum.abs()
    rows = torch.fft.fftfreq(height, device=x.device).abs() < band
    columns = torch.fft.rfftfreq(width, device=x.device) < band
    share = weight.view(-1, 1, 1, 1) * (rows[:, None] & columns)
    mixed = torch.lerp(amplitude, amplitude[partner], share)
    restyled: Tensor = torch.fft.irfft2(torch.polar(mixed, spectrum.angle()), s=(height, width))
    return restyled


class DomainTransferAug(Trick):
    """Yang & Soatto 2020, 2004.05498 (FDA), in the place of a generative network such as 1703.10593."""

    info: ClassVar = Info(
        name="domain_transfer_aug",
        family="augment",
        summary="swap low-frequency amplitudes with another image",
        paper=(
            "Yang, Soatto 2020, arXiv:2004.05498 (swap); Xu, Zhang, Zhang, Wang, Tian 2021, arXiv:2105.11120 (blend)"
        ),
        formula=(
            "F(x) = A exp(i P); A_i = (1 - m) A_i + m A_j at frequencies below band on both axes, P_i kept; m = 1 or "
            "m ~ U(0, 1) per image, j a random permutation; clipped to [0, 1]; y unchanged"
        ),
        expect=(
            "The papers' gains are on shifted test sets (other cameras, weather, styles). On a test set like the "
            "training set expect nothing or a small loss. On tiny images little more than brightness is below the band."
        ),
        differs=(
            "Partners come from the training batch, not from a target domain, which a training run does not have. "
            "FDA's swap is the default; 'blend' is FACT's, which blends all frequencies, without its teacher."
        ),
        cost=1.05,
    )
    band: Annotated[float, Field(gt=0, le=0.5), Search(0.01, 0.3, log=True)] = 0.05
    mode: Annotated[Literal["swap", "blend"], Choice(("swap", "blend"))] = "swap"

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw the partners and weights, and exchange amplitudes."""
        n, device, generator = len(batch.x), batch.x.device, run.rng(self.name)
        partner = torch.randperm(n, generator=generator, device=device)
        u = torch.rand(n, generator=generator, device=device)
        weight = torch.ones_like(u) if self.mode == "swap" else u
        return replace(batch, x=transfer_amplitude(batch.x, partner, self.band, weight).clamp(0, 1))
