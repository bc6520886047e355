"""What `[data]` declares that images of a folder bear."""

import numpy as np
import pytest
from pydantic import ValidationError

from harness.data.splits import split
from harness.data.types import PHOTOS, Invariances, Source
from harness.errors import UserError
from harness.experiment import Data, Experiment
from harness.tricks.augment.random_flip import RandomFlip
from harness.tricks.contract import NotApplicable
from harness.values import Origins, canonical

LETTERS = {"name": "folder", "root": "letters", "image_size": 4, "train_size": 8, "val_size": 4, "test_size": 4}


def info(**declared):
    labels = np.arange(16) % 2
    source = Source(np.zeros((16, 4, 4, 3), np.uint8), labels, None, None, ("b", "d"), 255, PHOTOS, "0" * 16)
    return split(source, Data.model_validate(LETTERS | declared), 0).info


def test_a_folder_bears_what_it_declares_and_else_what_photographs_do():
    assert info().invariances == PHOTOS
    assert info(flip=False).invariances == PHOTOS._replace(flip=False)
    given = {"flip": False, "shift": 0.0, "rotation": 5.0, "color": False}
    assert info(**given).invariances == Invariances(False, 0.0, 5.0, False)


def test_the_gate_of_a_trick_reads_it():
    from harness.testing.tricks import tiny_run

    RandomFlip().prepare(tiny_run(info=info(), channels=3, size=4))
    with pytest.raises(NotApplicable, match=r"invariances\.flip = False"):
        RandomFlip().prepare(tiny_run(info=info(flip=False), channels=3, size=4))


def test_it_is_part_of_the_spec_only_when_it_is_given():
    plain = canonical(Data.model_validate(LETTERS))
    assert not {"flip", "shift", "rotation", "color"} & set(plain)
    assert canonical(Data.model_validate(LETTERS | {"flip": False})) == plain | {"flip": False}


@pytest.mark.parametrize("wrong", [{"shift": 0.6}, {"rotation": -1.0}, {"rotation": 181.0}, {"flip": 1}])
def test_a_value_outside_its_range_is_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Data.model_validate(LETTERS | wrong)


@pytest.mark.parametrize("option", [{"flip": True}, {"shift": 0.0}, {"rotation": 0.0}, {"color": False}])
def test_it_belongs_to_folders(option):
    with pytest.raises(ValidationError, match=f"{next(iter(option))} belongs to data of one's own, and this is digits"):
        Data.model_validate({"name": "digits", "val_size": 1} | option)


@pytest.mark.parametrize(
    ("declared", "augment", "refused"),
    [
        ({"flip": False}, {"flip": True}, r"recipe\.augment\.flip = true .* data\.flip = false"),
        ({"shift": 0.1}, {"shift": 0.2}, r"recipe\.augment\.shift = 0\.2 .* data\.shift = 0\.1"),
        ({"rotation": 5.0}, {"rotation": 5.5}, r"recipe\.augment\.rotation = 5\.5 .* data\.rotation = 5\.0"),
        ({"shift": 0.1, "flip": True}, {"shift": 0.1, "flip": True}, ""),
        ({}, {"rotation": 90.0}, ""),
    ],
)
def test_a_recipe_that_does_more_is_refused(declared, augment, refused):
    tables = {
        "experiment": {"name": "letters"},
        "data": LETTERS | declared,
        "model": {"name": "resnet8", "width": 4},
        "recipe": {"epochs": 1, "batch_size": 4, "lr": 0.1, "augment": augment},
    }
    if not refused:
        assert Experiment.read(tables, Origins()).data.declared == declared
        return
    with pytest.raises(UserError, match=refused):
        Experiment.read(tables, Origins())
