"""Hydra's multirun: a folder for each job with `.hydra/overrides.yaml`, and one file of the program's own metrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError
from harness.readers.record import Reader, Run
from harness.readers.table import ENDINGS, plain, read

OVERRIDES = ".hydra/overrides.yaml"


def _jobs(path: Path) -> list[Path]:
    return [file.parents[1] for file in sorted(path.rglob(OVERRIDES))] if path.is_dir() else []


def read_jobs(path: Path) -> Iterator[Run]:
    """The jobs below a folder: what was overridden are settings; a table of metrics is the curve, else its one row."""
    for job in _jobs(path):
        try:
            listed = yaml.safe_load((job / OVERRIDES).read_text(encoding="utf-8")) or []
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"{job / OVERRIDES} cannot be read as YAML: {str(error).splitlines()[0]}") from None
        pairs = (str(text).lstrip("+~").partition("=") for text in listed)
        values: dict[str, Any] = {name: plain(value) for name, _, value in pairs}
        files = [p for p in sorted(job.iterdir()) if p.suffix.lower() in ENDINGS]
        if len(files) > 1:
            raise UserError(f"{job}: which file has the metrics? It has {', '.join(p.name for p in files)}; keep one")
        rows = [run.values for run in read(files[0])] if files else []
        curve = [{k: float(v) for k, v in row.items() if isinstance(v, int | float)} for row in rows]
        last = rows[-1] if len(rows) == 1 else {}
        why = "" if rows else "it has no file of metrics"
        yield Run({**last, **values}, str(job), curve if len(rows) > 1 else (), why)


HYDRA = Reader(
    "hydra", "Hydra's multirun: .hydra/overrides.yaml and a table of metrics", lambda p: bool(_jobs(p)), read_jobs
)
