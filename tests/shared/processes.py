"""Processes that a test starts."""

import os
import signal

OUTSIDE = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
"""The environment without what `make test` itself was called with, which it hands on, and without this checkout."""


def heed_signals():
    """In a new process (`preexec_fn`): end at signals, also where background jobs or `nohup` ignore them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
