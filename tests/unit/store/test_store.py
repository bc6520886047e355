from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import UserError
from harness.identity import Identity
from harness.store.folders import FinishedRuns, study_folders
from harness.store.locks import Claims
from harness.store.merge import adopt, consolidate
from harness.store.reader import read_kind, read_manifest, read_study
from harness.store.schema import RUNS, SCHEMA_VERSION
from harness.store.writer import prepare, write_run
from harness.testing import make_curve, make_row

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def store(
    study_dir,
    run_id="a" * 16,
    fingerprint="f0",
    accuracy=0.9,
    status="ok",
    finished=T0,
    seed=0,
    identity=None,
    curve=0.1,
):
    prepare(study_dir)
    row = make_row(
        seed=seed, run_id=run_id, fingerprint=fingerprint, status=status, test_accuracy=accuracy, started=T0,
        finished=finished, identity=identity and identity.short, identity_json=identity and identity.json,
        fingerprint_json=f'{{"torch": "{fingerprint}"}}',
    )  # fmt: skip
    points = make_curve(row, {"val.accuracy": [curve, 2 * curve]}, steps=3)
    logits = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1]], dtype=np.float32)
    write_run(study_dir, row, points, (np.array([7, 3]), np.array([1, 1]), logits))


def test_a_run_comes_back_as_it_was_written(tmp_path):
    store(tmp_path, accuracy=0.875)
    data = read_study(tmp_path)

    assert data.problems == []
    assert data.runs.loc[0, "test_accuracy"] == 0.875
    assert data.curves["value"].tolist() == [0.1, 0.2]
    assert data.predictions.schema.field("logits").type == pa.list_(pa.float16(), 3)
    assert data.correct("f0")["a" * 16].tolist() == [False, True], "in the order of the data set index"


def test_schema_holds_no_object_columns_and_says_its_version(tmp_path):
    store(tmp_path)
    table, _, _ = read_kind(tmp_path, "runs")

    assert table.schema.equals(RUNS)
    assert table["schema_version"].to_pylist() == [SCHEMA_VERSION]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.parquet", b"", "not readable as parquet"),
        ("text.parquet", b"hello", "not readable as parquet"),
        ("truncated.parquet", None, "not readable as parquet"),
        ("foreign.parquet", {"x": [1]}, "not a runs file"),
        ("wrong_type.parquet", "wrong type", "column seed is"),
        ("future.parquet", "future", "newer than"),
    ],
)
def test_what_is_no_row_of_ours_is_named_and_left_out(tmp_path, name, content, expected):
    store(tmp_path)
    good = next((tmp_path / "runs").glob("*.parquet"))
    path = tmp_path / "runs" / name
    if content is None:
        path.write_bytes(good.read_bytes()[:-200])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        pq.write_table(pa.table(content), path)
    else:
        table = pq.read_table(good)
        column = "seed" if content == "wrong type" else "schema_version"
        value = pa.array(["0"]) if content == "wrong type" else pa.array([SCHEMA_VERSION + 1])
        pq.write_table(table.set_column(table.schema.get_field_index(column), column, value), path)
    data = read_study(tmp_path)

    assert len(data.runs) == 1
    assert len(data.problems) == 1
    assert str(path) in data.problems[0]
    assert expected in data.problems[0]


def test_a_file_from_before_a_column_is_read_and_merged_with_later_ones(tmp_path):
    store(tmp_path)
    path = next((tmp_path / "runs").glob("*.parquet"))
    pq.write_table(pq.read_table(path).drop_columns(["plain_steps", "scores"]), path)
    store(tmp_path, "b" * 16)
    consolidate(tmp_path)
    table, read, problems = read_kind(tmp_path, "runs")

    assert problems == []
    assert len(read) == 1
    assert sorted(table["run_id"].to_pylist()) == ["a" * 16, "b" * 16]
    assert table["plain_steps"].to_pylist() == table["scores"].to_pylist() == [None, None]
    assert set(table.column_names) == set(RUNS.names)


