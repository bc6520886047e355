import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import bench
from harness.bench import commands, loops, measures
from harness.bench.measures import Size, busy_rate
from harness.bench.photographs import photographs
from harness.bench.rows import BenchRow, interleave, summary
from harness.store.reader import read_study
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks import registry

SMALL = Size(2, 128, (1,), (), pools=1, pool_runs=2, many_runs=0, photographs=100)


def test_a_row_is_the_median_and_the_quartiles_of_its_repeats():
    row = summary("T0", [5.0, 1.0, 2.0, 4.0, 3.0], "x", "five numbers", ">= 3")

    assert (row.low, row.value, row.high, row.n) == (2.0, 3.0, 4.0, 5)


@pytest.mark.parametrize(
    ("value", "target", "met"),
    [(0.97, ">= 0.97", True), (0.96, ">= 0.97", False), (60, "<= 60", True), (61, "<= 60", False), (1, "", None)],
)
def test_a_target_is_a_bound_on_the_median(value, target, met):
    assert BenchRow("T0", value, "x", 0, 2, 1, "", target).met is met


def test_work_is_interleaved_in_alternating_order_after_one_round_that_does_not_count():
    calls = []

    def work(name):
        calls.append(name)
        return float(len(calls))

    seconds = interleave(2, {"a": lambda: work("a"), "b": lambda: work("b")})

    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert seconds["a"].tolist() == [4.0, 5.0]
    assert seconds["b"].tolist() == [3.0, 6.0]


def test_runs_per_second_leave_out_start_up_and_idle_workers():
    # One worker: 10 s to start and warm up, then a run a second.
    begin = np.array([0.0, 10.0, 11.0, 12.0])
    assert busy_rate(begin, begin + np.array([10, 1, 1, 1]), 1) == pytest.approx(1.0)

    # The second worker starts at 2, warms up until 4, and is idle after 6.
    begin = np.array([0.0, 1.0, 2.0, 2.0, 3.0, 4.0, 4.0, 5.0, 6.0])
    end = np.array([1.0, 2.0, 3.0, 4.0, 4.0, 5.0, 6.0, 6.0, 9.0])
    assert busy_rate(begin, end, 2) == pytest.approx(1.5), "one run a second and one in two seconds"


def test_gaps_between_runs_count():
    begin = np.array([0.0, 1.0, 3.0, 5.0])
    assert busy_rate(begin, begin + 1, 1) == pytest.approx(3 / 5)


def test_workers_that_never_met_are_counted_over_the_whole_time():
    begin = np.array([0.0, 1.0, 2.0, 4.0])
    assert busy_rate(begin, begin + 1, 2) == pytest.approx(4 / 5)


def test_no_op_tricks_are_bit_identical_to_none(tmp_path):
    tricks = loops.no_ops(3)
    with ExitStack() as known:
        for trick in tricks:
            known.enter_context(registry.registered(trick))
        specs = [loops.with_tricks(loops.digits(1, 128), tricks[:k]) for k in (0, 3)]
        sessions = [set_up(spec, Place(tmp_path)) for spec in specs]
    batches = [s.stack.fold("batch", next(s.loader.epoch()), s.run) for s in sessions]

    assert len(sessions[1].stack.hooks("after_step")) == 3
    assert torch.equal(*(s.run.loss(batch) for s, batch in zip(sessions, batches, strict=True)))


SOFT = partial(loops.bare_loop, soft=True)


@pytest.mark.parametrize("loop", [loops.harness_loop, loops.bare_loop, SOFT, loops.script_loop])
def test_every_loop_really_trains_the_network(tmp_path, monkeypatch, loop):
    """Each of them learns the digits, so none of them is fast because it leaves work out."""
    made = []

    def remember(spec, place):
        made.append(set_up(spec, place))
        return made[-1]

    monkeypatch.setattr(loops, "set_up", remember)
    torch.manual_seed(0)
    seconds = loop(loops.digits(8, 640), Place(tmp_path), 8)()
    batch = next(made[0].loader.epoch())

    assert seconds > 0
    assert float(made[0].run.loss(batch).detach()) < 1.5, "chance is 2.3"


