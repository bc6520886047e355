import colorsys

import pytest
import torch

from draws import assert_independent, assert_uniform, recorded
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.augment import color_jitter_hsv as module
from harness.tricks.augment.color_jitter_hsv import ColorJitterHsv, gray, stretch, turn_hue
from harness.tricks.contract import NoEffect

OFF = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


class TestColorJitterHsv(TrickConformance):
    trick = ColorJitterHsv


class TestColorJitterHsvWithColorsOnly(TrickConformance):
    trick = ColorJitterHsv
    params = {"brightness": 0.0, "contrast": 0.0}  # noqa: RUF012
    unfit = True


@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.0, 0.2, 1 / 3])
def test_hue_agrees_with_the_standard_library(turns):
    x = tiny_batch(n=1, channels=3).x
    x[0, :, 0, 0] = 0.5  # grey has no hue
    x[0, :, 0, 1] = torch.tensor([0.2, 0.8, 0.8])  # two equal maxima
    out = turn_hue(x, torch.tensor([turns]))
    for before, after in zip(x[0].flatten(1).T.tolist(), out[0].flatten(1).T.tolist(), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before)
        assert after == pytest.approx(colorsys.hsv_to_rgb((h + turns) % 1, s, v), abs=1e-5)


def test_stretch_by_hand_clips():
    x = torch.tensor([0.1, 0.5, 0.9]).view(1, 1, 1, 3)
    out = stretch(x, 0.5, torch.tensor([1.5]))
    assert out.flatten().tolist() == pytest.approx([0.0, 0.5, 1.0])


def test_gray_is_luma_for_colours():
    x = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1)
    assert float(gray(x)) == pytest.approx(0.299 + 0.5 * 0.587)


def test_no_change_is_the_identity():
    batch = tiny_batch(channels=3)
    torch.testing.assert_close(ColorJitterHsv(**OFF).batch(batch, tiny_run(channels=3)).x, batch.x)


def test_brightness_is_a_uniform_factor_per_image():
    batch = tiny_batch(n=600)
    batch.x.mul_(0.5)  # so that nothing is clipped
    out = ColorJitterHsv(**(OFF | {"brightness": 0.4})).batch(batch, tiny_run()).x
    values = out.sum((1, 2, 3)) / batch.x.sum((1, 2, 3))

    torch.testing.assert_close(out, values.view(-1, 1, 1, 1) * batch.x, rtol=0, atol=1e-5)
    assert 0.6 <= values.min() < 0.62
    assert 1.38 < values.max() <= 1.4
    assert abs(values.mean() - 1) < 0.04


def test_contrast_keeps_the_mean_and_scales_the_spread():
    batch = tiny_batch(n=200)
    batch.x.mul_(0.2).add_(0.4)
    out = ColorJitterHsv(**(OFF | {"contrast": 0.4})).batch(batch, tiny_run()).x
    ratio = out.std((1, 2, 3)) / batch.x.std((1, 2, 3))

    torch.testing.assert_close(out.mean((1, 2, 3)), batch.x.mean((1, 2, 3)))
    assert 0.59 < ratio.min() < 0.63
    assert 1.37 < ratio.max() < 1.41


def test_saturation_keeps_the_luma():
    batch = tiny_batch(n=50, channels=3)
    batch.x.mul_(0.2).add_(0.4)
    out = ColorJitterHsv(**(OFF | {"saturation": 1.0})).batch(batch, tiny_run(channels=3)).x

    torch.testing.assert_close(gray(out), gray(batch.x))
    chroma = (out - gray(out)).abs().mean((1, 2, 3)) / (batch.x - gray(batch.x)).abs().mean((1, 2, 3))
    assert chroma.min() < 0.1
    assert chroma.max() > 1.9


def test_hue_keeps_value_and_saturation():
    batch = tiny_batch(n=20, channels=3)
    out = ColorJitterHsv(**(OFF | {"hue": 0.5})).batch(batch, tiny_run(channels=3)).x

    torch.testing.assert_close(out.amax(1), batch.x.amax(1))
    torch.testing.assert_close(out.amin(1), batch.x.amin(1), rtol=0, atol=1e-6)
    assert (out - batch.x).abs().mean() > 0.1


def test_colours_stay_where_the_data_set_says_so():
    info = tiny_info(channels=3)
    run = tiny_run(info=info._replace(invariances=info.invariances._replace(color=False)))
    trick, batch = ColorJitterHsv(**(OFF | {"hue": 0.3})), tiny_batch(channels=3)

    torch.testing.assert_close(trick.batch(batch, run).x, batch.x)
    with pytest.raises(NoEffect, match=r"invariances\.color = False"):
        trick.prepare(run)
    trick.prepare(tiny_run(channels=3))


@pytest.mark.parametrize("params", [{}, {"brightness": 0.8, "contrast": 0.2, "saturation": 1.0, "hue": 0.5}])
def test_changes_fill_their_ranges(params, monkeypatch):
    """Factors from 1 - amount to 1 + amount and turns of up to ±hue; by default 0.4 and 0.1."""
    factors, turns = recorded(monkeypatch, module, "stretch"), recorded(monkeypatch, module, "turn_hue")
    ColorJitterHsv(**params).batch(tiny_batch(n=1500, channels=3), tiny_run(channels=3))

    for (_, _, factor), key in zip(factors, ("brightness", "contrast", "saturation"), strict=True):
        amount = params.get(key, 0.4)
        assert_uniform(factor, 1 - amount, 1 + amount)
    hue = params.get("hue", 0.1)
    assert_uniform(turns[0][1], -hue, hue)
    assert_independent(*(factor for _, _, factor in factors), turns[0][1])
