import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from draws import assert_drawn, recorded
from harness.experiment import Recipe
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.augment import elastic_distortion as module
from harness.tricks.augment.elastic_distortion import ElasticDistortion, displaced, smooth_field
from harness.tricks.contract import NotApplicable


class TestElasticDistortion(TrickConformance):
    trick = ElasticDistortion


def noise(n=200, side=29):
    return 3**0.5 * (2 * torch.rand(n, 2, side, side, generator=torch.Generator().manual_seed(0)) - 1)


def test_the_field_is_scipys_gaussian_filter_but_for_its_scale():
    u = noise(3)
    inside = (..., slice(12, 17), slice(12, 17))
    theirs = gaussian_filter(u.numpy().astype(float), sigma=(0, 0, 2.0, 2.0), truncate=8)[inside]
    ours = smooth_field(u, 2.0).numpy()[inside]
    ratio = ours / theirs
    assert ratio.min() == pytest.approx(ratio.max(), rel=1e-3)
    assert ratio.mean() == pytest.approx(2 * np.pi**0.5 * 2, rel=1e-3)  # white noise keeps 1 / (2 sqrt(pi) sigma)


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_the_field_has_variance_one_at_every_pixel(sigma):
    field = smooth_field(noise(3000), sigma)
    variance = field.square().mean((0, 1))
    assert float(variance.min()) > 0.9
    assert float(variance.max()) < 1.1
    assert abs(float(field.mean())) < 0.02


def test_displaced_images_are_scipys():
    x = tiny_batch(3, channels=3, size=16).x
    moved = 0.05 * smooth_field(noise(3, 16), 2.0)
    rows, columns = np.mgrid[:16, :16].astype(float)
    ours = displaced(x, moved)
    for image, (right, down), out in zip(x, moved.numpy() * 16, ours, strict=True):
        for plane, made in zip(image, out, strict=True):
            theirs = map_coordinates(
                plane.double().numpy(), [rows + down, columns + right], order=1, mode="grid-constant"
            )
            torch.testing.assert_close(made.double(), torch.from_numpy(theirs), atol=1e-4, rtol=0)


def test_no_displacement_is_the_identity():
    x = tiny_batch(3).x
    torch.testing.assert_close(displaced(x, torch.zeros(3, 2, 8, 8)), x)


@pytest.mark.parametrize(
    ("params", "strength", "sigma"), [({}, 0.048, 0.138), ({"strength": 0.1, "sigma": 0.1}, 0.1, 0.1)]
)
def test_displacements_have_the_deviation_that_is_asked_for(params, strength, sigma, monkeypatch):
    """The default is the paper's: alpha 34, sigma 4 pixels, on images of 29."""
    assert ElasticDistortion().sigma * 29 == pytest.approx(4, rel=0.01)
    assert ElasticDistortion().strength * 29 == pytest.approx(34 / 3**0.5 / (2 * np.pi**0.5 * 4), rel=0.01)
    smoothed, moves = recorded(monkeypatch, module, "smooth_field"), recorded(monkeypatch, module, "displaced")
    ElasticDistortion(**params).batch(tiny_batch(3000, size=8), tiny_run(size=8))
    ((_, pixels),), ((_, moved),) = smoothed, moves

    assert pixels == pytest.approx(sigma * 8)
    assert_drawn(moved[:, 0, 4, 4] / strength, lambda v: torch.special.ndtr(torch.from_numpy(v)).numpy())
    assert float(moved.std()) == pytest.approx(strength, rel=0.05)


def test_refuses_what_moves_pixels_too_far():
    recipe = Recipe(epochs=1, batch_size=8, lr=0.1)
    with pytest.raises(NotApplicable, match=r"strength = 0\.3 .* bear 0\.25"):
        ElasticDistortion(strength=0.3).recipe(recipe, tiny_info())
    assert ElasticDistortion(strength=0.3, force=True).recipe(recipe, tiny_info()) == recipe
