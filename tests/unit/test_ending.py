"""Signals at every moment of a command, in processes of their own that import nothing large."""

import os
import signal
import subprocess
import sys

import pytest

from harness.ending import SHOW_CURSOR, STOPPED

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}

SCRIPT = """
import sys, time
from harness.ending import Interrupted, orderly, watch

def say(text):
    print(text, flush=True)

def command():
    {command}

watch()
{before}
orderly(command)
{after}
"""
WAIT = "say('ready'); time.sleep(600)"


def begin(command="pass", before="", after="", ignored=None):
    """A script that calls `command` as the command line is called."""

    def fresh():
        for number in CODES:
            signal.signal(number, signal.SIG_IGN if number == ignored else signal.SIG_DFL)

    text = SCRIPT.format(command="\n    ".join(command.splitlines()), before=before, after=after)
    return subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=fresh
    )


def line(process):
    return process.stdout.readline().strip()


def end(process):
    """Exit code, and what was said after the last line that was read."""
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.parametrize("number", CODES)
def test_a_signal_unwinds_says_one_line_and_gives_its_code(number):
    process = begin(f"try:\n    {WAIT}\nfinally:\n    say('tidied')")
    assert line(process) == "ready"
    process.send_signal(number)

    assert end(process) == (CODES[number], "tidied\n", STOPPED + "\n")


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_signal_before_or_after_the_command_is_one_line_too(where):
    process = begin(**{where: WAIT})
    assert line(process) == "ready"
    process.send_signal(signal.SIGTERM)

    assert end(process) == (143, "", STOPPED + "\n")


def test_a_second_signal_while_stopping_ends_at_once():
    process = begin(f"try:\n    {WAIT}\nfinally:\n    {WAIT}")
    assert line(process) == "ready"
    process.send_signal(signal.SIGINT)
    assert line(process) == "ready"
    process.send_signal(signal.SIGINT)

    assert end(process) == (130, "", "")


def test_a_signal_that_was_ignored_at_the_start_stays_ignored():
    process = begin(WAIT, ignored=signal.SIGHUP)
    assert line(process) == "ready"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)

    assert end(process) == (143, "", STOPPED + "\n"), "the second signal was the first that counted"


def test_a_signal_that_a_library_turns_into_another_error_still_ends_the_command():
    process = begin(f"try:\n    {WAIT}\nexcept BaseException:\n    raise ImportError('multiarray failed to import')")
    assert line(process) == "ready"
    process.send_signal(signal.SIGTERM)

    assert end(process) == (143, "", STOPPED + "\n")


def test_a_signal_in_a_destructor_is_not_lost():
    command = f"class Slow:\n    def __del__(self):\n        {WAIT}\nSlow()\n{WAIT}"
    process = begin(command)
    assert line(process) == "ready"
    process.send_signal(signal.SIGTERM)

    assert end(process) == (143, "", STOPPED + "\n")


def test_other_errors_and_exit_codes_are_left_alone():
    code, _, err = end(begin("raise ZeroDivisionError"))
    assert (code, err.splitlines()[-1]) == (1, "ZeroDivisionError")
    assert end(begin("sys.exit(5)")) == (5, "", "")


def test_a_terminal_gets_its_cursor_back():
    main, side = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(command=WAIT, before="", after="")], stdout=subprocess.PIPE, stderr=side
    )
    os.close(side)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate()

    assert os.read(main, 1000).decode().replace("\r", "") == f"{SHOW_CURSOR}{STOPPED}\n"
    os.close(main)


@pytest.mark.parametrize("arguments", [["ablate", "mixup"], ["search", "mixup"], ["tricks"], ["report"]], ids=" ".join)
def test_a_signal_while_the_command_line_is_imported_is_one_line(arguments, tmp_path):
    """The first import of typer, which every command needs, sends the signal."""
    (tmp_path / "typer.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(600)")
    out = subprocess.run(
        [sys.executable, "-m", "harness", *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )

    assert (out.returncode, out.stdout, out.stderr) == (143, "", STOPPED + "\n")


def test_a_signal_after_all_is_done_changes_nothing():
    """Sent by what Python destroys last, when signals have no handler any more."""
    script = (
        "import os, sys\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, me=os.getpid()):\n"
        "        kill(me, 15)\n"
        "sys.late = Late()\n"
        "sys.argv = ['harness', '--help']\n"
        "from harness.__main__ import main\n"
        "main()\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (out.returncode, out.stderr) == (0, "")
    assert "Usage" in out.stdout


STARTING = """
from multiprocessing import util
import threading
from harness.study.workers.processes import CONTEXT, main_hidden

spawn = util.spawnv_passfds

def slowly(*args):
    child = spawn(*args)
    say('started')
    time.sleep(0.5)
    return child

util.spawnv_passfds = slowly
process = CONTEXT.Process(target=print, args=('whole',))

def start():
    with main_hidden():
        process.start()
"""


@pytest.mark.parametrize("thread", ["main", "another"])
def test_a_process_that_starts_does_not_lose_its_parent_meanwhile(thread):
    """One whose parent ends before it has said what to do would print how it failed to read it."""
    call = "start()" if thread == "main" else "threading.Thread(target=start).start()"
    process = begin(f"try:\n    {call}\n    time.sleep(600)\nfinally:\n    say('tidied')", before=STARTING)
    assert [line(process), line(process)] == ["started"] * 2  # that of multiprocessing, which tidies up, and ours
    process.send_signal(signal.SIGTERM)
    code, out, err = end(process)

    assert (code, err) == (143, STOPPED + "\n")
    assert "tidied" in out
    assert "whole" in out
