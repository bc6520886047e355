"""Which studies are there, and which of them has a finished run."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from harness.identity import Identity, difference
from harness.store.reader import Key, rows_of_file
from harness.store.writer import TEMPORARY


def study_folders(results: Path, published: bool = True) -> list[Path]:
    """All folders of studies: the user's, then the published ones unless they are not wanted."""
    patterns = ("*/runs", "published/*/runs") if published else ("*/runs",)
    return [p.parent for pattern in patterns for p in sorted(results.glob(pattern))]


SETTLED_NS = 2_000_000_000
"""A folder that changed within this time may change again without getting another time."""

_State = tuple[int, int, int]
"""A file's time of change, size and inode."""


class _Stored(NamedTuple):
    """What is known of a stored run: where it lies and what decided its numbers."""

    folder: Path
    identity: str
    fingerprint: str
    identity_json: str
    fingerprint_json: str


class FinishedRuns:
    """The `ok`, `diverged` and `skipped` runs in all studies of a results folder.

    Failed rows are left out, so that a failed run is tried again. Published studies are left out, too: their rows come
    from elsewhere, without predictions and with timings of another machine. Files are read once, and again when they
    change.
    """

    def __init__(self, results: Path, leave_out: Path | None = None) -> None:
        self._results, self._leave_out = results, leave_out
        self._folders: dict[Path, tuple[int, dict[Path, _State]]] = {}
        self._files: dict[Path, tuple[_State, list[tuple[str, _Stored]]]] = {}
        self._runs: dict[str, list[_Stored]] = {}
        self.problems: list[str] = []
        self.refresh()

    def refresh(self) -> None:
        """Look for files that are new, changed or gone."""
        folders = [f for f in study_folders(self._results, published=False) if f != self._leave_out]
        self._folders = {folder: self._listed(folder / "runs") for folder in folders}
        present = {path: state for _, files in self._folders.values() for path, state in files.items()}
        if present == {path: state for path, (state, _) in self._files.items()}:
            return
        self.problems = []
        self._files = {path: (state, self._read(path, state)) for path, state in present.items()}
        self._runs = {}
        for _, rows in self._files.values():
            for run_id, stored in rows:
                self._runs.setdefault(run_id, []).append(stored)

    def find(self, key: Key, first: Path | None = None) -> Path | None:
        """The folder of a study that has the run, `first` if it does."""
        run_id, identity, fingerprint = key
        stored = self._runs.get(run_id, ())
        folders = [s.folder for s in stored if (s.identity, s.fingerprint) == (identity, fingerprint)]
        return first if first in folders else next(iter(folders), None)

    def explain(self, wanted: Mapping[str, tuple[Identity, str]]) -> list[str]:
        """Why stored runs of the wanted specs are not taken, one line for each reason with their number.

        Args:
            wanted: for each missing run id its identity and the JSON of the fingerprint.
        """
        found: Counter[str] = Counter()
        for run_id, (identity, machine) in wanted.items():
            why = {_differs(s, identity, machine) for s in self._runs.get(run_id, ())}
            found.update(sorted(why)[:1])
        return [f"{n} stored run{'s are' if n > 1 else ' is'} {why}: not used" for why, n in found.most_common() if why]

    def _listed(self, runs: Path) -> tuple[int, dict[Path, _State]]:
        """The files of a folder with their states, after the time of the folder, or 0 where that does not tell all.

        A folder in which a file was made or removed has another time than before, but two changes may share a moment.
        """
        try:
            changed = runs.stat().st_mtime_ns
        except OSError:
            return 0, {}
        known = self._folders.get(runs.parent)
        if known is not None and known[0] == changed:
            return known
        files: dict[Path, _State] = {}
        for path in sorted(runs.glob("*.parquet")):
            if path.name.startswith(TEMPORARY):
                continue
            try:
                stat = path.stat()
            except OSError:  # merged into another file meanwhile, or a link to nothing
                continue
            files[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return changed if time.time_ns() - changed > SETTLED_NS else 0, files

    def _read(self, path: Path, state: _State) -> list[tuple[str, _Stored]]:
        if path in self._files and self._files[path][0] == state:
            return self._files[path][1]
        columns = ("run_id", "status", "identity", "fingerprint", "identity_json", "fingerprint_json")
        try:
            table, wrong = rows_of_file(path, "runs", columns)
        except FileNotFoundError:
            return []
        if table is None:
            self.problems.append(f"{path}: {wrong}, left out")
            return []
        folder, out = path.parent.parent, []
        for row in zip(*(table[name].to_pylist() for name in columns), strict=True):
            run_id, status, *parts = row
            if status != "failed":
                out.append((run_id, _Stored(folder, *(sys.intern(part or "") for part in parts))))
        return out


def _differs(stored: _Stored, identity: Identity, machine: str) -> str:
    """In what a stored run differs from the wanted one."""
    if stored.identity != identity.short:
        return difference(stored.identity_json, identity)
    old, new = json.loads(stored.fingerprint_json or "{}"), json.loads(machine)
    changed = [
        f"{name} {old.get(name, 'not recorded')} -> {new.get(name, 'none')}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    return f"of another machine or setting ({', '.join(changed)})" if changed else ""
