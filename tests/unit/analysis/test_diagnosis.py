"""Detectors on drawn curves, each on both sides of its threshold. Trained faults are in tests/e2e."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike

from harness import testing
from harness.analysis.detectors import Context, Run, findings_of
from harness.analysis.diagnosis import _merged, context_of, curves_by_run, diagnose_arms
from harness.analysis.types import Finding
from harness.store.reader import StudyData
from harness.store.schema import RUNS, Manifest, predictions_schema

CONTEXT = Context(margin=0.5, classes=10)
EPOCHS = np.arange(1, 21)
HEALTHY = {
    "train.loss": 0.02 + 2.3 * np.exp(-EPOCHS / 2),
    "val.nll": 0.2 + 2.1 * np.exp(-EPOCHS / 2),
    "val.accuracy": 0.93 - 0.8 * np.exp(-EPOCHS / 2),
}


def make_curves(run_id: str = "r", **changes: ArrayLike) -> pd.DataFrame:
    """A healthy run of twenty epochs, with the curves in `changes` (train_loss, val_nll ...) replaced."""
    values = {**HEALTHY, **{k.replace("_", ".", 1): np.asarray(v) for k, v in changes.items()}}
    return pd.DataFrame(testing.make_curve({"run_id": run_id, "fingerprint": testing.FINGERPRINT}, values, steps=1))


def make_row(run_id: str = "r", val_size: int = 10_000, **changes: Any) -> dict[str, Any]:
    values = {"spec": json.dumps({"data": {"val_size": val_size}}), "val_accuracy": 0.93, "val_nll": 0.2,
              "test_accuracy": 0.93, "test_nll": 0.2, "train_nll": 0.01}  # fmt: skip
    return testing.make_row(run_id=run_id, **values | changes)


def diagnose(row: dict[str, Any], curves: pd.DataFrame, context: Context) -> list[Finding]:
    """Findings of one run."""
    return findings_of(Run(row, curves_by_run(curves).get((row["run_id"], row["fingerprint"]), {}), context))


def diagnose_arm(rows: list[dict[str, Any]], curves: pd.DataFrame, label: str) -> list[Finding]:
    """Findings of one arm's runs together."""
    return diagnose_arms(pd.DataFrame(rows, columns=RUNS.names), curves, [label], CONTEXT)[label]


def codes(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(f.code, f.severity) for f in findings]


def find(row: dict[str, Any] | None = None, **changes: ArrayLike) -> list[tuple[str, str]]:
    return codes(diagnose(row or make_row(), make_curves(**changes), CONTEXT))


def test_a_healthy_run_has_no_finding() -> None:
    assert find() == []


@pytest.mark.parametrize("level", [2.26, 2.31, 50.0])
def test_a_flat_loss_and_a_guessing_network_are_at_chance(level: float) -> None:
    assert find(make_row(val_accuracy=0.1), train_loss=[level] * 20) == [("at_chance", "problem")]


def test_a_criterion_with_another_level_of_chance_is_judged_by_where_it_began() -> None:
    assert ("at_chance", "problem") in find(make_row(val_accuracy=0.1), train_loss=[1.87] * 20)


def test_a_loss_that_fell_or_an_accuracy_above_guessing_is_not_at_chance() -> None:
    fallen = np.linspace(2.3, 2.2, 20)
    assert "at_chance" not in dict(find(make_row(val_accuracy=0.1), train_loss=fallen))
    # 1,000 of 10,000 are right by chance, with standard deviation 30: 1,075 is beyond 99 %, 1,060 is not.
    assert "at_chance" not in dict(find(make_row(val_accuracy=0.1075), train_loss=[2.31] * 20))
    assert find(make_row(val_accuracy=0.1060), train_loss=[2.31] * 20) == [("at_chance", "problem")]


def test_a_loss_that_is_back_where_it_began_has_learnt_nothing_that_could_go_on() -> None:
    """It falls at the end; without a number of classes its start is all that there is to compare with."""
    loss = np.concatenate([np.linspace(1.0, 2.0, 10), np.linspace(1.9, 1.0, 10)])
    assert loss[0] == loss[-1]
    found = diagnose(make_row(val_accuracy=0.5), make_curves(train_loss=loss), Context(0.5, None))
    assert "not_converged" not in dict(codes(found))
    lower = diagnose(make_row(val_accuracy=0.5), make_curves(train_loss=loss - np.arange(20) / 100), Context(0.5, None))
    assert "not_converged" in dict(codes(lower))


def test_nothing_is_at_chance_where_the_number_of_classes_is_unknown() -> None:
    curves = make_curves(train_loss=[2.31] * 20)
    assert "at_chance" in dict(codes(diagnose(make_row(val_accuracy=0.1), curves, Context(0.5, 10))))
    assert "at_chance" not in dict(codes(diagnose(make_row(val_accuracy=0.1), curves, Context(0.5, None))))


