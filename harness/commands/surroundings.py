"""What decides a command's numbers beside its words: the code that it runs, the data that it reads, the machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.data.disk import data_root
from harness.data.hashes import hashes
from harness.data.listing import Facts, File
from harness.errors import UserError
from harness.identity import source_digest

SUFFIXES = frozenset({
    ".py", ".pyi", ".pyx", ".sh", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".rs", ".jl", ".toml", ".yaml",
    ".yml", ".cfg", ".ini",
})  # fmt: skip
"""Of files that are code or its settings: untracked ones of a checkout count, and what runs write does not."""

PACKAGES = (
    "torch", "torchvision", "timm", "transformers", "lightning", "pytorch-lightning", "tensorflow", "keras", "jax",
    "numpy", "scikit-learn", "datasets", "accelerate", "mmengine", "ultralytics", "fastai",
)  # fmt: skip
_ASK = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""
PATIENCE = 120.0
"""Seconds that git or an interpreter may take."""


@dataclass(frozen=True)
class Code:
    """The state of a program: 16 hex digits of it, its commit (None without git), and what differs from that."""

    digest: str
    commit: str | None
    diff: bytes

    @property
    def dirty(self) -> bool | None:
        """Whether it is something else than the commit; None without git."""
        return None if self.commit is None else bool(self.diff)


def code_of(cwd: Path, patterns: Sequence[str], base: Path, beside: Iterable[Path] = ()) -> Code:
    """The state of the code that a command runs.

    In a git checkout that is the commit, the difference to it, and untracked files of code below `cwd` that are not
    ignored. With `patterns` it is the files that match them.

    Args:
        cwd: where the command runs.
        patterns: of files, relative to `base`; "**" is any number of folders.
        base: the folder of the experiment file.
        beside: folders that are no code: results and reports.

    Raises:
        UserError: no such folder, a pattern without files, or no git and no patterns.
    """
    if not cwd.is_dir():
        raise UserError(f"command.cwd = {cwd}: no such folder")
    if patterns:
        return Code(source_digest(_matching(patterns, base), base), None, b"")
    try:
        commit = _git(cwd, "rev-parse", "HEAD").decode().strip()
    except (OSError, subprocess.SubprocessError):
        raise UserError(
            f'{cwd} is in no git checkout with a commit, so nothing says which code runs; add code = ["*.py"] to '
            "[command], with patterns of the program's files"
        ) from None
    diff = _git(cwd, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv")
    listed = _git(cwd, "ls-files", "--others", "--exclude-standard", "-z").split(b"\0")
    away = [folder.resolve() for folder in beside]
    digest = hashlib.sha256(commit.encode() + b"\0" + diff)
    new = []
    for name in sorted(filter(None, listed)):
        path = cwd / os.fsdecode(name)
        if path.suffix in SUFFIXES and path.is_file() and not any(path.resolve().is_relative_to(a) for a in away):
            content = path.read_bytes()
            digest.update(name + b"\0" + hashlib.sha256(content).digest())
            new.append(b"\nuntracked " + name + b"\n" + content)
    return Code(digest.hexdigest()[:16], commit, diff + b"".join(new))


def _matching(patterns: Sequence[str], base: Path) -> list[Path]:
    found: dict[Path, None] = {}
    for pattern in patterns:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise UserError(f"command.code: '{pattern}' leads out of {base}; patterns are relative to it")
        files = [path for path in sorted(base.glob(pattern)) if path.is_file()]
        if not files:
            raise UserError(f"command.code: no file in {base} matches '{pattern}'")
        found |= dict.fromkeys(files)
    return list(found)


def _git(cwd: Path, *words: str) -> bytes:
    env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(cwd), *words]
    return subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE, env=env).stdout


def data_digest(path: Path) -> str:
    """16 hex digits of the bytes of a file, or of the names and bytes of all files in a folder.

    Raises:
        UserError: there is nothing, or it cannot be read.
    """
    if path.is_file():
        folder, names = path.parent, [path.name]
    elif path.is_dir():
        folder = path
        below = (Path(root, name) for root, _, files in os.walk(path) for name in files)
        names = sorted(file.relative_to(path).as_posix() for file in below)
    else:
        raise UserError(f"command.data = {path}: no such file or folder")
    files = []
    for name in names:
        try:
            stat = (folder / name).stat()
        except OSError as error:
            raise UserError(f"command.data: {folder / name} cannot be read: {error.strerror}") from None
        files.append(File(name, Facts(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino), 0))
    digest = hashlib.sha256()
    for file, found in zip(files, hashes(folder, files, data_root()), strict=True):
        if found.why:
            raise UserError(f"command.data: {folder / file.name} cannot be read: {found.why}")
        digest.update(f"{file.name}\0{found.sha256}\n".encode())
    return digest.hexdigest()[:16]


@lru_cache
def versions(python: str) -> dict[str, str]:
    """The versions of an interpreter and of what it has of `PACKAGES`.

    Raises:
        UserError: it does not run.
    """
    try:
        done = subprocess.run(
            [python, "-c", _ASK, *PACKAGES], capture_output=True, check=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
        )
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise UserError(
            f"{python} does not run as a Python ({type(error).__name__}); name another in [command] python"
        ) from None
    return found


def cards() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [part.strip() for part in visible.split(",") if part.strip() and part.strip() != "-1"]
    return [str(i) for i in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


@lru_cache
def card_names() -> tuple[str, ...]:
    """The names of the machine's NVIDIA GPUs, each once; empty where the driver does not say."""
    found = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            found += [line.split(":", 1)[1].strip() for line in path.read_text().splitlines() if line[:6] == "Model:"]
        except (OSError, UnicodeDecodeError):
            continue
    return tuple(dict.fromkeys(found))


@lru_cache
def processor() -> str:
    """The processor's name."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def fingerprint(facts: dict[str, Any]) -> dict[str, str]:
    """Facts about a machine as the columns `fingerprint`, `fingerprint_json` and `device`."""
    text = json.dumps(facts, sort_keys=True)
    return {
        "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:8],
        "fingerprint_json": text,
        "device": str(facts["device"]),
    }
