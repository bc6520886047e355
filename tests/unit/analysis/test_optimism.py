from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from harness.analysis.optimism import Change, Optimism, optimism
from harness.store.reader import read_kind, read_search
from harness.store.schema import RUNS, ArmPlan, SearchArm, SearchRecord, Trial
from harness.testing import make_manifest, make_row

TUNING, FRESH = (0, 1), (2, 3, 4)
DEFAULT = Trial(number=0, state="complete", params={"recipe.lr": 0.1}, run_ids={0: "d0", 1: "d1"},
                values={"accuracy": (0.90, 0.92)})  # fmt: skip
WINNER = Trial(number=3, state="complete", params={"recipe.lr": 0.3}, run_ids={0: "w0", 1: "w1"},
               values={"accuracy": (0.95, 0.96)})  # fmt: skip
ROWS = {
    **{f"old-{s}": v for s, v in zip(FRESH, (0.90, 0.88, 0.89), strict=True)},
    **{f"new-{s}": v for s, v in zip(FRESH, (0.93, 0.92, 0.91), strict=True)},
}


def search(*trials: Trial, winner: int | None = 3) -> tuple[SearchRecord, SearchArm]:
    """A search of the learning rate whose fresh runs are those of `ROWS`."""
    arm = SearchArm(label="baseline", space={"recipe.lr": {"default": 0.1}}, trials=trials, winner=winner)
    studies = {
        name: make_manifest([ArmPlan(label="baseline", run_ids={s: f"{runs}-{s}" for s in FRESH})], FRESH)
        for name, runs in (("default", "old"), ("tuned", "new" if winner else "old"))
    }
    record = SearchRecord(
        search="s", experiment="e", question="?", scope="", objectives=("accuracy",), trials=len(trials),
        tuning_seeds=TUNING, fresh_seeds=FRESH, sampler="tpe", pruner="none", arms=(arm,), comparisons=studies,
        fingerprint="f00d", command="", toml="", harness_version="0", created="",
    )  # fmt: skip
    return record, arm


def runs(names: tuple[str, ...] = tuple(ROWS)) -> pd.DataFrame:
    rows = [make_row(seed=int(name[-1]), run_id=name, identity="", val_accuracy=ROWS[name]) for name in names]
    return pd.DataFrame(rows, columns=RUNS.names)


def found(*trials: Trial, winner: int | None = 3, rows: pd.DataFrame | None = None) -> Optimism:
    record, arm = search(*trials, winner=winner)
    made = optimism(record, arm, runs() if rows is None else rows)
    assert made is not None
    return made


def test_net_optimism_computed_by_hand() -> None:
    o = found(DEFAULT, WINNER)
    assert (o.seen, o.seen_n, o.fresh, o.fresh_n) == (pytest.approx(95.5), 2, pytest.approx(92), 3)
    assert o.winner is not None
    assert o.default is not None
    assert o.net is not None
    assert (o.winner.mean, o.default.mean) == (pytest.approx(3.5), pytest.approx(2))
    # Winner minus default: 5 and 4 when chosen (variance 1/2), 3, 4 and 2 on fresh seeds (variance 1). So the squared
    # error is 1/4 + 1/3 = 7/12, with (7/12)^2 / (1/16 + 1/18) = 49/17 degrees of freedom.
    half = stats.t.isf(0.025, 49 / 17) * math.sqrt(7 / 12)
    assert o.net.mean == pytest.approx(1.5)
    assert (o.net.low, o.net.high) == pytest.approx((1.5 - half, 1.5 + half))


def test_only_seeds_that_winner_and_default_share_count_in_the_net() -> None:
    o = found(DEFAULT, WINNER, rows=runs(("new-2", "new-3", "new-4", "old-3", "old-4")))
    assert o.net is not None
    assert o.net.mean == pytest.approx(4.5 - 3)


def test_where_the_default_values_won_nothing_was_selected() -> None:
    o = found(DEFAULT, WINNER.model_copy(update={"values": {"accuracy": (0.8, 0.8)}}), winner=0)
    assert o.default_won
    assert o.net == Change(0, 0, 0)
    assert o.winner == o.default


@pytest.mark.parametrize("trials", [(WINNER,), (DEFAULT.model_copy(update={"state": "pruned"}), WINNER)])
def test_without_a_completed_trial_of_the_default_values_it_is_not_known(trials: tuple[Trial, ...]) -> None:
    o = found(*trials)
    assert o.winner is not None
    assert (o.default, o.net) == (None, None)


def test_without_fresh_runs_only_what_was_seen_is_known() -> None:
    o = found(DEFAULT, WINNER, rows=runs(()))
    assert o.seen == pytest.approx(95.5)
    assert (o.fresh_n, o.winner, o.default, o.net) == (0, None, None, None)


def test_one_fresh_seed_has_no_interval() -> None:
    o = found(DEFAULT, WINNER, rows=runs(("new-2", "old-2")))
    assert o.net is not None
    assert o.net.mean == pytest.approx(4.5 - 3)
    assert math.isnan(o.net.low)


def test_a_winner_without_values_by_seed_has_none() -> None:
    record, arm = search(DEFAULT, WINNER.model_copy(update={"run_ids": {}}))
    assert optimism(record, arm, runs()) is None


def test_without_a_winner_there_is_none() -> None:
    record, arm = search(DEFAULT, winner=None)
    assert optimism(record, arm, runs()) is None


def test_of_the_published_search_selection_is_to_blame_for_less_than_it_seemed() -> None:
    folder = Path(__file__).parents[3] / "results" / "published" / "digits-search"
    record = read_search(folder)
    table, _, _ = read_kind(folder, "runs", record.runs)
    assert table is not None
    changes = {}
    for arm in record.arms:
        o = optimism(record, arm, table.to_pandas())
        assert o is not None
        assert o.winner is not None
        assert o.default is not None
        assert o.net is not None
        assert o.net.mean == pytest.approx(o.winner.mean - o.default.mean)
        changes[arm.label] = [round(c.mean, 2) for c in (o.winner, o.default, o.net)]
    assert changes == {
        "baseline": [3.5, 1.58, 1.92],
        "mixup": [2.49, 0.81, 1.68],
        "label_smoothing": [1.85, 1.92, -0.07],
        "cutout": [2.9, 1.48, 1.41],
        "ema": [2.42, 1.45, 0.98],
    }