@pytest.mark.parametrize("name", ["val_nll", "train_loss"])
def test_a_loss_that_falls_to_the_end_has_not_converged(name: str) -> None:
    noise = 1e-3 * np.random.default_rng(0).normal(size=20)
    curves = make_curves(**{name: 2.3 - 0.05 * EPOCHS + noise})
    finding = diagnose(make_row(val_nll=1.3), curves, CONTEXT)[0]
    assert (finding.code, finding.severity) == ("not_converged", "warning")
    assert "1.0 times its average pace" in finding.evidence
    assert "after 20 epochs; " in finding.evidence
    assert "bring 0.2" in finding.evidence


def test_a_slow_end_a_noisy_end_and_a_late_drop_of_the_rate_are_no_alarm() -> None:
    slow = np.where(EPOCHS < 16, 0.3, 0.3 - 0.01 * (EPOCHS - 15))
    noisy = np.where(EPOCHS < 16, 1.0, np.array([0.9, 1.4, 0.4, 0.8])[(EPOCHS - 1) % 4])
    drop = np.where(EPOCHS <= 17, 0.9, 0.3)
    for nll in (slow, noisy, drop):
        assert find(val_nll=nll) == []


RISING = np.where(EPOCHS < 6, 2.3 - 0.3 * EPOCHS, 0.8 + 0.03 * (EPOCHS - 5))
FLAT = np.full(20, 0.8)


def test_an_early_minimum_of_the_validation_nll_is_overfitting() -> None:
    (finding,) = diagnose(make_row(), make_curves(val_nll=RISING, val_accuracy=FLAT), CONTEXT)
    assert (finding.code, finding.severity) == ("overfitting", "warning")
    assert "from 0.8 in epoch 5 of 20 to 1.21 at the end (1.51 times)" in finding.evidence


def test_a_doubled_validation_nll_is_severe_overfitting() -> None:
    steep = np.where(EPOCHS < 6, 2.3 - 0.3 * EPOCHS, 0.8 + 0.07 * (EPOCHS - 5))
    assert find(val_nll=steep, val_accuracy=FLAT) == [("overfitting", "problem")]


def test_a_rising_nll_with_an_accuracy_that_improves_is_overconfidence() -> None:
    better = 0.8 + 0.005 * EPOCHS
    assert find(val_nll=RISING, val_accuracy=better) == [("overconfident", "info")]
    # On 100 images the standard error is 3.9 points, and the gain of 6.75 points is still more.
    few = find(make_row(val_size=100), val_nll=RISING, val_accuracy=better)
    assert ("overconfident", "info") in few


def test_a_late_minimum_a_small_rise_or_a_rising_training_loss_is_no_overfitting() -> None:
    late = np.where(EPOCHS < 16, 2.3 - 0.1 * EPOCHS, 0.8 + 0.05 * (EPOCHS - 15))
    small = np.where(EPOCHS < 6, 2.3 - 0.3 * EPOCHS, 0.8 + 0.003 * (EPOCHS - 5))
    for nll in (late, small):
        assert find(val_nll=nll, val_accuracy=FLAT) == []
    both = find(val_nll=RISING, val_accuracy=FLAT, train_loss=RISING)
    assert "overfitting" not in dict(both)


def test_a_small_validation_split_needs_a_larger_rise() -> None:
    mild = np.where(EPOCHS < 6, 2.3 - 0.3 * EPOCHS, 0.8 + 0.01 * (EPOCHS - 5))
    assert "overfitting" in dict(find(make_row(val_size=300), val_nll=mild, val_accuracy=FLAT))
    assert "overfitting" not in dict(find(make_row(val_size=20), val_nll=mild, val_accuracy=FLAT))


def test_a_run_that_diverged_says_only_that() -> None:
    lost = make_row(status="diverged", reason="the training loss is nan in epoch 3 of 20", val_accuracy=None)
    (finding,) = diagnose(lost, make_curves(train_loss=[2.3, 9e9], val_nll=[], val_accuracy=[]), CONTEXT)
    assert (finding.code, finding.severity) == ("diverged", "problem")
    assert "nan in epoch 3 of 20; mean loss of the 2 finite epochs from 2.3 to 9e+09" in finding.evidence


def test_a_run_that_diverged_in_its_first_epoch_has_no_finite_loss_to_tell() -> None:
    lost = make_row(status="diverged", reason="the training loss is nan in epoch 1 of 20", val_accuracy=None)
    (finding,) = diagnose(lost, make_curves(train_loss=[math.nan], val_nll=[], val_accuracy=[]), CONTEXT)
    assert finding.evidence.startswith("the training loss is nan in epoch 1 of 20; learning rate")


def test_a_metric_that_is_not_finite_is_a_divergence_even_in_a_finished_run() -> None:
    assert find(val_nll=np.where(EPOCHS == 9, math.inf, 1.0)) == [("diverged", "problem")]
    assert find(make_row(test_nll=math.inf)) == [("diverged", "problem")]


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_runs_that_never_trained_have_no_curves_to_judge(status: str) -> None:
    assert diagnose(make_row(status=status), make_curves().iloc[:0], CONTEXT) == []


