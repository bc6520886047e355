"""Publishing: a study or a search as a small folder that anyone can read again.

It holds the declaration, the rows of the runs, their curves, and `outcomes` in place of the predictions; no weights and
no checkpoints. The bytes depend on the rows alone, so publishing the same study again changes nothing under version
control. Nothing here imports torch.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness.analysis.outcomes import tabulate
from harness.errors import UserError, did_you_mean
from harness.store.reader import KEY, StudyData, kept_rows, of_kept, read_kind, read_manifest, read_search, read_study
from harness.store.schema import OUTCOMES, SCHEMAS, Manifest
from harness.store.writer import TEMPORARY, atomically, write_table

DECLARATIONS = ("study.json", "search.json")
PREFACE = "preface.txt"
PATHS = re.compile(r"(?<![\w.])(?:~|/|[A-Za-z]:[\\/])(?:[^\s'\"/\\]+[/\\])+")
"""The folders of a path, up to the name of the file."""

SMALL = {"compression": "zstd", "compression_level": 19, "use_dictionary": True, "write_statistics": False}
"""Written once and kept for years: a second of work for a sixth of the size."""


def find(results: Path, names: Iterable[str]) -> list[Path]:
    """The folders of the named studies and searches of the user's own.

    Raises:
        UserError: a name is unknown.
    """
    known = {path.parent.name: path.parent for name in DECLARATIONS for path in sorted(results.glob(f"*/{name}"))}
    for name in names:
        if name not in known:
            raise UserError(
                f"unknown study '{name}' in {results}{did_you_mean(name, known)} Known: {', '.join(known) or 'none'}"
            )
    return [known[name] for name in names]


def read_preface(path: Path) -> str:
    """The text of a preface file.

    Raises:
        UserError: there is no such file, or it is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"preface {path} cannot be read: {why}; name a plain text file") from None


def publish(study_dir: Path, to: Path, preface: str | None = None, partial: bool = False) -> Path:
    """Write the published form of a study or search to `to`/<its name>, replacing an earlier one at once.

    Args:
        study_dir: the folder of the study, as it ran.
        to: the folder of the published ones.
        preface: what a reader should know first, as plain text; by default the study's own `preface.txt`, or else
            that of the earlier publication.
        partial: publish although runs are missing or files cannot be read.

    Returns:
        The folder written.

    Raises:
        UserError: runs are missing, files cannot be read, their data have a whole path, which all readers would see, or
            `to` holds something else under this name.
    """
    target = to / study_dir.name
    _check_target(study_dir, target)
    manifests, runs = _declared(study_dir)
    needed = {(run_id, m.fingerprint) for m in manifests for run_id in m.runs}
    data = read_study(study_dir, runs)
    _check_root(data.runs["spec"])
    if not partial:
        _check_complete(study_dir.name, data, needed)
    text = preface if preface is not None else _own_preface(study_dir, target)
    to.mkdir(parents=True, exist_ok=True)
    # Two levels down, where no reader looks for studies, and on the same file system, so that it can be renamed.
    with tempfile.TemporaryDirectory(dir=to, prefix=TEMPORARY) as temporary:
        made = Path(temporary) / "new"
        _write(made, study_dir, _outcomes(data, manifests), runs, text)
        old = Path(temporary) / "old"
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(made, target)
        except BaseException:
            if old.exists():
                os.replace(old, target)
            raise
    return target


def _check_target(study_dir: Path, target: Path) -> None:
    """Nothing that is not a publication is ever replaced."""
    if not target.exists():
        return
    if target.resolve() == study_dir.resolve():
        raise UserError(f"--to {target.parent}: that is where {study_dir.name} itself lies; name another folder")
    if (target / "predictions").exists() or not any((target / name).exists() for name in DECLARATIONS):
        raise UserError(f"{target} is no published study and would be replaced; name another folder with --to")


def _declared(study_dir: Path) -> tuple[list[Manifest], dict[str, str]]:
    """The comparisons, and all runs by id with their identities, those of trials and of stages among them."""
    if (study_dir / "study.json").exists():
        manifest = read_manifest(study_dir)
        return [manifest], manifest.runs | manifest.stage_runs
    record = read_search(study_dir)
    return list(record.comparisons.values()), record.runs


