"""All readers, and which of them reads a path."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

from harness.errors import UserError, did_you_mean
from harness.readers.boards import TENSORBOARD, WANDB
from harness.readers.databases import MLFLOW_DB, OPTUNA
from harness.readers.hf import HF
from harness.readers.hydra import HYDRA
from harness.readers.loggers import FASTAI, KERAS, LIGHTNING
from harness.readers.mlflow import MLFLOW
from harness.readers.mmengine import MMENGINE
from harness.readers.record import Reader
from harness.readers.sacred import SACRED
from harness.readers.table import TABLE
from harness.readers.timm import TIMM
from harness.readers.ultralytics import ULTRALYTICS

BUILT_IN = (
    HYDRA, TIMM, ULTRALYTICS, SACRED, HF, LIGHTNING, FASTAI, MMENGINE, MLFLOW, MLFLOW_DB, OPTUNA, TENSORBOARD, WANDB,
    KERAS, TABLE,
)  # fmt: skip
"""The more special ones first: the first that fits a path reads it."""

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npz", ".npy", ".bin")


def readers() -> Mapping[str, Reader]:
    """Readers by name: those of installed packages, which register them as `harness.readers`, and the built-in ones."""
    own = {reader.name: reader for reader in BUILT_IN}
    found: dict[str, Reader] = {}
    for entry in entry_points(group="harness.readers"):
        reader = entry.load()
        if not isinstance(reader, Reader):
            raise UserError(f"entry point {entry.name} of harness.readers is {reader!r}, and must be a Reader")
        if reader.name in own:
            raise UserError(f"entry point {entry.name} of harness.readers takes the name of a built-in reader")
        found[reader.name] = reader
    return found | own


def reader_for(path: Path, name: str | None = None) -> Reader:
    """The reader of this name, or the first that fits the path.

    Raises:
        UserError: there is no such path or reader, none fits, or reading the file would run code.
    """
    known = readers()
    if name and name in known and known[name].address:
        return known[name]
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder; give a table of runs or a folder of logs")
    if path.suffix.lower() in PICKLES:
        raise UserError(f"{path}: reading a {path.suffix} file can run code that it holds; export csv or json")
    if name is not None and name not in known:
        raise UserError(f"--from {name}: no such reader{did_you_mean(name, known)} Known: {', '.join(known)}")
    chosen = known[name] if name else next((r for r in known.values() if r.fits(path)), None)
    if chosen is None:
        raise UserError(f"{path}: no reader fits it; say which with --from {', '.join(known)}")
    return chosen
