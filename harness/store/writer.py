"""Writing rows: complete or not at all, by any number of processes at once, without a lock."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import UserError
from harness.identity import key_of
from harness.store.schema import CURVES, RUNS, SCHEMA_VERSION, Manifest, predictions_schema

KINDS = ("predictions", "curves", "runs")
"""In the order of writing: a row in `runs` says that the other two are complete."""

TEMPORARY = ".tmp-"


def prepare(study_dir: Path) -> None:
    """Create the folders of a study and see that they can be written.

    Raises:
        UserError: they cannot; names the folder and the system's reason.
    """
    try:
        for kind in KINDS:
            (study_dir / kind).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=study_dir, prefix=TEMPORARY):
            pass
    except OSError as error:
        raise UserError(
            f"results folder {study_dir} cannot be written: {error.strerror}; choose another with --results"
        ) from None


def write_run(
    study_dir: Path,
    row: Mapping[str, Any],
    points: Iterable[Mapping[str, Any]],
    predictions: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
) -> None:
    """Store one run.

    Args:
        study_dir: the study's folder.
        row: the columns of `RUNS`; missing ones become null.
        points: the columns epoch, step, split, metric and value of `CURVES`.
        predictions: (index (N,), label (N,), logits (N, K)) of the test split, or None.

    Raises:
        OSError: the file system refused, for example because it is full; nothing partial is left behind.
    """
    key = {"schema_version": SCHEMA_VERSION, "run_id": row["run_id"], "fingerprint": row["fingerprint"]}
    key |= {"identity": row.get("identity"), "finished": row.get("finished")}
    name = file_name(row["run_id"], row.get("identity") or "", row["fingerprint"])
    if predictions is not None:
        index, label, logits = predictions
        schema = predictions_schema(logits.shape[1])
        columns = {k: pa.repeat(pa.scalar(value, schema.field(k).type), len(index)) for k, value in key.items()}
        columns |= {"index": pa.array(index, pa.int64()), "label": pa.array(label, pa.int32())}
        flat = pa.array(logits.astype(np.float16).ravel())
        columns["logits"] = pa.FixedSizeListArray.from_arrays(flat, logits.shape[1])
        table = pa.Table.from_arrays([columns[k] for k in schema.names], schema=schema)
        write_table(table, study_dir / "predictions" / name)
    write_table(pa.Table.from_pylist([key | dict(p) for p in points], CURVES), study_dir / "curves" / name)
    write_table(pa.Table.from_pylist([dict(row) | key], RUNS), study_dir / "runs" / name)


def file_name(run_id: str, identity: str, fingerprint: str) -> str:
    """The file of one run's rows of any kind."""
    return f"{key_of(run_id, identity)}-{fingerprint}.parquet"


def write_table(table: pa.Table, path: Path, **options: Any) -> None:
    """Write a parquet file under a temporary name, flush it to disk, and rename it.

    The default options are the fast ones for the many small files of running studies.
    """
    options = {"compression": "lz4", "use_dictionary": False, "write_statistics": False} | options
    atomically(path, lambda file: pq.write_table(table, file, **options))


def write_manifest(study_dir: Path, manifest: Manifest) -> None:
    """Store the study's declaration, replacing an earlier one."""
    text = manifest.model_dump_json(indent=2).encode()
    atomically(study_dir / "study.json", lambda file: file.write(text))


def atomically(path: Path, write: Any) -> None:
    """Call `write(file)` on a temporary file beside `path` and rename it when all bytes are on disk."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
