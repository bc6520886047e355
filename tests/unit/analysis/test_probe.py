"""The rate probe: which arms collapsed, what probes found, and the words, by hand.

With ten classes, guessing gets up to 176 of the 1485 validation images of five seeds right.
"""

from dataclasses import replace

import pandas as pd
import pytest

from harness.analysis.effects import analyse
from harness.analysis.probe import Probed, at_this_rate, collapsed_arms, probes_of
from harness.analysis.rows import own_rows, probe_rows
from harness.report.load import load
from harness.report.pages.study import write_report
from harness.store.reader import read_study
from harness.store.schema import RUNS, Manifest, Probe
from harness.study.publish import publish
from harness.testing import StoredRun, make_manifest, make_row, make_study

THIRD, TENTH = 1 / 3, 1 / 10
BASE = (0.90, 0.91, 0.89, 0.90, 0.90)


def manifest_of(*probes, seeds=5, **changes):
    made = tuple(
        Probe(arm=arm, factor=factor, run_ids={s: f"{arm}-{factor:.2f}-{s}" for s in range(n)})
        for arm, factor, n in probes
    )
    return make_manifest(["baseline", "relu"], seeds, probes=made, **changes)


def rows_of(manifest, probes=(), base=BASE, **arms):
    """Rows with the same test and validation accuracy, by seed; None is a run that diverged."""
    rows = []
    for label, values in {"baseline": base, **arms}.items():
        plan = next(a for a in manifest.arms if a.label == label)
        rows += [row(plan, seed, value) for seed, value in enumerate(values)]
    for probe, values in zip(manifest.probes, probes, strict=True):
        rows += [row(probe.arm, s, v, run_id=probe.run_ids[s]) for s, v in enumerate(values) if v != "absent"]
    return pd.DataFrame(rows, columns=RUNS.names)


def row(arm, seed, value, **changes):
    how = {"status": "diverged", "test_accuracy": None, "val_accuracy": None} if value is None else {
        "test_accuracy": value, "val_accuracy": value,
    }  # fmt: skip
    return make_row(arm, seed, **how, **changes)


@pytest.mark.parametrize(
    ("relu", "base", "classes", "collapsed"),
    [
        ((0.70, 0.71, 0.69, 0.70, 0.69), BASE, 10, True),  # 20.2 points below
        ((0.70, 0.71, 0.69, 0.70, 0.70), BASE, 10, False),  # 20.0 points below, which is not more
        ((0.118,) * 5, (0.30,) * 5, 10, True),  # 175 of 1485
        ((0.12,) * 5, (0.30,) * 5, 10, False),  # 178
        ((0.16, 0.08, 0.09, 0.10, 0.16), (0.30,) * 5, 10, True),  # a seed alone may be better than guessing
        ((0.118,) * 5, (0.118,) * 5, 10, False),  # so is the baseline
        ((0.118,) * 5, (0.30,) * 5, None, False),
        ((None,) * 5, BASE, 10, True),
        ((0.90, 0.91, None, 0.90, 0.90), BASE, 10, False),  # a guess of 10 % in one of five: 15.8 points below
        ((0.90, None, None, 0.90, 0.90), BASE, 10, True),  # 32 points
    ],
)
def test_an_arm_collapsed_at_chance_or_more_than_20_points_below_the_baseline(relu, base, classes, collapsed):
    manifest = manifest_of()
    rows = rows_of(manifest, relu=relu, base=base)

    assert collapsed_arms(rows, manifest, classes) == (("relu",) if collapsed else ())


def test_an_arm_without_runs_or_a_study_without_baseline_has_none_that_collapsed():
    manifest = manifest_of()
    rows = rows_of(manifest, relu=(0.1,) * 5)

    assert collapsed_arms(rows[rows["arm"] == "baseline"], manifest, 10) == ()
    assert collapsed_arms(rows, manifest.model_copy(update={"arms": manifest.arms[1:]}), 10) == ()


def test_a_probe_is_compared_with_arm_and_baseline_on_its_own_seeds():
    manifest = manifest_of(("relu", THIRD, 3), ("relu", TENTH, 3))
    rows = rows_of(manifest, [(0.88, 0.89, 0.87), (0.70, None, "absent")], relu=(0.1, 0.2, 0.12, 0.5, 0.5))
    third, tenth = probes_of(rows, manifest, 10)

    assert third == Probed("relu", THIRD, 3, 3, 0, *map(pytest.approx, (88.0, 87.0, 89.0, 14.0, 90.0)), collapsed=False)
    assert tenth == Probed("relu", TENTH, 2, 3, 1, *map(pytest.approx, (40.0, 10.0, 70.0, 15.0, 90.5)), collapsed=True)
    assert third.words == "not at a third of it (test accuracy 88.0 %, 3 seeds, baseline 90.0 %)"
    assert tenth.words == "also at a tenth of it (test accuracy 40.0 %, 2 seeds of which 1 diverged, baseline 90.5 %)"