def test_convolution_flops_of_a_small_network_by_hand(tmp_path):
    """Forward, and backward twice as much but for the first layer, whose input needs no gradient."""
    stem = 2 * 8 * 8 * 8 * 9
    rest = 2 * (2 * 8 * 8 * 8 * 8 * 9 + 4 * 4 * (8 * 16 * 9 + 16 * 16 * 9 + 8 * 16))

    assert loops.conv_flops(loops.digits(1, 64), Place(tmp_path)) == 64 * (2 * stem + 3 * rest)


def test_help_costs_time_and_imports_no_torch():
    cost, torch_imported = commands.start_up(SMALL.repeats)

    assert cost.unit == "s"
    assert 0 < cost.low <= cost.value <= cost.high
    assert torch_imported.value == 0.0
    assert torch_imported.met


def test_judging_a_table_costs_time_and_imports_no_torch(tmp_path):
    cost, torch_imported = commands.judged(1, tmp_path, methods=3, seeds=10)

    assert "30 rows" in cost.measured
    assert cost.value > 0
    assert torch_imported.met
    assert (tmp_path / "table.html").is_file()


def test_a_second_run_on_photographs_is_set_up_at_once_and_takes_little_memory(tmp_path):
    decoding, seconds, memory = photographs(SMALL.photographs, tmp_path)

    assert decoding.value > 0
    assert seconds.value > 0
    assert 0.1 < memory.value < 1.5


def test_a_run_has_a_fixed_cost(tmp_path):
    small, usual = measures.fixed_cost(SMALL, tmp_path)

    # Which of two short measurements is larger depends on what else the machine does.
    assert min(small.value, usual.value) > 0
    assert read_study(tmp_path / "fixed", predictions=False).runs["run_id"].nunique() == 2


def test_store_rows_cover_writing_merging_reading_and_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(measures, "ARMS", 3)
    monkeypatch.setattr(measures, "SEEDS", 5)
    rows = list(measures.store(SMALL, tmp_path))

    assert [row.name.split(",")[0] for row in rows] == ["T8 write", "T8 consolidate", "T8 read", "T8 report"]
    assert all(row.value > 0 for row in rows)
    assert len(list((tmp_path / "stored" / "runs").glob("*.parquet"))) == 1
    assert "trick02" in (tmp_path / "stored.html").read_text()


def test_rows_are_stored_with_their_verdicts_and_the_machine(tmp_path, monkeypatch):
    rows = [
        BenchRow("T1", 1.0, "x", 0.9, 1.1, 7, "speed", ">= 0.97"),
        BenchRow("T4", 9.0, "runs/h", 8.0, 10.0, 3, "runs"),
    ]
    monkeypatch.setattr(bench, "iter_bench", lambda quick: iter(rows))
    out = tmp_path / "bench" / "now.json"

    assert bench.run_bench(True, out) == rows
    document = json.loads(out.read_text())
    assert [row["met"] for row in document["rows"]] == [True, None]
    assert document["quick"] is True
    assert document["device"].startswith("cpu")


def test_a_failing_measurement_is_an_error_and_not_a_short_list(monkeypatch):
    monkeypatch.setattr(bench.sys, "executable", "/bin/false")

    with pytest.raises(RuntimeError, match="code 1"):
        list(bench.iter_bench(True))


@pytest.mark.slow
def test_every_benchmark_yields_rows(tmp_path: Path):
    rows = [*measures.training(SMALL, tmp_path), *measures.workers(SMALL, tmp_path)]

    assert {row.name.split()[0] for row in rows} == {"T1", "T2", "T3", "T4", "T10"}
    assert len({row.name for row in rows}) == len(rows)
    assert all(row.low <= row.value <= row.high for row in rows)
    faster = next(row for row in rows if row.name == "T2 digits / a timm-style script")
    assert faster.value > 1.5
