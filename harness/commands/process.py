"""A command as a process: started without a shell, with its output in a log, and ended with all that it started."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GRACE = 30.0
"""Seconds between SIGTERM and SIGKILL."""

TAIL = 20
"""Lines of a log that an error shows."""

_GUARD = Path(__file__).with_name("guard.py")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or -N for the signal N; CPU seconds and peak resident bytes of all of it.

    `error` is why it could not start.
    """

    code: int
    timed_out: bool = False
    cpu: float = 0.0
    peak: int = 0
    error: str = ""


class Running:
    """A command under way. `stop` may be called from any thread."""

    def __init__(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path, seconds: float | None
    ) -> None:
        """Start it; `seconds` is the time after which it is ended."""
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        asked = {"argv": list(argv), "cwd": str(cwd), "env": dict(env), "log": str(log)}
        assert self._guard.stdin is not None
        with suppress(BrokenPipeError):
            self._guard.stdin.write(json.dumps(asked | {"seconds": seconds, "grace": GRACE}).encode() + b"\n")
            self._guard.stdin.flush()

    def wait(self) -> Ended:
        """Wait for its end."""
        assert self._guard.stdout is not None
        text = self._guard.stdout.read()
        code = self._guard.wait()
        self.stop()
        self._guard.stdout.close()
        try:
            return Ended(**{"code": 1, **json.loads(text)})
        except ValueError:
            return Ended(code or 1, error=f"what watched it ended with exit code {code}")

    def stop(self) -> None:
        """End it, and all that it started."""
        with self._lock, suppress(BrokenPipeError):
            if self._guard.stdin is not None and not self._guard.stdin.closed:
                self._guard.stdin.close()


def tail(log: Path, lines: int = TAIL) -> list[str]:
    """The last lines of a log; of a line that was written over, as progress bars do, what was seen last."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 65_536))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    seen = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return [line for line in seen if line][-lines:]
