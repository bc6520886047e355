"""A run that is stopped between two epochs and started again ends with the bits of an undisturbed run."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harness.experiment import Arm
from harness.identity import Identity
from harness.testing import tiny_spec
from harness.training import checkpoint
from harness.training import place as place_module
from harness.training.execute import execute
from harness.training.place import Place
from harness.training.session import Session
from harness.tricks import needs, registry

PLACE = Place(data_root=Path("unused"))

ARMS = {
    "baseline": {},
    "draws on host and device": {"mixup": {"per": "elem"}, "dropout": {"p": 0.3}},
    "averages": {"ema": {"decay": 0.9}},
    "late averages": {"stochastic_weight_averaging": {"start": 0.5}},
    "another optimizer": {"adamw": {"lr": 1e-3}},
    "loss scaling": {"mixed_precision": {"dtype": "fp16"}},
}


class Killed(BaseException):
    """Stands in for a signal: nothing in the harness catches it."""


@pytest.mark.parametrize("arm", ARMS)
def test_a_resumed_run_is_bit_identical(arm, tmp_path, monkeypatch):
    tricks = tuple(registry.make(name, params).spec() for name, params in ARMS[arm].items())
    spec = tiny_spec(epochs=6, evaluations=6).model_copy(update={"arm": Arm(tricks=tricks)})
    undisturbed = execute(spec, "test", PLACE)
    assert undisturbed.row["status"] == "ok", undisturbed.row["reason"]

    place = replace(PLACE, checkpoint_dir=tmp_path, checkpoint_seconds=0.0)
    validate, calls = Session.validate, []

    def stop_in_the_fourth_epoch(self):
        calls.append(1)
        if len(calls) == 4:
            raise Killed
        return validate(self)

    monkeypatch.setattr(Session, "validate", stop_in_the_fourth_epoch)
    with pytest.raises(Killed):
        execute(spec, "test", place)
    resumed = execute(spec, "test", place)

    assert len(calls) == 4 + 3, "the second time starts after the third epoch"
    assert resumed.points == undisturbed.points
    assert resumed.row["test_digest"] == undisturbed.row["test_digest"]
    assert resumed.row["steps"] == undisturbed.row["steps"]


def test_a_checkpoint_and_stored_weights_belong_to_images_code_and_engine(tmp_path, monkeypatch):
    """What is left of a run on other images, of an edited plug-in or of another engine is not resumed."""
    mixup = registry.make("mixup").spec()
    spec = tiny_spec().model_copy(update={"arm": Arm(tricks=(mixup,))})
    place = replace(PLACE, checkpoint_dir=tmp_path, stages_dir=tmp_path)
    names = [place.name(spec)]
    with monkeypatch.context() as patched:
        patched.setattr(place_module, "load_source", lambda *_: SimpleNamespace(digest="other images"))
        names.append(place.name(spec))
    with monkeypatch.context() as patched:
        patched.setitem(registry._sources, "mixup", "edited")
        names.append(place.name(spec))
    with monkeypatch.context() as patched:
        patched.setattr(needs, "identify", lambda spec, images, digest: Identity(images, numbers=-1))
        names.append(place.name(spec))

    assert len(set(names)) == 4
    assert all(name.startswith(spec.run_id) for name in names)
    assert checkpoint.path_of(spec, place) == tmp_path / f"{names[0]}.pt"


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_broken_checkpoint_means_starting_again(content, tmp_path):
    spec = tiny_spec(epochs=3)
    place = replace(PLACE, checkpoint_dir=tmp_path, checkpoint_seconds=0.0)
    expected = execute(spec, "test", place)
    path = checkpoint.path_of(spec, place)
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)

    assert execute(spec, "test", place).row["test_digest"] == expected.row["test_digest"]


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    spec = tiny_spec(epochs=1)
    place = replace(PLACE, checkpoint_dir=tmp_path)
    torch.save({"model": Evil()}, checkpoint.path_of(spec, place))

    assert execute(spec, "test", place).row["status"] == "ok"
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    place = replace(PLACE, checkpoint_dir=tmp_path, checkpoint_seconds=0.0)

    assert execute(tiny_spec(), "test", place).row["status"] == "ok"


def test_the_state_of_a_trick_comes_back_as_what_it_was():
    """Nested, with objects in their place, tuples where set-up has tuples, and values that set-up did not have."""
    cpu, average = torch.device("cpu"), torch.nn.Linear(2, 1)
    state = {
        "net": average,
        "seen": [torch.ones(2), 3, [torch.zeros(1)]],
        "pair": (torch.ones(1), average),
        "new": [1, 2],
    }
    packed = checkpoint._packed(state)
    fresh = torch.nn.Linear(2, 1)
    found = checkpoint._unpacked(packed, {"net": fresh, "seen": [], "pair": (None, fresh)}, cpu)

    assert found["net"] is found["pair"][1] is fresh
    assert torch.equal(fresh.weight, average.weight)
    assert [type(found[name]) for name in ("seen", "pair", "new")] == [list, tuple, list]
    assert torch.equal(found["seen"][0], torch.ones(2))
    assert found["seen"][1:] == [3, [torch.zeros(1)]]
    assert found["new"] == [1, 2]
