"""How a command ends that is told to: Ctrl-C, SIGTERM of a cluster or a service, SIGHUP of a closed terminal.

All of them are one exception in the main thread. It passes through whatever is under way, so that worker processes are
stopped and files that are half written are removed; then one line says that the same command goes on. A second signal
ends the command where it stands; worker processes see that their parent is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

STOPPED = "stopped; finished runs are stored, and the same command goes on from here"
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
SHOW_CURSOR = "\x1b[?25h"
"""Progress bars hide it."""


class Interrupted(BaseException):
    """A signal has come. No `KeyboardInterrupt`, which libraries answer with words and exit codes of their own."""


class _State:
    came: int | None = None
    """The first signal."""
    under_way = False
    """Whether an exception would find somebody to catch it."""
    held = False
    """Whether the main thread does something that is not broken off."""
    unbroken = threading.RLock()


PATIENCE = 3.0
"""Seconds that a command which ends waits for what other threads do not want broken off."""


@contextmanager
def unbroken() -> Iterator[None]:
    """What is done inside, by one thread at a time, is not broken off by a first signal, which waits for its end."""
    main = threading.current_thread() is threading.main_thread()
    with _State.unbroken:
        before, _State.held = _State.held, _State.held or main
        came = _State.came
        try:
            yield
        finally:
            _State.held = before
    if main and not before and _State.came is not None and came is None:
        _act(_State.came)


def watch() -> None:
    """From now on signals end this process in an orderly way. One that is ignored (`nohup`) stays ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _came)
    sys.unraisablehook = _unraisable


def deafen() -> None:
    """Ignore signals from now on: all is done, and Python, which takes itself apart, has no handler any more."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def orderly(command: Callable[[], None]) -> None:
    """Call a command; when a signal ends it, say so in one line and exit with 128 + the signal's number."""
    hook, handlers = sys.unraisablehook, {number: signal.getsignal(number) for number in SIGNALS}
    try:
        try:
            watch()
            _State.under_way = True
            command()
        finally:
            _State.under_way = False
    except BaseException:
        if _State.came is not None:
            leave(_State.came)
        raise
    finally:
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: not Python's own


def leave(number: int) -> NoReturn:
    """End this process: without threads, exit handlers and libraries, any of which could wait for something."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    _State.unbroken.acquire(timeout=PATIENCE)
    _write(STOPPED + "\n")
    os._exit(128 + number)


def _came(number: int, frame: object) -> None:
    if _State.came is not None:
        _write("")
        os._exit(128 + number)
    _State.came = number
    if not _State.held:
        _act(number)


def _act(number: int) -> None:
    if not _State.under_way:
        leave(number)
    raise Interrupted


def _unraisable(what: Any) -> None:
    """An exception in a destructor, which nobody can catch."""
    if what.exc_type is Interrupted and _State.came is not None:
        leave(_State.came)
    sys.__unraisablehook__(what)


def _write(text: str) -> None:
    """Write past Python's buffers, which the code that a signal broke into may hold."""
    with suppress(OSError):
        os.write(2, ((SHOW_CURSOR if os.isatty(2) else "") + text).encode())
