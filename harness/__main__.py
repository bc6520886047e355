"""Run as `harness` and as `python -m harness`."""

from harness.ending import watch


def main() -> None:
    """The command line; signals are watched before anything large is imported."""
    watch()
    from harness.cli import main

    main()


if __name__ == "__main__":
    main()
