import pytest
import torch

from draws import assert_drawn, assert_share, recorded
from harness.data.types import PHOTOS
from harness.errors import UserError
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks import registry
from harness.tricks.augment import randaugment as module
from harness.tricks.augment.randaugment import RandAugment

COLOUR = tiny_info(channels=3)._replace(invariances=PHOTOS)


class TestRandAugment(TrickConformance):
    trick = RandAugment


class TestRandAugmentOfTimm(TrickConformance):
    trick = RandAugment
    params = {"space": "timm", "magnitude": 7.0, "std": 0.5}  # noqa: RUF012


def changed(n=400, times=1, channels=3, **params):
    run, batch = tiny_run(info=COLOUR, channels=3), tiny_batch(n, channels=channels)
    out = [RandAugment(**params).batch(batch, run).x != batch.x for _ in range(times)]
    return torch.cat(out).flatten(1).any(1)


@pytest.mark.parametrize(
    ("params", "share"),
    [
        ({"n": 1, "magnitude": 30.0}, 1 - 2 / 14),  # an image of 64 pixels is not equalized
        ({"n": 1, "magnitude": 30.0, "p": 0.5}, 0.5 * (1 - 2 / 14)),
        ({"n": 1, "space": "timm", "magnitude": 10.0}, 0.5 * (1 - 1 / 15)),
        ({"n": 2, "magnitude": 30.0}, 1 - (2 / 14) ** 2),
    ],
)
def test_each_image_is_changed_with_the_probability_of_its_operations(params, share):
    assert_share(changed(times=5, **params), share)


def test_strengths_by_hand():
    g = torch.Generator().manual_seed(0)
    x = torch.zeros(5000, 1, 1, 1)

    torch.testing.assert_close(RandAugment().level(x, g), torch.full((5000,), 0.3))
    torch.testing.assert_close(RandAugment(space="timm").level(x, g), torch.full((5000,), 0.9))
    noisy = RandAugment(space="timm", magnitude=9.0, std=0.5).level(x, g).double()
    assert float(noisy.max()) == 1.0
    inside = noisy[noisy < 1]
    assert_share(noisy == 1, float(torch.special.ndtr(torch.tensor(-2.0))))
    below = float(torch.special.ndtr(torch.tensor(2.0)))
    assert_drawn(inside, lambda v: torch.special.ndtr(torch.from_numpy((v * 10 - 9) / 0.5)).numpy() / below)


def test_all_images_have_the_strength_and_operations_of_the_policy(monkeypatch):
    calls = recorded(monkeypatch, module, "one_each")
    changed(times=1, n=2)
    assert [len(call[1]) for call in calls] == [15, 15]  # 14 operations and the chance of none
    assert calls[0][4] == pytest.approx([1 / 14] * 14 + [0.0])


def test_a_magnitude_beyond_the_scale_is_refused():
    with pytest.raises(UserError, match=r"magnitude = 11 is more than 10, where space = 'timm' ends"):
        registry.make("randaugment", {"space": "timm", "magnitude": 11.0})
    assert RandAugment(magnitude=11.0).magnitude == 11.0
