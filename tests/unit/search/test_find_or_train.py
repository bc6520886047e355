"""Runs are looked up everywhere, trained once, and tell a trial nothing of the test split."""

import sqlite3
import threading
from concurrent.futures import CancelledError
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.experiment import Arm, TrickSpec, spec_of
from harness.identity import Identity
from harness.store import reader
from harness.store.merge import consolidate
from harness.store.reader import find_row, read_kind
from harness.store.schema import METRICS
from harness.store.writer import prepare, write_run
from harness.study.workers.job import Finished
from harness.testing import make_row
from harness.training.place import Place
from harness.tuning.find_or_train import Runs

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def poison(spec):
    """Test metrics that occur nowhere else, one for each run and metric."""
    return {f"test_{m}": float(f"0.{int(spec.run_id, 16) % 10**9:09d}{i}31337") for i, m in enumerate(METRICS)}


class Pool:
    """Stands in for the worker processes: stores a row with a known validation accuracy and poisoned test metrics."""

    def __init__(self, status="ok"):
        self.done = []
        self.status = status

    def do(self, job):
        spec = job.spec
        self.done.append(spec.run_id)
        row = make_row(
            spec.arm.label, spec.seed, run_id=spec.run_id, status=self.status, val_accuracy=0.5 + 0.01 * spec.seed,
            cpu_seconds_train=2.5, seconds_train=9.0, peak_memory_bytes=1000, finished=T0,
            identity=job.identity.short, identity_json=job.identity.json,
            **poison(spec), **job.place.fingerprint(spec),
        )  # fmt: skip
        write_run(job.study_dir, row, [], None)
        return Finished(spec.arm.label, spec.seed, self.status, "", 1.0, 0.5)


@pytest.fixture
def runs(tmp_path):
    """Runs of a search in a results folder, with a stand-in for the pool."""

    def make(name="s", pool=None, images="images"):
        folder = tmp_path / name
        prepare(folder)
        return Runs(folder, tmp_path, "digits", Place(Path()), pool or Pool(), threading.Event(), images)

    return make


@pytest.fixture
def spec(plan):
    return lambda seed=0: spec_of(plan().experiment, Arm(), seed)


def test_a_score_has_the_objectives_of_the_stored_row(runs, spec):
    made = runs()
    score = made.score(spec(3))

    assert (score.status, score.reason) == ("ok", "")
    assert score.values == {"accuracy": 0.53, "seconds": 2.5, "memory": 1000}, "CPU seconds, not wall, on a CPU"


def test_a_run_is_trained_once(runs, spec):
    made = runs()
    for _ in range(2):
        made.score(spec())
    consolidate(made.folder)
    made.score(spec())

    assert made.pool.done == [spec().run_id]


def test_a_run_of_another_study_is_taken_over(runs, spec):
    other = runs("other")
    other.score(spec())
    other.score(spec(1))
    consolidate(other.folder)
    made = runs()

    assert made.score(spec()).values["accuracy"] == 0.5
    assert made.pool.done == []
    table, _, _ = read_kind(made.folder, "runs")
    assert table["run_id"].to_pylist() == [spec().run_id], "the search's folder is complete by itself"


def test_a_failed_run_is_tried_again(runs, spec):
    failing = runs("other", Pool("failed"))
    assert failing.score(spec()).status == "failed"
    made = runs()

    assert made.score(spec()).status == "ok"
    assert made.pool.done == [spec().run_id]


