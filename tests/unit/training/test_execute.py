"""A run and the runs that it needs use one state of the images, and a full disk costs no result."""

import json
import resource
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from harness.data.sources import load_source
from harness.data.splits import split
from harness.experiment import Arm, Data
from harness.testing import tiny_spec
from harness.training.execute import execute, train_stages
from harness.training.place import Place
from harness.training.session import Session
from harness.training.stages import Needed
from harness.tricks import registry
from harness.tricks.needs import needs_of


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


def test_a_run_takes_no_stage_that_learned_from_other_images(pets, tmp_path):
    """The folder changes after the teacher was trained; it is trained again before the student is."""
    place = Place(tmp_path, stages_dir=tmp_path / "stages")
    spec = distilled(pets)
    train_stages(spec, place)
    (before,) = place.stages_dir.iterdir()
    write(tmp_path / "pets" / "train" / "0" / "0.png", 998)
    row = execute(spec, "test", place).row
    assert row["status"] == "failed"
    assert "seed 0), which is not trained" in row["reason"]

    train_stages(spec, place)
    row = execute(spec, "test", place).row
    (after,) = {*place.stages_dir.iterdir()} - {before}
    assert row["status"] == "ok", row["reason"]
    assert json.loads(row["stages"]) == [after.stem]


def test_stages_learn_from_the_images_that_the_run_has_read(pets, tmp_path):
    """The folder changes while the run is set up."""
    place = Place(tmp_path, stages_dir=tmp_path / "stages")
    spec = distilled(pets)
    train_stages(spec, place)
    source = load_source(pets.data, tmp_path)
    write(tmp_path / "pets" / "train" / "0" / "0.png", 998)
    (stage,) = needs_of(spec)
    part = Needed(spec, place, source)(stage).part("train")

    assert np.array_equal(np.asarray(part.rows[:]), np.asarray(split(source, pets.data, pets.seed).train.images[:]))


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
def test_a_full_disk_leaves_nothing_of_a_stage(tmp_path):
    place = Place(tmp_path, stages_dir=tmp_path / "stages")

    with pytest.raises(OSError, match="File too large"):
        train_stages(distilled(tiny_spec(epochs=1)), place)
    assert list(place.stages_dir.iterdir()) == []


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_costs_a_checkpoint_and_leaves_nothing_of_it(tmp_path):
    place = replace(Place(tmp_path), checkpoint_dir=tmp_path / "checkpoints", checkpoint_seconds=0.0)

    assert execute(tiny_spec(epochs=2), "test", place).row["status"] == "ok"
    assert list(place.checkpoint_dir.iterdir()) == []
