"""Writing rows: complete or not at all, by any number of processes at once, without a lock."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import UserError
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
    name = f"{row['run_id']}-{row['fingerprint']}.parquet"
    if predictions is not None:
        index, label, logits = predictions
        schema = predictions_schema(logits.shape[1])
        values = pa.FixedSizeListArray.from_arrays(pa.array(logits.astype(np.float16).ravel()), logits.shape[1])
        columns = [pa.repeat(pa.scalar(key[k], schema.field(k).type), len(index)) for k in key]
        columns += [pa.array(index, pa.int64()), pa.array(label, pa.int32()), values]
        write_table(pa.Table.from_arrays(columns, schema=schema), study_dir / "predictions" / name)
    write_table(pa.Table.from_pylist([key | dict(p) for p in points], CURVES), study_dir / "curves" / name)
    write_table(pa.Table.from_pylist([dict(row) | key], RUNS), study_dir / "runs" / name)


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


def consolidate(study_dir: Path, minimum: int = 2) -> None:
    """Merge the files of each kind into one, because a thousand small files read 100 times slower.

    The merged file appears before the small ones go, and readers drop duplicates, so at no moment does a
    reader see less than everything. Files that cannot be read stay where they are.

    Args:
        study_dir: the study's folder.
        minimum: leave a kind alone that has fewer files.
    """
    from harness.store.reader import read_kind

    for kind in KINDS:
        table, read, _problems = read_kind(study_dir, kind)
        if table is None or len(read) < minimum:
            continue
        merged = study_dir / kind / f"consolidated-{os.getpid()}-{_digest(read)}.parquet"
        write_table(table, merged, compression="zstd", use_dictionary=True, write_statistics=True)
        for path in read:
            if path != merged:
                path.unlink(missing_ok=True)


def _digest(paths: Sequence[Path]) -> str:
    import hashlib

    return hashlib.sha256("\n".join(sorted(p.name for p in paths)).encode()).hexdigest()[:12]
