from dataclasses import replace

import numpy as np
import pytest
import torch

from draws import assert_beta, assert_share, recorded
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.mixing import fmix as module
from harness.tricks.mixing.fmix import FMix, largest, low_pass


class TestFMix(TrickConformance):
    trick = FMix


def noise(height=16, width=16, seed=0):
    return torch.randn(2, height, width // 2 + 1, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 24), (15, 9)])
def test_the_grey_image_is_numpys(height, width):
    drawn = noise(height, width).double()
    frequency = np.sqrt(np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width) ** 2)
    spectrum = (drawn[0] + 1j * drawn[1]).numpy() / np.maximum(frequency, 1 / max(height, width)) ** 3
    theirs = np.fft.irfft2(spectrum, s=(height, width))

    torch.testing.assert_close(low_pass(drawn, width, 3.0), torch.from_numpy(theirs), atol=1e-4, rtol=1e-4)


def test_decay_makes_neighbours_alike():
    def likeness(decay):
        image = torch.stack([low_pass(noise(seed=s), 16, decay) for s in range(50)])
        image = image - image.mean((1, 2), keepdim=True)
        return float((image[:, :-1] * image[:, 1:]).mean() / image.square().mean())

    assert abs(likeness(0.0)) < 0.1
    assert likeness(0.0) < likeness(1.0) < likeness(3.0)
    assert likeness(3.0) > 0.8


def test_exactly_the_largest_pixels_are_chosen():
    image = low_pass(noise(), 16, 3.0)
    for count in (0, 1, 100, 256):
        mask = largest(image, count)
        assert int(mask.sum()) == count
        assert not count or count == 256 or image[mask].min() >= image[~mask].max()
    assert int(largest(torch.zeros(4, 4), 5).sum()) == 5


def test_targets_are_the_exact_share_of_pixels():
    run, batch = tiny_run(), tiny_batch(n=8)
    batch = replace(batch, x=(torch.arange(8.0) / 8).view(-1, 1, 1, 1).expand(8, 1, 8, 8))
    for _ in range(30):
        mixed = FMix().batch(batch, run)
        changed = (mixed.x != batch.x).float().mean((1, 2, 3))
        torch.testing.assert_close(1 - mixed.y[torch.arange(8), batch.label], changed)
        assert bool((mixed.x * 8 == (mixed.x * 8).round()).all())


@pytest.mark.parametrize("alpha", [1.0, 4.0])
def test_shares_have_a_beta_distribution_and_masks_the_decay(alpha, monkeypatch):
    counts, images = recorded(monkeypatch, module, "largest"), recorded(monkeypatch, module, "low_pass")
    run, batch = tiny_run(size=64), tiny_batch(2, size=64)
    for _ in range(800):
        FMix(alpha=alpha).batch(batch, run)
    assert_beta([count / 4096 for _, count in counts], alpha)
    assert {decay for _, _, decay in images} == {3.0}


@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
def test_a_batch_is_mixed_with_probability_prob(prob):
    run, batch = tiny_run(), tiny_batch(4)
    assert_share([FMix(prob=prob).batch(batch, run) is not batch for _ in range(600)], prob)
