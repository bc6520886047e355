"""Benchmarks of the harness against what a careful or a hurried person would use instead.

Times are CPU seconds of the process (system time included, one thread), never wall seconds, except for
runs per hour. What is compared runs interleaved in one process, in an order that is reversed at every
repeat, and a row is the median of the repeats' ratios with its quartiles. On a machine that others use,
only these ratios mean anything: absolute times move by 10 % and more with the neighbours, and runs per
hour need idle cores.

The images are the bundled digits and random pixels, so nothing here says anything about accuracy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from harness.bench.rows import BenchRow
from harness.store.writer import atomically
from harness.study.workers.local import ENVIRONMENT
from harness.training.provenance import device_name, host_facts


def run_bench(quick: bool, out: Path | None, show: Callable[[BenchRow], None] = lambda row: None) -> list[BenchRow]:
    """All rows, stored as one JSON document at `out` unless it is None; `show` gets each row as it is measured.

    Raises:
        RuntimeError: the measuring process failed; its traceback is on stderr.
        OSError: `out` cannot be written.
    """
    started, load = datetime.now(UTC), os.getloadavg()
    rows = []
    for row in iter_bench(quick):
        rows.append(row)
        show(row)
    if out is not None:
        document = {
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "quick": quick,
            "device": device_name("cpu"),
            "load_average": {"before": load, "after": os.getloadavg()},
            **host_facts(),
            "rows": [asdict(row) | {"met": row.met} for row in rows],
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        atomically(out, lambda file: file.write(json.dumps(document, indent=1).encode()))
    return rows


def iter_bench(quick: bool) -> Iterator[BenchRow]:
    """The rows as they are measured, in a fresh process with one thread and the environment of a worker.

    Raises:
        RuntimeError: that process failed; its traceback is on stderr.
    """
    # The same allocator settings as real runs have, which glibc reads only when a process starts.
    environment = os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "harness.bench", *(["--quick"] if quick else [])]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield BenchRow(**json.loads(line))
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise RuntimeError(f"the benchmark process ended with code {process.returncode}")