def test_the_sentence_tells_rates_down_to_the_first_that_does_not_collapse():
    manifest = manifest_of(("relu", TENTH, 1), ("relu", THIRD, 3))
    relu = (0.1, 0.2, 0.12, 0.15, 0.13)

    def said(third, tenth, manifest=manifest, relu=relu):
        rows = rows_of(manifest, [tenth, third] if manifest.probes else (), relu=relu)
        before, probes = analyse(rows, manifest), probes_of(rows, manifest, 10)
        after = at_this_rate(before, collapsed_arms(rows, manifest, 10), probes)
        (old,), (new,) = before.effects, after.effects
        assert replace(new, verdict=old.verdict) == old, "no number changes"
        return new.verdict.sentence.removeprefix(old.verdict.sentence)

    good, bad = (0.88, 0.89, 0.87), (0.1, 0.1, 0.1)
    ninety = "baseline 90.0 %)"
    assert said(good, bad[:1]) == (
        f" It hurts at this rate; not at a third of it (test accuracy 88.0 %, 3 seeds, {ninety}."
    )
    assert said(bad, good[:1]) == (
        f" It hurts at this rate; also at a third of it (test accuracy 10.0 %, 3 seeds, {ninety}, "
        f"not at a tenth of it (test accuracy 88.0 %, 1 seed, {ninety}."
    )
    assert said(["absent"] * 3, ["absent"]) == (
        " It hurts at this rate; a third of it was not measured, a tenth of it was not measured."
    )
    old = manifest_of()
    assert said((), (), old) == " It hurts at this rate; lower ones were not tried."
    assert said((), (), old, (0.1, 0.1)) == " It collapses at this rate; lower ones were not tried.", "no verdict yet"
    assert said((), (), old, (0.8, 0.8, 0.8, 0.8, 0.8)) == "", "10 points are no collapse"


def test_other_metrics_than_accuracies_say_nothing_of_rates():
    manifest = manifest_of()
    rows = rows_of(manifest, relu=(0.1,) * 5)
    analysis = analyse(rows, manifest, metric="test_nll")

    assert at_this_rate(analysis, ("relu",), ()) is analysis


def test_probes_are_runs_of_the_study_and_of_no_arm():
    manifest = manifest_of(("relu", THIRD, 3))
    relu = (0.1, 0.2, 0.12, 0.15, 0.13)
    with_probes = rows_of(manifest, [(0.88, 0.89, 0.87)], relu=relu)
    without = rows_of(manifest_of(), relu=relu)

    assert len(manifest.runs) == 13
    assert set(manifest.runs) - set(manifest.arm_runs) == set(probe_rows(with_probes, manifest)["run_id"])
    assert {manifest.arm_of[run_id].label for run_id in manifest.probes[0].run_ids.values()} == {"relu"}
    assert len(own_rows(with_probes, manifest)) == 10
    assert repr(analyse(with_probes, manifest).effects) == repr(analyse(without, manifest_of()).effects), "also NaN"
    assert analyse(with_probes, manifest).checks == analyse(without, manifest_of()).checks
    assert manifest.family == manifest_of().family


def test_a_declaration_without_probes_loads():
    fields = manifest_of().model_dump(mode="json")
    del fields["probes"]

    assert Manifest.model_validate(fields) == manifest_of()


@pytest.fixture
def stored(tmp_path):
    """A stored study of which the arm is at 20 % and its probe at 80 %."""
    folder = tmp_path / "results" / "s"
    manifest = manifest_of(("relu", THIRD, 3), study="s")

    def run(arm, seed):
        return StoredRun(row(arm, seed, 0.2 + seed / 1000 if arm.tricks else 0.9))

    make_study(folder, manifest, run, merged=False)
    extra = manifest_of(seeds=3, study="s").arms[1].model_copy(update={"run_ids": manifest.probes[0].run_ids})
    slower = manifest.model_copy(update={"arms": (extra,)})
    make_study(folder, slower, lambda arm, seed: StoredRun(row(arm, seed, 0.8)), declare=False)
    return folder, manifest


def test_readers_pages_and_publications_keep_probes(stored, tmp_path):
    folder, manifest = stored
    page, loaded = write_report(folder, tmp_path / "reports")
    (effect,) = loaded.analysis.effects
    published = publish(folder, tmp_path / "published")

    assert effect.n == 5
    assert effect.verdict.sentence.endswith(
        "It hurts at this rate; not at a third of it (test accuracy 80.0 %, 3 seeds, baseline 90.0 %)."
    )
    text = page.read_text()
    assert "At lower learning rates" in text
    assert "<td>0.333</td><td>3/3</td><td>0</td><td>80.0</td><td>80.0 to 80.0</td><td>20.1</td>" in text
    assert load(published).probes == loaded.probes
    assert len(read_study(published, manifest.runs).runs) == 13
