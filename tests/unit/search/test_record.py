"""Winners, comparisons on fresh seeds, importance, the export, and the words about them."""

import math
import tomllib

import pandas as pd
import pytest
from scipy import stats

from harness.analysis.effects import analyse
from harness.errors import UserError
from harness.experiment import Arm, load_experiment, spec_of
from harness.store.schema import SearchRecord, Trial
from harness.testing import make_row
from harness.tuning.comparisons import compare
from harness.tuning.export_winner import best_arm, export
from harness.tuning.objective import Score
from harness.tuning.record import importance, make_record, params_of, searched_arm, winner
from harness.tuning.sentences import analyses, lines, trial_line
from harness.tuning.space import settle

BEST = {"baseline": {"recipe.lr": 0.07}, "mixup": {"recipe.lr": 0.3, "mixup.alpha": 0.4}}


@pytest.fixture
def made(plan):
    """The comparisons of a search with known winners."""
    return compare(plan(), BEST, "f0")


def rows_of(comparisons, accuracy):
    """Stored rows of all runs; `accuracy(spec)` is the test accuracy, and validation is 0.01 above it."""
    identities = {run_id: known for m in comparisons.manifests.values() for run_id, known in m.runs.items()}
    rows = []
    for spec in comparisons.specs:
        value = accuracy(spec)
        rows.append(
            make_row(
                spec.arm.label, spec.seed, run_id=spec.run_id, fingerprint="f0", test_accuracy=value,
                val_accuracy=value + 0.01, test_digest=f"{value}", identity=identities[spec.run_id],
            )
        )  # fmt: skip
    return pd.DataFrame(rows)


def test_default_arms_are_the_runs_of_an_ordinary_study_on_fresh_seeds(plan, made):
    baseline, mixup = made.manifests["default"].arms

    assert baseline.run_ids == {s: spec_of(load_experiment("digits"), Arm(), s).run_id for s in (2, 3, 4)}
    assert mixup.tricks["mixup"]["alpha"] == 0.2
    assert made.manifests["default"].seeds == (2, 3, 4)


def test_each_winner_has_its_own_recipe_and_meets_the_tuned_baseline(plan, made):
    baseline, mixup = made.manifests["tuned"].arms
    specs = {s.run_id: s for s in made.specs}

    assert {specs[i].recipe.lr for i in baseline.run_ids.values()} == {0.07}
    assert {specs[i].recipe.lr for i in mixup.run_ids.values()} == {0.3}
    assert mixup.tricks["mixup"]["alpha"] == 0.4
    assert (baseline.label, baseline.tricks) == ("baseline", {})


def test_runs_of_several_comparisons_are_trained_once(made):
    assert len(made.specs) == 4 * 3, "the baseline and mixup, default and tuned, on three seeds"
    assert {s.seed for s in made.specs} == {2, 3, 4}


def test_effects_of_all_three_comparisons_follow_from_the_rows(plan, made):
    """By hand: lr 0.2 gives 0.80, 0.07 gives 0.85, 0.3 gives 0.82; mixup adds 0.02 at its default and 0.06 tuned."""
    base = {0.2: 0.80, 0.07: 0.85, 0.3: 0.82}
    gain = {0.2: 0.02, 0.4: 0.06}
    runs = rows_of(
        made,
        lambda s: base[s.recipe.lr] + 0.001 * s.seed + sum(gain[t.params["alpha"]] for t in s.arm.tricks)
        + 0.0001 * s.seed * len(s.arm.tricks),
    )  # fmt: skip
    found = {name: analyse(runs, manifest).effects for name, manifest in made.manifests.items()}

    assert {name: [e.arm for e in effects] for name, effects in found.items()} == {
        "default": ["mixup"], "tuned": ["mixup"], "tuning": ["tuned baseline"],
    }  # fmt: skip
    assert found["default"][0].mean == pytest.approx(2.03)
    assert found["tuned"][0].mean == pytest.approx(100 * (0.88 - 0.85) + 0.03)
    assert found["tuning"][0].mean == pytest.approx(5.0)
    assert found["tuning"][0].n == 3


def test_the_tuned_baseline_counts_as_an_arm(made):
    assert made.manifests["tuning"].family == ("tuned baseline",)
    assert made.manifests["default"].family == ("mixup",)


def test_an_arm_without_a_winner_is_left_out_with_the_reason(plan):
    made = compare(plan(), BEST | {"mixup": None}, "f0")
    arm = made.manifests["tuned"].arms[1]

    assert (arm.skipped, arm.run_ids) == ("no trial of the search was completed", {})
    effect = analyse(rows_of(made, lambda s: 0.8), made.manifests["tuned"]).effects[0]
    assert effect.verdict.kind == "skipped"


def test_each_arm_has_the_kind_of_its_tricks(plan):
    made = compare(plan("batch_norm"), {"baseline": BEST["baseline"], "batch_norm": None}, "f0")

    assert {name: [arm.kind for arm in m.arms] for name, m in made.manifests.items()} == {
        "default": ["addition", "removal"], "tuned": ["addition", "removal"], "tuning": ["addition", "value"],
    }  # fmt: skip


