"""How far operations go by each policy's scale: as torchvision's and timm's do, and no further than images bear."""

import numpy as np
import pytest
import torch
from timm.data import auto_augment as timm
from torchvision.transforms import v2

from draws import assert_share
from harness.data.types import DIGITS, PHOTOS
from harness.testing import tiny_info
from harness.tricks import policies
from harness.tricks.contract import NoEffect
from harness.tricks.policies import bearable, changes

SIDE = 331
"""A side on which the papers' moves are whole numbers of pixels."""

NAMES = {
    "Identity": "identity", "ShearX": "shear_x", "ShearY": "shear_y", "TranslateX": "translate_x",
    "TranslateY": "translate_y", "Rotate": "rotate", "Brightness": "brightness", "Color": "color",
    "Contrast": "contrast", "Sharpness": "sharpness", "Posterize": "posterize", "Solarize": "solarize",
    "AutoContrast": "autocontrast", "Equalize": "equalize", "Invert": "invert",
}  # fmt: skip
ENHANCING = ("brightness", "color", "contrast", "sharpness")


def amounts(scale, level, n=64):
    """Both amounts, or the one amount, of a level."""
    drawn = scale.amount(torch.full((n,), level), torch.Generator().manual_seed(0))
    return sorted(set(drawn.tolist()))


def theirs(space, bins, i):
    """torchvision's amounts for bin i, by our names and in our units."""
    for name, (magnitudes, signed) in space.items():
        ours, found = NAMES[name], magnitudes(bins, SIDE, SIDE)
        if found is None:
            yield ours, [0.0]
            continue
        value = float(found[i]) / (SIDE if ours.startswith("translate") else 1)
        both = [-value, value] if signed and value else [value]
        yield ours, [1 + v for v in both] if ours in ENHANCING else both


@pytest.mark.parametrize(
    ("ours", "cls", "bins"),
    [
        (policies.RAND, v2.RandAugment, 31),
        (policies.AUTO, v2.AutoAugment, 10),
        (policies.AUGMIX_ALL, v2.AugMix, 10),
        (policies.WIDE, v2.TrivialAugmentWide, 31),
    ],
)
def test_scales_are_torchvisions(ours, cls, bins):
    assert set(ours) == {NAMES[name] for name in cls._AUGMENTATION_SPACE}
    for i in range(bins):
        for name, expected in theirs(cls._AUGMENTATION_SPACE, bins, i):
            found = amounts(ours[name], i / (bins - 1))
            if name.startswith("translate") and ours is policies.WIDE:
                found = [move * 224 / SIDE for move in found]  # 32 pixels of any side there, of 224 here
            # Level 0 inverts white in torchvision and nothing here.
            tolerance = 1 / 255 + 1e-6 if name == "solarize" else 1e-5
            assert found == pytest.approx(expected, abs=tolerance), (name, i)


def test_augmix_leaves_out_what_its_test_corruptions_are_made_of():
    assert set(policies.AUGMIX_ALL) - set(policies.AUGMIX) == set(ENHANCING)
    assert set(v2.AugMix._PARTIAL_AUGMENTATION_SPACE) == {k for k, v in NAMES.items() if v in policies.AUGMIX}


TIMMS = {
    "AutoContrast": "autocontrast", "Equalize": "equalize", "Invert": "invert", "Rotate": "rotate",
    "PosterizeIncreasing": "posterize", "SolarizeIncreasing": "solarize", "SolarizeAdd": "solarize_add",
    "ColorIncreasing": "color", "ContrastIncreasing": "contrast", "BrightnessIncreasing": "brightness",
    "SharpnessIncreasing": "sharpness", "ShearX": "shear_x", "ShearY": "shear_y", "TranslateXRel": "translate_x",
    "TranslateYRel": "translate_y",
}  # fmt: skip


@pytest.mark.parametrize("level", [0.0, 3.0, 7.0, 9.0, 10.0])
def test_scales_are_timms(level):
    assert {TIMMS[name] for name in timm._RAND_INCREASING_TRANSFORMS} == set(policies.TIMM)
    for name in timm._RAND_INCREASING_TRANSFORMS:
        function, ours = timm.LEVEL_TO_ARG[name], policies.TIMM[TIMMS[name]]
        if function is None:
            assert ours == policies.STILL
            continue
        found = sorted({function(level, {})[0] if isinstance(function(level, {}), tuple) else function(level, {})
                        for _ in range(64)})  # fmt: skip
        scale = 255 if TIMMS[name] in ("solarize", "solarize_add") else 1  # whole grey levels there
        assert [a * scale for a in amounts(ours, level / 10)] == pytest.approx(found, abs=1 - 1 / scale + 1e-5), name


def test_signs_are_drawn_for_each_image():
    drawn = policies.RAND["rotate"].amount(torch.ones(2000), torch.Generator().manual_seed(0))
    assert set(drawn.abs().tolist()) == {30.0}
    assert_share(drawn > 0, 0.5)


def info(bears, channels):
    return tiny_info(channels=channels)._replace(invariances=bears)


def test_photographs_get_what_was_published():
    assert bearable(policies.WIDE, info(PHOTOS, 3)) == dict(policies.WIDE)


def test_digits_are_moved_and_turned_no_further_than_they_bear():
    found = bearable(policies.WIDE, info(DIGITS, 1))

    assert set(found) == set(policies.WIDE) - {"color"}
    assert amounts(found["rotate"], 1.0) == [-10.0, 10.0]
    assert amounts(found["rotate"], 0.5) == [-5.0, 5.0]
    assert amounts(found["shear_x"], 1.0) == amounts(found["translate_y"], 1.0) == [-0.125, 0.125]
    assert found["brightness"] == policies.WIDE["brightness"]
    assert amounts(bearable(policies.RAND, info(DIGITS, 1))["rotate"], 1.0) == [-10.0, 10.0]
    assert bearable(policies.WIDE, info(DIGITS, 1), force=True) == {
        name: scale for name, scale in policies.WIDE.items() if name != "color"
    }


@pytest.mark.parametrize("less", [{"flip": False}, {"rotation": 14.0}, {"shift": 0.1}])
def test_whatever_bears_less_than_photographs_is_limited(less):
    bears = PHOTOS._replace(**less)
    found = bearable(policies.WIDE, info(bears, 3))
    assert (found["rotate"].end, found["shear_y"].end) == (bears.rotation, bears.shift)


def test_what_may_not_act_is_left_out():
    bears = PHOTOS._replace(color=False, rotation=0.0)
    kept = {"identity", "brightness", "contrast", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y"}

    assert set(bearable(policies.RAND, info(bears, 3))) == kept
    with pytest.raises(NoEffect, match="force = true"):
        bearable({"identity": policies.STILL, "color": policies.RAND["color"]}, info(PHOTOS, 1))


def test_levels_reach_each_images_own_operation():
    """Half of the range turns by half as much, to both sides."""
    x = torch.zeros(64, 1, 9, 9)
    x[..., 4, 8] = 1.0
    g = torch.Generator().manual_seed(0)
    (turn,) = changes({"rotate": policies.Scale(0.0, 90.0, signed=True)}, lambda z: torch.ones(len(z)), g)
    out = turn(x)

    assert {tuple(np.unravel_index(int(i), (9, 9))) for i in out.flatten(1).argmax(1)} == {(0, 4), (8, 4)}
