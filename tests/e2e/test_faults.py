"""What users lose hours to: interrupts, kills, dying workers, full disks, two studies at once."""

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial

import pandas as pd
import pytest

from harness.experiment import Arm, TrickSpec
from harness.store.reader import read_study
from harness.store.writer import prepare
from harness.study.workers.local import Job, run_packed
from harness.testing import tiny_spec
from harness.training.session import Place

STUDY = ("ablate", "mixup", "ema", "--seeds", "4", "--name", "s")
TIMING = ("seconds", "cpu_", "images_per", "started", "finished", "peak", "packed")

FULL_DISK = """
import errno, multiprocessing, os
from typing import ClassVar
from harness.tricks.contract import Info, Trick

class Filler(Trick):
    info: ClassVar = Info(name="filler", family="mine", summary="s", paper="p", formula="f", expect="e")

    def prepare(self, run):
        if run.spec.seed == 1:
            def full(descriptor):
                raise OSError(errno.ENOSPC, "No space left on device")
            os.fsync = full
"""

DYING = """
import os, signal
from pathlib import Path
from typing import ClassVar
from harness.tricks.contract import Info, Trick

def card(name):
    return Info(name=name, family="mine", summary="s", paper="p", formula="f", expect="e")

class DiesOnce(Trick):
    info: ClassVar = card("dies_once")

    def epoch_end(self, run):
        flag = Path("died")
        if run.spec.seed == 0 and run.epoch == 1 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)

class DiesAlways(Trick):
    info: ClassVar = card("dies_always")

    def epoch_end(self, run):
        if run.spec.seed == 0 and run.epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
"""

HUNGRY = """
from pathlib import Path
from typing import ClassVar
import torch
from harness.tricks.contract import Info, Trick

class Hungry(Trick):
    info: ClassVar = Info(name="hungry", family="mine", summary="s", paper="p", formula="f", expect="e")
    folder: str

    def prepare(self, run):
        flag = Path(self.folder) / str(run.spec.seed)
        if run.spec.seed in (1, 2) and not flag.exists():
            flag.touch()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
"""


