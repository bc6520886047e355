"""A study's own rows: which they are, which attempt counts, and metrics that its runs have as scores."""

import json
import math
from datetime import UTC, datetime
from typing import get_args

import pandas as pd
import pytest

from harness.analysis.effects import analyse
from harness.analysis.interactions import analyse_design
from harness.analysis.rows import arm_values, metric_of, own_rows, points_of
from harness.errors import UserError
from harness.metrics import COLUMNS, OBJECTIVES, TRAINING_TIME, ObjectiveName, usable
from harness.report.pages.study import write_report
from harness.store.schema import CURVES, METRICS, RUNS, ArmPlan, Manifest, MetricSpec
from harness.store.writer import prepare, write_manifest, write_run

F1 = {"baseline": (0.80, 0.81, 0.79, 0.82, 0.80), "mixup": (0.81, 0.83, 0.82, 0.86, 0.80)}
"""Differences of 1, 2, 3, 4 and 0 hundredths: mean 2, standard error sqrt(0.5), so t(4) gives 2 ± 2.776 sqrt(0.5)."""


SPEC = '{"data": {"val_size": 100}}'


def declare(metrics=None, **changes):
    arms = tuple(
        ArmPlan(
            label=label, tricks={} if label == "baseline" else {label: {}}, run_ids={s: f"{label}{s}" for s in range(5)}
        )
        for label in F1
    )
    values = {
        "study": "s", "experiment": "e", "question": "", "metric": "test_accuracy", "margin": 0.5, "alpha": 0.05,
        "design": "one_at_a_time", "seeds": tuple(range(5)), "arms": arms, "fingerprint": "here", "scope": "invented",
        "command": "", "toml": "", "harness_version": "0", "created": "", "metrics": metrics or {},
    }  # fmt: skip
    return Manifest(**(values | changes))


