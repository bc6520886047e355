"""What `harness.testing` makes is what the program itself stores and reads."""

import pytest

from harness.analysis.effects import analyse
from harness.store.reader import read_manifest, read_study
from harness.store.schema import RUNS
from harness.testing import FINGERPRINT, StoredRun, make_arm, make_curve, make_manifest, make_row, make_run, make_study


def test_a_made_study_is_read_judged_and_has_curves(tmp_path):
    manifest = make_study(tmp_path / "mine", make_manifest(["baseline", "mixup", "ema+mixup"], 6, study="mine"))
    data = read_study(tmp_path / "mine")
    effects = analyse(data.runs, manifest).effects

    assert read_manifest(tmp_path / "mine") == manifest
    assert [e.arm for e in effects] == ["mixup", "ema+mixup"]
    assert [round(e.mean) for e in effects] == [2, 4]
    assert {e.n for e in effects} == {6}
    assert len(data.curves) == 18 * 3 * 5


def test_a_study_is_called_like_its_folder_and_one_call_is_enough(tmp_path):
    assert make_study(tmp_path / "quick").study == "quick"
    assert len(read_study(tmp_path / "quick").runs) == 10


def test_runs_may_be_missing_files_apart_and_the_declaration_left_out(tmp_path):
    make_study(tmp_path, run=lambda arm, seed: make_run(arm, seed) if seed else None, declare=False, merged=False)

    assert len(list((tmp_path / "runs").iterdir())) == 8
    assert not (tmp_path / "study.json").exists()


def test_a_row_belongs_to_its_arm_and_takes_any_column():
    arm = make_arm("ema+mixup", (3,), prefix="x-", tricks={"ema": {"decay": 0.9}, "mixup": {}})
    row = make_row(arm, 3, test_accuracy=0.5)

    assert set(row) == set(RUNS.names)
    assert (row["run_id"], row["arm"], row["seed"], row["fingerprint"]) == (
        "x-ema+mixup-3",
        "ema+mixup",
        3,
        FINGERPRINT,
    )
    assert row["hyperparameters"] == '{"ema": {"decay": 0.9}, "mixup": {}}'
    assert (row["test_accuracy"], row["val_accuracy"], row["status"]) == (0.5, 0.9, "ok")
    assert make_row()["run_id"] == make_arm().run_ids[0] == "baseline-0"
    with pytest.raises(TypeError, match="no column of a run: acuracy"):
        make_row(acuracy=1)


def test_a_curve_is_stored_as_it_was_made(tmp_path):
    row = make_row()
    curve = make_curve(row, {"val.accuracy": [0.5, 0.75], "train.loss/mixup.aux": [1.0, 0.5]}, epochs=[2, 4], steps=3)
    make_study(tmp_path, make_manifest(["baseline"], 1), lambda *_: StoredRun(row, curve))
    stored = read_study(tmp_path).curves

    columns = [stored[name] for name in ("split", "metric", "epoch", "step", "value")]
    assert list(zip(*columns, strict=True)) == [
        ("val", "accuracy", 2, 6, 0.5), ("val", "accuracy", 4, 12, 0.75),
        ("train", "loss/mixup.aux", 2, 6, 1.0), ("train", "loss/mixup.aux", 4, 12, 0.5),
    ]  # fmt: skip
