"""Runs one command in a session of its own, and ends all of it when it is told to, or when its parent is gone.

A script of its own that imports nothing of this package: `python guard.py` reads one line of JSON from its input (argv,
cwd, env, log, seconds, grace), runs the command, and writes one line of JSON: code, timed_out, cpu, peak, or error. The
end of its input is the order to stop. What the command leaves behind in its session is ended, too.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time


def end(group: int, grace: float) -> None:
    """SIGTERM to a process group, and SIGKILL after so many seconds to what is left of it."""
    deadline = time.monotonic() + grace
    number: int = signal.SIGTERM
    while True:
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            return
        if number == signal.SIGKILL:
            return
        time.sleep(0.02)
        number = signal.SIGKILL if time.monotonic() > deadline else 0


def main() -> None:
    """Run what the first line of the input says."""
    asked = json.loads(sys.stdin.buffer.readline())
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        process = subprocess.Popen(
            asked["argv"], cwd=asked["cwd"], env=asked["env"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        answer({"error": f"{error.strerror}: {error.filename}"})
        return
    timed_out = threading.Event()

    def stop() -> None:
        end(process.pid, asked["grace"])

    def watch() -> None:
        sys.stdin.buffer.read()
        stop()

    def expire() -> None:
        timed_out.set()
        stop()

    threading.Thread(target=watch, daemon=True).start()
    if asked["seconds"] is not None:
        timer = threading.Timer(asked["seconds"], expire)
        timer.daemon = True
        timer.start()
    code = process.wait()
    stop()  # what it left behind
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes, but on macOS
    answer({
        "code": code, "timed_out": timed_out.is_set(), "cpu": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss * unit,
    })  # fmt: skip


def answer(facts: dict[str, object]) -> None:
    """One line of JSON to whoever started this."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
