"""The runs that were trained before, on the page: how many, for whom, how long, and their share of each arm's cost."""

import math

import pytest

from harness.analysis.stages import trained_before
from harness.report.load import load
from harness.report.pages.study import write_report
from harness.store.schema import StagePlan
from harness.store.writer import write_manifest, write_run
from harness.study.publish import publish
from harness.testing import make_curve, make_manifest, make_row, make_run, make_study
from webpage import Page

TEACHER = {f"teacher-{s}": "" for s in range(3)}
PLAN = StagePlan(label="baseline (model.width 8)", arms=("ema", "mixup"), runs=TEACHER, fingerprint="f00d")
SECONDS = (10.0, 12.0, 14.0)


def run_of(arm, seed):
    made = make_run(arm, seed)
    needs = {"cpu_seconds_other": SECONDS[seed], "seconds_other": 99.0} if arm.label in PLAN.arms else {}
    own = {"cpu_seconds_train": 3.0, "cpu_seconds_setup": 1.0 if arm.label == "ema" else 0.0}
    return made._replace(row=made.row | own | needs)


@pytest.fixture
def folder(tmp_path):
    """Three seeds of two arms with one teacher each, of which the last has no row."""
    folder = tmp_path / "results" / "s"
    arms = ["baseline", "mixup", "ema", "sam"]
    make_study(folder, make_manifest(arms, seeds=3, study="s", stages=(PLAN,)), run_of, merged=False)
    for seed in (0, 1):
        row = make_row("baseline", seed, run_id=f"teacher-{seed}", identity="", role="stage",
                       cpu_seconds_train=SECONDS[seed] - 1, cpu_seconds_setup=1.0, seconds_train=50.0)  # fmt: skip
        write_run(folder, row, make_curve(row), None)
    return folder


def test_what_the_runs_before_took(folder):
    found = load(folder).trained_before
    (teacher,) = found.stages

    assert found.cpu
    assert (teacher.label, teacher.arms, teacher.n_planned) == (PLAN.label, PLAN.arms, 3)
    assert (teacher.seconds.value, teacher.seconds.n) == (11.0, 2)
    # t with one degree of freedom, 12.706, times the standard error of 10 and 12, which is 1
    assert teacher.seconds.high == pytest.approx(11.0 + 12.706, abs=1e-3)
    shares = dict(found.shares)
    assert list(shares) == ["mixup", "ema"], "the others need nothing"
    assert shares["mixup"].value == pytest.approx((10 / 13 + 12 / 15 + 14 / 17) / 3)
    assert shares["ema"].value == pytest.approx((10 / 14 + 12 / 16 + 14 / 18) / 3)
    assert shares["ema"].n == 3


def test_on_a_device_the_clock_is_the_wall(folder):
    rows = load(folder).data.runs.assign(device="cuda:0")
    found = trained_before(rows, load(folder).manifest)
    assert not found.cpu
    assert found.stages[0].seconds.value == 50.0
    assert dict(found.shares)["mixup"].value == pytest.approx(99 / 100)


def test_the_page_says_it(folder, tmp_path):
    path, _ = write_report(folder, tmp_path / "reports")
    page = Page(path.read_text())

    assert "Runs trained before" in page.text
    assert page.row(PLAN.label)[1:] == ["2/3", "11.00", "[−1.71, 23.71]", "ema, mixup"]
    shares = [row for row in page.rows if row[1:3] in (["3", "80 %"], ["3", "75 %"])]
    assert [row[0] for row in shares] == ["mixup", "ema"]


def test_stages_are_published_with_the_study(folder, tmp_path):
    published = publish(folder, tmp_path / "results" / "published")
    own, there = load(folder), load(published)

    assert repr(there.trained_before) == repr(own.trained_before)
    assert len(there.data.runs) == 4 * 3 + 2
    assert set(there.data.curves["run_id"]) >= {"teacher-0", "teacher-1"}


def test_a_study_without_stages_says_nothing(tmp_path):
    make_study(tmp_path / "s", make_manifest(study="s"))
    path, loaded = write_report(tmp_path / "s", tmp_path / "reports")

    assert loaded.trained_before is None
    assert "trained before" not in path.read_text()


def test_a_stage_that_is_not_here_has_no_numbers(folder):
    manifest = load(folder).manifest
    gone = PLAN.model_copy(update={"runs": {"elsewhere": "ffff"}})
    write_manifest(folder, manifest.model_copy(update={"stages": (gone,)}))
    (teacher,) = load(folder).trained_before.stages

    assert (teacher.seconds.n, teacher.n_planned) == (0, 1)
    assert math.isnan(teacher.seconds.value)
