"""A study from the command line to the page, on real digits."""

import io
import json
import re

import pandas as pd
import pytest

from harness.store.reader import read_study

PLUGIN = """
from typing import ClassVar

import torch

from harness.tricks.contract import Info, Trick


def card(name):
    return Info(name=name, family="mine", summary="s", paper="p", formula="f", expect="e")


class Broken(Trick):
    info: ClassVar = card("broken")

    def after_step(self, run):
        raise RuntimeError("no such luck")


class Explodes(Trick):
    info: ClassVar = card("explodes")

    def reduce_loss(self, loss, run):
        return loss * (float("nan") if run.step > 3 and run.spec.seed == 1 else 1.0)


class NoMemory(Trick):
    info: ClassVar = card("no_memory")

    def after_step(self, run):
        torch.empty(2**60)
"""


@pytest.fixture(scope="module")
def study(cli, short):
    """One study with an active trick, the control arm, the placebo and a refused flip, on five seeds."""
    done = cli(
        "ablate",
        "mixup",
        "erm_baseline",
        "placebo",
        "random_flip",
        "--seeds",
        5,
        "--name",
        "main",
        *short,
        "--json",
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def effects(study):
    return {e["arm"]: e for e in json.loads(study.stdout)["effects"]}


def test_json_is_one_document_on_stdout_and_progress_is_on_stderr(study):
    document = json.loads(study.stdout)

    assert document["study"] == "main"
    assert "25 to train" in study.stderr
    assert len(re.findall(r"seed \d: ", study.stderr)) == 25


def test_each_effect_has_its_n_interval_and_sentence(effects):
    mixup = effects["mixup"]

    assert mixup["n"] == mixup["n_planned"] == 5
    assert mixup["low"] < mixup["mean"] < mixup["high"]
    assert mixup["verdict"]["sentence"].startswith("mixup")


def test_the_control_arm_is_inactive_with_effect_exactly_zero(effects):
    control = effects["erm_baseline"]

    assert control["verdict"]["kind"] == "inactive"
    assert control["mean"] == control["low"] == control["high"] == 0


def test_the_placebo_has_no_detectable_difference(effects):
    assert effects["placebo"]["verdict"]["kind"] in ("undecided", "equivalent")
    assert effects["placebo"]["mean"] != 0


def test_a_trick_that_the_data_forbid_is_skipped_with_its_reason(effects):
    flip = effects["random_flip"]

    assert flip["verdict"]["kind"] == "skipped"
    assert flip["n_skipped"] == 5
    assert "mirror" in flip["reasons"][0] or "flip" in flip["reasons"][0]


def test_the_page_is_one_file_that_needs_nothing_else(cli, study):
    html = (cli.folder / "reports" / "main.html").read_text()

    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", html)
    assert "url(" not in html
    assert "harness ablate mixup erm_baseline" in html


def test_a_second_call_trains_nothing_and_says_the_same(cli, study, short):
    again = cli.here(
        "ablate",
        "random_flip",
        "placebo",
        "mixup",
        "erm_baseline",
        "--seeds",
        5,
        "--name",
        "main",
        *short,
        "--json",
    )

    assert "all 25 runs are done already" in again.stderr
    first, second = json.loads(study.stdout), json.loads(again.stdout)
    assert {e["arm"]: e["mean"] for e in first["effects"]} == {e["arm"]: e["mean"] for e in second["effects"]}


def test_another_study_takes_finished_runs_over(cli, study, short):
    other = cli.here("ablate", "mixup", "--seeds", 5, *short)

    assert "all 10 runs are done already" in other.stderr
    assert other.stdout.splitlines()[0].startswith("mixup")
    assert other.stdout.splitlines()[-1] == "report: reports/digits-noisy-mixup.html"


def test_rows_are_the_same_with_one_and_two_workers(cli, study, short):
    alone = cli("ablate", "mixup", "--seeds", 2, "--workers", 1, "--results", "alone", *short)
    assert alone.returncode == 0, alone.stderr
    rows = read_study(cli.folder / "alone" / "digits-noisy-mixup").runs.set_index("run_id")
    main = read_study(cli.folder / "results" / "main").runs.set_index("run_id")

    assert len(rows) == 4
    timing = ("seconds", "cpu_", "images_per", "started", "finished", "peak", "packed")
    columns = [c for c in rows.columns if not c.startswith(timing)]
    pd.testing.assert_frame_equal(
        rows[columns].sort_index(), main.loc[rows.index, columns].sort_index(), check_dtype=False, check_exact=True
    )
    assert not rows["packed"].any()
    assert main["packed"].all()


def test_tables_in_other_formats_show_the_same_effect(cli, study, effects):
    shown = f"{effects['mixup']['mean']:+.2f}"

    for form in ("csv", "markdown", "latex"):
        out = cli.here("report", "main", "--format", form)
        assert out.returncode == 0, out.stderr
        if form == "csv":
            table = pd.read_csv(io.StringIO(out.stdout)).set_index("arm")
            assert table.loc["mixup", "effect"] == pytest.approx(effects["mixup"]["mean"], rel=1e-4)
        else:
            assert any(shown.replace("-", minus) in out.stdout for minus in ("−", "$-$"))


def test_what_goes_wrong_in_a_run_becomes_a_row_and_the_study_goes_on(cli, short):
    (cli.folder / "plugin.py").write_text(PLUGIN)
    arms = ("broken", "explodes", "no_memory")
    plugged = ("--plugin", "plugin.py", "--workers", 1)
    out = cli.here("ablate", *arms, *plugged, "--seeds", 2, "--name", "faults", *short, "--json")
    assert out.returncode == 0, out.stderr
    runs = read_study(cli.folder / "results" / "faults").runs
    status = {(r.arm, r.seed): (r.status, r.reason) for r in runs.itertuples()}

    assert status["baseline", 0][0] == status["baseline", 1][0] == status["explodes", 0][0] == "ok"
    assert status["explodes", 1][0] == "diverged"
    assert status["broken", 0] == ("failed", "pre-flight: RuntimeError: no such luck (plugin.py:17)")
    assert status["no_memory", 0][0] == "failed"
    assert "memory" in status["no_memory", 0][1]
    html = (cli.folder / "reports" / "faults.html").read_text()
    assert "no such luck" in html
    effects = {e["arm"]: e for e in json.loads(out.stdout)["effects"]}
    assert effects["broken"]["verdict"]["kind"] == "failed"
    assert effects["explodes"]["n_diverged"] == 1


def test_a_plugin_trick_stands_in_the_list_beside_ours(cli):
    (cli.folder / "plugin.py").write_text(PLUGIN)
    listed = cli.here("tricks", "--plugin", "plugin.py", "--json")
    names = {c["name"] for c in json.loads(listed.stdout)}

    assert {"broken", "mixup", "sam"} <= names
