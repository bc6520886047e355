"""Options that several commands share, and how their values are read and shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cpus import available
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.training.session import Place

Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="Python file with tricks of your own. Runs its code: use files you trust."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Results = Annotated[Path, typer.Option(help="Folder of all studies' rows.")]
Reports = Annotated[Path, typer.Option(help="Folder of the HTML reports.")]
Source = Annotated[str, typer.Option("--experiment", "-e", help="Bundled experiment name or .toml path.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="TRICK.PARAM=VALUE, or recipe.epochs=5; may be repeated.")
]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of each run; part of the fingerprint.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
CudaGraphs = Annotated[
    bool,
    typer.Option("--cuda-graphs", help="On a GPU, capture training steps and replay them, where the tricks allow it."),
]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder of the data sets; default $HARNESS_DATA or ~/.cache/harness.")
]


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


def parse_overrides(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`--set` values by section and key: trick.param=value, or section.key=value for recipe, data, model.

    Raises:
        UserError: not of the form NAME.KEY=VALUE.
    """
    import tomllib

    from harness.tricks import registry

    out: dict[str, dict[str, Any]] = {}
    for text in settings:
        left, equals, right = text.partition("=")
        section, dot, key = left.partition(".")
        if not (equals and dot and section and key):
            raise UserError(f"--set {text}: write NAME.KEY=VALUE, for example mixup.alpha=0.4 or recipe.epochs=5")
        try:
            value: Any = tomllib.loads(f"value = {right}")["value"]
        except tomllib.TOMLDecodeError:
            value = None if right == "null" else right  # TOML has no null; a bare word is a string
        if section in ("experiment", "data", "model", "recipe", "study"):
            target = out.setdefault(section, {})
        else:
            registry.check(section)
            target = out.setdefault("tricks", {}).setdefault(section, {})
        *nested, last = key.split(".")
        for part in nested:
            target = target.setdefault(part, {})
        target[last] = value
    return out


def make_place(
    device: str, threads: int, data_root: Path | None, cuda_graphs: bool = False, check: bool = False
) -> Place:
    """Where runs are trained: data folder, device and threads.

    Raises:
        UserError: no such data folder or device, or graphs on a device that has none.
    """
    from harness.data.disk import data_root as default_root
    from harness.data.disk import expand
    from harness.training.provenance import resolve_device
    from harness.training.session import Place

    root = default_root() if data_root is None else expand(data_root)
    if data_root is not None and not root.is_dir():
        raise UserError(f"--data-root {data_root}: no such folder")
    device = resolve_device(device)
    if cuda_graphs and not device.startswith("cuda"):
        raise UserError(f"--cuda-graphs with the device {device}: only a CUDA device has graphs; leave the option out")
    return Place(root.absolute(), device, threads, check=check, cuda_graphs=cuda_graphs)


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
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"--workers {text}: a number of processes, ray, or ray://HOST:PORT")
    return int(text)


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


def clean(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    return value
