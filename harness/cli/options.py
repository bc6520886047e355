"""Options that several commands share, and how their values are read and shown."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from harness.cpus import available
from harness.errors import UserError
from harness.values import Keys, read_value

if TYPE_CHECKING:
    from harness.experiment import Experiment
    from harness.training.session import Place

MOST_WORKERS = 1024

Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="Python file with tricks of your own. Runs its code: use files you trust."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Results = Annotated[Path, typer.Option(help="Folder of all studies' rows.")]
Reports = Annotated[Path, typer.Option(help="Folder of the HTML reports.")]
ExperimentName = Annotated[str, typer.Option("--experiment", "-e", help="Bundled experiment name or .toml path.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="TRICK.PARAM=VALUE, or recipe.epochs=5; may be repeated.")
]
Threads = Annotated[int, typer.Option(min=1, max=1024, help="CPU threads of each run; part of the fingerprint.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
CudaGraphs = Annotated[
    bool,
    typer.Option("--cuda-graphs", help="On a GPU, capture training steps and replay them, where the tricks allow it."),
]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder of the data sets; default $HARNESS_DATA or ~/.cache/harness.")
]


OLD_NAMES = {"--check": "--verify"}
"""Options that were called otherwise, by their old names."""


class Renamed(TyperCommand):
    """A command that takes options by their old names, too, and says on stderr what they are called now."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        for old in OLD_NAMES.keys() & set(args):
            typer.echo(f"{old} is now called {OLD_NAMES[old]}", err=True)
        return super().parse_args(ctx, [OLD_NAMES.get(word, word) for word in args])


@dataclass(frozen=True)
class Options:
    """What `ablate`, `run` and `plan` have in common; the fields are the parameters of `ablate`."""

    tricks: list[str] | None
    experiment: str
    design: str | None
    seeds: str | None
    until_decided: bool
    max_seeds: int | None
    max_arms: int | None
    cross: str | None
    margin: float | None
    budget: str | None
    settings: list[str] | None
    device: str
    cuda_graphs: bool
    workers: str | None
    threads: int
    results: Path
    reports: Path
    data_root: Path | None
    name: str | None
    plugins: list[Path] | None
    as_json: bool
    dry_run: bool
    check: bool


Typed = dict[Keys, tuple[Any, str]]
"""Values that options gave, each with the option as it was typed, by the keys that lead to it."""


def parse_settings(settings: Sequence[str]) -> Typed:
    """The values of `--set`: trick.param=value, or section.key=value for experiment, data, model, recipe and study.

    Raises:
        UserError: not of the form NAME.KEY=VALUE, or an unknown trick.
    """
    from harness.tricks import registry

    out: Typed = {}
    for text in settings:
        left, equals, right = text.partition("=")
        section, *keys = left.split(".")
        if not (equals and section and keys and all(keys)):
            raise UserError(f"--set {text}: write NAME.KEY=VALUE, for example mixup.alpha=0.4 or recipe.epochs=5")
        if section not in ("experiment", "data", "model", "recipe", "study"):
            registry.check(section)
            keys, section = [section, *keys], "tricks"
        value = None if right == "null" else read_value(right, f"--set {text}")  # TOML has no null
        out[(section, *keys)] = value, f"--set {text}"
    return out


def load(experiment: str, typed: Typed) -> Experiment:
    """The experiment of that name or path with the values that options gave.

    Raises:
        UserError: as in `load_experiment`, or a value inside one that is no table.
    """
    from harness.experiment import load_experiment

    overrides: dict[str, dict[str, Any]] = {}
    for keys, (value, option) in typed.items():
        *outer, last = keys
        target: Any = overrides
        for key in outer:
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                raise UserError(f"{option}: {key} has another value, which holds no {last}; leave one of them out")
        target[last] = value
    return load_experiment(experiment, overrides, {keys: option for keys, (_, option) in typed.items()})


def data_folder(data_root: Path | None) -> Path:
    """The folder of the data sets, absolute: the one that was named, or the default.

    Raises:
        UserError: there is no such folder.
    """
    from harness.data.disk import data_root as default_root
    from harness.data.disk import expand

    root = default_root() if data_root is None else expand(data_root)
    if data_root is not None and not os.path.isdir(root):
        raise UserError(f"--data-root {data_root}: no such folder")
    return root.absolute()


def make_place(
    device: str, threads: int, data_root: Path | None, cuda_graphs: bool = False, check: bool = False
) -> Place:
    """Where runs are trained: data folder, device and threads.

    Raises:
        UserError: no such data folder or device, or graphs on a device that has none.
    """
    from harness.training.provenance import resolve_device
    from harness.training.session import Place

    root = data_folder(data_root)
    device = resolve_device(device)
    if cuda_graphs and not device.startswith("cuda"):
        raise UserError(f"--cuda-graphs with the device {device}: only a CUDA device has graphs; leave the option out")
    return Place(root, device, threads, check=check, cuda_graphs=cuda_graphs)


def parse_workers(text: str | None, place: Place) -> int | str | None:
    """The number of local workers, None for as many as one GPU holds, or a Ray address ("local" or "ray://...").

    Raises:
        UserError: neither a number from 1 nor a Ray address.
    """
    if text is None:
        return None if place.device.startswith("cuda") else max(1, available().count // place.threads)
    if text == "ray":
        return "local"
    if text.startswith("ray://"):
        return text
    count = whole(text)
    if count is None or not 1 <= count <= MOST_WORKERS:
        raise UserError(f"--workers {text}: a number of processes up to {MOST_WORKERS}, ray, or ray://HOST:PORT")
    return count


def whole(text: str) -> int | None:
    """A whole number in plain digits, or None: Python would also read those of other scripts, and has limits."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def slots(workers: int | str | None) -> int:
    """How many runs go on at once, for estimates: what a cluster or a GPU holds is not known before it is asked."""
    return 1 if workers is None else workers if isinstance(workers, int) else available().count


def read_toml(experiment: str) -> str:
    """The text of an experiment file, which is named or given by its path."""
    from harness.experiment import find_experiment

    return find_experiment(experiment).read_text(encoding="utf-8")


def duration(seconds: float) -> str:
    """A time in seconds, as text in seconds (below 90), minutes (below 90) or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def parse_time(text: str, option: str) -> float:
    """Seconds of a time such as "90s", "20m" or "1.5h", as `option` was given it.

    Raises:
        UserError: not of that form.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smh])", text)
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not seconds:
        raise UserError(f"{option} {text}: write a number and s, m or h, for example 20m")
    return seconds


def print_json(value: Any) -> None:
    """Print one document that every reader of JSON takes: NaN and infinities, which it has not, are null."""
    typer.echo(json.dumps(_clean(value), indent=2, allow_nan=False))


def _clean(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    return value
