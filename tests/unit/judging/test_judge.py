"""`harness judge`: from a table to a study whose effects are those of the paired t test."""

import csv
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import UserError
from harness.judging.judge import judge, source_of, source_of_frame
from harness.judging.options import Options
from harness.judging.understand import understand
from harness.readers.table import plain
from harness.report.load import load
from harness.report.text.references import check
from harness.report.text.tables import to_csv

BASE = [75.1, 74.0, 76.2, 75.5, 74.8, 75.9]
MIXUP = [76.3, 75.4, 76.9, 76.9, 75.7, 77.4]
COLUMNS = "method,seed,val_acc,train_loss"


def table(base=BASE, mixup=MIXUP, **columns):
    """Rows of two methods, six seeds each by default."""
    rows = [
        {"method": method, "seed": seed, "val_acc": score, "train_loss": 1 + score / 1000} | columns
        for method, scores in (("base", base), ("mixup", mixup))
        for seed, score in enumerate(scores)
    ]
    return pd.DataFrame(rows)


def judged(frame, tmp_path, **options):
    """The study of a data frame."""
    places = {"results": tmp_path / "results", "reports": tmp_path / "reports"}
    return judge(source_of_frame(frame), Options(metric="val_acc", **options), **places)


def test_effect_interval_and_p_are_those_of_the_paired_t_test(tmp_path):
    (study,) = judged(table(), tmp_path)
    (effect,) = study.loaded.analysis.effects
    d = np.subtract(MIXUP, BASE)
    low, high = stats.t.interval(0.95, 5, d.mean(), stats.sem(d))

    assert (effect.arm, effect.n) == ("mixup", 6)
    assert effect.mean == pytest.approx(d.mean())
    assert (effect.low, effect.high) == pytest.approx((low, high))
    assert effect.p == pytest.approx(stats.ttest_rel(MIXUP, BASE).pvalue)
    assert effect.verdict.kind == "helps"


def test_folds_are_judged_by_the_corrected_resampled_t_test(tmp_path):
    """Nadeau & Bengio 2003: t = mean / (sd sqrt(1/n + test/train))."""
    (study,) = judged(table().rename(columns={"seed": "fold"}), tmp_path, seed="fold", folds=1 / 5)
    (effect,) = study.loaded.analysis.effects
    d = np.subtract(MIXUP, BASE)
    error = d.std(ddof=1) * math.sqrt(1 / 6 + 1 / 5)
    low, high = stats.t.interval(0.95, 5, d.mean(), error)

    assert (effect.low, effect.high) == pytest.approx((low, high))
    assert effect.p == pytest.approx(2 * stats.t.sf(d.mean() / error, 5))
    assert effect.p_tost == pytest.approx(stats.t.cdf((d.mean() - 0.5) / error, 5))
    assert effect.base == pytest.approx(BASE)
    assert math.isnan(effect.p_permutation)
    assert math.isnan(effect.p_wilcoxon)
    assert (effect.more_seeds, effect.test) == (None, "t")
    assert "folds of one cross-validation" in study.page.read_text()


def test_folds_that_all_differ_by_the_same_give_no_p(tmp_path):
    (study,) = judged(table(mixup=[v + 1 for v in BASE]), tmp_path, folds=1 / 5)
    (effect,) = study.loaded.analysis.effects
    assert math.isnan(effect.p)
    assert effect.verdict.kind not in ("helps", "hurts", "equivalent")


def test_a_fraction_is_judged_in_points(tmp_path):
    frame = table([v / 100 for v in BASE], [v / 100 for v in MIXUP])
    (study,) = judged(frame, tmp_path)

    assert study.loaded.analysis.unit == "points"
    assert study.loaded.analysis.effects[0].mean == pytest.approx(np.subtract(MIXUP, BASE).mean())


def test_the_stored_study_is_read_like_any_other(tmp_path):
    (study,) = judged(table(), tmp_path)

    assert repr(load(study.folder).analysis) == repr(study.loaded.analysis)


def test_what_a_table_does_not_tell_is_not_claimed(tmp_path):
    (study,) = judged(table(), tmp_path)
    states = {what: state for what, state, _ in study.loaded.analysis.checks}

    assert states.pop("paired seeds complete") == "holds"
    assert set(states.values()) == {"not known"}
    assert study.loaded.findings() == []
    assert "they were made elsewhere" in study.page.read_text()


