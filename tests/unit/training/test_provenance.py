"""What a fingerprint is made of: whatever may change a bit, and nothing else."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.experiment import Data, Model
from harness.identity import BIT_VARIABLES
from harness.testing import tiny_spec
from harness.training import provenance
from harness.training.place import Place

PLACE = Place(data_root=Path("unused"))
FOLDER = Data(name="folder", root="x", image_size=16, val_size=4)


def facts(place=PLACE, **changes):
    return json.loads(place.fingerprint(tiny_spec().model_copy(update=changes))["fingerprint_json"])


@pytest.mark.parametrize(
    ("changes", "deciding"),
    [
        ({}, {"numpy"}),
        ({"data": FOLDER}, {"numpy", "pillow"}),
        ({"model": Model(name="timm/resnet10t")}, {"numpy", "timm"}),
    ],
)
def test_libraries_are_in_it_where_they_decide_splits_pixels_or_weights(changes, deciding):
    found = facts(**changes)

    assert {name: found[name] for name in deciding} == {name: version(name) for name in deciding}
    assert not {"numpy", "pillow", "timm"} - deciding & found.keys()


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (Place(Path("unused"), threads=2), "threads", 2),
        (Place(Path("unused"), contiguous=True), "memory_format", "contiguous"),
        (Place(Path("elsewhere")), None, None),
    ],
)
def test_what_changes_bits_changes_the_fingerprint_and_where_data_lie_does_not(place, name, value):
    spec = tiny_spec()
    same = place.fingerprint(spec)["fingerprint"] == PLACE.fingerprint(spec)["fingerprint"]

    assert same is (name is None)
    assert name is None or facts(place)[name] == value


def test_another_version_of_a_deciding_library_is_another_fingerprint(monkeypatch):
    before = PLACE.fingerprint(tiny_spec())["fingerprint"]
    provenance._fingerprint.cache_clear()
    monkeypatch.setattr(provenance, "version", lambda package: "0.0")
    changed = PLACE.fingerprint(tiny_spec())["fingerprint"]
    provenance._fingerprint.cache_clear()

    assert changed != before


@pytest.mark.parametrize("name", BIT_VARIABLES)
def test_a_variable_that_changes_bits_is_in_it_where_it_is_set(name, monkeypatch):
    monkeypatch.delenv(name, raising=False)
    unset = facts()
    monkeypatch.setenv(name, "1")

    assert facts() == unset | {name: "1"}
    assert name not in unset
