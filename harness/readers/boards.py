"""Programs that log for dashboards, each with an extra: TensorBoard's event files, and runs at Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.readers.places import of_place
from harness.readers.record import Reader, Run
from harness.readers.table import flat, plain

EVENTS = "events.out.tfevents.*"
CHOSEN = ("bayes",)
"""Methods of a sweep that choose runs by the scores of others; those of a grid or drawn at random are no selection."""


def _extra(module: str, name: str) -> Any:
    """A package that only this reader needs."""
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise UserError(f"--from {name}: the package {name} is not there; pip install 'harness[{name}]'") from None


def _logdirs(path: Path) -> list[Path]:
    """Folders with event files: each is a run, as TensorBoard shows it."""
    return sorted({file.parent for file in path.rglob(EVENTS)}) if path.is_dir() else []


def read_tensorboard(path: Path) -> Iterator[Run]:
    """The runs of a log folder: all points of each scalar, of a step that a resumed run repeats the last one."""
    found = _logdirs(path)
    if not found:
        raise UserError(f"{path}: no {EVENTS} in it, as tensorboard writes them")
    events = _extra("tensorboard.backend.event_processing.event_accumulator", "tensorboard")
    arrays = _extra("tensorboard.util.tensor_util", "tensorboard")
    for folder in found:
        # Without sizes of zero it keeps a sample of the points: 10,000, but 10 of those that TensorFlow 2 wrote.
        log = events.EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
        log.Reload()
        curve: dict[int, dict[str, float]] = {}
        for tag in log.Tags()["scalars"]:
            for point in log.Scalars(tag):
                curve.setdefault(point.step, {"step": float(point.step)})[tag] = float(point.value)
        for tag in log.Tags()["tensors"]:
            for point in log.Tensors(tag):
                value = arrays.make_ndarray(point.tensor_proto)
                if value.size == 1 and value.dtype.kind in "fiu":
                    curve.setdefault(point.step, {"step": float(point.step)})[tag] = float(value.reshape(()))
        points = [curve[step] for step in sorted(curve)]
        yield Run(of_place(folder, path), str(folder), points, "" if points else "it has no scalar")


def read_wandb(path: Path) -> Iterator[Run]:
    """The runs of ENTITY/PROJECT: their configuration, and all rows of their history, which the usual call samples."""
    project = path.as_posix()
    if len(path.parts) != 2:
        raise UserError(f"{project} --from wandb: give ENTITY/PROJECT, as its address has it")
    api = _extra("wandb", "wandb").Api()
    try:
        runs = list(api.runs(project))
    except Exception as error:  # the package has an exception for each kind of failure
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{project} cannot be read from wandb: {why}; is WANDB_API_KEY set?") from None
    for run in runs:
        sweep = run.sweep
        if sweep is not None and str(sweep.config.get("method")) in CHOSEN:
            raise UserError(
                f"{project}, run {run.id}: its sweep chose runs by the scores of others: a best trial flatters itself. "
                "Train the winner and the baseline again with fresh seeds, and judge those"
            )
        values = {name: value for name, cell in flat(run.config).items() if (value := plain(cell)) is not None}
        curve = [
            {k: float(v) for k, v in flat(row).items() if isinstance(v, int | float) and not isinstance(v, bool)}
            for row in run.scan_history()
        ]
        why = "" if run.state == "finished" else f"wandb calls it {run.state}"
        yield Run({"name": run.name, **values}, f"{project}/{run.id}", curve, why)


TENSORBOARD = Reader(
    "tensorboard", "TensorBoard's event files, a folder for each run", lambda p: bool(_logdirs(p)), read_tensorboard
)
WANDB = Reader("wandb", "runs of Weights & Biases, as ENTITY/PROJECT", lambda p: False, read_wandb, address=True)
