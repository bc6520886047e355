"""What a row says of how a run went, and what is the same before every run of a process."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.testing import tiny_spec
from harness.training.execute import execute, isolate
from harness.training.place import Place
from harness.training.session import Session
from harness.tricks.contract import NoEffect

PLACE = Place(Path("unused"))


def test_a_row_has_the_pace_of_its_steps_and_no_column_of_graphs_on_its_own():
    row = execute(tiny_spec(), "test", PLACE).row

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
    row = execute(tiny_spec(), "test", PLACE).row

    assert row["status"] == "skipped"
    assert (row["steps"], row["epochs_done"], row["parameters"], row["train_loss"]) == (0, 0, None, None)
    assert (row["seconds_per_step"], row["images_per_second"]) == (None, None)


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
    row = execute(tiny_spec(), "test", PLACE).row

    assert row["reason"] == f"ValueError: none (test_rows_of_runs.py:{line})"
