"""A step of every arm before a study: what is found, what is remembered, and how long it may take."""

import os
import signal
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from harness.errors import UserError
from harness.experiment import Arm, load_experiment
from harness.study import preflight
from harness.study.plan import make_plan
from harness.study.preflight import BASELINE_STEPS, Rehearsal, ended, look
from harness.testing import tiny_spec
from harness.training.layout import layer_at_risk
from harness.training.place import Place
from harness.training.seen import Seen
from harness.tricks import registry
from harness.tricks.contract import Info, NotApplicable, Trick

PLACE = Place(data_root=Path("unused-by-digits"), contiguous=True)


def card(name):
    return Info(name=name, family="mine", summary="s", paper="p", formula="f", expect="e")


class Raises(Trick):
    info: ClassVar = card("raises")

    def finalize(self, model, run):
        raise ValueError("only at the end")


class Segfaults(Trick):
    info: ClassVar = card("segfaults")

    def loss_terms(self, batch, logits, run):
        os.kill(os.getpid(), signal.SIGSEGV)


class Killed(Trick):
    """Killed from outside, `times` times."""

    info: ClassVar = card("killed")
    folder: str
    times: int

    def prepare(self, run):
        flags = [Path(self.folder, str(i)) for i in range(self.times)]
        for flag in flags:
            if not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)


class Huge(Trick):
    info: ClassVar = card("huge")

    def prepare(self, run):
        run.state[self.name] = torch.empty(1 << 50)


class Unfit(Trick):
    info: ClassVar = card("unfit")

    def prepare(self, run):
        raise NotApplicable("not on digits")


class Hangs(Trick):
    info: ClassVar = card("hangs")

    def prepare(self, run):
        time.sleep(1000)


@pytest.fixture(autouse=True)
def _known():
    with ExitStack() as stack:
        for trick in (Raises, Segfaults, Killed, Huge, Unfit, Hangs):
            stack.enter_context(registry.registered(trick))
        yield


def specs(*tricks, **options):
    """The baseline's run and one of each trick, with one seed."""
    return [tiny_spec(None, **options), *(tiny_spec(trick, **options) for trick in tricks)]


def reasons(found):
    return list(found.failed.values())


def test_what_crashes_raises_or_does_not_fit_is_found_and_the_rest_is_not_blamed(tmp_path):
    arms = specs(Segfaults(), Raises(), Huge(), Unfit())
    found = look(arms, PLACE, tmp_path, "images", runs=10)

    assert list(found.failed) == [spec.run_id for spec in arms[1:4]], "a trick that cannot act is skipped, not failed"
    crash, raised, memory = reasons(found)
    assert crash.startswith("pre-flight: killed by SIGSEGV in a training step; leave the arm out, or try")
    assert raised.startswith("pre-flight: ValueError: only at the end (test_preflight.py:")
    assert raised.count("\n") == 0
    assert memory.startswith("pre-flight: out of memory: ")
    assert memory.endswith("try a smaller recipe.batch_size or model")
    assert (found.place, found.note, found.unseen) == (PLACE, "", 0)


def test_a_kill_from_outside_is_no_verdict_unless_it_comes_again(tmp_path):
    once, twice = (Killed(folder=str(tmp_path / str(n)), times=n) for n in (1, 2))
    for n in (1, 2):
        (tmp_path / str(n)).mkdir()

    assert reasons(look(specs(once, twice), PLACE, tmp_path, "images", runs=10)) == [
        "pre-flight: killed by SIGKILL in set-up; try a smaller recipe.batch_size or model"
    ]


def test_what_went_well_is_not_looked_at_again_and_what_failed_is(tmp_path, monkeypatch):
    look(specs(Raises(), Unfit()), PLACE, tmp_path, "images", runs=10)
    seen = []
    monkeypatch.setattr(preflight.Throwaway, "rehearse", lambda self, spec, *_: seen.append(spec.arm.label))

    look(specs(Unfit()), PLACE, tmp_path, "images", runs=10)
    assert seen == []
    look(specs(Raises(), Unfit()), PLACE, tmp_path, "images", runs=10)
    assert seen == ["raises"]


@pytest.fixture
def fine(monkeypatch):
    """All rehearsals go well at once, and say that a run of the baseline takes a second."""
    monkeypatch.setattr(preflight.Throwaway, "rehearse", lambda *_: Seen(run_seconds=1.0))


def test_a_damaged_memory_is_looked_at_again(tmp_path, fine):
    look(specs(), PLACE, tmp_path, "images", runs=10)
    (file,) = (tmp_path / "preflight").iterdir()
    whole = file.read_text()
    file.write_text(whole[:5])

    look(specs(), PLACE, tmp_path, "images", runs=10)
    assert file.read_text() == whole


def test_a_baseline_that_cannot_train_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^the baseline cannot be trained: killed by SIGSEGV in a training step; "):
        look([tiny_spec(Segfaults())], PLACE, tmp_path, "images", runs=10)


def test_a_batch_of_one_image_is_refused_where_batch_norm_has_one_value_of_it(tmp_path):
    small = tiny_spec(model="resnet8", batch_size=1)
    small = small.model_copy(update={"data": small.data.model_copy(update={"image_size": 4})})

    with pytest.raises(UserError, match=r"^recipe.batch_size = 1: batch normalisation cannot train on one value") as e:
        look([small], PLACE, tmp_path, "images", runs=10)
    assert "\n" not in str(e.value)


