"""Processes that a test starts."""

import signal


def heed_signals():
    """In a new process (`preexec_fn`): end at signals, also where background jobs or `nohup` ignore them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