def test_without_a_tuned_baseline_there_is_nothing_to_tune_against(plan):
    assert list(compare(plan(), BEST | {"baseline": None}, "f0").manifests) == ["default"]


def test_importance_is_that_of_the_value_that_matters(plan, searching):
    made = plan("erm_baseline", trials=16, sampler="halton", pruner="none")
    search = searching(made, lambda s: Score("ok", "", {"accuracy": abs(math.log(s.recipe.lr))}))
    names = ["recipe.lr", "recipe.weight_decay"]
    shares = importance(made, names, search.trials(0))

    assert shares["recipe.lr"] > 0.9
    assert sum(shares.values()) == pytest.approx(1.0)
    assert importance(made, names, search.trials(0)[:9]) is None, "too few to say"


def test_importance_of_trials_that_are_all_alike_is_unknown(plan, searching):
    made = plan("erm_baseline", trials=12, sampler="halton")
    search = searching(made, lambda s: Score("ok", "", {"accuracy": 0.5}))

    assert importance(made, ["recipe.lr"], search.trials(0)) is None
    assert winner(search.trials(0)).number == 0, "of equals the first"


def record_of(plan, searching, **options):
    search = searching(plan)
    arms = [searched_arm(plan, arm, search.trials(i)) for i, arm in enumerate(plan.arms)]
    winners = {arm.label: params_of(arm, winner(search.trials(i))) for i, arm in enumerate(plan.arms)}
    made = compare(plan, winners, "f0")
    return make_record(plan, arms, made.manifests, "f0", **options), made


def test_a_record_survives_its_file_and_says_what_was_searched(plan, searching):
    record, _ = record_of(plan(trials=4), searching, note="It ended early.")
    again = SearchRecord.model_validate_json(record.model_dump_json())

    assert again == record
    assert record.arms[1].space["mixup.alpha"] == {
        "low": 0.05, "high": 8.0, "log": True, "integer": False, "default": 0.2,
    }  # fmt: skip
    assert record.arms[1].space["mixup.per"] == {"choices": ["batch", "elem"], "default": "batch"}
    assert [t.number for t in record.arms[0].trials] == [0, 1, 2, 3]
    trial = record.arms[0].trials[0]
    assert trial.run_ids == {s: spec_of(load_experiment("digits"), Arm(), s).run_id for s in (0, 1)}
    assert "It ended early." in record.notes


def test_an_exported_winner_is_an_experiment_that_trains_the_same_runs(plan, searching, tmp_path):
    made = plan(trials=5)
    record, _ = record_of(made, searching)
    arm, trial = best_arm(record)
    export(made, arm, trial, tmp_path / "best.toml")
    loaded = load_experiment(str(tmp_path / "best.toml"))
    experiment, resolved = settle(loaded, ("mixup",), {})

    assert arm.label == "mixup"
    assert loaded.study.tricks == ("mixup",)
    assert {s: spec_of(experiment, resolved, s).run_id for s in (0, 1)} == trial.run_ids
    assert f"trial {trial.number} of search {made.search}" in (tmp_path / "best.toml").read_text()
    assert "None" not in str(tomllib.loads((tmp_path / "best.toml").read_text()))


def test_an_export_keeps_a_stack_together_and_the_ranges_of_the_file(plan, searching, tmp_path):
    made = plan("ema+cutout", trials=2, overrides={"search": {"recipe.lr": [0.1, 0.4, "log"]}})
    record, _ = record_of(made, searching)
    export(made, *best_arm(record), tmp_path / "best.toml")
    loaded = load_experiment(str(tmp_path / "best.toml"))

    assert loaded.study.tricks == ("cutout+ema",)
    assert loaded.search == made.experiment.search


def test_a_value_that_is_none_is_left_out_of_an_export(plan, searching, tmp_path):
    made = plan("bce_one_vs_rest", trials=1, nuisance="none")
    record, _ = record_of(made, searching)
    arm, trial = best_arm(record)
    assert trial.params == {"bce_one_vs_rest.target_threshold": None}
    export(made, arm, trial, tmp_path / "best.toml")

    assert load_experiment(str(tmp_path / "best.toml")).tricks["bce_one_vs_rest"] == {}


def test_an_export_that_cannot_be_written_is_one_clear_error(plan, searching, tmp_path):
    made = plan(trials=1)
    record, _ = record_of(made, searching)

    with pytest.raises(UserError, match=r"--export .*/no/best.toml: cannot be written"):
        export(made, *best_arm(record), tmp_path / "no" / "best.toml")


