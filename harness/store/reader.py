"""Reading rows: everything that is whole; what is not is named and left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.errors import UserError
from harness.store.schema import (
    CURVES,
    LATER_COLUMNS,
    OUTCOMES,
    RUNS,
    SCHEMA_VERSION,
    SCHEMAS,
    Manifest,
    SearchRecord,
)
from harness.store.writer import KINDS, TEMPORARY, file_name

Record = TypeVar("Record", Manifest, SearchRecord)

KEY = ["run_id", "identity", "fingerprint"]
Key = tuple[str, str, str]
"""A run's values of `KEY`: run id, identity (empty in rows of earlier versions) and fingerprint."""

HALF_MAX = 65504.0
"""The largest float16."""


@dataclass(frozen=True)
class Answers:
    """What one run says of its test images, (images,) each and ordered by their position in the data set.

    `confidence` is the largest softmax probability, float32, from the float16 logits that are stored.
    """

    index: NDArray[np.int64]
    label: NDArray[np.int32]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each image was classified right."""
        return np.equal(self.predicted, self.label)


@dataclass
class StudyData:
    """A study's tables and what could not be read. `predictions` is arrow, because it is large."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    predictions: pa.Table | None
    problems: list[str] = field(default_factory=list)
    outcomes: pd.DataFrame = field(default_factory=lambda: OUTCOMES.empty_table().to_pandas())
    """What a published study has in place of predictions; empty for others."""

    @property
    def classes(self) -> int | None:
        """How many classes the predictions tell apart, or None where neither they nor their outcomes are stored."""
        if self.predictions is not None:
            return int(self.predictions.schema.field("logits").type.list_size)
        return self.outcomes.loc[self.outcomes["group"] == "class", "key"].nunique() or None

    @cached_property
    def answers(self) -> dict[tuple[str, str], Answers]:
        """What each run's predictions say, by run id and fingerprint."""
        out = {}
        for key, index, label, z in self._logits():
            # exp(z - max z) sums to 1 / confidence.
            confidence = 1 / np.exp(z - z.max(1, keepdims=True)).sum(1)
            out[key] = Answers(index, label, z.argmax(1), confidence)
        return out

    def probabilities(self) -> Iterator[tuple[tuple[str, str], NDArray[np.int64], NDArray[np.float64]]]:
        """Of each run, by run id and fingerprint: labels (images,) and softmax probabilities (images, classes).

        From the float16 logits that are stored, ordered by position in the data set.
        """
        for key, _, label, z in self._logits():
            p = np.exp(z.astype(np.float64) - z.max(1, keepdims=True))
            yield key, label.astype(np.int64), p / p.sum(1, keepdims=True)

    def _logits(self) -> Iterator[tuple[tuple[str, str], NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]]:
        """Of each run: position and label (images,) and logits (images, classes), ordered by position."""
        if self.predictions is None or not self.predictions.num_rows:
            return
        names = ("run_id", "fingerprint", "index", "label", "logits")
        columns = {name: self.predictions[name].combine_chunks() for name in names}
        logits = columns["logits"].flatten().to_numpy(zero_copy_only=False).reshape(len(columns["index"]), -1)
        index, label = columns["index"].to_numpy(), columns["label"].to_numpy()
        ids, fingerprints = (columns[name].dictionary_encode() for name in names[:2])
        code = ids.indices.to_numpy().astype(np.int64) * len(fingerprints.dictionary) + fingerprints.indices.to_numpy()
        order = np.argsort(code, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
            rows = group[np.argsort(index[group])]
            key = ids[int(rows[0])].as_py(), fingerprints[int(rows[0])].as_py()
            # What has overflown float16 counts as its largest value.
            yield key, index[rows], label[rows], np.clip(logits[rows].astype(np.float32), -HALF_MAX, HALF_MAX)

    def correct(self, fingerprint: str) -> dict[str, NDArray[np.bool_]]:
        """For each run of that fingerprint, whether each test image was classified right, ordered by position."""
        return {run_id: answers.right for (run_id, mark), answers in self.answers.items() if mark == fingerprint}


def _expected(kind: str, found: pa.Schema) -> str:
    """Why a file's schema is not ours, or an empty string."""
    wanted = SCHEMAS[kind]
    names = [n for n in wanted.names if n in found.names or n not in LATER_COLUMNS[kind]]
    missing = [n for n in names if n not in found.names]
    if missing:
        return f"not a {kind} file of this program (no column {', '.join(missing[:3])})"
    for name in names:
        # How many logits a row has is the data set's affair.
        if found.field(name).type != wanted.field(name).type and name != "logits":
            return f"column {name} is {found.field(name).type}, not {wanted.field(name).type}"
    return ""


def read_kind(
    study_dir: Path, kind: str, runs: Mapping[str, str] | None = None
) -> tuple[pa.Table | None, list[Path], list[str]]:
    """All rows of one kind, the files they came from, and one line for each file that was left out.

    A run that was done again has the rows of all its attempts (see `read_study`), but what lies in two files while they
    are merged is read once.

    Args:
        study_dir: the study's folder.
        kind: runs, curves, predictions or outcomes.
        runs: only these run ids, each with its identity; all by default.
    """
    for _attempt in range(20):
        tables: list[pa.Table] = []
        read: list[Path] = []
        problems: list[str] = []
        try:
            for path in sorted((study_dir / kind).glob("*.parquet")):
                if path.name.startswith(TEMPORARY):
                    continue
                table, wrong = rows_of_file(path, kind)
                if table is None:
                    problems.append(f"{path}: {wrong}, left out")
                    continue
                read.append(path)
                tables.append(table if runs is None else _only(table, runs))
        except FileNotFoundError:
            continue  # merged into another file between listing and reading: list again
        if not tables:
            return None, read, problems
        return pa.concat_tables(_once(tables), promote_options="default"), read, problems
    raise UserError(f"{study_dir / kind} keeps changing while it is read; try again when the study has ended")


def rows_of_file(path: Path, kind: str, columns: Sequence[str] | None = None) -> tuple[pa.Table | None, str]:
    """The rows of one file, or None and the reason why it is left out.

    Args:
        path: of the file.
        kind: what rows it has.
        columns: those wanted; all of today by default.

    Raises:
        FileNotFoundError: the file is gone.
    """
    try:
        with pq.ParquetFile(path) as file:
            wrong = _expected(kind, file.schema_arrow)
            if wrong:
                return None, wrong
            present = set(file.schema_arrow.names)
            read = None if columns is None else [c for c in ("schema_version", *columns) if c in present]
            table = file.read(read, use_threads=False)
    except FileNotFoundError:
        if path.is_symlink():
            return None, "a link to nothing"
        raise
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        return None, f"not readable as parquet ({str(error).splitlines()[0][:120]})"
    versions = pc.unique(table["schema_version"]).to_pylist()
    if any(v is None or v > SCHEMA_VERSION for v in versions):
        return None, f"schema version {versions}, newer than {SCHEMA_VERSION}; update the program"
    return _with_later(table, kind), ""


def _with_later(table: pa.Table, kind: str) -> pa.Table:
    """The table with the columns that files of an earlier version lack."""
    for column in LATER_COLUMNS[kind]:
        if column not in table.column_names:
            table = table.append_column(column, pa.nulls(len(table), SCHEMAS[kind].field(column).type))
    return table


def _only(table: pa.Table, runs: Mapping[str, str]) -> pa.Table:
    """The rows of these runs with their identities; outcomes have none, since a publication has one of each run."""
    if "identity" not in table.column_names:
        return table.filter(pc.is_in(table["run_id"], pa.array(sorted(runs), pa.string())))
    wanted = pa.array([f"{run_id} {identity}" for run_id, identity in runs.items()], pa.string())
    found = pc.binary_join_element_wise(table["run_id"], pc.fill_null(table["identity"], ""), " ")
    return table.filter(pc.is_in(found, wanted))


def _once(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """The tables without the attempts at runs that a later table has, too."""
    seen: set[str] = set()
    out = []
    for table in reversed(tables):
        attempts = _attempts(table)
        known = pc.unique(attempts).to_pylist()
        again = [a for a in known if a in seen]
        if again:
            table = table.filter(pc.invert(pc.is_in(attempts, pa.array(again, pa.string()))))
        seen.update(known)
        out.append(table)
    return out[::-1]


def _attempts(table: pa.Table) -> pa.ChunkedArray:
    """For each row, what tells the attempt at a run that it belongs to from all others."""
    names = [name for name in (*KEY, "finished") if name in table.column_names]
    columns = (table[name].cast(pa.int64()).cast(pa.string()) if name == "finished" else table[name] for name in names)
    parts = [pc.fill_null(column, "") for column in columns]
    return pc.binary_join_element_wise(*parts, " ")


def counting(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each run, the attempt that counts: one that finished, if any did, and then the latest.

    They come in that order, with the column `ok`, which says whether the run finished.
    """
    order = runs.assign(ok=runs["status"] == "ok").sort_values(["ok", "finished"], kind="stable")
    return order.drop_duplicates(KEY, keep="last")


def kept_rows(runs: pa.Table) -> pa.Table:
    """The rows that count, in their order in the table."""
    kept = counting(runs.select([*KEY, "status", "finished"]).to_pandas())
    return runs.take(pa.array(np.sort(kept.index.to_numpy())))


def of_kept(table: pa.Table, runs: pa.Table) -> pa.Table:
    """The rows of a table that belong to the kept rows of runs; those of files that do not tell stay, too."""
    return table.filter(pc.or_(pc.is_null(table["finished"]), _of_kept(table, runs)))


def _of_kept(table: pa.Table, runs: pa.Table) -> pa.ChunkedArray:
    return pc.is_in(_attempts(table), pc.unique(_attempts(runs)))


def without_replaced(table: pa.Table, runs: pa.Table) -> pa.Table:
    """The rows of a table without those of attempts that a kept row of runs has replaced.

    Rows of a run that has no row yet stay: it is written last.
    """
    unknown = pc.invert(pc.is_in(_keys(table), pc.unique(_keys(runs))))
    return table.filter(pc.or_(unknown, pc.or_(pc.is_null(table["finished"]), _of_kept(table, runs))))


def _keys(table: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(*(pc.fill_null(table[name], "") for name in KEY), " ")


def read_study(study_dir: Path, runs: Mapping[str, str] | None = None, predictions: bool = True) -> StudyData:
    """Everything that a report needs of one study: of each run the attempt that counts, with its curves.

    Args:
        study_dir: the study's folder.
        runs: only these run ids, each with its identity, which is how rows of other images or code are left out; all
            by default.
        predictions: whether predictions and outcomes are wanted, too.
    """
    tables, problems = {}, []
    for kind in (*KINDS, "outcomes") if predictions else ("curves", "runs"):
        tables[kind], _, found = read_kind(study_dir, kind, runs)
        problems += found
    rows = tables["runs"]
    if rows is not None:
        rows = tables["runs"] = kept_rows(rows)
        for kind in ("curves", "predictions"):
            if tables.get(kind) is not None:
                tables[kind] = of_kept(tables[kind], rows)
    return StudyData(
        runs=_frame(rows, RUNS),
        curves=_frame(tables["curves"], CURVES),
        predictions=tables.get("predictions"),
        problems=problems,
        outcomes=_frame(tables.get("outcomes"), OUTCOMES),
    )


def _frame(table: pa.Table | None, schema: pa.Schema) -> pd.DataFrame:
    frame: pd.DataFrame = (schema.empty_table() if table is None else table).to_pandas()
    return frame


def read_manifest(study_dir: Path) -> Manifest:
    """The study's declaration.

    Raises:
        UserError: there is none, or it is broken.
    """
    return _read_record(study_dir / "study.json", Manifest, "study", "harness ablate")


def read_search(search_dir: Path) -> SearchRecord:
    """The search's record.

    Raises:
        UserError: there is none, or it is broken.
    """
    return _read_record(search_dir / "search.json", SearchRecord, "search", "harness search")


def _read_record(path: Path, record: type[Record], what: str, command: str) -> Record:
    try:
        return record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path.parent} holds no {what} (no {path.name}); run `{command}` first") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a {what}: {str(error).splitlines()[0]}") from None


def find_row(study_dir: Path, key: Key, columns: Sequence[str]) -> dict[str, Any] | None:
    """Some columns of one run's row, or None where the study has no such row. No other column is read from disk.

    Files that cannot be read are passed over.
    """
    own = study_dir / "runs" / file_name(*key)
    for _attempt in range(20):
        try:
            rows = _rows(own, key, columns) if own.exists() else []
            if not rows:  # listed after the look at the run's own file, which merging removes last
                merged = [path for path in sorted((study_dir / "runs").glob("*.parquet")) if _is_merged(path)]
                rows = [row for path in merged for row in _rows(path, key, columns)]
        except FileNotFoundError:
            continue  # merged into another file meanwhile
        return max(rows, key=lambda row: (row["status"] == "ok", row["finished"]), default=None)
    return None


def _is_merged(path: Path) -> bool:
    """Whether a file may hold many runs; the second name is that of earlier versions."""
    return path.stem == path.parent.name or path.name.startswith("consolidated-")


def _rows(path: Path, key: Key, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of one run in one file, with `status` and `finished` beside the columns wanted."""
    table, _ = rows_of_file(path, "runs", [*dict.fromkeys([*KEY, "status", "finished", *columns])])
    if table is None:
        return []
    table = _only(table, {key[0]: key[1]})
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["fingerprint"], key[2])).to_pylist()
    return rows


def replicated(study_dir: Path, manifest: Manifest) -> Path | None:
    """The folder of the study that this one replicates, beside it or published; None where there is none."""
    name = manifest.replicates
    if not name or Path(name).name != name:  # a foreign file could lead elsewhere
        return None
    beside = study_dir.absolute().parent
    homes = [beside, beside / "published", *([beside.parent] if beside.name == "published" else [])]
    return next((home / name for home in homes if (home / name / "study.json").is_file()), None)


def read_replicated(study_dir: Path, manifest: Manifest) -> tuple[Manifest, pd.DataFrame] | None:
    """Declaration and runs of the study that this one replicates; None where it is not here or cannot be read."""
    folder = replicated(study_dir, manifest)
    if folder is None:
        return None
    try:
        before = read_manifest(folder)
        return before, read_study(folder, before.runs, predictions=False).runs
    except UserError:
        return None