def start(folder, *arguments):
    """The command line in a process group of its own, where Ctrl-C is not ignored as it is in background jobs."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def comparable(study_dir):
    """The rows of a study without what time and place put into them."""
    runs = read_study(study_dir).runs
    return runs[[c for c in runs.columns if not c.startswith(TIMING)]].sort_values("run_id").reset_index(drop=True)


@pytest.fixture(scope="module")
def uninterrupted(cli, short):
    done = cli(*STUDY, *short, "--results", "whole")
    assert done.returncode == 0, done.stderr
    return comparable(cli.folder / "whole" / "s")


def test_ctrl_c_leaves_a_study_that_the_same_command_resumes(cli, short, uninterrupted):
    process = start(cli.folder, *STUDY, *short, "--results", "stopped")
    for line in process.stderr:
        if ", seed 0:" in line:
            break
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "the same command goes on from here" in err
    assert "Traceback" not in err
    kept = len(read_study(cli.folder / "stopped" / "s").runs)
    assert 1 <= kept < 12
    again = cli(*STUDY, *short, "--results", "stopped")
    assert f"{kept} done already" in again.stderr
    pd.testing.assert_frame_equal(comparable(cli.folder / "stopped" / "s"), uninterrupted)


def kill_and_resume(cli, short, uninterrupted, seconds, name):
    """Kill the whole process group after some seconds, run again, and compare with an undisturbed study."""
    process = start(cli.folder, *STUDY, *short, "--results", name)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = len(read_study(cli.folder / name / "s").runs)
    again = cli(*STUDY, *short, "--results", name)

    assert again.returncode == 0, again.stderr
    assert f"{kept} done already" in again.stderr or kept == 12, "what was finished is not trained again"
    pd.testing.assert_frame_equal(comparable(cli.folder / name / "s"), uninterrupted)
    assert read_study(cli.folder / name / "s").problems == []


def test_a_killed_study_resumes_with_the_same_rows(cli, short, uninterrupted):
    kill_and_resume(cli, short, uninterrupted, 9.0, "killed")


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(20))
def test_a_study_killed_at_a_random_moment_resumes_with_the_same_rows(cli, short, uninterrupted, attempt):
    kill_and_resume(cli, short, uninterrupted, random.Random(attempt).uniform(0.5, 16.0), f"random{attempt}")


def test_a_dying_worker_is_replaced_and_its_run_tried_once_more(cli, short):
    (cli.folder / "dying.py").write_text(DYING)
    out = cli("ablate", "dies_once", "dies_always", "--plugin", "dying.py", "--seeds", 2, "--name", "dying", *short)
    assert out.returncode == 0, out.stderr
    runs = read_study(cli.folder / "results" / "dying").runs
    status = {(r.arm, r.seed): r.status for r in runs.itertuples()}

    assert status.pop(("dies_always", 0)) == "failed"
    assert set(status.values()) == {"ok"}
    assert "died 2 times" in runs.set_index(["arm", "seed"]).loc[("dies_always", 0), "reason"]


def test_runs_that_share_a_device_have_it_to_themselves_when_its_memory_did_not_suffice(tmp_path, monkeypatch):
    """Without a GPU: the run says that there was no memory, and the device that most of it is free."""
    plugin = tmp_path / "hungry.py"
    plugin.write_text(HUNGRY)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    hungry = Arm(tricks=(TrickSpec(name="hungry", version=1, params={"folder": str(tmp_path)}),))
    specs = [tiny_spec(seed=seed).model_copy(update={"arm": hungry}) for seed in range(4)]
    prepare(tmp_path / "study")
    jobs = [Job(spec, "test", tmp_path / "study", Place(data_root=tmp_path)) for spec in specs]

    ended = list(run_packed(jobs, [plugin], memory=partial(tuple, (70, 100))))

    runs = read_study(tmp_path / "study").runs.set_index("seed")
    assert [f.status for f in ended] == ["ok"] * 4, "what was tried again is told once"
    assert ended[0].seed == 0
    assert sorted(f.seed for f in ended[2:]) == [1, 2], "at the end"
    assert dict(runs["status"]) == dict.fromkeys(range(4), "ok")
    assert dict(runs["packed"]) == {0: False, 1: False, 2: False, 3: True}


def test_a_full_disk_ends_the_study_with_one_line_and_loses_nothing(cli, short):
    (cli.folder / "filler.py").write_text(FULL_DISK)
    arguments = ("ablate", "filler", "--plugin", "filler.py", "--seeds", 3, "--name", "full", *short)
    out = cli(*arguments, "--workers", 1)

    assert out.returncode == 2
    assert out.stderr.splitlines()[-1].startswith("error: No space left on device")
    assert "Traceback" not in out.stderr
    data = read_study(cli.folder / "results" / "full")
    stored = sorted(zip(data.runs["seed"], data.runs["arm"], strict=True))
    assert stored == [(0, "baseline"), (0, "filler"), (1, "baseline")], "what ended before is stored"
    assert data.problems == []


@pytest.mark.slow
def test_two_studies_at_once_share_a_folder(cli, short, uninterrupted):
    both = [start(cli.folder, *STUDY, *short, "--results", "shared", "--workers", "1") for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err

    pd.testing.assert_frame_equal(comparable(cli.folder / "shared" / "s"), uninterrupted)


def test_a_worker_that_cannot_start_is_one_clear_error(cli, short):
    (cli.folder / "only_here.py").write_text(
        "import multiprocessing\nfrom typing import ClassVar\nfrom harness.tricks.contract import Info, Trick\n"
        "if multiprocessing.parent_process():\n    raise ImportError('not in a worker')\n"
        "class Shy(Trick):\n"
        "    info: ClassVar = Info(name='shy', family='m', summary='s', paper='p', formula='f', expect='e')\n"
    )
    out = cli("ablate", "shy", "--plugin", "only_here.py", "--seeds", 2, *short)

    assert out.returncode == 2
    assert "worker processes could not start" in out.stderr
    assert len(out.stderr.splitlines()) < 12
