"""Run as `harness` and as `python -m harness`."""

import atexit

from harness.ending import deafen, watch


def main() -> None:
    """The command line; signals are watched before anything large is imported."""
    watch()
    atexit.register(deafen)  # the first that is registered is the last that is called
    from harness.cli import main

    main()


if __name__ == "__main__":
    main()