def test_consolidation_keeps_every_row_and_leaves_one_file(tmp_path):
    for i in range(5):
        store(tmp_path, run_id=f"{i:016x}", seed=i)
    (tmp_path / "runs" / "bad.parquet").write_bytes(b"x")
    before = read_study(tmp_path)
    consolidate(tmp_path)
    after = read_study(tmp_path)

    assert [len(list((tmp_path / k).glob("*.parquet"))) for k in ("runs", "curves", "predictions")] == [
        2,
        1,
        1,
    ]
    assert (tmp_path / "runs" / "bad.parquet").exists(), "what could not be read is not thrown away"
    by = ["run_id"]
    assert before.runs.sort_values(by).reset_index(drop=True).equals(after.runs.sort_values(by).reset_index(drop=True))
    assert len(after.curves) == 10
    assert after.correct("f0").keys() == before.correct("f0").keys()


def test_a_merged_file_that_cannot_be_read_is_kept_and_nothing_is_taken_for_replaced(tmp_path):
    for i in range(3):
        store(tmp_path, run_id=f"{i:016x}", seed=i)
    consolidate(tmp_path)
    merged = tmp_path / "runs" / "runs.parquet"
    whole = merged.read_bytes()
    merged.write_bytes(whole[:100])
    for i in range(3, 6):
        store(tmp_path, run_id=f"{i:016x}", seed=i)
    consolidate(tmp_path)

    assert merged.read_bytes() == whole[:100], "a later look may mend it"
    merged.write_bytes(whole)
    study = read_study(tmp_path)
    assert sorted(study.runs["run_id"]) == [f"{i:016x}" for i in range(6)]
    assert len(study.curves) == 12, "what may belong to rows that could not be read stays"


def test_stragglers_written_after_consolidation_are_read_and_duplicates_are_not(tmp_path):
    store(tmp_path, accuracy=0.5)
    store(tmp_path, run_id="b" * 16)
    consolidate(tmp_path)
    store(tmp_path, accuracy=0.6, finished=T0 + timedelta(hours=1))
    runs = read_study(tmp_path).runs

    assert sorted(runs["run_id"]) == ["a" * 16, "b" * 16]
    assert runs.set_index("run_id").loc["a" * 16, "test_accuracy"] == 0.6, "the last one written counts"


def test_a_failed_run_counts_as_missing_and_others_are_found_across_studies(tmp_path):
    store(tmp_path / "one", run_id="a" * 16)
    store(tmp_path / "one", run_id="b" * 16, status="failed")
    store(tmp_path / "two", run_id="c" * 16, status="diverged")
    finished = FinishedRuns(tmp_path)

    assert [finished.find((c * 16, "", "f0")) for c in "abcd"] == [tmp_path / "one", None, tmp_path / "two", None]
    assert finished.find(("a" * 16, "", "other fingerprint")) is None


def test_published_runs_are_no_substitute_for_ones_own(tmp_path):
    store(tmp_path / "published" / "one")

    assert study_folders(tmp_path) == [tmp_path / "published" / "one"]
    assert FinishedRuns(tmp_path).find(("a" * 16, "", "f0")) is None


def test_adopted_runs_are_whole(tmp_path):
    store(tmp_path / "one", run_id="a" * 16)
    store(tmp_path / "one", run_id="b" * 16)
    consolidate(tmp_path / "one")
    prepare(tmp_path / "two")
    adopt(tmp_path / "two", {("b" * 16, "", "f0"): tmp_path / "one"})
    data = read_study(tmp_path / "two")

    assert data.runs["run_id"].tolist() == ["b" * 16]
    assert len(data.curves) == 2
    assert list(data.correct("f0")) == ["b" * 16]


IMAGES, OTHERS = Identity("1111111111111111"), Identity("2222222222222222", (("mine", "c0de"),))


def test_runs_of_one_spec_on_other_images_lie_side_by_side_and_never_meet(tmp_path):
    store(tmp_path / "s", accuracy=0.5, identity=IMAGES, curve=0.2)
    store(tmp_path / "s", accuracy=0.7, identity=OTHERS, curve=0.3)
    store(tmp_path / "s", accuracy=0.9)
    for _ in range(2):
        one, other, old = (read_study(tmp_path / "s", {"a" * 16: i}) for i in (IMAGES.short, OTHERS.short, ""))

        assert [d.runs["test_accuracy"].tolist() for d in (one, other, old)] == [[0.5], [0.7], [0.9]]
        assert [d.curves["value"].tolist() for d in (one, other, old)] == [[0.2, 0.4], [0.3, 0.6], [0.1, 0.2]]
        assert [len(d.predictions) for d in (one, other, old)] == [2, 2, 2]
        consolidate(tmp_path / "s")