def test_a_method_with_the_name_of_a_trick_is_not_held_against_figures_of_it(tmp_path):
    frame = table().rename(columns={"val_acc": "test_accuracy"})
    places = {"results": tmp_path / "results", "reports": tmp_path / "reports"}
    (study,) = judge(source_of_frame(frame), Options(metric="test_accuracy"), **places)
    loaded = study.loaded

    assert check(loaded.manifest.model_copy(update={"source": ""}), loaded.analysis)
    assert check(loaded.manifest, loaded.analysis) == ()


def test_absent_rows_lower_n_and_are_told(tmp_path):
    (study,) = judged(table(mixup=MIXUP[:5]), tmp_path)
    (effect,) = study.loaded.analysis.effects

    assert (effect.n, effect.n_planned, effect.verdict.kind) == (5, 5, "helps")
    assert "Unbalanced: base 6, mixup 5; 5 pairs." in study.page.read_text()


def test_empty_cells_are_failed_runs(tmp_path):
    frame = table()
    frame.loc[8, "val_acc"] = np.nan
    (study,) = judged(frame, tmp_path)
    (effect,) = study.loaded.analysis.effects

    assert (effect.n, effect.n_planned, effect.n_failed) == (5, 6, 1)


def test_common_seeds_are_those_of_all_methods(tmp_path):
    third = table(mixup=MIXUP[:5]).iloc[6:].assign(method="cutout", val_acc=[75.0, 75.2, 75.1, 75.9, 74.1])
    frame = pd.concat([table(), third])

    assert [e.n for e in judged(frame, tmp_path)[0].loaded.analysis.effects] == [6, 5]
    assert [e.n for e in judged(frame, tmp_path, pairs="common")[0].loaded.analysis.effects] == [5, 5]


def test_each_data_set_is_judged_on_its_own(tmp_path):
    frame = pd.concat([table(dataset="a"), table(mixup=[v - 3 for v in MIXUP], dataset="b")])
    a, b = judged(frame, tmp_path, by="dataset")

    assert (a.folder.name, b.folder.name) == ("judged-a", "judged-b")
    assert a.loaded.analysis.effects[0].mean == pytest.approx(b.loaded.analysis.effects[0].mean + 3)


def test_a_method_that_logs_what_the_baseline_logs_is_inactive(tmp_path):
    frame = table(mixup=BASE).assign(alpha=[0.0] * 6 + [0.2] * 6, seconds=range(12))
    (study,) = judged(frame, tmp_path)
    verdict = study.loaded.analysis.effects[0].verdict

    assert verdict.kind == "inactive"
    assert "it changed no logged number in any of 6 seeds" in verdict.sentence


def test_a_method_that_logs_another_loss_is_not_inactive(tmp_path):
    frame = table(mixup=BASE)
    frame.loc[8, "train_loss"] += 1e-6
    (study,) = judged(frame, tmp_path)

    assert study.loaded.analysis.effects[0].verdict.kind == "equivalent"


def test_scores_that_tie_by_chance_do_not_say_that_seeds_are_ignored(tmp_path):
    def state(base):
        (study,) = judged(table(base, [v + 1.5 for v in BASE]).drop(columns="train_loss"), tmp_path)
        return {what: (state, said) for what, state, said in study.loaded.analysis.checks}[
            "every seed gives runs of its own"
        ]

    assert state(BASE) == ("holds", "6 different of 6 runs of the baseline")
    assert state([75.0, 75.0, *BASE[2:]]) == ("not known", "5 different of 6 runs of the baseline")


def test_a_method_called_baseline_that_is_none_keeps_its_place(tmp_path):
    frame = table().replace({"method": {"mixup": "baseline"}})
    (study,) = judged(frame, tmp_path, baseline="base")

    assert [e.arm for e in study.loaded.analysis.effects] == ["baseline (method)"]


