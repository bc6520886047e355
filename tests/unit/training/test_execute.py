"""A run and the networks that it asks for use one state of the images, and a full disk costs them no result."""

import random
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.data.splits import split
from harness.experiment import Arm, Data
from harness.testing import tiny_spec
from harness.training import session as session_module
from harness.training.execute import execute, isolate
from harness.training.session import Place, Session, fetch_or_train
from harness.tricks import registry
from harness.tricks.contract import NoEffect


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(0, 100, (8, 8, 3))
    Image.fromarray((noise + value % 2 * 100).astype(np.uint8)).save(path)


@pytest.fixture
def pets(tmp_path):
    """A folder of two classes, and a run on it."""
    for i in range(32):
        write(tmp_path / "pets" / ("train" if i < 24 else "val") / f"{i % 2}" / f"{i}.png", i)
    data = Data(name="folder", root="pets", image_size=8, val_size=8)
    return tiny_spec(epochs=2, batch_size=8).model_copy(update={"data": data})


def distilled(spec):
    trick = registry.make("knowledge_distillation", {"teacher_width_factor": 1, "teacher_epochs_factor": 1}).spec()
    return spec.model_copy(update={"arm": Arm(tricks=(trick,))})


def test_a_teacher_learns_from_the_images_of_its_student(pets, tmp_path, monkeypatch):
    """The folder changes when the student is set up and its teacher is not."""
    place = Place(tmp_path, weights_dir=tmp_path / "weights")
    before = session_module.load_source(pets.data, tmp_path)
    seen, asked = [], session_module.fetch_or_train

    def change_then_train(other, *args):
        for i in range(0, 24, 2):
            write(tmp_path / "pets" / "train" / "0" / f"{i}.png", 998 + i)
        return asked(other, *args)

    set_up = session_module.set_up
    monkeypatch.setattr(session_module, "fetch_or_train", change_then_train)
    monkeypatch.setattr(session_module, "set_up", lambda *args: seen.append(set_up(*args)) or seen[-1])
    row = execute(distilled(pets), "test", place).row

    (teacher,) = seen
    own = split(before, pets.data, pets.seed).train.images[:]
    assert np.array_equal(np.asarray(teacher.splits.train.images[:]), np.asarray(own))
    (weights,) = (tmp_path / "weights").iterdir()
    assert weights.stem == place.name(teacher.run.spec, before.digest)
    assert weights.stem != place.name(teacher.run.spec)
    assert row["data_hash"] == before.digest
    assert row["reason"].startswith("the images changed while the run trained; ")


def test_a_run_whose_images_change_fails_and_says_so(pets, tmp_path, monkeypatch):
    assert execute(pets, "test", Place(tmp_path)).row["status"] == "ok"
    validate = Session.validate

    def change_and_validate(self):
        write(tmp_path / "pets" / "val" / "0" / "24.png", 999)
        return validate(self)

    monkeypatch.setattr(Session, "validate", change_and_validate)
    result = execute(pets, "test", Place(tmp_path))

    assert result.row["status"] == "failed"
    assert result.row["reason"].startswith("the images changed while the run trained; ")
    assert result.predictions is None
    assert "test_accuracy" not in result.row


@pytest.fixture
def full_disk():
    """No file of this process grows beyond a thousand bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_costs_the_weights_of_a_teacher_and_not_the_teacher(tmp_path):
    place = Place(tmp_path, weights_dir=tmp_path / "weights")

    assert fetch_or_train(tiny_spec(epochs=1), place) is not None
    assert list(place.weights_dir.iterdir()) == []


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_costs_a_checkpoint_and_leaves_nothing_of_it(tmp_path):
    place = replace(Place(tmp_path), checkpoint_dir=tmp_path / "checkpoints", checkpoint_seconds=0.0)

    assert execute(tiny_spec(epochs=2), "test", place).row["status"] == "ok"
    assert list(place.checkpoint_dir.iterdir()) == []


def test_a_row_has_the_pace_of_its_steps_and_no_column_of_graphs_on_its_own():
    row = execute(tiny_spec(), "test", Place(Path("unused"))).row

    assert row["steps"] == 10
    assert row["seconds_per_step"] == pytest.approx(row["seconds_train"] / 10)
    assert row["images_per_second"] == pytest.approx(80 / row["seconds_train"])
    assert 0 < row["seconds_train"] < row["seconds_total"]
    assert row["plain_steps"] is None
    assert row["seconds_other"] == 0.0


def test_a_run_that_could_not_be_set_up_has_no_pace(monkeypatch):
    def refuses(*args):
        raise NoEffect("nothing to change")

    monkeypatch.setattr("harness.training.execute.set_up", refuses)
    row = execute(tiny_spec(), "test", Place(Path("unused"))).row

    assert row["status"] == "skipped"
    assert (row["steps"], row["epochs_done"], row["parameters"], row["train_loss"]) == (0, 0, None, None)
    assert (row["seconds_per_step"], row["images_per_second"]) == (None, None)


def test_the_time_of_other_trainings_is_that_between_their_ends(monkeypatch):
    """On a clock that the other training moves by 7 seconds."""
    now, real = [1000.0], session_module.fetch_or_train
    monkeypatch.setattr(session_module.time, "perf_counter", lambda: now[0])

    def slow(*args):
        now[0] += 7.0
        return real(*args)

    monkeypatch.setattr(session_module, "fetch_or_train", slow)

    assert session_module.set_up(distilled(tiny_spec()), Place(Path("unused"))).seconds_other == 7.0


def test_another_network_is_had_with_and_without_its_images(pets, tmp_path):
    place = Place(tmp_path)
    given = fetch_or_train(pets, place, session_module.load_source(pets.data, tmp_path))
    read = fetch_or_train(pets, place)

    assert all(torch.equal(a, b) for a, b in zip(given.parameters(), read.parameters(), strict=True))


@pytest.mark.parametrize(("device", "chosen"), [("cuda:1", ["cuda:1"]), ("cuda", []), ("cpu", []), ("cpu:0", [])])
def test_a_numbered_card_becomes_the_current_one(device, chosen, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "set_device", asked.append)
    isolate(0, device)

    assert asked == chosen


def test_what_libraries_draw_depends_on_the_seed_alone():
    drawn = []
    for seed in (0, 1, 0):
        isolate(seed, "cpu")
        drawn.append((float(torch.rand(())), random.random(), np.random.random()))  # noqa: NPY002

    assert drawn[0] == drawn[2]
    assert all(a != b for a, b in zip(drawn[0], drawn[1], strict=True))


def fails(*args):
    raise ValueError("none")


def test_an_error_says_where_it_came_from(monkeypatch):
    """Outside of tricks, the innermost line."""
    line = fails.__code__.co_firstlineno + 1
    monkeypatch.setattr(Session, "validate", fails)

    assert (
        execute(tiny_spec(), "test", Place(Path("unused"))).row["reason"]
        == f"ValueError: none (test_execute.py:{line})"
    )
