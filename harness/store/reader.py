"""Reading rows: everything that is whole; what is not is named and left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from harness.store.schema import CURVES, LATER_COLUMNS, OUTCOMES, RUNS, SCHEMA_VERSION, Manifest, SearchRecord
from harness.store.writer import KINDS, TEMPORARY, write_table

Record = TypeVar("Record", Manifest, SearchRecord)

KEY = ["run_id", "fingerprint"]

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
        if self.predictions is None or not self.predictions.num_rows:
            return {}
        columns = {name: self.predictions[name].combine_chunks() for name in (*KEY, "index", "label", "logits")}
        logits = columns["logits"].flatten().to_numpy(zero_copy_only=False).reshape(len(columns["index"]), -1)
        index, label = columns["index"].to_numpy(), columns["label"].to_numpy()
        ids, fingerprints = (columns[name].dictionary_encode() for name in KEY)
        code = ids.indices.to_numpy().astype(np.int64) * len(fingerprints.dictionary) + fingerprints.indices.to_numpy()
        order = np.argsort(code, kind="stable")
        out = {}
        for group in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
            rows = group[np.argsort(index[group])]
            # What has overflown float16 counts as its largest value. exp(z - max z) sums to 1 / confidence.
            z = np.clip(logits[rows].astype(np.float32), -HALF_MAX, HALF_MAX)
            confidence = 1 / np.exp(z - z.max(1, keepdims=True)).sum(1)
            key = ids[int(rows[0])].as_py(), fingerprints[int(rows[0])].as_py()
            out[key] = Answers(index[rows], label[rows], z.argmax(1), confidence)
        return out

    def correct(self, fingerprint: str) -> dict[str, NDArray[np.bool_]]:
        """For each run of that fingerprint, whether each test image was classified right, ordered by position."""
        return {run_id: answers.right for (run_id, mark), answers in self.answers.items() if mark == fingerprint}


def _expected(kind: str, found: pa.Schema) -> str:
    """Why a file's schema is not ours, or an empty string."""
    wanted = {"runs": RUNS, "curves": CURVES, "outcomes": OUTCOMES}.get(kind)
    names = wanted.names if wanted else ["schema_version", "run_id", "fingerprint", "index", "label", "logits"]
    names = [n for n in names if n in found.names or n not in LATER_COLUMNS]
    missing = [n for n in names if n not in found.names]
    if missing:
        return f"not a {kind} file of this program (no column {', '.join(missing[:3])})"
    if wanted is not None:
        for name in names:
            if found.field(name).type != wanted.field(name).type:
                return f"column {name} is {found.field(name).type}, not {wanted.field(name).type}"
    return ""


def read_kind(
    study_dir: Path, kind: str, runs: Iterable[str] | None = None
) -> tuple[pa.Table | None, list[Path], list[str]]:
    """All rows of one kind, the files they came from, and one line for each file that was left out.

    Args:
        study_dir: the study's folder.
        kind: runs, curves, predictions or outcomes.
        runs: only these run ids, or all.
    """
    wanted = None if runs is None else sorted(runs)
    for _attempt in range(20):
        tables, read, problems = [], [], []
        try:
            for path in sorted((study_dir / kind).glob("*.parquet")):
                if path.name.startswith(TEMPORARY):
                    continue
                try:
                    table = pq.ParquetFile(path).read(use_threads=False)
                except FileNotFoundError:
                    raise
                except (pa.ArrowInvalid, OSError, ValueError) as error:
                    problems.append(f"{path}: not readable as parquet, left out ({str(error).splitlines()[0][:120]})")
                    continue
                wrong = _expected(kind, table.schema)
                if wrong:
                    problems.append(f"{path}: {wrong}, left out")
                    continue
                versions = pc.unique(table["schema_version"]).to_pylist()
                if any(v is None or v > SCHEMA_VERSION for v in versions):
                    problems.append(
                        f"{path}: schema version {versions}, newer than {SCHEMA_VERSION}; update the program"
                    )
                    continue
                if wanted is not None:
                    table = table.filter(pc.is_in(table["run_id"], pa.array(wanted, pa.string())))
                for column in LATER_COLUMNS if kind == "runs" else ():
                    if column not in table.column_names:
                        table = table.append_column(column, pa.nulls(len(table), RUNS.field(column).type))
                read.append(path)
                tables.append(table)
        except FileNotFoundError:
            continue  # merged into another file between listing and reading: list again
        if not tables:
            return None, read, problems
        merged = pa.concat_tables(tables, promote_options="default")
        return _without_duplicates(merged, kind), read, problems
    raise UserError(f"{study_dir / kind} keeps changing while it is read; try again when the study has ended")