def test_of_several_arms_the_best_on_validation_is_exported(plan, searching, hill):
    def lifted(spec):
        score = hill(spec)
        lift = 0.1 * (spec.arm.label == "cutout")
        return Score("ok", "", {"accuracy": score.values["accuracy"] + lift})

    made = plan("mixup", "cutout", trials=2)
    search = searching(made, lifted)
    arms = [searched_arm(made, arm, search.trials(i)) for i, arm in enumerate(made.arms)]

    assert best_arm(make_record(made, arms, {}, "f0"))[0].label == "cutout"
    assert best_arm(make_record(made, arms[:1], {}, "f0")) is None, "the baseline is no arm to export"


def test_the_summary_gives_every_number_with_its_n_and_interval(plan, searching):
    """Fresh validation of the tuned arm is 0.91, 0.92, 0.93: mean 92, t interval 92 ± 4.3027 x 1 / sqrt(3)."""
    made = plan(trials=2)
    record, comparisons = record_of(made, searching)
    runs = rows_of(comparisons, lambda s: 0.90 + 0.01 * (s.seed - 2) - (0.01 * s.seed if not s.arm.tricks else 0))
    best = next(t for t in record.arms[1].trials if t.number == record.arms[1].winner)
    then = 100 * sum(best.values["accuracy"]) / 2
    text = "\n".join(lines(record, record.arms[1], analyses(record, runs), runs))

    assert f"{then:.2f} % when chosen (n = 2 seeds), 92.00 % [89.52, 94.48] on n = 3 fresh seeds" in text
    change = stats.ttest_ind([100 * v for v in best.values["accuracy"]], [91, 92, 93], equal_var=False)
    low, high = change.confidence_interval()
    assert f"optimism {then - 92:+.2f} points [{low:.2f}, {high:.2f}], all of it the luck of the seeds" in text
    assert "the default values won (95 % intervals)" in text
    assert "default values: +3.00 points [0.52, 5.48], n = 3 fresh seeds, p = 0.035" in text
    assert "tuned, against the tuned baseline: +3.00 points [0.52, 5.48], n = 3 fresh seeds" in text
    assert "Holm" not in text, "there is one arm"
    base = "\n".join(lines(record, record.arms[0], analyses(record, runs), runs))
    assert "tuning alone: +0.00 points [0.00, 0.00], n = 3 fresh seeds, p = 1" in base


def test_the_summary_subtracts_what_the_default_values_do_on_the_same_seeds(plan, searching, hill):
    made = plan(trials=6)
    search = searching(made, hill)
    arms = [searched_arm(made, arm, search.trials(i)) for i, arm in enumerate(made.arms)]
    comparisons = compare(made, {a.label: next(t.params for t in a.trials if t.number == a.winner) for a in arms}, "f0")
    record = make_record(made, arms, comparisons.manifests, "f0")
    runs = rows_of(comparisons, lambda s: hill(s).values["accuracy"] - 0.02 - 0.001 * s.seed * (s.recipe.lr == 0.2))
    text = "\n".join(lines(record, record.arms[1], analyses(record, runs), runs))

    # Seeds 0 and 1 chose and 2, 3 and 4 are fresh; validation is 0.01 above what `rows_of` is told. So the winner loses
    # 1 point and gains 0.25 from later seeds, and the default values lose 0.3 more: the gain over them is 0.3 larger.
    assert record.arms[1].winner != 0
    assert "optimism +0.75 points [" in text
    assert ", of which the default values show +1.05: net -0.30 points [" in text


def test_the_summary_of_an_arm_without_a_winner_says_why(plan):
    trials = [Trial(number=0, state="failed", params={}, reason="seed 0 failed: no such luck")]
    made = plan(trials=1)
    arm = searched_arm(made, made.arms[1], []).model_copy(update={"trials": tuple(trials)})
    record = make_record(made, [arm], {}, "f0")

    assert lines(record, arm, {}, rows_of(compare(made, BEST, "f0"), lambda s: 0.5)) == [
        "mixup: no trial was completed (seed 0 failed: no such luck)"
    ]


def test_the_line_of_a_trial_says_how_it_ended(plan, searching):
    made = plan("erm_baseline", trials=2)
    search = searching(made, lambda s: Score("ok" if s.recipe.lr == 0.2 else "failed", "no luck", {"accuracy": 0.912}))
    good, bad = (trial_line(made.arms[0], t) for t in search.trials(0))

    assert good == "baseline, trial 0: val 91.20 %; recipe.lr = 0.2, recipe.weight_decay = 0.005"
    assert bad.startswith("baseline, trial 1: failed, seed 0 failed: no luck; recipe.lr = ")


def test_the_line_of_a_trial_has_every_objective(plan, searching):
    made = plan("erm_baseline", trials=1, nuisance="lr", objectives="accuracy,seconds,memory")
    values = {"accuracy": 0.5, "seconds": 12.5, "memory": 3_000_000}
    search = searching(made, lambda s: Score("ok", "", values))

    said = trial_line(made.arms[0], search.trials(0)[0])
    assert said == "baseline, trial 0: val 50.00 %, 12.5 s, 3 MB; recipe.lr = 0.2"
