"""Commands as processes: their output, their end, and the end of all that they start."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.commands import process as module
from harness.commands.process import Running, tail


@pytest.fixture
def start(tmp_path):
    """Start Python code as a command; its log is `log`."""

    def started(code, seconds=None):
        return Running([sys.executable, "-u", "-c", code], tmp_path, dict(os.environ), tmp_path / "log", seconds)

    return started


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def told(log):
    """The number that a command has printed."""
    while not (log.exists() and log.read_text().strip()):
        time.sleep(0.01)
    return int(log.read_text().split()[0])


def test_both_streams_are_in_the_log_and_input_is_empty(start, tmp_path):
    ended = start("import sys; print('out', repr(sys.stdin.read())); print('err', file=sys.stderr); sys.exit(3)").wait()

    assert (ended.code, ended.timed_out) == (3, False)
    assert sorted(tail(tmp_path / "log")) == ["err", "out ''"]


def test_no_shell_reads_the_words(tmp_path):
    running = Running(["echo", "$HOME", "*", "a b; exit 1"], tmp_path, dict(os.environ), tmp_path / "log", None)

    assert running.wait().code == 0
    assert tail(tmp_path / "log") == ["$HOME * a b; exit 1"]


def test_a_program_that_is_not_there_is_an_error_in_words(tmp_path):
    ended = Running(["no-such-program"], tmp_path, dict(os.environ), tmp_path / "log", None).wait()

    assert ended.error == "No such file or directory: no-such-program"
    assert ended.code != 0


def test_time_and_memory_are_those_of_the_command(start):
    ended = start("x = bytearray(50_000_000); [i * i for i in range(300_000)]").wait()

    assert ended.peak > 50_000_000
    assert ended.cpu > 0


def test_a_command_that_takes_too_long_is_ended(start):
    ended = start("import time; time.sleep(600)", seconds=0.3).wait()

    assert (ended.code, ended.timed_out) == (-15, True)


def test_a_command_that_ignores_sigterm_is_killed(start, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GRACE", 0.3)
    running = start("import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid()); time.sleep(600)")
    told(tmp_path / "log")
    running.stop()

    assert running.wait().code == -9


CHILD = (
    "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); print(p.pid)"
)


def test_what_a_command_leaves_behind_is_ended(start, tmp_path):
    assert start(CHILD).wait().code == 0
    child = told(tmp_path / "log")
    while alive(child):
        time.sleep(0.01)


def test_all_that_a_command_started_ends_with_it(start, tmp_path):
    running = start(f"{CHILD}; p.wait()")
    child = told(tmp_path / "log")
    threading.Timer(0.05, running.stop).start()

    assert running.wait().code == -15
    while alive(child):
        time.sleep(0.01)


def test_a_command_ends_when_whoever_started_it_is_killed(tmp_path):
    parent = (
        "import os; from pathlib import Path; from harness.commands.process import Running; "
        f"Running([{sys.executable!r}, '-u', '-c', 'import os, time; print(os.getpid()); time.sleep(600)'], Path('.'), "
        "dict(os.environ), Path('log'), None); "
        "import time\nwhile not os.path.exists('log') or not os.path.getsize('log'): time.sleep(0.01)\n"
        "os.kill(os.getpid(), 9)"
    )
    outer = Running([sys.executable, "-c", parent], tmp_path, dict(os.environ), tmp_path / "outer", None)

    assert outer.wait().code == -9
    child = told(tmp_path / "log")
    while alive(child):
        time.sleep(0.01)


def test_of_a_progress_bar_the_last_state_is_shown(tmp_path):
    (tmp_path / "log").write_bytes(b"start\n 10 %\r 50 %\r100 %\r\nend\xff\n\n")

    assert tail(tmp_path / "log") == ["start", "100 %", "end\ufffd"]
    assert tail(tmp_path / "log", 1) == ["end\ufffd"]
    assert tail(tmp_path / "none") == []