def _without_duplicates(table: pa.Table, kind: str) -> pa.Table:
    """One row (runs) or one group of rows for each run and fingerprint: the last one written."""
    unit = {
        "runs": [],
        "curves": ["step", "split", "metric"],
        "predictions": ["index"],
        "outcomes": ["against", "group", "key"],
    }[kind]
    keys = table.select(KEY + unit).to_pandas()
    if not keys.duplicated().any():
        return table
    if kind == "runs":
        order = table["finished"].to_pandas().argsort(kind="stable").to_numpy()
        keep = np.sort(order[~keys.iloc[order].duplicated(keep="last").to_numpy()])
    else:
        keep = np.flatnonzero(~keys.duplicated(keep="last").to_numpy())
    return table.take(pa.array(keep))


def read_study(study_dir: Path, runs: Iterable[str] | None = None, predictions: bool = True) -> StudyData:
    """Everything that a report needs of one study, restricted to `runs` when given."""
    wanted = None if runs is None else list(runs)
    tables, problems = {}, []
    for kind in (*KINDS, "outcomes") if predictions else ("curves", "runs"):
        tables[kind], _, found = read_kind(study_dir, kind, wanted)
        problems += found
    return StudyData(
        runs=_frame(tables["runs"], RUNS),
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


def study_folders(results: Path, published: bool = True) -> list[Path]:
    """All folders of studies: the user's, then the published ones unless they are not wanted."""
    patterns = ("*/runs", "published/*/runs") if published else ("*/runs",)
    return [p.parent for pattern in patterns for p in sorted(results.glob(pattern))]


def find_runs(results: Path, wanted: set[tuple[str, str]]) -> tuple[dict[tuple[str, str], Path], list[str]]:
    """Which of the wanted (run_id, fingerprint) have an `ok`, `diverged` or `skipped` row, and in which study.

    Failed rows are left out, so that a failed run is tried again. Published studies are left out, too: their
    rows come from elsewhere, without predictions and with timings of another machine.
    """
    found: dict[tuple[str, str], Path] = {}
    problems: list[str] = []
    for study_dir in study_folders(results, published=False):
        table, _, bad = read_kind(study_dir, "runs", {run_id for run_id, _ in wanted})
        problems += bad
        if table is None:
            continue
        columns = (table[c].to_pylist() for c in ("run_id", "fingerprint", "status"))
        for run_id, fingerprint, status in zip(*columns, strict=True):
            if status != "failed" and (run_id, fingerprint) in wanted:
                found.setdefault((run_id, fingerprint), study_dir)
    return found, problems


def find_row(study_dir: Path, run_id: str, fingerprint: str, columns: Sequence[str]) -> dict[str, Any] | None:
    """Some columns of one run's row, or None where the study has no such row. No other column is read from disk.

    Files that cannot be read are passed over.
    """
    own = study_dir / "runs" / f"{run_id}-{fingerprint}.parquet"
    for _attempt in range(20):
        try:
            rows = _rows(own, run_id, fingerprint, columns) if own.exists() else []
            if not rows:  # listed after the look at the run's own file, which merging removes last
                merged = sorted((study_dir / "runs").glob("consolidated-*.parquet"))
                rows = [row for path in merged for row in _rows(path, run_id, fingerprint, columns)]
        except FileNotFoundError:
            continue  # merged into another file meanwhile
        return max(rows, key=lambda row: row["finished"], default=None)
    return None


def _rows(path: Path, run_id: str, fingerprint: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of one run in one file, with `finished` beside the columns wanted."""
    try:
        with pq.ParquetFile(path) as file:
            if _expected("runs", file.schema_arrow):
                return []
            table = file.read([*dict.fromkeys([*KEY, "finished", *columns])], use_threads=False)
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError, ValueError):
        return []
    mask = pc.and_(pc.equal(table["run_id"], run_id), pc.equal(table["fingerprint"], fingerprint))
    rows: list[dict[str, Any]] = table.filter(mask).to_pylist()
    return rows


def adopt(study_dir: Path, source: Path, keys: set[tuple[str, str]]) -> None:
    """Copy finished runs of another study into this one, so that each study's folder is complete by itself."""
    ids = {run_id for run_id, _ in keys}
    for kind in KINDS:
        table, _, _ = read_kind(source, kind, ids)
        if table is None or not table.num_rows:
            continue
        for run_id, fingerprint in sorted(keys):
            mask = pc.and_(pc.equal(table["run_id"], run_id), pc.equal(table["fingerprint"], fingerprint))
            rows = table.filter(mask)
            if rows.num_rows:
                write_table(rows, study_dir / kind / f"{run_id}-{fingerprint}.parquet")
