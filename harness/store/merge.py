"""Merging files: the many small ones of a study into few, and finished runs of one study into another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from harness.store.reader import KEY, Key, kept_rows, of_kept, read_kind, without_replaced
from harness.store.writer import KINDS, file_name, write_table


def consolidate(study_dir: Path, minimum: int = 2) -> None:
    """Merge the files of each kind into one, because a thousand small files read 100 times slower.

    One row stays of each run, with its curves and predictions: attempts that a later one replaced go. The merged file
    appears before the small ones go, and readers read what is twice once, so at no moment does a reader see less than
    everything. Files that cannot be read stay where they are, and what they might hold is not taken for missing. The
    study's lock is held.

    Args:
        study_dir: the study's folder.
        minimum: leave a kind alone that has fewer files.
    """
    if all(len(list((study_dir / kind).glob("*.parquet"))) < minimum for kind in KINDS):
        return
    kept: pa.Table | None = None
    for kind in reversed(KINDS):  # what belongs to a row of runs was written before it
        merged = study_dir / kind / f"{kind}.parquet"
        before = {path: _state(path) for path in (study_dir / kind).glob("*.parquet")}
        table, read, problems = read_kind(study_dir, kind)
        if table is None or (merged in before and merged not in read):
            continue
        if kind == "runs":
            table = kept_rows(table)
            kept = None if problems else table
        elif kept is not None:
            table = without_replaced(table, kept)
        if len(read) < minimum:
            continue
        write_table(table, merged, compression="zstd", use_dictionary=True, write_statistics=True)
        for path in read:
            if path != merged and _state(path) == before.get(path):  # not written again meanwhile
                path.unlink(missing_ok=True)


def _state(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def adopt(study_dir: Path, found: Mapping[Key, Path]) -> None:
    """Copy finished runs of other studies into this one, so that each study's folder is complete by itself.

    Args:
        study_dir: the study's folder; runs that were found there stay as they are.
        found: for each run the folder that has it.
    """
    for source in sorted({folder for folder in found.values() if folder != study_dir}):
        _copy(study_dir, source, [key for key, folder in found.items() if folder == source])


def _copy(study_dir: Path, source: Path, keys: Iterable[Key]) -> None:
    keys = sorted(keys)
    ids = {run_id: identity for run_id, identity, _ in keys}
    runs, _, _ = read_kind(source, "runs", ids)
    if runs is None:
        return
    runs = kept_rows(runs)
    for kind in KINDS:
        table = runs if kind == "runs" else read_kind(source, kind, ids)[0]
        if table is None:
            continue
        if kind != "runs":
            table = of_kept(table, runs)
        for key in keys:
            mask = pa.scalar(True)
            for name, value in zip(KEY, key, strict=True):
                mask = pc.and_(mask, pc.equal(pc.fill_null(table[name], ""), value))
            rows = table.filter(mask)
            if rows.num_rows:
                write_table(rows, study_dir / kind / file_name(*key))
