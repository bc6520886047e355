"""The study that answers a command which was given before, found without planning it again.

Planning loads every trick and so torch. Whether there is anything to plan can be told without: the same command, about
the same images, by the same code on the same machine, has the same plan. Nothing here imports torch or reads a pixel.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.identity import BIT_VARIABLES, NUMBERS
from harness.store.reader import read_kind, read_manifest
from harness.store.schema import Manifest
from harness.store.writer import atomically
from harness.tricks import registry
from harness.version import __version__

ANSWERS = ".answers"
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn", "pydantic")
VARIABLES = (
    *BIT_VARIABLES,
    "ATEN_CPU_CAPABILITY",
    "CUDA_DEVICE_ORDER",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
DEVICES = Path("/dev")
CARDS = Path("/proc/driver/nvidia/gpus")


def request_of(options: Mapping[str, Any], experiment: str, images: str) -> str | None:
    """16 hex digits of all that a plan depends on; None where that cannot be told, so that one must plan.

    Args:
        options: what the command was given, as JSON values.
        experiment: the text of the experiment file.
        images: content digest of the data set.
    """
    try:
        foreign = [registry.source(name) for name in registry.installed()]
    except UserError:  # the plan says so if it uses that trick
        return None
    machine = _machine()
    if machine is None:
        return None
    facts = [dict(options), experiment, images, foreign, _code(), NUMBERS, __version__, machine]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def remember(results: Path, request: str, study_dir: Path) -> None:
    """Note that the study in that folder, as it is declared now, answers the request."""
    note = {"study": study_dir.name, "declaration": _declaration(study_dir)}
    path = results / ANSWERS / f"{request}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomically(path, lambda file: file.write(json.dumps(note).encode()))


def recall(results: Path, request: str) -> tuple[Path, Manifest] | None:
    """The folder and declaration of the study that answers the request with all its runs; None where one must plan."""
    try:
        note = json.loads((results / ANSWERS / f"{request}.json").read_bytes())
        study_dir = results / note["study"]
        if _declaration(study_dir) != note["declaration"]:
            return None
        manifest = read_manifest(study_dir)
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None
    runs, _, _ = read_kind(study_dir, "runs", manifest.runs)
    if runs is None:
        return None
    rows = zip(*(runs[name].to_pylist() for name in ("run_id", "fingerprint", "status")), strict=True)
    done = {run_id for run_id, mark, status in rows if mark == manifest.fingerprint and status != "failed"}
    return (study_dir, manifest) if done >= manifest.runs.keys() else None


def _declaration(study_dir: Path) -> str:
    return hashlib.sha256((study_dir / "study.json").read_bytes()).hexdigest()


@lru_cache
def _code() -> str:
    """The state of this package's files: cheaper than their bytes, and it changes whenever they do."""
    root = Path(__file__).resolve().parents[1]
    stats = [(str(path.relative_to(root)), path.stat()) for path in sorted(root.rglob("*.py"))]
    lines = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _machine() -> list[str] | None:
    """What the fingerprint is made of, as far as it can be told without torch, and whatever else might change it.

    None where there is a card whose model the driver does not say.
    """
    cards = _cards()
    if cards is None:
        return None
    facts = [f"{name} {version(name)}" for name in PACKAGES]
    torch = find_spec("torch")
    if torch is not None and torch.origin is not None:  # another build of one version
        stat = Path(torch.origin).with_name("version.py").stat()
        facts.append(f"{stat.st_size} {stat.st_mtime_ns}")
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts += sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    except OSError:
        facts.append(platform.processor())
    facts += [f"{name} {os.environ.get(name)}" for name in VARIABLES]
    return [*facts, platform.python_version(), *cards]


def _cards() -> list[str] | None:
    """NVIDIA cards by device file and model; None where there are some and their models cannot be read."""
    devices = sorted(str(path) for path in DEVICES.glob("nvidia[0-9]*"))
    models = []
    try:
        for path in sorted(CARDS.glob("*/information")):
            of_card = [line for line in path.read_text().splitlines() if line.startswith("Model:")]
            if not of_card:
                return None
            models += [f"{path.parent.name} {line}" for line in of_card]
    except (OSError, UnicodeDecodeError):
        return None
    return None if len(models) < len(devices) else [*devices, *models]
