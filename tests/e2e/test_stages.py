"""Stages in studies: planned, trained first and once, taken over, resumed, and passed on when they have no result."""

import json
import math
import multiprocessing
import time
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import safetensors.torch

from harness.experiment import load_experiment
from harness.report.load import load
from harness.store.reader import read_study
from harness.store.writer import prepare
from harness.study.forecast import forecast
from harness.study.plan import make_plan
from harness.study.runner import run_study
from harness.study.stages import FOLDER
from harness.study.workers import local
from harness.study.workers.job import Finished
from harness.training import files
from harness.training.execute import execute
from harness.training.place import Place
from harness.training.session import Session
from harness.training.stages import path_of
from harness.tricks.needs import stages_of

TEACHERS = ("knowledge_distillation", "kd_logits_cached", "kd_plus_ood")
SMALL = {
    "recipe": {"epochs": 4, "channels_last": False},
    "data": {"train_size": 100, "test_size": 100},
    "model": {"width": 4},
}
PLACE = Place(Path("unused-by-digits"))


def planned(results, *arms, seeds=1, experiment="digits", **changes):
    loaded = load_experiment(experiment, SMALL | changes)
    return make_plan(
        loaded, arms, design="one_at_a_time", seeds=range(seeds), place=PLACE, results=results,
        images=PLACE.digest(loaded.data), command="", toml="",
    )  # fmt: skip


class Here:
    """A pool that does a job when it is started, in this process."""

    def start(self, job, told):
        future = Future()
        future.set_result(local.work(job))
        return future

    outcome = local.Pool.outcome


def trained(results, *arms, workers=None, **options):
    """The ends of runs in their order, and stored rows by arm, seed and role; by real workers if they are asked for."""
    plan = planned(results, *arms, **options)
    prepare(results / plan.manifest.study)
    here = nullcontext() if workers else mock.patch.object(local, "open_pool", return_value=nullcontext(Here()))
    with here:
        ended = [n for n in run_study(plan, PLACE, results, workers or 1) if isinstance(n, Finished)]
    rows = read_study(results / plan.manifest.study, plan.manifest.runs | plan.manifest.stage_runs).runs
    return [(n.arm, n.seed, n.status) for n in ended], {(r["arm"], r["seed"], r["role"]): r for _, r in rows.iterrows()}


def cost(row):
    return row["cpu_seconds_other"], row["seconds_other"], json.loads(row["stages"])


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """A study of the three teacher tricks, by two workers."""
    results = tmp_path_factory.mktemp("together")
    return results, *trained(results, *TEACHERS, workers=2)


def test_tricks_with_one_teacher_carry_its_cost_together(together):
    _, ended, rows = together
    teacher = rows["baseline", 0, "stage"]
    own = teacher["cpu_seconds_train"] + teacher["cpu_seconds_setup"]

    assert sorted(ended) == sorted([(arm, 0, "ok") for arm in ("baseline", "baseline (model.width 8)", *TEACHERS)])
    assert {arm: cost(rows[arm, 0, "arm"])[0] for arm in TEACHERS} == dict.fromkeys(TEACHERS, own)
    assert cost(rows["baseline", 0, "arm"]) == (0.0, 0.0, [])


@pytest.mark.parametrize("order", [("kd_plus_ood",), ("kd_logits_cached", "knowledge_distillation")])
def test_alone_or_in_another_order_they_are_charged_alike(order, together, tmp_path):
    """Every arm asks for the same stages, and each is trained once and carried in full."""
    ended, rows = trained(tmp_path, *order)
    teacher = rows["baseline", 0, "stage"]
    labels = [arm for arm, _, _ in ended]

    assert labels.count("baseline (model.width 8)") == 1
    assert all(labels.index("baseline (model.width 8)") < labels.index(arm) for arm in order)
    for arm in order:
        assert cost(rows[arm, 0, "arm"])[0] == teacher["cpu_seconds_train"] + teacher["cpu_seconds_setup"]
        assert cost(rows[arm, 0, "arm"])[2] == cost(together[2][arm, 0, "arm"])[2]
        assert rows[arm, 0, "arm"]["test_digest"] == together[2][arm, 0, "arm"]["test_digest"]


