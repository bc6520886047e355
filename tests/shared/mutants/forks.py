"""Runs a mutant in a process of its own, forked from one that has the libraries loaded but none of the code."""

import contextlib
import importlib.abc
import importlib.util
import math
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import pytest

WAITING = 600.0
"""Wall seconds beside ten times the tests' own, for what waits and does not compute."""
MEMORY = 16 * 2**30
"""Bytes that a mutant may address."""


@dataclass(frozen=True)
class Result:
    """What became of a mutant: "killed", "survived", or "untested" where no test runs the line; `by` which test."""

    mutant: object
    state: str
    by: str
    tests: int
    seconds: float


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from changed text, as if it stood in the file."""

    def __init__(self, root, mutant):
        self.path, self.source = str(root / mutant.file), mutant.source
        parts = Path(mutant.file).with_suffix("").parts
        self.package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.package else parts)

    def find_spec(self, fullname, path, target=None):
        if fullname != self.name:
            return None
        where = [str(Path(self.path).parent)] if self.package else None
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=self, submodule_search_locations=where
        )

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(compile(self.source, self.path, "exec"), vars(module))

    def get_filename(self, fullname):
        return self.path


class Chosen:
    """Runs these tests in this order, each with a limit of CPU time, and notes the first that fails."""

    def __init__(self, seconds, note, margin):
        self.seconds, self.note, self.margin = seconds, note, margin

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config, items):
        place = {test: i for i, test in enumerate(self.seconds)}
        items[:] = sorted((i for i in items if i.nodeid in place), key=lambda i: place[i.nodeid])
        if missing := len(place) - len(items):
            raise pytest.UsageError(f"{missing} of the recorded tests are not there")

    def pytest_runtest_logstart(self, nodeid, location):
        self.note.write_text(nodeid)
        limit = math.ceil(time.process_time() + 3 * self.seconds[nodeid] + self.margin)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def work(root, mutant, seconds, folder, margin):
    """What the forked process does; its exit status is that of pytest."""
    os.setsid()  # what it starts can be ended with it
    out = os.open(folder / "out", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(out, stream)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(root)
    if mutant is not None:
        changed = Changed(root, mutant)
        sys.meta_path.insert(0, changed)
        try:
            importlib.import_module(changed.name)  # before pytest, which imports files named test_* by itself
        except BaseException:
            traceback.print_exc()
            os._exit(int(pytest.ExitCode.INTERRUPTED))
    files = list(dict.fromkeys(test.partition("::")[0] for test in seconds))
    options = ["-x", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", ""]
    status = pytest.main(
        [*options, f"--basetemp={folder / 'tmp'}", *files], plugins=[Chosen(seconds, folder / "at", margin)]
    )
    sys.stdout.flush()
    os._exit(int(status))


def outcome(status, at):
    """State and killer, by the exit status of the process and the test at which it was."""
    if status == 0:
        return "survived", ""
    if status == -signal.SIGXCPU:
        return "killed", f"{at} (time)"
    if status in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED) or status < 0:
        return "killed", at or "import"  # without a test, the code or a test file could not be imported
    return "error", at


def run(root, plans, jobs, folder, margin):
    """Results of the plans (mutant or None, {test: seconds}), in the order in which they end; `jobs` at a time.

    Tests of one mutant run in one process until the first that fails. Each may take three times its own seconds and
    `margin` more of the CPU, for what is loaded or compiled for the first time.
    """
    context, waiting, running = multiprocessing.get_context("fork"), list(plans)[::-1], {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant, seconds = waiting.pop()
            if not seconds:
                yield Result(mutant, "untested", "", 0, 0.0)
                continue
            place = folder / str(len(waiting))
            place.mkdir()
            process = context.Process(target=work, args=(root, mutant, seconds, place, margin))
            process.start()
            running[process] = (mutant, seconds, place, time.monotonic())
        wait([p.sentinel for p in running], timeout=1.0)
        for process, (mutant, seconds, place, start) in list(running.items()):
            took = time.monotonic() - start
            late = took > 10 * sum(seconds.values()) + WAITING
            if process.is_alive() and not late:
                continue
            end_group(process.pid)
            process.join()
            del running[process]
            at = (place / "at").read_text() if (place / "at").exists() else ""
            state, by = ("killed", f"{at} (waits)") if late else outcome(process.exitcode, at)
            if state == "error":
                by = (place / "out").read_text(errors="replace")[-2000:]
            shutil.rmtree(place, ignore_errors=True)
            yield Result(mutant, state, by, len(seconds), took)


def end_group(pid):
    """End a forked process and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
