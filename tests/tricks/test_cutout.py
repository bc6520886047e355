from dataclasses import replace

import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.augment.cutout import Cutout, cutout


class TestCutout(TrickConformance):
    trick = Cutout


def test_hides_the_square_and_nothing_else():
    x = tiny_batch(n=2, channels=3).x
    fill = torch.tensor([0.1, 0.2, 0.3])
    out = cutout(x, torch.tensor([[[4, 3]], [[0, 7]]]), 4, fill)

    hidden = torch.zeros(2, 8, 8, dtype=torch.bool)
    hidden[0, 2:6, 1:5] = True
    hidden[1, 0:2, 5:8] = True  # the rest of the square lies outside
    assert torch.equal(out[0][:, hidden[0]], fill[:, None].expand(3, 16))
    assert torch.equal(out[1][:, hidden[1]], fill[:, None].expand(3, 6))
    assert torch.equal(out.permute(1, 0, 2, 3)[:, ~hidden], x.permute(1, 0, 2, 3)[:, ~hidden])


def test_two_holes_hide_their_union():
    out = cutout(torch.ones(1, 1, 8, 8), torch.tensor([[[1, 1], [2, 2]]]), 2, torch.zeros(1))
    assert (out == 0).sum() == 4 + 4 - 1


def test_length_zero_is_the_identity():
    batch = tiny_batch()
    assert torch.equal(Cutout(length=0.0).batch(batch, tiny_run()).x, batch.x)


def test_hidden_pixels_are_zero_after_normalisation():
    run, batch = tiny_run(), tiny_batch()
    normalized = run.model.normalize(Cutout(length=1.0).batch(batch, run).x)
    assert (normalized == 0).flatten(1).sum(1).min() >= 16  # a square of 8 with its centre inside


def test_centres_are_uniform_and_differ_between_images():
    run = tiny_run()
    batch = replace(tiny_batch(n=6400), x=torch.ones(6400, 1, 8, 8))
    out = Cutout(length=1 / 8).batch(batch, run).x  # one pixel per image: the centre
    counts = (out != 1).sum((0, 1))

    assert counts.sum() == 6400
    chi2 = ((counts - 100) ** 2 / 100).sum()
    assert chi2 < 120  # 63 degrees of freedom, p = 1e-5


def test_black_fill_is_zero_and_mean_fill_is_the_mean_of_the_training_split():
    for fill, value in (("black", 0.0), ("mean", 0.5)):
        run, batch = tiny_run(), tiny_batch(n=16)
        changed = Cutout(length=0.5, fill=fill).batch(batch, run).x
        assert set(changed[changed != batch.x].tolist()) == {value}
