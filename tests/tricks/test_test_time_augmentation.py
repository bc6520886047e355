import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.contract import Invariances, NotApplicable
from harness.tricks.evaluation.test_time_augmentation import TestTimeAugmentation as Tta
from harness.tricks.evaluation.test_time_augmentation import average, mirror, shifted, views_for

PHOTOS = Invariances(flip=True, shift=0.125, rotation=15.0, color=True)
DIGITS = Invariances(flip=False, shift=0.125, rotation=10.0, color=False)


class TestConformance(TrickConformance):
    trick = Tta


def network(seed=0):
    """A linear map of 8x8 pixels, in float64, which is not symmetric in any way."""
    weight = torch.randn(64, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return lambda x: x.flatten(1) @ weight


def predictor(allowed, **params):
    return Tta(**params).predictor(network(), tiny_run(info=tiny_info()._replace(invariances=allowed)))


def test_shifts_by_hand():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)

    assert shifted(x, 1, 0).flatten().tolist() == [0, 0, 1, 2]
    assert shifted(x, -1, 0).flatten().tolist() == [3, 4, 0, 0]
    assert shifted(x, 0, 1).flatten().tolist() == [0, 1, 0, 3]
    assert shifted(x, 0, -1).flatten().tolist() == [2, 0, 4, 0]


def test_average_of_logits_by_hand():
    """Identity weighs 0.6, two views 0.2 each; the network returns (pixel, 0)."""
    views = [lambda x: x + 1, lambda x: x + 2]
    got = average(lambda x: torch.cat([x, 0 * x], 1), views, 0.6, "logit")(torch.tensor([[1.0]]))

    assert got.tolist() == [pytest.approx([0.6 * 1 + 0.2 * 2 + 0.2 * 3, 0.0])]


def test_average_of_probabilities_by_hand():
    """Probabilities (1/2, 1/2) and (3/4, 1/4), half and half, are (5/8, 3/8)."""
    views = [lambda x: x + torch.tensor(3.0).log()]
    got = average(lambda x: torch.cat([x, 0 * x], 1), views, 0.5, "prob")(torch.zeros(1, 1))

    torch.testing.assert_close(got.exp(), torch.tensor([[0.625, 0.375]]))


@pytest.mark.parametrize("space", ["logit", "prob"])
@pytest.mark.parametrize("allowed", [PHOTOS, DIGITS])
def test_identity_only_equals_plain(space, allowed):
    x = tiny_batch().x
    got = predictor(allowed, identity_weight=1.0, space=space)(x)

    torch.testing.assert_close(got.softmax(-1), network()(x).softmax(-1))


@pytest.mark.parametrize("space", ["logit", "prob"])
def test_average_over_the_orbit_is_invariant_under_the_group(space):
    x = tiny_batch().x
    predict = predictor(PHOTOS, space=space)

    torch.testing.assert_close(predict(x), predict(mirror(x)))
    assert not torch.allclose(network()(x), network()(mirror(x)))


@pytest.mark.parametrize("space", ["logit", "prob"])
def test_probabilities_sum_to_one(space):
    sums = predictor(DIGITS, space=space, views="shift")(tiny_batch().x).softmax(-1).sum(-1)

    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_views_follow_what_the_data_set_allows():
    x = tiny_batch().x
    (view,) = views_for("auto", PHOTOS, 8, 0.125)
    assert torch.equal(view(x), x.flip(-1))

    views = views_for("auto", DIGITS, 8, 0.125)
    expected = [shifted(x, *move) for move in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    assert all(torch.equal(view(x), e) for view, e in zip(views, expected, strict=True))

    assert len(views_for("flip+shift", PHOTOS, 8, 0.125)) == 5


@pytest.mark.parametrize(
    ("params", "match"),
    [({"views": "flip"}, "mirror"), ({"shift": 0.2}, "allows"), ({"shift": 0.01}, "pixel")],
)
def test_refuses_views_of_another_class(params, match):
    with pytest.raises(NotApplicable, match=match):
        predictor(DIGITS, **params)


def test_by_default_half_is_the_image_and_half_its_views_in_logits_as_they_are():
    """No normalisation: the very logits, and in the space of probabilities their very logarithms."""
    x, f = tiny_batch().x, network()

    torch.testing.assert_close(predictor(PHOTOS)(x), 0.5 * f(x) + 0.5 * f(mirror(x)))
    moved = [shifted(x, *move) for move in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    torch.testing.assert_close(predictor(DIGITS)(x), 0.5 * f(x) + sum(0.125 * f(m) for m in moved))
    probable = predictor(PHOTOS, space="prob", identity_weight=0.25)(x)
    torch.testing.assert_close(probable.exp(), 0.25 * f(x).softmax(-1) + 0.75 * f(mirror(x)).softmax(-1))
