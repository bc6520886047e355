import pytest
import torch

from draws import assert_share
from harness.data.types import PHOTOS
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.augment.solarize import Solarize
from harness.tricks.contract import NotApplicable


class TestSolarize(TrickConformance):
    trick = Solarize


@pytest.mark.parametrize(("params", "threshold"), [({}, 0.5), ({"threshold": 0.8}, 0.8), ({"threshold": 0.0}, 0.0)])
def test_pixels_from_the_threshold_on_are_inverted(params, threshold):
    batch = tiny_batch(4, channels=3)
    batch.x[0, 0, 0, 0] = threshold
    out = Solarize(p=1.0, **params).batch(batch, tiny_run(channels=3)).x

    bright = batch.x >= threshold
    assert torch.equal(out[bright], 1 - batch.x[bright])
    assert torch.equal(out[~bright], batch.x[~bright])


@pytest.mark.parametrize(("params", "p"), [({}, 0.2), ({"p": 0.5}, 0.5), ({"p": 0.0}, 0.0), ({"p": 1.0}, 1.0)])
def test_each_image_is_solarized_with_probability_p(params, p):
    batch = tiny_batch(2000)
    batch.x[:, :, 0, 0] = 1.0
    out = Solarize(**params).batch(batch, tiny_run()).x
    assert_share((out != batch.x).flatten(1).any(1), p)


def test_refuses_colours_that_must_stay():
    run = tiny_run(channels=3, info=tiny_info(channels=3)._replace(invariances=PHOTOS._replace(color=False)))
    with pytest.raises(NotApplicable, match=r"color = False.*force = true"):
        Solarize().prepare(run)
    Solarize(force=True).prepare(run)
    Solarize().prepare(tiny_run())
