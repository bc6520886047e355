"""MMEngine: WORK/TIMESTAMP/vis_data/scalars.json, lines of JSON. A resumed run writes a new folder beside the old ones.

Its configuration is a Python file, which is never run: method and seed are those of the folder's name. Accuracies are
in percent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from harness.readers.places import of_place
from harness.readers.record import Reader, Run

FILE = "vis_data/scalars.json"


def _works(path: Path) -> dict[Path, list[Path]]:
    """The logs of each working folder, the oldest first."""
    found: dict[Path, list[Path]] = {}
    for log in sorted(path.rglob(FILE)) if path.is_dir() else []:
        found.setdefault(log.parents[2], []).append(log)
    return found


def read(path: Path) -> Iterator[Run]:
    """The runs of a folder of working folders; the epoch of a validation line is its `step`."""
    for work, logs in _works(path).items():
        curve: dict[float, dict[str, float]] = {}
        for log in logs:
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # the last line of a run that was killed
                    continue
                numbers = {k: float(v) for k, v in entry.items() if isinstance(v, int | float)}
                epoch = numbers.get("epoch", numbers.get("step"))
                if epoch is not None:
                    curve.setdefault(epoch, {}).update(numbers | {"epoch": epoch})
        values = of_place(work, path)
        yield Run(values, str(work), [curve[at] for at in sorted(curve)], "" if curve else "it has no line")


MMENGINE = Reader("mmengine", "MMEngine: TIMESTAMP/vis_data/scalars.json", lambda p: bool(_works(p)), read, "percent")
