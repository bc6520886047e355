import pytest

from harness.experiment import Augment
from harness.testing import TrickConformance, tiny_info, tiny_run
from harness.tricks.contract import Invariances, NoEffect, NotApplicable
from harness.tricks.core.standard_augment import StandardAugment

DIGITS = tiny_info()._replace(invariances=Invariances(flip=False, shift=0.125, rotation=10.0, color=False))
PHOTOS = tiny_info(channels=3, size=32)._replace(
    invariances=Invariances(flip=True, shift=0.125, rotation=15.0, color=True)
)


class TestStandardAugment(TrickConformance):
    trick = StandardAugment


def augment(trick, info, **recipe):
    return trick.recipe(tiny_run(**recipe).recipe, info).augment


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (DIGITS, Augment(shift=0.125, rotation=10.0)),
        (PHOTOS, Augment(shift=0.125, flip=True)),
        (PHOTOS._replace(size=224), Augment(scale_min=0.08, flip=True)),
        (PHOTOS._replace(invariances=Invariances(False, 0.05, 0.0, True)), Augment(shift=0.05)),
        (DIGITS._replace(invariances=Invariances(False, 0.0, 5.0, False)), Augment(rotation=5.0)),
    ],
    ids=["digits", "cifar", "large", "oriented", "rigid"],
)
def test_preset_of_the_data_set(info, expected):
    assert augment(StandardAugment(), info) == expected


def test_replaces_the_recipes_augmentation_and_nothing_else():
    recipe = tiny_run(augment=Augment(scale_min=0.5)).recipe
    changed = StandardAugment().recipe(recipe, PHOTOS)

    assert changed == recipe.model_copy(update={"augment": Augment(shift=0.125, flip=True)})


def test_given_values_win_over_the_preset():
    trick = StandardAugment(shift=0.1, flip=False, rotation=15.0, scale_min=0.5)

    assert augment(trick, PHOTOS) == Augment(shift=0.1, flip=False, rotation=15.0, scale_min=0.5)


@pytest.mark.parametrize("given", [{"flip": True}, {"shift": 0.25}, {"rotation": 20.0}])
def test_refuses_what_would_change_the_class(given):
    with pytest.raises(NotApplicable, match=next(iter(given))):
        augment(StandardAugment(**given), DIGITS)


def test_refuses_a_recipe_that_does_this_already():
    with pytest.raises(NoEffect, match="already"):
        augment(StandardAugment(), PHOTOS, augment=Augment(shift=0.125, flip=True))
    with pytest.raises(NoEffect, match="already"):
        augment(StandardAugment(shift=0.0, flip=False), PHOTOS)
