import pytest
import torch

from draws import assert_independent, assert_share, assert_uniform, recorded
from harness.data.types import PHOTOS
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.augment import three_augment as module
from harness.tricks.augment.three_augment import ThreeAugment
from harness.tricks.contract import NotApplicable
from harness.tricks.operations import blur, gray


class TestThreeAugment(TrickConformance):
    trick = ThreeAugment


def test_exactly_one_of_three_is_applied_to_each_image():
    batch = tiny_batch(1500, channels=3)
    x = batch.x
    out = ThreeAugment(jitter=0.0, sigma=0.0).batch(batch, tiny_run(channels=3)).x
    grey = torch.isclose(out, gray(x).expand_as(x), atol=1e-6).flatten(1).all(1)
    solarized = torch.isclose(out, torch.where(x >= 128 / 255, 1 - x, x), atol=1e-6).flatten(1).all(1)
    blurred = torch.isclose(out, x, atol=1e-6).flatten(1).all(1)  # by nothing

    assert bool((grey.int() + solarized.int() + blurred.int() == 1).all())
    for one in (grey, solarized, blurred):
        assert_share(one, 1 / 3)


@pytest.mark.parametrize(("params", "most"), [({}, 0.009), ({"sigma": 0.05}, 0.05)])
def test_deviations_of_the_blur_fill_their_range(params, most, monkeypatch):
    calls = recorded(monkeypatch, module, "blur")
    ThreeAugment(**params).batch(tiny_batch(4000, channels=3, size=4), tiny_run(channels=3))
    ((x, sigma),) = calls
    assert_uniform(sigma, 4 * most / 20, 4 * most)
    assert len(blur(x, sigma)) == len(x)


@pytest.mark.parametrize(("params", "amount"), [({}, 0.3), ({"jitter": 0.5}, 0.5)])
def test_jitter_is_drawn_for_each_image_and_kind(params, amount, monkeypatch):
    calls = [recorded(monkeypatch, module, name) for name in ("brightness", "contrast", "color")]
    ThreeAugment(**params).batch(tiny_batch(2000, channels=3), tiny_run(channels=3))
    factors = [factor for ((_, factor),) in calls]
    for factor in factors:
        assert_uniform(factor, 1 - amount, 1 + amount)
    assert_independent(*factors)


def test_refuses_colours_that_must_stay():
    run = tiny_run(channels=3, info=tiny_info(channels=3)._replace(invariances=PHOTOS._replace(color=False)))
    with pytest.raises(NotApplicable, match="color = False"):
        ThreeAugment().prepare(run)
    ThreeAugment(force=True).prepare(run)
