"""Tables that training libraries log into: Lightning's metrics.csv, Keras's CSVLogger, fastai's history.csv."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.readers.epochs import curve_of, settings_of
from harness.readers.places import of_place
from harness.readers.record import Reader, Run, Unit


def _reader(
    name: str,
    about: str,
    pattern: str,
    step: str,
    unit: Unit | None,
    settings: Callable[[Path], dict[str, Any]],
    alone: bool,
) -> Reader:
    """A reader of log files that match a pattern, given as the file or as a folder of them.

    Args:
        name: of the reader.
        about: what it reads.
        pattern: of the files' names.
        step: column of the epoch or step.
        unit: of accuracies.
        settings: what files beside the log say.
        alone: whether the file's name tells that it is of this program.
    """

    def logs(path: Path) -> list[Path]:
        return [path] if path.is_file() else sorted(path.rglob(pattern))

    def read_all(path: Path) -> Iterator[Run]:
        found = logs(path)
        if not found:
            raise UserError(f"{path}: no {pattern} in it, as {name} writes them")
        root = path if path.is_dir() else path.parent
        for log in found:
            curve = curve_of(log, step)
            # A log without a name of its own is told by its folder.
            place = log.parent if log.name == pattern else log.with_suffix("")
            yield Run({**of_place(place, root), **settings(log)}, str(log), curve, "" if curve else "it has no row")

    def fits(path: Path) -> bool:
        return alone and (path.name == pattern if path.is_file() else bool(logs(path)))

    return Reader(name, about, fits, read_all, unit)


def _lightning(log: Path) -> dict[str, Any]:
    """What Lightning wrote beside a log: hyperparameters, and the configuration of its command line with the seed."""
    found: dict[str, Any] = {}
    for name in ("hparams.yaml", "config.yaml"):
        file = log.parent / name
        if file.is_file() and file.read_text(encoding="utf-8").strip() not in ("", "{}"):
            found |= settings_of(file)
    return found


LIGHTNING = _reader(
    "lightning",
    "Lightning's CSVLogger: metrics.csv, hparams.yaml, config.yaml",
    "metrics.csv",
    "step",
    None,
    _lightning,
    True,
)
FASTAI = _reader("fastai", "fastai's CSVLogger: history.csv", "history.csv", "epoch", "fraction", lambda log: {}, True)
KERAS = _reader("keras", "Keras's CSVLogger: a table for each run", "*.csv", "epoch", "fraction", lambda log: {}, False)
