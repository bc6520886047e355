from dataclasses import replace

import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.augment.domain_transfer_aug import DomainTransferAug, transfer_amplitude

SWAP = torch.tensor([1, 0])
ONE = torch.ones(2, dtype=torch.float64)


class TestDomainTransferAug(TrickConformance):
    trick = DomainTransferAug


def pictures():
    return tiny_batch(n=2, channels=3).x.double()


def test_only_the_mean_is_below_a_narrow_band():
    x = pictures()
    out = transfer_amplitude(x, SWAP, 0.1, ONE)  # 1 / 8 is the next frequency
    mean = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(out, x - mean + mean[SWAP])


def test_agrees_with_the_full_complex_transform_and_is_real():
    """As FDA: swap b = floor(0.3 * 8) = 2 cycles around the centre of the spectrum, keep the phase, transform back."""
    x = pictures()
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1))
    amplitude, phase = spectrum.abs(), spectrum.angle()
    swapped = amplitude.clone()
    swapped[..., 2:7, 2:7] = amplitude[SWAP][..., 2:7, 2:7]
    back = torch.fft.ifft2(torch.fft.ifftshift(torch.polar(swapped, phase), dim=(-2, -1)))

    assert back.imag.abs().max() < 1e-6
    torch.testing.assert_close(transfer_amplitude(x, SWAP, 0.3, ONE), back.real)


def test_phase_stays_and_amplitude_is_the_partners_below_the_band():
    x = pictures()
    before = torch.fft.rfft2(x)
    after = torch.fft.rfft2(transfer_amplitude(x, SWAP, 0.2, ONE))

    torch.testing.assert_close(torch.exp(1j * after.angle()), torch.exp(1j * before.angle()))
    torch.testing.assert_close(after.abs()[..., :2, :2], before.abs()[SWAP][..., :2, :2])
    torch.testing.assert_close(after.abs()[..., 2:7, :], before.abs()[..., 2:7, :])


def test_the_last_frequency_of_the_band_is_part_of_it():
    """A quarter of 8 pixels is 2 cycles, and 0.29 of 100 is 29, whatever the product's last bit says."""
    before = torch.fft.rfft2(pictures()).abs()
    after = torch.fft.rfft2(transfer_amplitude(pictures(), SWAP, 0.25, ONE)).abs()
    torch.testing.assert_close(after[..., 2, 2], before[SWAP][..., 2, 2])
    torch.testing.assert_close(after[..., -2, 2], before[SWAP][..., -2, 2])
    torch.testing.assert_close(after[..., 3, 2], before[..., 3, 2])
    torch.testing.assert_close(after[..., 2, 3], before[..., 2, 3])

    x = torch.rand(2, 1, 100, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spectrum = torch.fft.rfft2(transfer_amplitude(x, SWAP, 0.29, ONE)).abs()
    torch.testing.assert_close(spectrum[..., 29, 0], torch.fft.rfft2(x).abs()[SWAP][..., 29, 0])


@pytest.mark.parametrize("side", [8, 7])
def test_blend_is_of_all_frequencies(side):
    """FACT, equation 4 with weight 1: the whole amplitude is the partner's."""
    batch = tiny_batch(n=2, channels=3, size=side)
    batch = replace(batch, x=batch.x / 4)
    x = batch.x.double()
    run = tiny_run(channels=3)
    seen = DomainTransferAug(mode="blend").batch(batch, run).x
    whole = torch.fft.fft2(transfer_amplitude(x, SWAP, 0.5, ONE)).abs()

    torch.testing.assert_close(whole, torch.fft.fft2(x).abs()[SWAP])
    assert not torch.equal(seen, batch.x)


def test_weight_zero_and_oneself_are_the_identity():
    x = pictures()
    torch.testing.assert_close(transfer_amplitude(x, SWAP, 0.3, 0 * ONE), x)
    torch.testing.assert_close(transfer_amplitude(x, torch.tensor([0, 1]), 0.3, ONE), x)


def test_odd_sizes():
    x = torch.rand(2, 1, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(transfer_amplitude(x, SWAP, 0.0, ONE), x - mean + mean[SWAP])


def test_blend_draws_a_weight_per_image_and_swap_does_not():
    """Flat images 0.2 and 0.6: the new level over the old tells the partner's share."""
    run, batch = tiny_run(), tiny_batch(n=200)
    level = torch.tensor([0.2, 0.6]).repeat(100).view(-1, 1, 1, 1)
    batch.x.copy_(level.expand_as(batch.x))
    swap = DomainTransferAug().batch(batch, run).x[:, 0, 0, 0]
    blend = DomainTransferAug(mode="blend").batch(batch, run).x[:, 0, 0, 0]

    assert ((swap - 0.2).abs() < 1e-5).sum() == 100
    assert ((swap - 0.6).abs() < 1e-5).sum() == 100
    between = blend[(blend > 0.201) & (blend < 0.599)]
    assert len(between) > 60
    assert len(between.unique()) > 60
    assert abs(between.mean() - 0.4) < 0.06


def test_pixels_stay_in_range():
    batch = tiny_batch(n=16)
    batch.x.round_()
    out = DomainTransferAug(band=0.3).batch(batch, tiny_run())
    assert float(out.x.min()) >= 0
    assert float(out.x.max()) <= 1