def test_another_study_takes_the_stage_over_and_is_charged_for_it(together):
    results, _, before = together
    plan = planned(results, "knowledge_distillation")
    assert plan.missing == (), "all is stored"
    ended, rows = trained(results, "knowledge_distillation", seeds=1)
    assert ended == []
    assert rows["baseline", 0, "stage"]["finished"] == before["baseline", 0, "stage"]["finished"], "its row comes along"

    other = {"knowledge_distillation": {"temperature": 2.0}}
    ended, rows = trained(results, "knowledge_distillation", tricks=other)
    assert ended == [("knowledge_distillation", 0, "ok")], "the teacher is there"
    assert cost(rows["knowledge_distillation", 0, "arm"]) == cost(before["knowledge_distillation", 0, "arm"])


def test_a_stage_without_its_file_is_trained_again(tmp_path):
    trained(tmp_path, "kd_plus_ood")
    (file,) = (tmp_path / FOLDER).iterdir()
    file.unlink()
    ended, _ = trained(tmp_path, "kd_plus_ood", "kd_logits_cached")

    assert [arm for arm, _, _ in ended] == ["baseline (model.width 8)", "kd_logits_cached"]
    assert file.is_file()


def test_a_plan_counts_stages(tmp_path):
    plan = planned(tmp_path, *TEACHERS, "masked_pretraining", seeds=3)
    ahead = forecast(plan, load_experiment("digits", SMALL), PLACE, tmp_path, 1)
    labels = {stage.label: (len(stage.runs), stage.arms) for stage in plan.manifest.stages}

    assert (ahead.runs, ahead.missing, ahead.stages) == (15, 15, 6)
    assert labels["baseline (model.width 8)"] == (3, TEACHERS)
    (pretraining,) = labels.keys() - {"baseline (model.width 8)"}
    assert pretraining.startswith("masked_image_modelling (recipe.epochs 2, ")
    assert labels[pretraining] == (3, ("masked_pretraining",))
    bare = forecast(planned(tmp_path, "mixup", seeds=3), load_experiment("digits", SMALL), PLACE, tmp_path, 1)
    assert ahead.seconds > bare.seconds


def test_the_cost_of_a_teacher_is_about_that_of_its_passes(tmp_path):
    """Twice the width is four times the operations of all convolutions but the first."""
    plan = planned(tmp_path, "knowledge_distillation", model={"width": 32})
    (teacher,) = plan.stages.specs.values()
    assert 3.8 < plan.cost(teacher) < 4.0
    longer = {"knowledge_distillation": {"teacher_epochs_factor": 3}}
    plan = planned(tmp_path, "knowledge_distillation", model={"width": 32}, tricks=longer)
    (teacher,) = plan.stages.specs.values()
    assert 3 * 3.8 < plan.cost(teacher) < 3 * 4.0


class Killed(BaseException):
    """Stands in for a signal."""


def test_a_study_that_is_killed_inside_a_stage_goes_on_there(tmp_path, monkeypatch):
    plan = planned(tmp_path / "whole", "knowledge_distillation", recipe={"epochs": 6, "evaluations": 6})
    (stage,) = plan.stages.specs.values()
    place = replace(PLACE, checkpoint_dir=tmp_path / "checkpoints", checkpoint_seconds=0.0)
    undisturbed = execute(stage, "test", PLACE, as_stage=True)
    validate, calls = Session.validate, []

    def stop_in_the_fourth_epoch(self):
        calls.append(1)
        if len(calls) == 4:
            raise Killed
        return validate(self)

    monkeypatch.setattr(Session, "validate", stop_in_the_fourth_epoch)
    with pytest.raises(Killed):
        execute(stage, "test", place, as_stage=True)
    resumed = execute(stage, "test", place, as_stage=True)

    assert len(calls) == 4 + 3
    whole, again = (safetensors.torch.load(result.stage) for result in (undisturbed, resumed))
    assert {name: t.tolist() for name, t in whole.items()} == {name: t.tolist() for name, t in again.items()}
    assert resumed.row["test_digest"] == undisturbed.row["test_digest"]