def test_a_training_loss_above_validation_is_explained_by_the_clean_loss() -> None:
    above = 0.5 + 1.8 * np.exp(-EPOCHS / 2)
    assert find(train_loss=above) == [("train_above_validation", "info")]
    # Where the clean training loss is above the validation loss too, targets do not explain it.
    assert find(make_row(train_nll=0.4), train_loss=above) == []


def test_validation_images_are_counted_against_the_margin() -> None:
    p = 801 / 1002  # Laplace's estimate of 800 right in 1,000
    (info,) = diagnose(make_row(val_size=1000, val_accuracy=0.8), make_curves(), CONTEXT)
    assert (info.code, info.severity) == ("validation_too_small", "info")
    assert f"error of {100 * math.sqrt(p * (1 - p) / 1000):.1f} points (n = 1000)" in info.evidence
    assert f"n = {math.ceil(p * (1 - p) * 200**2):,}" in info.evidence
    # One image of 199 is worth more than half a point, one of 200 is not.
    assert find(make_row(val_size=199)) == [("validation_too_small", "warning")]
    assert find(make_row(val_size=200)) == [("validation_too_small", "info")]


def arm(accuracies: list[float], label: str = "baseline", **changes: Any) -> list[Finding]:
    """Findings of healthy runs with these test accuracies."""
    rows = [make_row(f"r{s}", arm=label, seed=s, test_accuracy=a, **changes) for s, a in enumerate(accuracies)]
    curves = pd.concat([make_curves(f"r{s}") for s in range(len(rows))])
    return diagnose_arm(rows, curves, label)


def test_a_baseline_with_fewer_errors_than_four_margins_is_saturated() -> None:
    (finding,) = arm([0.981, 0.983, 0.985])
    assert (finding.code, finding.severity) == ("saturated", "warning")
    assert "98.30 % (n = 3 runs)" in finding.evidence
    assert "remove 29% of the 1.70 points" in finding.evidence
    assert arm([0.981, 0.979, 0.979]) == []
    assert arm([0.981, 0.983, 0.985], label="mixup") == []
    assert [f.code for f in arm([1.0, 1.0, 1.0])] == ["saturated"]


def test_seeds_that_lie_apart_or_spread_beyond_use_are_unstable() -> None:
    (apart,) = arm([0.93, 0.94, 0.92, 0.935, 0.925, 0.93, 0.92, 0.94, 0.93, 0.3])
    assert (apart.code, apart.severity) == ("unstable_seeds", "warning")
    assert "1 of 10 runs lie far from the others" in apart.evidence
    # A margin of 0.5 takes more than 1,000 pairs from a standard deviation of 5.64 points.
    assert arm([0.80, 0.855, 0.91]) == []
    (wide,) = arm([0.79, 0.855, 0.92])
    assert "standard deviation over seeds 6.50 points (n = 3); without gain from pairing" in wide.evidence


def test_an_arm_merges_its_runs_and_lowers_what_few_of_them_show() -> None:
    rows = [make_row(f"r{s}", seed=s) for s in range(4)]
    rows[3] |= {"val_accuracy": 0.1}
    curves = pd.concat([*(make_curves(f"r{s}") for s in range(3)), make_curves("r3", train_loss=[2.31] * 20)])
    found = {f.code: f for f in diagnose_arm(rows, curves, "baseline")}
    assert found["at_chance"].severity == "info"
    assert found["at_chance"].evidence.startswith("1 of 4 runs (seeds 3); seed 3: The training loss ends at 2.31")
    assert "1 of 4 runs stayed at chance" in found["unstable_seeds"].evidence


def test_one_diverged_seed_stays_a_problem_of_the_arm() -> None:
    rows = [make_row(f"r{s}", seed=s) for s in range(4)]
    rows[2] |= {"status": "diverged", "reason": "loss is nan", "test_accuracy": None}
    curves = pd.concat([make_curves(f"r{s}") for s in range(4)])
    found = diagnose_arm(rows, curves, "baseline")
    assert codes(found) == [("diverged", "problem"), ("unstable_seeds", "warning")]


def test_an_arm_without_runs_has_no_finding() -> None:
    assert diagnose_arm([], make_curves().iloc[:0], "mixup") == []


def test_the_classes_are_those_of_the_stored_predictions() -> None:
    manifest = Manifest.model_construct(margin=0.7, metric="test_top5")
    nothing = pd.DataFrame()
    data = StudyData(nothing, nothing, predictions_schema(7).empty_table())
    assert context_of(data, manifest) == Context(0.7, 7, "test_top5")
    assert context_of(StudyData(nothing, nothing, None), manifest).classes is None


@pytest.mark.parametrize(("runs", "severity"), [(1, "info"), (2, "warning"), (3, "warning")])
def test_what_half_of_the_runs_show_keeps_its_severity(runs: int, severity: str) -> None:
    finding = Finding("not_converged", "warning", "t", "e", "a")
    merged = _merged([(seed, finding) for seed in range(runs)], 4)

    assert merged.severity == severity
    assert merged.evidence.startswith(f"{runs} of 4 runs (seeds 0")
