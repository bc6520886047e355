"""What users lose hours to: interrupts, kills, dying workers, full disks, two studies at once."""

import os
import random
import shlex
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from harness.cpus import Cpus
from harness.ending import STOPPED
from harness.experiment import Arm, TrickSpec
from harness.store.reader import read_study
from harness.store.writer import prepare
from harness.study.workers import local
from harness.study.workers.job import Finished, Job
from harness.study.workers.local import run_packed
from harness.testing import tiny_spec
from harness.training.place import Place
from harness.tricks import registry
from processes import heed_signals

STUDY = ("ablate", "mixup", "gate", "--plugin", "gate.py", "--seeds", "4", "--name", "s")
RUNS = 12
TIMING = ("seconds", "cpu_", "images_per", "started", "finished", "peak", "packed", "git_")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9}
GUARD = 3600
"""Seconds after which something hangs: far more than a busy machine needs."""

GATE = """
import os, time
from pathlib import Path
from typing import ClassVar
from harness.tricks.contract import Info, Trick

class Gate(Trick):
    info: ClassVar = Info(name="gate", family="mine", summary="s", paper="p", formula="f", expect="e")

    def epoch_end(self, run):
        if run.rehearsal:
            return
        if Path("hold").exists():
            Path("at-the-gate").write_text(str(os.getpid()))
        while Path("hold").exists():
            time.sleep(0.01)

    def reduce_loss(self, loss, run):
        return loss * 0.9
"""
"""A trick whose runs wait, while they train, for as long as the file `hold` is there."""

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


@dataclass
class Started:
    """A command line with a mark that all of its processes inherit."""

    process: subprocess.Popen
    mark: str

    def processes(self):
        """The ids of all processes of the command, whoever started them."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                marked = self.mark.encode() in (path / "environ").read_bytes()
                if marked and path.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                    found.append(int(path.name))
            except OSError:
                continue
        return found

    def workers(self):
        return [pid for pid in self.processes() if "spawn_main" in command_of(pid)]

    def watches_signals(self):
        """Whether the command has got so far, or has ended."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return True
        caught = next((int(li.split()[1], 16) for li in status.splitlines() if li.startswith("SigCgt")), -1)
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    def tell(self, number):
        """Send a signal; a terminal sends its own to all processes of the command."""
        (os.killpg if number in (signal.SIGINT, signal.SIGHUP) else os.kill)(self.process.pid, number)

    def end(self):
        """Exit code and what was said on stderr, when no process of the command is left."""
        _, err = self.process.communicate(timeout=GUARD)
        until(lambda: not self.processes())
        return self.process.returncode, err


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def until(condition):
    """Wait for something that must happen."""
    end = time.monotonic() + GUARD
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found


def start(folder, *arguments):
    """The command line in a process group of its own, where Ctrl-C is not ignored as it is in background jobs."""
    mark = f"HARNESS_TEST_MARK={uuid.uuid4().hex}"
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=heed_signals,
        env=os.environ | dict([mark.split("=")]),
    )  # fmt: skip
    return Started(process, mark)


def comparable(study_dir):
    """The rows of a study without what time and place put into them."""
    runs = read_study(study_dir).runs
    return runs[[c for c in runs.columns if not c.startswith(TIMING)]].sort_values("run_id").reset_index(drop=True)


def stored(study_dir):
    return set(read_study(study_dir).runs["run_id"]) if study_dir.exists() else set()


@pytest.fixture(scope="module")
def uninterrupted(cli, short):
    """The rows of an undisturbed study."""
    (cli.folder / "gate.py").write_text(GATE)
    done = cli(*STUDY, *short, "--results", "whole")
    assert done.returncode == 0, done.stderr
    return comparable(cli.folder / "whole" / "s")


@pytest.fixture
def gate(cli, uninterrupted):
    """Closes the gate; the function that it gives waits for a run, and returns the id of its worker."""
    (cli.folder / "hold").touch()
    at = cli.folder / "at-the-gate"

    def wait():
        pid = int(until(lambda: at.read_text() if at.exists() else ""))
        at.unlink()
        return pid

    yield wait
    (cli.folder / "hold").unlink(missing_ok=True)
    at.unlink(missing_ok=True)


def test_a_study_that_was_ended_in_every_way_ends_with_the_rows_of_an_undisturbed_one(cli, short, uninterrupted, gate):
    arguments = (*STUDY, *short, "--results", "ended")
    folder = cli.folder / "ended" / "s"
    for number, code in CODES.items():
        command = start(cli.folder, *arguments, "--workers", "1")
        gate()
        command.tell(number)
        returned, err = command.end()

        assert returned == code
        assert "Traceback" not in err
        if number != signal.SIGKILL:
            assert err.splitlines()[-1] == STOPPED
            assert err.count("stopped") == 1
        assert len(stored(folder)) == 1, "what had ended before the gate"

    command = start(cli.folder, *arguments, "--workers", "2")
    os.kill(until(command.workers)[0], signal.SIGKILL)  # while it starts
    worker = gate()
    (cli.folder / "hold").unlink()
    os.kill(worker, signal.SIGKILL)  # while it trains
    returned, err = command.end()

    assert returned == 0, err
    assert "1 done already" in err
    pd.testing.assert_frame_equal(comparable(folder), uninterrupted)
    assert read_study(folder).problems == []


