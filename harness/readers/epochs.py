"""Logs with a row for each epoch, and the settings beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError
from harness.readers.record import Reader, Run, Unit
from harness.readers.table import flat, plain, read


def curve_of(path: Path, step: str = "epoch") -> list[dict[str, float]]:
    """The rows of an epoch log in order; headers in the middle are left out, and of an epoch that a resumed run
    repeats the last value of each column counts.
    """
    found: dict[float, dict[str, float]] = {}
    for run in read(path):
        numbers = {k: float(v) for k, v in run.values.items() if isinstance(v, int | float)}
        if step not in numbers:
            raise UserError(f"{path}, {run.where}: no {step}; its columns are {', '.join(run.values)}")
        found.setdefault(numbers[step], {}).update(numbers)  # sparse logs have several rows of one step
    return [found[at] for at in sorted(found)]


def settings_of(path: Path) -> Mapping[str, Any]:
    """A YAML file of settings with dotted names, read without making objects of it."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no settings by name; it must be the file that the program wrote")
    return {name: value for name, cell in flat(tree).items() if (value := plain(cell)) is not None}


def with_args(
    name: str, file: str, about: str, unit: Unit, note: Callable[[Mapping[str, Any]], str] = lambda settings: ""
) -> Reader:
    """A reader of folders with an epoch log and `args.yaml`, given as the folder, the log, or a folder of folders.

    `note` is that of a run with these settings.
    """

    def logs(path: Path) -> list[Path]:
        found = [path] if path.is_file() else sorted(path.rglob(file))
        return [log for log in found if log.name == file and (log.parent / "args.yaml").is_file()]

    def read_all(path: Path) -> Iterator[Run]:
        found = logs(path)
        if not found:
            raise UserError(f"{path}: no {file} with args.yaml beside it, as {name} writes them")
        for log in found:
            curve = curve_of(log)
            why = "" if curve else "it has no epoch"
            settings = settings_of(log.parent / "args.yaml")
            yield Run(settings, str(log), curve, why, note(settings))

    return Reader(name, about, lambda path: bool(logs(path)), read_all, unit)