REFUSED = {
    "fraction as percent": (table([0.71] * 3 + [0.72] * 3, [0.73] * 5 + [0.74]), {"unit": "percent"}, "is it a fract"),
    "percent as fraction": (table(), {"unit": "fraction"}, "is it in percent?"),
    "twice": (pd.concat([table(), table().iloc[[8]]]), {}, r"mixup, seed 2 appears twice \(row 9 and row 13\)"),
    "one run": (table(base=[76.5] * 5), {}, "base has 76.5 in all 5 seeds.*ignores the seed"),
    "disjoint": (pd.concat([table().iloc[:6], table().iloc[6:].assign(seed=range(100, 106))]), {}, "no seed in common"),
    "data sets": (table().assign(dataset=["a", "b"] * 6), {}, "dataset has 2 values: add --by dataset or --where"),
    "baseline": (table().replace("base", "plain"), {}, "which method is the baseline"),
    "no baseline": (table(), {"baseline": "bse"}, "did you mean 'base'"),
    "seed": (table().astype({"seed": float}).assign(seed=0.5), {}, "no whole number"),
    "trials": (table().assign(number=range(12), state="COMPLETE", params_lr=0.1), {}, "12 runs are trials of a search"),
    "folds": (table().rename(columns={"seed": "fold"}), {}, "--seed fold --folds 1/9"),
    "named folds": (table().rename(columns={"seed": "fold"}), {"seed": "fold"}, "folds share training data"),
    "a fold is missing": (table().iloc[:11], {"folds": 0.2}, "mixup has no score for fold 5"),
    "a fold failed": (table(mixup=[*MIXUP[:5], math.nan]), {"folds": 0.2}, "mixup has no score for fold 5"),
    "no ratio": (table(), {"folds": 0.0}, "--folds 0: test / training images"),
    "folds of data sets": (table().assign(dataset="a"), {"folds": 0.2, "by": "dataset"}, "--folds and --by"),
}


@pytest.mark.parametrize(("frame", "options", "why"), REFUSED.values(), ids=REFUSED)
def test_what_would_be_a_wrong_verdict_is_refused(tmp_path, frame, options, why):
    with pytest.raises(UserError, match=why):
        judged(frame, tmp_path, **options)

    assert not (tmp_path / "results").exists()


def test_an_unknown_direction_is_asked_for():
    frame = table().rename(columns={"val_acc": "val_score"})

    with pytest.raises(UserError, match="is higher or lower val_score better"):
        understand(source_of_frame(frame).runs, Options(metric="val_score"))


def test_a_pickle_is_refused(tmp_path):
    (tmp_path / "runs.pkl").write_bytes(b"cos\nsystem\n")

    with pytest.raises(UserError, match=r"reading a \.pkl file can run code"):
        source_of([tmp_path / "runs.pkl"])


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_tables_of_all_forms_say_the_same(tmp_path, ending):
    path = tmp_path / f"runs.{ending}"
    write = {
        "csv": lambda f: f.to_csv(path, index=False),
        "tsv": lambda f: f.to_csv(path, index=False, sep="\t"),
        "jsonl": lambda f: f.to_json(path, orient="records", lines=True),
        "json": lambda f: f.to_json(path, orient="records"),
        "parquet": lambda f: f.to_parquet(path),
    }
    write[ending](table())

    assert list(source_of([path]).runs) == list(source_of_frame(table()).runs)