def test_a_signal_while_a_report_is_written_is_one_line_and_leaves_the_old_page(cli, uninterrupted):
    page = cli.folder / "reports" / "s.html"
    before = page.read_bytes()
    script = (
        "import os, signal, time, jinja2\n"
        "def render(self, *_, **__):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(3600)\n"
        "jinja2.Template.render = render\n"
        "from harness.__main__ import main\n"
        "main()\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script, "report", "s", "--results", "whole"],
        cwd=cli.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (out.returncode, out.stdout, out.stderr) == (143, "", STOPPED + "\n")
    assert page.read_bytes() == before


class Moments:
    """Random moments between the first and the last of a study, however fast the machine is."""

    def __init__(self, cli, short, seed):
        begun = time.monotonic()
        assert cli(*STUDY, *short, "--results", f"timed{seed}").returncode == 0
        self.most = time.monotonic() - begun
        self.random = random.Random(seed)

    def wait(self):
        time.sleep(self.random.triangular(0, self.most, 0))  # more often early: late ones come after the end


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_studies_ended_twenty_times_at_random_moments_lose_nothing(cli, short, uninterrupted, number):
    moments = Moments(cli, short, int(number))
    ends, studies = 0, 0
    while ends < 20:
        folder = cli.folder / f"random{number}-{studies}"
        studies += 1
        done = False
        while not done:
            before = stored(folder / "s")
            command = start(cli.folder, *STUDY, *short, "--results", folder.name)
            if ends < 20:
                until(command.watches_signals)
                moments.wait()
                command.tell(number)
            returned, err = command.end()
            done = returned == 0
            ends += not done

            assert returned in (0, CODES[number]), err
            assert "Traceback" not in err
            assert done or number == signal.SIGKILL or err.splitlines()[-1] == STOPPED
            assert stored(folder / "s") >= before
        pd.testing.assert_frame_equal(comparable(folder / "s"), uninterrupted)
        assert read_study(folder / "s").problems == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_ray_that_the_command_started_ends_with_it(cli, short, uninterrupted, gate, number):
    pytest.importorskip("ray")
    folder = f"ray{number}"
    command = start(cli.folder, *STUDY, *short, "--results", folder, "--workers", "ray")
    gate()
    until(lambda: stored(cli.folder / folder / "s"))
    command.tell(number)
    returned, err = command.end()

    assert returned == CODES[number]
    assert number == signal.SIGKILL or err.splitlines()[-1] == STOPPED
    assert 1 <= len(stored(cli.folder / folder / "s")) < RUNS


@pytest.mark.slow
def test_twenty_workers_killed_at_random_moments_cost_no_row(cli, short, uninterrupted):
    moments = Moments(cli, short, 0)
    kills = 0
    for attempt in range(60):
        command = start(cli.folder, *STUDY, *short, "--results", f"worker{attempt}")
        until(lambda command=command: command.workers() or command.process.poll() is not None)
        moments.wait()
        workers = command.workers()
        if workers:
            os.kill(moments.random.choice(workers), signal.SIGKILL)
            kills += 1
        returned, err = command.end()

        assert returned == 0, err
        pd.testing.assert_frame_equal(comparable(cli.folder / f"worker{attempt}" / "s"), uninterrupted)
        if kills == 20:
            return
    raise AssertionError("too few moments had a worker")


def test_a_dying_worker_is_replaced_and_its_run_tried_once_more(cli, short):
    (cli.folder / "dying.py").write_text(DYING)
    out = cli("ablate", "dies_once", "dies_always", "--plugin", "dying.py", "--seeds", 2, "--name", "dying", *short)
    assert out.returncode == 0, out.stderr
    runs = read_study(cli.folder / "results" / "dying").runs
    status = {(r.arm, r.seed): r.status for r in runs.itertuples()}

    assert status.pop(("dies_always", 0)) == "failed"
    assert set(status.values()) == {"ok"}
    reason = runs.set_index(["arm", "seed"]).loc[("dies_always", 0), "reason"]
    assert reason.startswith(
        "the worker process died 2 times: killed by SIGKILL (often the kernel, for want of memory;"
    )


def test_runs_that_share_a_device_have_it_to_themselves_when_its_memory_did_not_suffice(tmp_path, monkeypatch):
    """Without a GPU: the run says that there was no memory, and the device that most of it is free."""
    plugin = tmp_path / "hungry.py"
    plugin.write_text(HUNGRY)
    monkeypatch.setattr(local, "available", lambda: Cpus(2, "2"))
    monkeypatch.setattr(registry, "_plugins", {})
    monkeypatch.setattr(registry, "_sources", {})
    registry.add_plugin(plugin)
    hungry = Arm(tricks=(TrickSpec(name="hungry", version=1, params={"folder": str(tmp_path)}),))
    specs = [tiny_spec(seed=seed).model_copy(update={"arm": hungry}) for seed in range(4)]
    prepare(tmp_path / "study")
    jobs = [Job.of(spec, "test", tmp_path / "study", Place(data_root=tmp_path)) for spec in specs]

    news = list(run_packed(jobs, [plugin], memory=partial(tuple, (70, 100))))
    ended = [n for n in news if isinstance(n, Finished)]

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


def in_private_mounts(cli, script):
    """What a shell script printed that may mount what it likes, out of sight of others.

    `harness` in it is the command line; the test is skipped where the system refuses.
    """
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    try:
        subprocess.run([*unshare, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting in a private namespace is refused here: {getattr(error, 'stderr', error)}")
    command = f'harness() {{ {shlex.quote(sys.executable)} -m harness "$@"; }}\n'
    done = subprocess.run(
        [*unshare, "bash", "-c", command + script], cwd=cli.folder, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.slow
def test_a_small_disk_that_grows_ends_with_the_rows_of_an_undisturbed_study(cli, short, uninterrupted):
    study = shlex.join(("harness", *STUDY, *short, "--results", "small"))
    done = in_private_mounts(
        cli,
        f"""
        mkdir small small-after; mount -t tmpfs -o size=200k tmpfs small
        {study}; echo $?; ls small/s/runs | wc -l
        mount -o remount,size=20m small
        {study}; echo $?
        cp -r small/s small-after/
        """,
    )
    code, rows, again = [line for line in done.stdout.splitlines() if line.isdigit()]

    assert (code, again) == ("2", "0"), done.stderr
    assert "error: No space left on device" in done.stderr
    assert 1 <= int(rows) < RUNS
    assert f"{rows} done already" in done.stderr
    pd.testing.assert_frame_equal(comparable(cli.folder / "small-after" / "s"), uninterrupted)


@pytest.mark.slow
def test_a_folder_that_becomes_read_only_is_one_line_and_the_same_command_goes_on(cli, short, uninterrupted, gate):
    study = shlex.join(("harness", *STUDY, *short, "--results", "fixed", "--workers", "1"))
    done = in_private_mounts(
        cli,
        f"""
        mkdir -p fixed/s; mount --bind fixed/s fixed/s
        {study} & while ! test -e at-the-gate; do sleep 0.1; done
        mount -o remount,ro,bind fixed/s; rm hold; wait $!; echo $?
        {study}; echo $?
        mount -o remount,rw,bind fixed/s
        {study}; echo $?
        """,
    )

    assert [line for line in done.stdout.splitlines() if line.isdigit()] == ["2", "2", "0"], done.stderr
    assert "error: Read-only file system" in done.stderr
    assert "error: results folder fixed/s cannot be written: Read-only file system; choose another" in done.stderr
    assert "1 done already" in done.stderr
    pd.testing.assert_frame_equal(comparable(cli.folder / "fixed" / "s"), uninterrupted)


@pytest.mark.slow
def test_a_study_needs_no_shared_memory_and_few_file_descriptors(cli, short, uninterrupted):
    study = shlex.join(("harness", *STUDY, *short, "--results", "few"))
    done = in_private_mounts(cli, f"mount -t tmpfs -o size=4k tmpfs /dev/shm; ulimit -n 64; {study}")

    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(comparable(cli.folder / "few" / "s"), uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("files", [10, 12, 14])
def test_too_few_file_descriptors_are_one_line_and_the_same_command_goes_on(cli, short, uninterrupted, files):
    study = shlex.join((sys.executable, "-m", "harness", *STUDY, *short, "--results", f"files{files}"))
    poor = subprocess.run(
        ["bash", "-c", f"ulimit -n {files}; {study}"], cwd=cli.folder, capture_output=True, text=True, check=False
    )
    again = cli(*STUDY, *short, "--results", f"files{files}")

    assert "Traceback" not in poor.stderr
    assert poor.returncode in (0, 2), poor.stderr
    assert poor.returncode == 0 or "oo many open files" in poor.stderr.splitlines()[-1]
    assert again.returncode == 0, again.stderr
    pd.testing.assert_frame_equal(comparable(cli.folder / f"files{files}" / "s"), uninterrupted)


@pytest.mark.slow
def test_two_studies_at_once_share_a_folder(cli, short, uninterrupted):
    both = [start(cli.folder, *STUDY, *short, "--results", "shared", "--workers", "1") for _ in range(2)]
    for command in both:
        returned, err = command.end()
        assert returned == 0, err

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
    *before, last = (line for line in out.stderr.splitlines() if line)
    assert last.startswith("error: the worker processes could not start (")
    assert "not in a worker" in last
    assert len(before) == 1, "how many runs there are"
