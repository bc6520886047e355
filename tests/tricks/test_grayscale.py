import pytest
import torch
from PIL import Image

from draws import assert_share
from harness.data.types import PHOTOS
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.augment.grayscale import Grayscale
from harness.tricks.contract import NoEffect, NotApplicable


class TestGrayscale(TrickConformance):
    trick = Grayscale
    unfit = True


def test_images_without_colour_are_pillows():
    batch = tiny_batch(4, channels=3)
    out = Grayscale(p=1.0).batch(batch, tiny_run(channels=3)).x
    for image, made in zip(batch.x, out, strict=True):
        picture = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).convert("L")
        expected = torch.tensor(list(picture.tobytes())).view(8, 8) / 255
        for channel in made:
            torch.testing.assert_close(channel, expected, atol=1.5 / 255, rtol=0)


@pytest.mark.parametrize(("params", "p"), [({}, 0.2), ({"p": 0.5}, 0.5), ({"p": 0.0}, 0.0)])
def test_each_image_loses_its_colour_with_probability_p(params, p):
    batch = tiny_batch(2000, channels=3)
    out = Grayscale(**params).batch(batch, tiny_run(channels=3)).x
    changed = (out != batch.x).flatten(1).any(1)
    assert_share(changed, p)
    assert bool((out[changed].diff(dim=1) == 0).all())


def test_refuses_what_has_no_colour_or_must_keep_it():
    with pytest.raises(NoEffect, match="1 channel"):
        Grayscale().prepare(tiny_run())
    run = tiny_run(channels=3, info=tiny_info(channels=3)._replace(invariances=PHOTOS._replace(color=False)))
    with pytest.raises(NotApplicable, match=r"color = False.*force = true"):
        Grayscale().prepare(run)
    Grayscale(force=True).prepare(run)
    Grayscale().prepare(tiny_run(channels=3))