def test_a_stored_run_that_is_not_taken_is_explained_by_what_differs(tmp_path):
    store(tmp_path / "s", identity=IMAGES)
    store(tmp_path / "s", "b" * 16, identity=OTHERS)
    store(tmp_path / "s", "c" * 16)
    stored = FinishedRuns(tmp_path)

    def explain(run, identity, torch="f0"):
        return stored.explain({run * 16: (identity, f'{{"torch": "{torch}"}}')})

    assert explain("a", Identity("3333333333333333")) == [
        "1 stored run is of other images (11111111... -> 33333333...): not used"
    ]
    assert explain("b", Identity("2222222222222222", (("mine", "beef"),))) == [
        "1 stored run is of other code of mine: not used"
    ]
    assert explain("c", IMAGES) == [
        "1 stored run is from a version that did not record their images and code: not used"
    ]
    assert explain("a", Identity("1111111111111111", numbers=0)) == [
        "1 stored run is of another numbers version of the engine (1 -> 0): not used"
    ]
    assert explain("a", IMAGES, "f1") == ["1 stored run is of another machine or setting (torch f0 -> f1): not used"]
    assert explain("d", IMAGES) == []


def test_curves_and_predictions_are_those_of_the_row_that_counts(tmp_path):
    """A failed attempt, merged, and then a good one, whatever the names of the files."""
    for run_id in ("0" * 16, "f" * 16):
        store(tmp_path, run_id, status="failed", curve=111.0, identity=IMAGES)
    consolidate(tmp_path)
    for run_id in ("0" * 16, "f" * 16):
        store(tmp_path, run_id, curve=1.0, finished=T0 + timedelta(hours=1), identity=IMAGES)
    for _ in range(2):
        data = read_study(tmp_path)

        assert data.runs["status"].tolist() == ["ok", "ok"]
        assert sorted(data.curves["value"]) == [1.0, 1.0, 2.0, 2.0]
        assert len(data.predictions) == 4
        consolidate(tmp_path)
    assert len(read_kind(tmp_path, "curves")[0]) == 4, "what was replaced is gone from the merged file, too"


def test_a_good_row_is_not_replaced_by_a_later_failure(tmp_path):
    store(tmp_path, curve=1.0, identity=IMAGES)
    consolidate(tmp_path, minimum=1)
    store(tmp_path, status="failed", curve=111.0, finished=T0 + timedelta(hours=1), identity=IMAGES)
    data = read_study(tmp_path)

    assert data.runs["status"].tolist() == ["ok"]
    assert data.curves["value"].tolist() == [1.0, 2.0]


def test_finished_runs_that_appear_later_are_found_after_a_look(tmp_path):
    store(tmp_path / "one")
    stored = FinishedRuns(tmp_path)
    store(tmp_path / "one", "b" * 16)
    store(tmp_path / "two", "c" * 16)
    stored.refresh()
    consolidate(tmp_path / "one")
    stored.refresh()

    assert [stored.find((c * 16, "", "f0")) for c in "abc"] == [tmp_path / n for n in ("one", "one", "two")]


def test_a_link_to_nothing_is_named_and_left_out(tmp_path):
    store(tmp_path)
    (tmp_path / "runs" / "gone.parquet").symlink_to(tmp_path / "nowhere.parquet")
    data = read_study(tmp_path)

    assert len(data.runs) == 1
    assert "gone.parquet: a link to nothing" in data.problems[0]


def test_a_run_belongs_to_one_at_a_time(tmp_path):
    key = ("a" * 16, IMAGES.short, "f0")
    mine, yours = Claims(tmp_path), Claims(tmp_path)

    assert mine.take(key)
    assert not yours.take(key)
    assert yours.take(("a" * 16, OTHERS.short, "f0")), "the same spec on other images is another run"
    mine.give(key)
    assert yours.take(key)
    yours.close()
    assert mine.take(key)


def test_a_failing_write_leaves_nothing_partial(tmp_path, monkeypatch):
    prepare(tmp_path)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        store(tmp_path)

    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_an_unwritable_folder_is_refused_with_its_name(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(UserError, match=r"file/study cannot be written: .*--results"):
        prepare(tmp_path / "file" / "study")


@pytest.mark.parametrize("content", [None, "", "{", '{"study": 3}'])
def test_a_missing_or_broken_manifest_is_one_clear_error(tmp_path, content):
    if content is not None:
        (tmp_path / "study.json").write_text(content)

    with pytest.raises(UserError, match=r"study\.json"):
        read_manifest(tmp_path)
