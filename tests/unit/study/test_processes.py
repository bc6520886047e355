"""Processes that are killed at every moment of their lives, with functions that need nothing large."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path

import pytest

from harness.study.workers import processes as module
from harness.study.workers.processes import CannotStart, Died, Processes, how

GUARD = 300
"""Seconds after which a test hangs: far more than a busy machine needs."""


def until(condition):
    """Wait for something that must happen."""
    end = time.monotonic() + GUARD
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found


def text_of(path):
    return path.read_text() if path.exists() else ""


def gone(pid):
    """Whether a process has ended with all of its threads, be it that nobody has asked for its exit code yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state == "Z" and len(os.listdir(f"/proc/{pid}/task")) == 1
    except (FileNotFoundError, ProcessLookupError):
        return True


def die(number):
    os.kill(os.getpid(), number)


def die_at_first(folder, times):
    """Begin of a process: killed so many times, then fine."""
    starts = Path(folder, "starts")
    with starts.open("a") as file:
        file.write("x")
    if len(starts.read_text()) <= times:
        die(signal.SIGKILL)


def broken():
    raise ImportError("no module of that name")


def leave(code):
    os._exit(code)


def write_pid_and_wait(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(10 * GUARD)


def have_a_child_and_wait(path):
    """As a run whose images are read ahead by processes."""
    multiprocessing.get_context("spawn").Process(target=write_pid_and_wait, args=(f"{path}-child",)).start()
    write_pid_and_wait(path)


def full():
    raise OSError(errno.ENOSPC, "No space left on device")


def test_answers_and_errors_come_back():
    with Processes(2, int) as processes:
        sums = [processes.schedule(sum, ([i, 1],)) for i in range(20)]
        failed = processes.schedule(full)

        assert [future.result(GUARD) for future in sums] == list(range(1, 21))
        assert failed.exception(GUARD).errno == errno.ENOSPC
        assert isinstance(processes.schedule(threading.Lock).exception(GUARD), RuntimeError), "no answer to send"
        with pytest.raises(Exception, match="pickle"):
            processes.schedule(lambda: 1).result(GUARD)


def test_a_process_that_dies_says_how_and_the_next_task_has_another():
    with Processes(1, int) as processes:
        first = processes.schedule(os.getpid).result(GUARD)
        killed = processes.schedule(die, (signal.SIGSEGV,)).exception(GUARD)
        left = processes.schedule(leave, (3,)).exception(GUARD)

        assert isinstance(killed, Died)
        assert str(killed) == "killed by SIGSEGV (a library read or wrote memory that is not its own)"
        assert str(left) == "it ended with exit code 3"
        assert processes.schedule(os.getpid).result(GUARD) != first


def test_a_process_that_dies_while_it_waits_costs_no_task():
    with Processes(1, int) as processes:
        pid = processes.schedule(os.getpid).result(GUARD)
        os.kill(pid, signal.SIGKILL)
        until(lambda: gone(pid))

        assert processes.schedule(os.getpid).result(GUARD) != pid


def test_a_process_killed_while_it_starts_is_started_again(tmp_path):
    with Processes(1, partial(die_at_first, str(tmp_path), 2)) as processes:
        assert processes.schedule(sum, ([1, 2],)).result(GUARD) == 3
    assert text_of(tmp_path / "starts") == "xxx"


def test_processes_that_are_always_killed_while_they_start_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STARTS", 2)
    with Processes(1, partial(die_at_first, str(tmp_path), 99)) as processes:
        error = processes.schedule(int).exception(GUARD)
        again = processes.schedule(int).exception(GUARD)

    assert isinstance(error, CannotStart)
    assert str(error).startswith("2 died one after another: killed by SIGKILL (often the kernel")
    assert isinstance(again, CannotStart), "what comes later is told, too"
    assert text_of(tmp_path / "starts") == "xx"


def test_what_cannot_start_is_not_tried_again():
    with Processes(2, broken) as processes:
        futures = [processes.schedule(int) for _ in range(3)]

        assert {str(future.exception(GUARD)) for future in futures} == {"no module of that name"}


def test_stopping_kills_what_is_under_way_and_takes_nothing_more(tmp_path):
    with Processes(1, int) as processes:
        running = processes.schedule(write_pid_and_wait, (str(tmp_path / "pid"),))
        waiting = processes.schedule(int)
        pid = int(until(lambda: text_of(tmp_path / "pid")))
        processes.stop()

    assert gone(pid)
    for future in (running, waiting, processes.schedule(int)):
        with pytest.raises(CancelledError):
            future.result(GUARD)


def test_no_room_for_a_process_is_the_system_s_error(monkeypatch):
    def no_room():
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(module, "_Process", no_room)
    with Processes(1, int) as processes:
        assert processes.schedule(int).exception(GUARD).errno == errno.EMFILE


PARENT = """
import sys, time
from harness.study.workers import processes
if __name__ == "__main__":
    sys.path.insert(0, {tests!r})
    import test_processes as t
    with processes.Processes(2, t.partial({begin})) as pool:
        for i in range(2):
            pool.schedule(t.have_a_child_and_wait, ({folder!r} + "/" + str(i),))
        time.sleep(t.GUARD)
"""


@pytest.mark.parametrize("begin", ["int", "t.write_pid_and_wait, {folder!r} + '/start'"], ids=["at work", "starting"])
def test_processes_end_when_their_parent_is_killed(tmp_path, begin):
    script = tmp_path / "parent.py"
    folder = str(tmp_path)
    script.write_text(PARENT.format(tests=str(Path(__file__).parent), begin=begin.format(folder=folder), folder=folder))
    parent = subprocess.Popen([sys.executable, str(script)])
    names = ["0", "1", "0-child", "1-child"] if begin == "int" else ["start"]
    pids = [int(until(lambda name=name: text_of(tmp_path / name))) for name in names]
    parent.kill()
    parent.wait()

    for pid in pids:
        until(lambda pid=pid: gone(pid))


@pytest.mark.parametrize(
    ("exitcode", "words"),
    [
        (-9, "killed by SIGKILL (often the kernel, for want of memory; fewer --workers need less)"),
        (-7, "killed by SIGBUS (often a /dev/shm or a disk that is full)"),
        (-15, "killed by SIGTERM"),
        (-99, "killed by signal 99"),
        (1, "it ended with exit code 1"),
    ],
)
def test_an_exit_code_in_words(exitcode, words):
    assert how(exitcode) == words
