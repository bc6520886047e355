import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pytest

from harness.cli import main
from harness.store.reader import read_search
from harness.tricks import registry
from processes import heed_signals


@dataclass
class Cli:
    """The command line in a folder of its own, as a user would type it."""

    folder: Path

    def __call__(self, *arguments, env=None):
        return subprocess.run(
            [sys.executable, "-m", "harness", *map(str, arguments)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=env,
            check=False,
        )

    def here(self, *arguments):
        """The same in this process, which has torch loaded already, and forgets plug-ins afterwards."""
        words, out, err, code = ["harness", *map(str, arguments)], StringIO(), StringIO(), 0
        alone = patch.object(sys, "argv", words), patch.dict(registry._plugins), patch.dict(registry._sources)
        with chdir(self.folder), redirect_stdout(out), redirect_stderr(err), alone[0], alone[1], alone[2]:
            try:
                main()
            except SystemExit as end:
                code = end.code or 0
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    return Cli(tmp_path_factory.mktemp("cli"))


SHORT = ("--set", "recipe.epochs=6", "--set", "data.test_size=400")


@pytest.fixture(scope="session")
def short():
    """Options that make a digits study take seconds."""
    return SHORT


STARTS = """
import time
from pathlib import Path

import harness.study.workers.local as local

train = local.train

def logged(job):
    with open("starts.log", "a") as file:
        file.write(job.spec.run_id + "\\n")
    mine = len(Path("starts.log").read_text().split())
    while Path("hold").exists() and mine > int(Path("hold").read_text()):
        time.sleep(0.05)
    return train(job)

local.train = logged

from typing import ClassVar
from harness.tricks.contract import Info, Trick

class Logged(Trick):
    info: ClassVar = Info(name="logged", family="m", summary="s", paper="p", formula="f", expect="e")
"""
"""A plug-in that writes down every run that a worker begins, and holds those beyond the number in the file `hold`."""


class Searches:
    """A working folder of its own for searches, whose runs are counted and can be held at a moment of choice."""

    def __init__(self, path):
        self.path, self.processes = path, []
        path.mkdir(exist_ok=True)
        (path / "starts.py").write_text(STARTS)

    def start(self, *arguments):
        """The command line in a process group of its own, where Ctrl-C is not ignored as it is in background jobs."""
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", *map(str, arguments), "--plugin", "starts.py"],
            cwd=self.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            preexec_fn=heed_signals,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def __call__(self, *arguments):
        process = self.start(*arguments)
        out, err = process.communicate()
        assert process.returncode == 0, err
        return out, err

    def hold(self, number):
        """Let this many runs train, of all processes together; the next ones begin and wait for `release`."""
        (self.path / "hold").write_text(str(number))

    def release(self):
        (self.path / "hold").unlink()

    def close(self):
        """Kill what a failed test left behind."""
        for process in self.processes:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def starts(self):
        path = self.path / "starts.log"
        return Counter(path.read_text().split()) if path.exists() else Counter()

    def record(self, name="s"):
        return read_search(self.path / "results" / name)

    def trials(self, name="s"):
        """What an undisturbed search and a resumed one must have in common."""
        return {
            arm.label: [(t.state, t.params, t.values, t.run_ids) for t in arm.trials] for arm in self.record(name).arms
        }


@pytest.fixture(scope="module")
def searches():
    """Make folders for searches."""
    made = []

    def make(path):
        made.append(Searches(path))
        return made[-1]

    yield make
    for folder in made:
        folder.close()
