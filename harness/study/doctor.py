"""What this machine offers to a study, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.cpus import available
from harness.errors import UserError

PACKAGES = ("torch", "torchvision", "timm", "scikit-learn", "pandas", "pyarrow", "scipy")


def examine(device: str, data_root: Path | None, results: Path) -> Iterator[tuple[str, bool, str]]:
    """Check after check: (what, whether it is good, detail with what to do)."""
    from harness.data.sources import data_root as default_root
    from harness.store.writer import prepare
    from harness.training.provenance import device_name, resolve_device
    from harness.tricks import registry

    yield "python", True, platform.python_version()
    for package in PACKAGES:
        try:
            yield package, True, version(package)
        except PackageNotFoundError:
            yield package, False, "not installed; run `make setup` or `pip install -e .`"
    try:
        name = resolve_device(device)
        yield "device", True, f"{name} ({device_name(name)})"
    except UserError as error:
        yield "device", False, str(error)
    yield "cores", True, f"{available().why} (one run at a time on each)"

    broken = []
    for trick in registry.names():
        try:
            registry.load(trick)
        except UserError as error:
            broken.append(str(error))
    yield "tricks", not broken, "; ".join(broken) or f"{len(registry.names())} load"

    root = data_root or default_root()
    have = [n for n in ("cifar-10-batches-py", "cifar-100-python") if (root / n).is_dir()]
    folders = [p.name for p in sorted(root.glob("*/train")) for p in [p.parent]] if root.is_dir() else []
    yield "data", True, f"digits is bundled; in {root}: {', '.join(have + folders) or 'nothing yet'}"
    try:
        parent = results if results.exists() else results.absolute().parent
        if results.exists():
            prepare(results / ".doctor")
            shutil.rmtree(results / ".doctor")
        writable = os.access(parent, os.W_OK)
        free = shutil.disk_usage(parent).free / 2**30
        yield "results", writable and free > 0.5, f"{results.absolute()}, {free:.0f} GiB free"
    except (UserError, OSError) as error:
        yield "results", False, str(error)
