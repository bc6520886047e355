"""A factorial study from the command line to its interactions, on real digits."""

import pytest

from harness.analysis.interactions import analyse_design
from harness.store.reader import read_manifest, read_study


@pytest.fixture(scope="module")
def factorial(cli, short):
    tricks = ("mixup", "cutmix", "label_smoothing")
    options = ("--design", "factorial", "--seeds", 2, "--name", "all", "--workers", 1)
    done = cli.here("ablate", *tricks, *options, *short)
    assert done.returncode == 0, done.stderr
    return done


def test_arms_that_clash_are_reported_as_skipped_and_the_others_run(factorial):
    assert "12 to train" in factorial.stderr
    assert factorial.stdout.count("was skipped: cutmix + mixup: ") == 2


def test_the_stored_rows_give_effects_and_say_what_is_missing(cli, factorial):
    folder = cli.folder / "results" / "all"
    manifest = read_manifest(folder)
    runs = read_study(folder).runs
    found = analyse_design(runs, manifest)

    assert len(runs) == 12
    assert [e.name for e in found.fit.main] == ["mixup", "cutmix", "label_smoothing"]
    assert found.fit.not_estimable == ("mixup:cutmix",)
    assert "2 of 8 arms cannot run" in found.notes[0]
    means = runs[runs["arm"].isin(["baseline", "mixup"])].groupby("arm")["test_accuracy"].mean()
    assert found.one_at_a_time[0].mean == pytest.approx(100 * (means["mixup"] - means["baseline"]))


def test_a_second_design_takes_the_runs_of_the_first_over(cli, factorial, short):
    again = cli.here(
        "ablate", "label_smoothing", "mixup", "--design", "leave-one-out", "--seeds", 2, "--name", "some", *short
    )

    assert "all 8 runs are done already" in again.stderr