def _train(results):
    trained(results, "knowledge_distillation", seeds=2)


def test_two_commands_train_no_stage_twice(tmp_path):
    """Two studies that differ in an arm, at the same time."""
    other = multiprocessing.get_context("spawn").Process(target=_train, args=(tmp_path,))
    other.start()
    trained(tmp_path, "kd_logits_cached", seeds=2)
    other.join()
    assert other.exitcode == 0
    stages = [
        r for f in tmp_path.glob("*/runs") for _, r in read_study(f.parent).runs.iterrows() if r["role"] == "stage"
    ]

    assert len(stages) == 4, "each study has the rows of both"
    assert len({(r["run_id"], r["finished"]) for r in stages}) == 2


def test_what_needs_a_run_without_a_result_ends_as_that_did(tmp_path):
    ended, rows = trained(tmp_path, "masked_pretraining", tricks={"masked_pretraining": {"patches": 3}})
    row = rows["masked_pretraining", 0, "arm"]

    assert [status for _, _, status in ended] == ["ok", "skipped", "skipped"]
    assert row["status"] == "skipped"
    assert row["reason"].startswith("patches = 3 do not divide images of 8 pixels (in masked_image_modelling (")
    assert row["reason"].endswith(", seed 0, which it needs)")


def test_a_diverged_teacher_is_a_diverged_arm(tmp_path):
    _, rows = trained(tmp_path, "kd_logits_cached", recipe={"epochs": 2, "lr": 1e30})

    assert {role: row["status"] for (_, _, role), row in rows.items()} == {"arm": "diverged", "stage": "diverged"}
    assert "which it needs" in rows["kd_logits_cached", 0, "arm"]["reason"]


LONGER = {"recipe": {"epochs": 40, "evaluations": 1}, "data": {"train_size": 200, "test_size": 100}}


def times(results, *arms):
    """Each arm's time over the baseline's, as the page has it."""
    trained(results, *arms, seeds=3, model={"width": 16}, **LONGER)
    (folder,) = (f.parent for f in results.glob("*/study.json"))
    return {effect.arm: effect.time for effect in load(folder).analysis.effects}


def by_hand(results, arm):
    """The same from the CPU time of the whole calls, evaluation and all: of the arm and what it needs, each trained."""
    plan = planned(results, arm, seeds=3, model={"width": 16}, **LONGER)
    place = replace(PLACE, stages_dir=results / "by hand")

    def timed(spec, **options):
        before = time.process_time()
        done = execute(spec, "test", place, **options)
        took = time.process_time() - before
        assert done.row["status"] == "ok"
        return took, done

    logs = []
    for seed in range(3):
        baseline, spec = sorted((s for s in plan.specs if s.seed == seed), key=lambda s: len(s.arm.tricks))
        total = 0.0
        for stage in stages_of([spec]).values():
            took, done = timed(stage, as_stage=True)
            files.write(path_of(place.name(stage), place), done.stage)
            total += took
        logs.append(math.log((total + timed(spec)[0]) / timed(baseline)[0]))
    return math.exp(sum(logs) / 3)


@pytest.mark.slow
@pytest.mark.parametrize("arms", [TEACHERS, ("masked_pretraining",)], ids=["teachers", "pretraining"])
def test_the_cost_of_an_arm_is_that_of_all_it_asked_for(arms, tmp_path):
    """Alone, together, in any order: the same time within its interval, and what a stopwatch says."""
    found = {arm: [times(tmp_path / arm, arm)[arm], by_hand(tmp_path / arm, arm)] for arm in arms}
    for order in {arms, arms[::-1]} if len(arms) > 1 else ():
        for arm, ratio in times(tmp_path / "".join(order), *order).items():
            found[arm].append(ratio)
    for alone, hand, *others in found.values():
        assert hand == pytest.approx(alone.value, rel=0.15)
        for other in others:
            assert other.value == pytest.approx(alone.value, rel=0.15)
            assert max(alone.low, other.low) <= min(alone.high, other.high)
