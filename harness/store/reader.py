"""Reading rows: everything that is whole; what is not is named and left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harness.errors import UserError
from harness.store.schema import CURVES, RUNS, SCHEMA_VERSION, Manifest
from harness.store.writer import KINDS, TEMPORARY, write_table

KEY = ["run_id", "fingerprint"]


@dataclass
class StudyData:
    """A study's tables and what could not be read. `predictions` is arrow, because it is large."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    predictions: pa.Table | None
    problems: list[str] = field(default_factory=list)

    def correct(self) -> dict[str, np.ndarray]:
        """For each run, whether each test image was classified right, in the order of the data set."""
        out: dict[str, np.ndarray] = {}
        if self.predictions is None:
            return out
        ids = self.predictions["run_id"].combine_chunks()
        if isinstance(ids, pa.DictionaryArray):
            ids = ids.dictionary_decode()
        classes = self.predictions.schema.field("logits").type.list_size
        logits = self.predictions["logits"].combine_chunks()
        values = logits.values if isinstance(logits, pa.FixedSizeListArray) else logits.flatten()
        predicted = values.to_numpy(zero_copy_only=False).reshape(-1, classes).argmax(1)
        frame = pd.DataFrame(
            {
                "run_id": ids.to_numpy(zero_copy_only=False),
                "index": self.predictions["index"].to_numpy(),
                "right": predicted == self.predictions["label"].to_numpy(),
            }
        )
        for run_id, group in frame.groupby("run_id", sort=False):
            out[str(run_id)] = group.sort_values("index")["right"].to_numpy()
        return out


def _expected(kind: str, found: pa.Schema) -> str:
    """Why a file's schema is not ours, or an empty string."""
    names = {"runs": RUNS.names, "curves": CURVES.names}.get(
        kind, ["schema_version", "run_id", "fingerprint", "index", "label", "logits"]
    )
    missing = [n for n in names if n not in found.names]
    if missing:
        return f"not a {kind} file of this program (no column {', '.join(missing[:3])})"
    wanted = {"runs": RUNS, "curves": CURVES}.get(kind)
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
        kind: runs, curves or predictions.
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
    unit = {"runs": [], "curves": ["step", "split", "metric"], "predictions": ["index"]}[kind]
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
    for kind in KINDS if predictions else ("curves", "runs"):
        tables[kind], _, found = read_kind(study_dir, kind, wanted)
        problems += found
    return StudyData(
        runs=_frame(tables["runs"], RUNS),
        curves=_frame(tables["curves"], CURVES),
        predictions=tables.get("predictions"),
        problems=problems,
    )


def _frame(table: pa.Table | None, schema: pa.Schema) -> pd.DataFrame:
    frame: pd.DataFrame = (schema.empty_table() if table is None else table).to_pandas()
    return frame


def read_manifest(study_dir: Path) -> Manifest:
    """The study's declaration.

    Raises:
        UserError: there is none, or it is broken.
    """
    path = study_dir / "study.json"
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{study_dir} holds no study (no study.json); run `harness ablate` first") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a study: {str(error).splitlines()[0]}") from None


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
