"""Every detector on a fault that is really trained, and silence on the healthy baseline."""

from pathlib import Path

import pandas as pd
import pytest

from harness.analysis.detectors import Context, Run, findings_of
from harness.analysis.diagnosis import curves_by_run, diagnose_arms
from harness.experiment import Arm, load_experiment, spec_of
from harness.store.schema import RUNS
from harness.training.execute import Place, execute
from harness.tricks import registry

CONTEXT = Context(margin=0.5, classes=10)
SILENT = {"validation_too_small"}  # 297 images and a margin of half a point: true of every run here


def train(seeds, trick=None, **overrides):
    """Rows and curves of the bundled digits experiment with some options changed."""
    experiment = load_experiment("digits", overrides)
    arm = Arm(tricks=(registry.make(trick, experiment.tricks.get(trick)).spec(),)) if trick else Arm()
    rows, curves = [], []
    for seed in seeds:
        result = execute(spec_of(experiment, arm, seed), "digits", Place(data_root=Path("none")))
        rows.append(result.row)
        keys = {name: result.row[name] for name in ("run_id", "fingerprint")}
        curves.append(pd.DataFrame([vars(p) | keys for p in result.points]))
    return pd.DataFrame(rows).reindex(columns=RUNS.names), pd.concat(curves)


def findings(runs, curves, arm="baseline"):
    return {f.code: f for f in diagnose_arms(runs, curves, [arm], CONTEXT)[arm]}


def check_silent(runs, curves):
    of_run = curves_by_run(curves)
    for _, row in runs.iterrows():
        found = findings_of(Run(row, of_run[row["run_id"], row["fingerprint"]], CONTEXT))
        assert {f.code: f.severity for f in found} == {"validation_too_small": "info"}, row["seed"]
    assert set(findings(runs, curves)) == SILENT


def test_three_healthy_runs_raise_no_alarm():
    check_silent(*train(range(3)))


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_twenty_healthy_runs_raise_no_alarm(schedule):
    check_silent(*train(range(20), recipe={"schedule": schedule}))


def test_a_vanishing_learning_rate_leaves_the_network_at_chance():
    finding = findings(*train(range(2), recipe={"lr": 1e-6, "epochs": 30}))["at_chance"]

    assert finding.severity == "problem"
    assert finding.evidence.startswith("All 2 runs")
    assert "recipe.lr = 1e-06, learning rate up to 1e-06 at the end of an epoch" in finding.evidence


def test_a_learning_rate_that_destroys_the_network_without_a_nan_leaves_it_at_chance():
    finding = findings(*train([0], recipe={"lr": 20.0}))["at_chance"]

    assert "recipe.lr = 20, learning rate up to 20 at the end of an epoch" in finding.evidence


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_a_tenth_of_the_epochs_has_not_converged(schedule):
    finding = findings(*train(range(4), recipe={"epochs": 8, "schedule": schedule}))["not_converged"]

    assert finding.severity == "warning"
    assert finding.evidence.startswith("All 4 runs")


def test_memorising_wrong_labels_is_overfitting():
    found = findings(
        *train(
            range(2),
            data={"label_noise": 0.4},
            recipe={"epochs": 150, "lr": 0.05, "schedule": "constant", "weight_decay": 0.0, "augment": {"shift": 0.0}},
        )
    )

    assert found["overfitting"].severity == "warning"
    assert found["overfitting"].evidence.startswith("All 2 runs")
    assert "not_converged" not in found


def test_an_enormous_learning_rate_diverges():
    found = findings(*train(range(2), recipe={"lr": 1e4}))

    assert set(found) == {"diverged"}
    assert "nan in epoch" in found["diverged"].evidence


def test_twenty_validation_images_are_too_few():
    found = findings(*train(range(2), data={"val_size": 20}))

    assert set(found) == {"validation_too_small"}
    assert found["validation_too_small"].severity == "warning"


@pytest.mark.slow
def test_a_thousand_digits_saturate_the_baseline():
    found = findings(*train(range(3), data={"train_size": 1000, "test_size": 500}, recipe={"epochs": 20}))

    assert found["saturated"].severity == "warning"


@pytest.mark.parametrize("trick", ["mixup", "label_smoothing"])
def test_soft_targets_explain_a_training_loss_above_validation(trick):
    found = findings(*train(range(2), trick), arm=trick)

    assert {code: f.severity for code, f in found.items()} == {
        "train_above_validation": "info",
        "validation_too_small": "info",
    }


@pytest.mark.slow
def test_a_large_constant_rate_makes_seeds_disagree():
    found = findings(*train(range(4), recipe={"schedule": "constant"}))

    assert found["unstable_seeds"].severity == "warning"