def _check_complete(name: str, data: StudyData, needed: set[tuple[str, str]]) -> None:
    missing = needed - set(zip(data.runs["run_id"], data.runs["fingerprint"], strict=True))
    if missing or not needed:  # a search compares when all its trials have ended
        what = f"{len(missing)} of {len(needed)} runs are missing" if needed else "its comparisons are missing"
        raise UserError(
            f"{name} is not finished: {what}; give its command again to finish it, or publish what there is with "
            "--partial"
        )
    if data.problems:
        raise UserError(f"{data.problems[0]}; remove the file, or publish what can be read with --partial")


def _check_root(specs: Iterable[str]) -> None:
    """The name of the data is part of what was trained, so it cannot be shortened afterwards."""
    for root in {json.loads(spec).get("data", {}).get("root") for spec in set(specs)}:
        if root is not None and Path(root).is_absolute():
            raise UserError(
                f"data.root = {root}: the study would be published with this path; train it with the folder's name as "
                "data.root and what is above it as --data-root"
            )


def _outcomes(data: StudyData, manifests: Iterable[Manifest]) -> pa.Table:
    """What the predictions say, or what they said where a study was published before and came back."""
    made = tabulate(data, manifests)
    return made if made.num_rows else pa.Table.from_pandas(data.outcomes, OUTCOMES, preserve_index=False)


def _own_preface(study_dir: Path, target: Path) -> str | None:
    paths = [folder / PREFACE for folder in (study_dir, target) if (folder / PREFACE).exists()]
    return read_preface(paths[0]) if paths else None


def _write(made: Path, study_dir: Path, outcomes: pa.Table, runs: dict[str, str], preface: str | None) -> None:
    made.mkdir()
    for name in DECLARATIONS:
        if (study_dir / name).exists():
            text = json.dumps(_without_paths(json.loads((study_dir / name).read_bytes())), indent=2, ensure_ascii=False)
            atomically(made / name, lambda file, text=text: file.write(text.encode()))
    if preface is not None:
        atomically(made / PREFACE, lambda file: file.write(preface.encode()))
    tables = {kind: read_kind(study_dir, kind, runs)[0] for kind in ("runs", "curves")} | {"outcomes": outcomes}
    if tables["runs"] is not None:
        tables["runs"] = kept_rows(tables["runs"])
        if tables["curves"] is not None:
            tables["curves"] = of_kept(tables["curves"], tables["runs"])
    for kind, table in tables.items():
        (made / kind).mkdir()
        if table is not None and table.num_rows:
            # The sort is stable: within a run, rows stay in the order in which it wrote them.
            ordered = table.sort_by([(column, "ascending") for column in KEY if column in table.column_names])
            whole = ordered.select(SCHEMAS[kind].names).cast(SCHEMAS[kind]).replace_schema_metadata(None)
            if kind == "runs":
                whole = _anonymous(whole)
            write_table(whole.combine_chunks(), made / kind / f"{kind}.parquet", **SMALL)


def _anonymous(runs: pa.Table) -> pa.Table:
    """Rows without the names of hosts, which become numbers, and without folders in the reasons of failures."""
    hosts = runs["host"].combine_chunks().dictionary_encode()
    numbers = [None if i is None else f"host {i + 1}" for i in hosts.indices.to_pylist()]
    reasons = [None if text is None else PATHS.sub("", text) for text in runs["reason"].to_pylist()]
    for column, values in (("host", numbers), ("reason", reasons)):
        runs = runs.set_column(
            runs.schema.get_field_index(column), runs.schema.field(column), pa.array(values, pa.string())
        )
    return runs


def _without_paths(record: Any) -> Any:
    """A declaration whose command and request name no folder of the machine that it ran on."""
    if isinstance(record, dict):
        return {key: _placed(key, value) for key, value in record.items()}
    return [_without_paths(value) for value in record] if isinstance(record, list) else record


def _placed(key: str, value: Any) -> Any:
    """One entry of a declaration: options have places in a command line and in a request (`harness.store.asked`)."""
    if key == "command" and isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError:
            return value
        before = (word.removeprefix("--") if word.startswith("--") else "" for word in ["", *words])
        return shlex.join(map(_elsewhere, before, words))
    if key == "asked" and isinstance(value, dict) and isinstance(value.get("options"), dict):
        options = {
            name: [_elsewhere(name, v) for v in given] if isinstance(given, list) else _elsewhere(name, given)
            for name, given in value["options"].items()
        }
        return value | {"options": options}
    return _without_paths(value)


def _elsewhere(option: str, value: Any) -> Any:
    """The value of an option for people who have other folders: the data root is DATA, and files are where one is."""
    if value and option == "data-root":
        return "DATA"
    return Path(value).name if value and option in ("plugin", "experiment") else value
