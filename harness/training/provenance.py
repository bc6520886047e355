"""Where a number came from: what can change its bits, and who made it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from harness.experiment import Data, Model, Recipe
from harness.identity import BIT_VARIABLES, LIBRARIES

PACKAGES = ("harness", "torch", "torchvision", "timm", "numpy", "scikit-learn")


def resolve_device(device: str) -> str:
    """The device that `auto` means here, or the one asked for.

    Raises:
        UserError: no device of that name is here, or runs cannot train on it.
    """
    from harness.errors import UserError

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        asked = torch.device(device)
    except RuntimeError:
        raise UserError(f"--device {device}: not a torch device; use auto, cpu or cuda") from None
    if asked.type not in ("cpu", "cuda"):
        raise UserError(f"--device {device}: runs train on cpu or cuda; use one of them")
    count = torch.cuda.device_count() if asked.type == "cuda" else 1
    if not count:
        raise UserError(f"--device {device}: this torch ({torch.__version__}) sees no CUDA device; use --device cpu")
    if (asked.index or 0) >= count:
        raise UserError(f"--device {device}: there is no such device; the last one is number {count - 1}")
    return device


@lru_cache
def device_name(device: str) -> str:
    """The device in words: the card's name, or the processor's name and vector instructions."""
    if device.startswith("cuda"):
        return f"cuda: {torch.cuda.get_device_name(device)}"
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"cpu: {name}, {torch.backends.cpu.get_cpu_capability()}"


def deciding_packages(data: Data, model: Model) -> tuple[str, ...]:
    """The packages beside torch that decide splits, pixels or weights."""
    library = model.name.partition("/")[0] if model.name.startswith(LIBRARIES) else ""
    return ("numpy", *(["pillow"] if data.from_files or data.kind in ("hf", "own") else []), *filter(None, [library]))


def fingerprint(
    recipe: Recipe, device: str, threads: int, cuda_graphs: bool = False, packages: tuple[str, ...] = ()
) -> dict[str, str]:
    """What changes the bits of a result beside the spec: columns `fingerprint`, `fingerprint_json`, `device`.

    Runs are compared only within one fingerprint. Thread count matters because it changes the order of sums, and
    `cuda_graphs` because steps then read a learning rate that was rounded to float32. Of `BIT_VARIABLES`, those that
    are set are part of it.
    """
    variables = tuple((name, os.environ[name]) for name in BIT_VARIABLES if name in os.environ)
    return _fingerprint(recipe, device, threads, cuda_graphs, packages, variables)


@lru_cache
def _fingerprint(
    recipe: Recipe,
    device: str,
    threads: int,
    cuda_graphs: bool,
    packages: tuple[str, ...],
    variables: tuple[tuple[str, str], ...],
) -> dict[str, str]:
    name = device_name(device)
    facts = {
        "threads": threads,
        "memory_format": "channels_last" if recipe.channels_last else "contiguous",
        "dtype": recipe.precision,
        "compile": recipe.compile,
        "torch": torch.__version__,
        "device": name,
        **{package: version(package) for package in packages},
        **({"cuda_graphs": True} if cuda_graphs else {}),
        **dict(variables),
    }
    if device.startswith("cuda"):
        facts["tf32"] = f"cudnn {torch.backends.cudnn.allow_tf32}, matmul {torch.backends.cuda.matmul.allow_tf32}"
    text = json.dumps(facts, sort_keys=True)
    return {
        "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:8],
        "fingerprint_json": text,
        "device": name,
    }


@lru_cache
def host_facts() -> dict[str, Any]:
    """Columns `host`, `versions`, `git_commit` and `git_dirty`; the last two are null outside a checkout."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    commit, dirty = _git()
    return {
        "host": socket.gethostname(),
        "versions": json.dumps(versions, sort_keys=True),
        "git_commit": commit,
        "git_dirty": dirty,
    }


def _git() -> tuple[str | None, bool | None]:
    """Commit of the checkout that the package runs from, and whether its code differs from it."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None, None
    env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}

    def git(*args: str) -> str:
        command = ["git", "-C", str(root), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10, env=env).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "harness", "experiments"))
    except (OSError, subprocess.SubprocessError):
        return None, None