def test_a_header_in_the_middle_is_no_run(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(f"{COLUMNS}\nbase,0,75.1,1.2\n{COLUMNS}\nbase,1,74.0,1.3\n")

    assert [run.values["val_acc"] for run in source_of([path]).runs] == [75.1, 74.0]


def test_what_begins_like_a_formula_is_quoted_in_our_csv(tmp_path):
    frame = table().replace("mixup", "=1+1")
    (study,) = judged(frame, tmp_path)
    _, base, row = csv.reader(to_csv(study.loaded.analysis).splitlines())

    assert "'=1+1" in row
    assert "=1+1" not in row
    assert not [cell for cell in (*base, *row) if cell.startswith("'") and cell != "'=1+1"]  # numbers stay as they are


def test_the_command_explains_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table().to_csv("runs.csv", index=False)
    result = CliRunner().invoke(app, ["judge", "runs.csv", "--explain"])

    assert result.exit_code == 0
    assert "method: base (6 runs), mixup (6 runs)" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["runs.csv"]


def test_the_command_prints_the_verdict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table().to_csv("runs.csv", index=False)
    result = CliRunner().invoke(app, ["judge", "runs.csv"])

    assert result.exit_code == 0, result.output
    assert "mixup helps on 12 runs of runs.csv with baseline base" in result.output
    assert (tmp_path / "reports" / "runs.html").exists()


@pytest.mark.parametrize("name", ["index", "Tricks", "../up", "a b", ""])
def test_a_name_that_is_a_page_of_ours_or_no_folder_is_refused(tmp_path, name):
    places = {"results": tmp_path / "results", "reports": tmp_path / "reports"}
    with pytest.raises(UserError, match="choose another with --name"):
        judge(source_of_frame(table()), Options(metric="val_acc"), name, **places)
    assert not list(tmp_path.rglob("*.*"))


def test_what_lies_under_the_name_stays_when_it_is_something_else(tmp_path):
    (study,) = judged(table(), tmp_path)
    table(base=[70.0] * 5 + [71.0]).to_csv(tmp_path / "judged.csv", index=False)
    places = {"results": tmp_path / "results", "reports": tmp_path / "reports"}
    with pytest.raises(UserError, match="holds the scores of a data frame; choose another name with --name"):
        judge(source_of([tmp_path / "judged.csv"]), Options(metric="val_acc"), **places)
    assert load(study.folder).analysis.effects[0].base == study.loaded.analysis.effects[0].base

    (tmp_path / "results" / "tuned").mkdir()
    (tmp_path / "results" / "tuned" / "search.json").write_text("{}")
    with pytest.raises(UserError, match="holds a search"):
        judge(source_of_frame(table()), Options(metric="val_acc"), "tuned", **places)


def test_the_same_source_is_judged_again_with_its_new_rows(tmp_path):
    judged(table(), tmp_path)
    (study,) = judged(table([*BASE, 75.0], [*MIXUP, 76.5]), tmp_path)

    assert study.loaded.analysis.effects[0].n == 7


@pytest.mark.parametrize(("cell", "value"), [("7", 7), ("7.5", 7.5), ("1" * 400, float("inf")), (str(2**63), 2.0**63)])
def test_numbers_of_any_length_are_read(cell, value):
    assert plain(cell) == value
    assert type(plain(cell)) is type(value)


@pytest.mark.parametrize("seed", ["0.5", "1" * 400, "first"])
def test_a_seed_is_a_whole_number(seed):
    frame = table().astype({"seed": object})
    frame.loc[3, "seed"] = seed
    with pytest.raises(UserError, match=r"row 4: seed '.*' is no whole number"):
        understand(list(source_of_frame(frame).runs), Options(metric="val_acc"))


def test_a_study_of_the_loop_that_went_through_a_table_has_the_same_effects_to_the_bit(tmp_path):
    own = load(Path(__file__).parents[3] / "results" / "published" / "digits-noisy-untuned")
    arms = {run_id: arm.label for arm in own.manifest.arms for run_id in arm.run_ids.values()}
    rows = own.data.runs[own.data.runs["run_id"].isin(arms)]
    frame = pd.DataFrame({"method": rows["run_id"].map(arms), "seed": rows["seed"], "acc": rows["test_accuracy"]})
    frame.to_csv(tmp_path / "runs.csv", index=False)
    options = Options(metric="acc", unit="fraction", baseline="baseline", margin=own.analysis.margin)
    places = {"results": tmp_path / "results", "reports": tmp_path / "reports"}
    (study,) = judge(source_of([tmp_path / "runs.csv"]), options, **places)
    found = {e.arm: e for e in study.loaded.analysis.effects}
    same = ("n", "seeds", "mean", "low", "high", "sd", "p", "p_holm", "p_wilcoxon", "p_tost_holm", "mde", "test")

    assert len(found) == len(own.analysis.effects) > 10
    for effect in own.analysis.effects:
        if effect.verdict.kind not in ("inactive", "no verdict"):  # predictions decide these, and a table has none
            judged = found[effect.arm]
            assert [repr(getattr(judged, name)) for name in same] == [repr(getattr(effect, name)) for name in same]
            assert judged.verdict.kind == effect.verdict.kind
