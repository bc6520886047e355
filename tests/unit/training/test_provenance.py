"""What a fingerprint is made of: whatever may change a bit, and nothing else."""

import hashlib
import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.errors import UserError
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
    spec = tiny_spec(channels_last=True)
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


def test_a_fingerprint_is_eight_digits_of_its_facts_in_a_fixed_order():
    found = PLACE.fingerprint(tiny_spec())
    names = list(json.loads(found["fingerprint_json"]))

    assert names == sorted(names)
    assert found["fingerprint"] == hashlib.sha256(found["fingerprint_json"].encode()).hexdigest()[:8]


@pytest.mark.parametrize(
    ("cards", "asked", "found"),
    [
        (0, "auto", "cpu"),
        (2, "auto", "cuda"),
        (0, "cpu", "cpu"),
        (0, "cpu:0", "cpu:0"),
        (2, "cuda", "cuda"),
        (2, "cuda:0", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
    ],
)
def test_the_device_that_is_meant(cards, asked, found, monkeypatch):
    monkeypatch.setattr(provenance.torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(provenance.torch.cuda, "is_available", lambda: cards > 0)

    assert provenance.resolve_device(asked) == found


@pytest.mark.parametrize(
    ("cards", "asked", "why"),
    [
        (0, "cuda", "sees no CUDA device; use --device cpu"),
        (2, "cuda:2", "there is no such device; the last one is number 1"),
        (0, "cpu:1", "there is no such device; the last one is number 0"),
        (0, "meta", "runs train on cpu or cuda"),
        (0, "gpu", "not a torch device"),
    ],
)
def test_a_device_that_is_not_there_is_refused(cards, asked, why, monkeypatch):
    monkeypatch.setattr(provenance.torch.cuda, "device_count", lambda: cards)
    with pytest.raises(UserError, match=re.escape(why)):
        provenance.resolve_device(asked)
