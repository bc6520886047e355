"""Processes that call functions for this one, each with a pipe of its own.

Nothing is shared between them, so one that is killed at any moment harms no other and leaves nothing locked. A process
ends with its parent, however that ended. This module imports nothing large: a new process watches its parent from
its first moments.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

from harness.ending import unbroken

Answer = TypeVar("Answer")

STARTS = 5
"""How often a process may be killed while it starts before there is no point in another."""

PATIENCE = 3.0
"""Seconds that a process which is no longer needed has to end by itself."""

CONTEXT = multiprocessing.get_context("spawn")

TERMINAL_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]
"""What a terminal sends to all processes of a command: the first of them decides what becomes of the others."""

HINTS = {
    "SIGKILL": "often the kernel, for want of memory; fewer --workers need less",
    "SIGSEGV": "a library read or wrote memory that is not its own",
    "SIGBUS": "often a /dev/shm or a disk that is full",
    "SIGABRT": "a library gave up; it may have said why in the terminal",
    "SIGILL": "a library was built for another processor",
    "SIGFPE": "a library divided by zero",
}

_reaping = threading.Lock()
"""Held while a process is started or waited for: `multiprocessing` does both for all processes of its parent."""


class Died(Exception):
    """A process ended before it had answered; the text says how."""

    def __init__(self, exitcode: int | None) -> None:
        self.killed = exitcode is not None and exitcode < 0
        super().__init__(how(exitcode))


class CannotStart(Exception):
    """No process can be set up; the text says why."""


def how(exitcode: int | None) -> str:
    """How a process ended, in words.

    Args:
        exitcode: as `multiprocessing` gives it: -N for the signal N.
    """
    if exitcode is None or exitcode >= 0:
        return f"it ended with exit code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"killed by {name}" + (f" ({HINTS[name]})" if name in HINTS else "")


@contextmanager
def main_hidden() -> Iterator[None]:
    """Start processes that do not run the user's script once more: nothing that they do is in it.

    A script without a guard would otherwise begin its study again in each of them, and wait for itself. A start is not
    broken off: the process would complain of a parent that is gone before it has said what to do.
    """
    main = vars(sys.modules["__main__"])
    with unbroken():  # and one by one: two threads that start processes would restore each other's gap
        kept: dict[str, Any] = {name: main.pop(name) for name in ("__file__", "__spec__") if name in main}
        main["__spec__"] = None
        try:
            yield
        finally:
            main.update(kept)


@dataclass(frozen=True)
class _Task:
    future: Future[Any]
    function: Callable[..., Any]
    args: Iterable[Any]
    told: Callable[[Any], None]


class _Process:
    """One process and the pipe to it. Used by one thread, but for `kill`."""

    def __init__(self) -> None:
        self._pipe, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=serve, args=(theirs,))
        with main_hidden():
            self._process.start()
        theirs.close()

    @property
    def alive(self) -> bool:
        return not wait([self._process.sentinel], 0)

    def call(
        self, function: Callable[..., Any], args: Iterable[Any], told: Callable[[Any], None] = lambda news: None
    ) -> tuple[bool, Any]:
        """What the function returned (True) or raised (False) over there; `told` gets what it tells meanwhile.

        Raises:
            Died: the process ended instead.
        """
        try:
            task = ForkingPickler.dumps((function, tuple(args)))
        except Exception as error:
            return False, error
        try:
            self._pipe.send_bytes(task)
            while True:
                answer = self._pipe.recv_bytes()
                try:
                    good, value = ForkingPickler.loads(answer)
                except Exception as error:
                    return False, error
                if good is not None:
                    return good, value
                told(value)
        except (EOFError, OSError):
            raise Died(self.end(0)) from None

    def kill(self) -> None:
        self._process.kill()

    def end(self, patience: float = PATIENCE) -> int | None:
        """Let the process end, and see that it does; returns its exit code."""
        self._pipe.close()
        wait([self._process.sentinel], patience)
        with _reaping:
            self._process.kill()
            self._process.join()
            return self._process.exitcode


class Processes:
    """A number of processes, and the tasks that wait for one of them. As a context, it ends with all tasks done.

    Args:
        count: how many.
        begin: called first in each process; can be pickled.
    """

    def __init__(self, count: int, begin: Callable[[], object]) -> None:
        self._begin = begin
        self._waiting: deque[_Task] = deque()
        self._changed = threading.Condition()  # and the lock of everything below
        self._processes: set[_Process] = set()
        self._closed = False
        self._end: BaseException | None = None
        self._threads = [threading.Thread(target=self._tend, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
        else:
            self.stop()
        for thread in self._threads:
            thread.join()

    def schedule(
        self,
        function: Callable[..., Answer],
        args: Iterable[Any] = (),
        told: Callable[[Any], None] = lambda news: None,
    ) -> Future[Answer]:
        """Call a function as soon as a process is free; both it and its arguments can be pickled.

        `told` is called, in another thread, with what the function tells meanwhile (see `tell`).

        The future holds what the function returned or raised, or `Died`, `CannotStart`, `OSError` when the system has
        no room for a process, or `CancelledError` after `stop`.
        """
        future: Future[Answer] = Future()
        with self._changed:
            if self._end is not None:
                future.set_exception(self._end)
            else:
                self._waiting.append(_Task(future, function, args, told))
                self._changed.notify()
        return future

    def stop(self) -> None:
        """Kill the processes, and end all tasks that are not done with `CancelledError`."""
        self._break(CancelledError("stopped"))
        with self._changed:
            for process in self._processes:
                process.kill()

    def _break(self, reason: BaseException) -> None:
        """Take nothing more, for this reason."""
        with self._changed:
            self._end = self._end or reason
            for task in self._waiting:
                if task.future.set_running_or_notify_cancel():
                    task.future.set_exception(self._end)
            self._waiting.clear()
            self._changed.notify_all()

    def _tend(self) -> None:
        """What a thread does for its process: start it, feed it, and start another when it has died."""
        if hasattr(signal, "pthread_sigmask"):  # processes inherit it, and are spared from their first moment
            signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
        process, task = None, None
        try:
            while True:
                if process is None or not process.alive:
                    self._forget(process)
                    process = self._start()
                if task is None:
                    task = self._take()
                    if task is None:
                        return
                elif not task.future.set_running_or_notify_cancel():
                    task = None
                else:
                    self._do(task, process)
                    task = None
        except BaseException as error:
            if task is not None:
                self._waiting.appendleft(task)
            self._break(error)
        finally:
            self._forget(process)

    def _start(self) -> _Process:
        """A process that has begun."""
        for _ in range(STARTS):
            with self._changed, _reaping:
                if self._end is not None:
                    raise self._end
                process = _Process()
                self._processes.add(process)
            try:
                good, error = process.call(self._begin, ())
            except Died as died:
                self._forget(process)
                if not died.killed:
                    raise CannotStart(str(died)) from None
                why = died
            else:
                if good:
                    return process
                self._forget(process)
                raise CannotStart(str(error) or type(error).__name__)
        raise CannotStart(f"{STARTS} died one after another: {why}")

    def _take(self) -> _Task | None:
        """The next task, or None when none will come."""
        with self._changed:
            while not self._waiting:
                if self._closed or self._end is not None:
                    return None
                self._changed.wait()
            return self._waiting.popleft()

    def _do(self, task: _Task, process: _Process) -> None:
        try:
            good, answer = process.call(task.function, task.args, task.told)
        except Died as died:
            good, answer = False, died if self._end is None else self._end
        if good:
            task.future.set_result(answer)
        else:
            task.future.set_exception(answer)

    def _forget(self, process: _Process | None) -> None:
        if process is not None:
            with self._changed:
                self._processes.discard(process)
            process.end()


_parent: Connection | None = None
"""In a process of this module, the pipe to its parent."""


def tell(news: object) -> None:
    """Tell the parent something while a function of its is under way; nothing happens in other processes."""
    if _parent is not None:
        with suppress(OSError):
            _parent.send_bytes(ForkingPickler.dumps((None, news)))


def serve(pipe: Connection) -> None:
    """What each process does: answer until the pipe is closed, or the parent is gone."""
    global _parent
    _parent = pipe
    for number in TERMINAL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv_bytes()
        except (EOFError, OSError):
            _end()
        try:
            function, args = ForkingPickler.loads(task)
            answer = (True, function(*args))
        except BaseException as error:
            answer = (False, error)
        try:
            reply = ForkingPickler.dumps(answer)
        except Exception as error:
            reply = ForkingPickler.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
        with suppress(OSError):
            pipe.send_bytes(reply)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        _end()


def _end() -> None:
    """End at once, with the processes that a library has started from here."""
    for child in multiprocessing.active_children():
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(0)