def rows_with(scores):
    """Rows of all runs; `scores(value)` is what their column holds."""
    return [
        {
            "run_id": f"{label}{seed}", "fingerprint": "here", "arm": label, "seed": seed, "status": "ok", "reason": "",
            "test_digest": f"{label}{seed}", "device": "cpu", "test_accuracy": 0.9, "scores": scores(value),
            "finished": datetime(2026, 1, 1, tzinfo=UTC), "git_commit": "c", "versions": "{}", "spec": SPEC,
        }
        for label, values in F1.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip


def store(scores):
    return pd.DataFrame(rows_with(scores), columns=RUNS.names)


def one(analysis):
    (effect,) = analysis.effects
    return effect


def test_a_declared_fraction_is_shown_in_points_with_its_own_margin():
    manifest = declare({"macro_f1": MetricSpec(unit="fraction", margin=0.25)})
    analysis = analyse(store(lambda v: json.dumps({"macro_f1": v})), manifest, metric="macro_f1")
    effect = one(analysis)

    assert (analysis.metric, analysis.unit, analysis.margin) == ("macro_f1", "points", 0.25)
    assert analysis.baseline_mean == pytest.approx(80.4)
    assert effect.differences == pytest.approx((1, 2, 3, 4, 0))
    assert (effect.low, effect.high) == pytest.approx((2 - 2.7764451 * math.sqrt(0.5), 2 + 2.7764451 * math.sqrt(0.5)))
    assert (effect.wins, effect.verdict.kind) == (4, "helps")
    assert "points of macro_f1" in effect.verdict.sentence


def test_a_declared_percentage_is_shown_as_it_is():
    manifest = declare({"macro_f1": MetricSpec(unit="percent")})
    analysis = analyse(store(lambda v: json.dumps({"macro_f1": 100 * v})), manifest, metric="macro_f1")

    assert (analysis.unit, one(analysis).mean) == ("points", pytest.approx(2.0))
    assert math.isnan(analysis.margin), "the study's margin was declared for its accuracy"


def test_of_a_declared_error_less_is_better():
    manifest = declare({"distance": MetricSpec(better="lower", margin=0.001)})
    analysis = analyse(store(lambda v: json.dumps({"distance": -v})), manifest, metric="distance")

    assert (analysis.unit, analysis.higher_is_better) == ("", False)
    assert one(analysis).mean == pytest.approx(-0.02)
    assert (one(analysis).wins, one(analysis).verdict.kind) == (4, "helps")


def test_the_page_of_a_stored_study_shows_a_declared_metric(tmp_path):
    study = tmp_path / "s"
    prepare(study)
    write_manifest(study, declare({"macro_f1": MetricSpec(unit="fraction", margin=0.25)}))
    for row in rows_with(lambda v: json.dumps({"macro_f1": v})):
        write_run(study, row, [], None)
    page, loaded = write_report(study, tmp_path / "reports", "macro_f1")
    html = page.read_text()

    assert one(loaded.analysis).mean == pytest.approx(2.0)
    assert "<dd>macro f1</dd>" in html
    assert "±0.25 points" in html
    assert "+2.00" in html


def test_a_study_may_be_about_a_declared_metric_and_have_its_margin():
    manifest = declare({"macro_f1": MetricSpec(unit="fraction")}, metric="macro_f1", margin=0.75)

    assert analyse(store(lambda v: json.dumps({"macro_f1": v})), manifest).margin == 0.75


def test_designs_read_scores_too():
    manifest = declare({"macro_f1": MetricSpec(unit="fraction")}, factors=("mixup", "ema"))
    design = analyse_design(store(lambda v: json.dumps({"macro_f1": v})), manifest, "macro_f1")

    assert design.unit == "points"
    assert [(e.name, e.mean) for e in design.one_at_a_time] == [("mixup", pytest.approx(2.0))]


@pytest.mark.parametrize("scores", [None, "", "{}", "[]", "not JSON", '{"macro_f1": "high"}', '{"macro_f1": null}'])
def test_a_run_without_a_readable_score_was_not_measured(scores):
    manifest = declare({"macro_f1": MetricSpec(unit="fraction")})
    effect = one(analyse(store(lambda v: scores), manifest, metric="macro_f1"))

    assert effect.n == 0
    assert effect.verdict.kind in ("no verdict", "failed")


def test_a_name_that_is_a_column_means_the_column():
    manifest = declare({"test_accuracy": MetricSpec(better="lower")})

    assert metric_of(manifest) is COLUMNS["test_accuracy"]


def test_an_unknown_metric_is_refused_with_the_declared_ones_among_those_known():
    manifest = declare({"macro_f1": MetricSpec()})

    with pytest.raises(UserError, match=r"metric 'macro_f2'.*'macro_f1'\? Known: macro_f1, test_accuracy"):
        metric_of(manifest, "macro_f2")


def test_own_rows_are_labelled_by_the_manifest_and_a_finished_attempt_counts_before_a_later_failure():
    late = pd.Timestamp("2026-02-01", tz="UTC")
    runs = store(lambda v: None).assign(arm="another name")
    again = runs.assign(status="failed", finished=late)[:1]
    foreign = runs.assign(run_id="of another study")[:1]
    own = own_rows(pd.concat([again, foreign, runs]), declare())

    assert len(own) == 10
    assert own["ok"].all()
    assert list(own["label"].unique()) == ["baseline", "mixup"]


def test_values_of_an_arm_are_those_of_its_finished_runs_by_seed():
    runs = store(lambda v: None)
    runs.loc[runs["run_id"] == "mixup3", "status"] = "failed"
    found = arm_values(runs, declare(), "mixup", COLUMNS["test_accuracy"])

    assert found.to_dict() == dict.fromkeys((0, 1, 2, 4), pytest.approx(90.0))
    assert arm_values(runs, declare(), "cutmix", COLUMNS["test_accuracy"]).empty


def test_curve_points_are_those_of_the_runs_each_once():
    point = {"fingerprint": "here", "split": "val", "metric": "nll", "step": 1}
    rows = [
        point | {"run_id": r, "epoch": e, "value": v}
        for r, e, v in (("a", 1, 3), ("a", 1, 2), ("a", 2, 1), ("b", 1, 9))
    ]
    runs = pd.DataFrame({"run_id": ["a"], "fingerprint": ["here"], "arm": [7]})
    found = points_of(pd.DataFrame(rows, columns=CURVES.names), runs)

    assert found[["epoch", "value", "arm"]].to_numpy().tolist() == [[1, 2, 7], [2, 1, 7]]


def test_every_analysed_column_is_stored_and_every_evaluated_metric_can_be_analysed():
    assert COLUMNS.keys() <= set(RUNS.names)
    assert {f"{split}_{name}" for split in ("val", "test") for name in METRICS} <= COLUMNS.keys()
    assert all(metric.name == name for name, metric in COLUMNS.items())


def test_objectives_are_stored_columns_whose_directions_agree():
    assert tuple(OBJECTIVES) == get_args(ObjectiveName)
    for objective in OBJECTIVES.values():
        assert {m.name for m in objective.metrics} <= COLUMNS.keys()
        assert len({(m.unit, m.factor, m.higher_is_better) for m in objective.metrics}) == 1


def test_cpu_time_is_the_cost_of_training_only_where_all_of_it_ran_on_cpus():
    assert usable(TRAINING_TIME, ["cpu", "cpu"]).name == "cpu_seconds_train"
    assert usable(TRAINING_TIME, ["cpu", "cuda:0"]).name == "seconds_train"