def test_arms_are_looked_at_until_the_time_is_up_and_the_others_are_counted(tmp_path, monkeypatch, fine):
    monkeypatch.setattr(preflight, "FEW", 1)
    arms = specs(Raises(), Unfit(), Segfaults())
    hurried = look(arms, PLACE, tmp_path, "images", runs=0)
    assert hurried.unseen == 2, "the first is looked at, however short the study"
    assert "2 arms were not looked at" in preflight.unseen_line(hurried)[0]

    assert look(arms, PLACE, tmp_path / "other", "images", runs=10_000).unseen == 0, "a twentieth of 10,000 runs"


def test_an_arm_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "FLOOR_SECONDS", 0.5)
    found = look(specs(Hangs(), Raises()), PLACE, tmp_path, "images", runs=0)

    assert (found.failed, found.unseen) == ({}, 2)


def test_the_baseline_is_timed_after_its_first_steps(tmp_path, monkeypatch):
    steps = {}
    real = preflight.Throwaway.rehearse

    def counted(self, spec, place, count, seconds):
        steps[spec.arm.label] = count
        return real(self, spec, place, count, seconds)

    monkeypatch.setattr(preflight.Throwaway, "rehearse", counted)
    look(specs(Unfit()), PLACE, tmp_path, "images", runs=1)

    assert steps == {"baseline": BASELINE_STEPS, "unfit": 1}


def test_a_process_says_how_it_ended():
    assert ended(-11) == "killed by SIGSEGV"
    assert ended(-64) in ("killed by SIGRTMAX", "killed by signal 64")
    assert ended(3) == "the process ended with exit code 3"


NARROW = {
    "model": {"name": "resnet8", "width": 4},
    "data": {"image_size": 64, "train_size": 40, "val_size": 20, "test_size": 30},
    "recipe": {"epochs": 1, "batch_size": 8},
}
"""What crashes in channels last on a processor with AVX2 or AVX-512."""


AS_ASKED = replace(PLACE, contiguous=False)


def planned(tmp_path, overrides, *tricks):
    return make_plan(
        load_experiment("digits", overrides), tricks, design="one_at_a_time", seeds=range(2), place=AS_ASKED,
        results=tmp_path, images="images", command="", toml="",
    )  # fmt: skip


def test_a_study_whose_layout_corrupts_memory_is_planned_again_with_the_other_layout(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.training.session.layer_at_risk", lambda model: "net.stage2.0.shortcut.0")
    plan = planned(tmp_path, NARROW, "label_smoothing")
    (tmp_path / plan.manifest.study).mkdir()
    ready = preflight.preflight(plan, AS_ASKED, tmp_path, 1)

    assert ready.place == PLACE
    assert '"memory_format": "contiguous"' in ready.place.fingerprint(plan.specs[0])["fingerprint_json"]
    assert ready.plan.manifest.fingerprint == ready.place.fingerprint(plan.specs[0])["fingerprint"]
    assert ready.plan.manifest.fingerprint != plan.manifest.fingerprint
    assert ready.plan.manifest.notes[-1].startswith("All runs use the contiguous memory layout")
    assert ready.plan.missing == plan.specs
    assert ready.refused == {}, "in the other layout it trains"


def test_runs_of_an_arm_that_failed_are_refused_for_all_seeds_and_said_once(tmp_path, monkeypatch):
    plan = planned(tmp_path, None, "mixup", "ema")
    by_arm = {spec.run_id: spec.arm.label for spec in plan.specs}
    bad = next(run_id for run_id, label in by_arm.items() if label == "ema")
    found = Rehearsal(PLACE, failed={bad: "pre-flight: no"}, unseen=1)
    monkeypatch.setattr(preflight, "look", lambda *_: found)
    ready = preflight.preflight(plan, PLACE, tmp_path, 2)

    assert [by_arm[run_id] for run_id in ready.refused] == ["ema", "ema"]
    assert ready.lines[0] == "ema: pre-flight: no; its runs are stored as failed"
    assert len(ready.lines) == 2


@pytest.mark.parametrize(
    ("machine", "capability", "safe", "unsafe"),
    [("x86_64", "AVX512", 16, 15), ("AMD64", "AVX2", 8, 7), ("aarch64", "DEFAULT", 4, None)],
)
def test_a_layer_is_at_risk_where_its_channels_do_not_fill_a_block(machine, capability, safe, unsafe, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)

    def convolution(channels, **options):
        return torch.nn.Sequential(torch.nn.Conv2d(channels, 8, **({"kernel_size": 1, "stride": 2} | options)))

    assert layer_at_risk(convolution(safe)) == ""
    if unsafe is not None:
        assert layer_at_risk(convolution(unsafe)) == "0"
        assert layer_at_risk(convolution(unsafe, stride=1)) == ""
        assert layer_at_risk(convolution(unsafe, kernel_size=3)) == ""
        assert layer_at_risk(convolution(4, groups=4)) == ""


def test_a_narrow_network_trains_in_the_layout_that_is_chosen_for_this_processor(tmp_path):
    plan = planned(tmp_path, NARROW)
    found = look(plan.specs[:1], AS_ASKED, tmp_path, "images", runs=1)

    assert not found.failed
    assert bool(found.note) == found.place.contiguous


def test_an_arm_keeps_its_name_when_only_values_differ():
    a, b = (tiny_spec(Killed(folder="f", times=n)).arm for n in (1, 2))
    assert a.label == b.label
    assert a.model_dump_json() != b.model_dump_json() != Arm().model_dump_json()