def test_threads_that_want_the_same_run_wait_for_the_one_that_trains_it(runs, spec):
    made = runs()
    started, go = threading.Event(), threading.Event()
    train = made.pool.do

    def slow(job):
        started.set()
        go.wait()
        return train(job)

    made.pool.do = slow
    scores = []
    threads = [threading.Thread(target=lambda: scores.append(made.score(spec()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    started.wait()
    go.set()
    for thread in threads:
        thread.join()

    assert len(scores) == 3
    assert made.pool.done == [spec().run_id]


def test_who_waits_for_a_run_can_be_stopped(runs, spec):
    made, other = runs(), runs("other")
    key = (spec().run_id, Identity("images").short, made.place.fingerprint(spec())["fingerprint"])
    assert other._claims.take(key)
    made.stopped.set()

    with pytest.raises(CancelledError):
        made.score(spec())


def test_a_run_on_other_images_is_no_run_of_this_search(runs, spec):
    runs("other", images="other images").score(spec())
    made = runs()
    made.score(spec())

    assert made.pool.done == [spec().run_id]


def test_no_column_of_the_test_split_is_read(runs, spec, monkeypatch):
    made, read = runs(), []
    for seed in (0, 1):
        made.score(spec(seed))
    consolidate(made.folder)

    class Spy(pq.ParquetFile):
        def read(self, columns=None, **options):
            read.append(columns)
            return super().read(columns, **options)

    monkeypatch.setattr(reader.pq, "ParquetFile", Spy)
    for seed in (0, 2):  # from the merged file, and from its own
        made.score(spec(seed))

    assert len(read) >= 2
    assert all(columns and not [c for c in columns if c.startswith("test_")] for columns in read)


def test_test_metrics_never_reach_a_trial(plan, runs, searching, tmp_path):
    """Every stored row is poisoned with unique test values; none is in the trials, their file or the objective."""
    made, plan = runs(), plan(trials=4, seeds=3)
    seen = []

    def evaluate(spec):
        seen.append((spec, made.score(spec)))
        return seen[-1][1]

    storage = searching.sqlite()
    search = searching(plan, evaluate, storage=storage)
    trials = [t for study in search._studies for t in study.get_trials()]
    texts = [repr(vars(t)) for t in trials] + [repr(score) for _, score in seen]
    poisoned = {value for spec, _ in seen for value in poison(spec).values()}
    table, _, _ = read_kind(made.folder, "runs")
    file = (tmp_path / "optuna.db").read_bytes()

    assert len(trials) == 8
    assert len(poisoned) == 5 * len({spec.run_id for spec, _ in seen})
    assert poisoned == {v for m in METRICS for v in table[f"test_{m}"].to_pylist()}, "the rows do hold them"
    for value in poisoned:
        assert not [t for t in texts if repr(value) in t or str(100 * value)[:12] in t]
        assert repr(value).encode() not in file
    assert not [t for t in texts if "test_" in t]
    numbers = set(stored_numbers(tmp_path / "optuna.db"))
    assert 0.51 in numbers, "validation accuracies are there, as numbers"
    assert not numbers & poisoned


def stored_numbers(path):
    """Every number in every table of a SQLite file."""
    with sqlite3.connect(path) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f"SELECT * FROM {table}"):
                yield from (value for value in row if isinstance(value, float))


def store(study_dir, run_id="a" * 16, mark="f0", accuracy=0.5, finished=T0, status="ok"):
    prepare(study_dir)
    row = make_row(run_id=run_id, fingerprint=mark, status=status, val_accuracy=accuracy, finished=finished)
    write_run(study_dir, row, [], None)


def test_a_row_is_found_in_its_own_file_and_in_a_merged_one(tmp_path):
    store(tmp_path)
    store(tmp_path, "b" * 16, accuracy=0.7)
    store(tmp_path, mark="f1", accuracy=0.9)
    before = find_row(tmp_path, ("a" * 16, "", "f0"), ("val_accuracy",))
    consolidate(tmp_path)

    assert before["val_accuracy"] == find_row(tmp_path, ("a" * 16, "", "f0"), ("val_accuracy",))["val_accuracy"] == 0.5
    assert find_row(tmp_path, ("a" * 16, "", "f1"), ("val_accuracy",))["val_accuracy"] == 0.9
    assert find_row(tmp_path, ("c" * 16, "", "f0"), ("val_accuracy",)) is None
    assert find_row(tmp_path / "nothing", ("c" * 16, "", "f0"), ()) is None


def test_a_repeated_run_counts_as_it_ended_last(tmp_path):
    store(tmp_path, status="failed")
    store(tmp_path, "b" * 16)
    consolidate(tmp_path)
    store(tmp_path, finished=T0 + timedelta(hours=1))

    assert find_row(tmp_path, ("a" * 16, "", "f0"), ("status",))["status"] == "ok"


def test_a_broken_file_is_passed_over(tmp_path):
    store(tmp_path)
    store(tmp_path, "b" * 16)
    consolidate(tmp_path)
    (tmp_path / "runs" / f"{'a' * 16}-f0.parquet").write_bytes(b"PAR1")
    (tmp_path / "runs" / "consolidated-0-x.parquet").write_bytes(b"")

    assert find_row(tmp_path, ("a" * 16, "", "f0"), ("status",))["status"] == "ok"


def test_runs_of_an_arm_that_cannot_be_trained_are_stored_as_failed_without_training(runs, spec):
    arm = Arm(tricks=(TrickSpec(name="mixup", version=1, params={}),))
    searched = replace(runs(), refused={("mixup",): "pre-flight: killed by SIGSEGV"})

    assert searched.score(spec()).status == "ok"
    score = searched.score(spec().model_copy(update={"arm": arm}))
    assert (score.status, score.reason) == ("failed", "pre-flight: killed by SIGSEGV")
    assert searched.pool.done == [spec().run_id]
