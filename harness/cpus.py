"""How many CPUs this process may use, which on shared machines and in containers are fewer than there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Cpus:
    """`count` is at least 1; `why` says what limits it, as in "2 of 64: cgroup quota"."""

    count: int
    why: str


def available() -> Cpus:
    """The CPUs of this process: those of the machine, of its affinity (`taskset`, Slurm), or of its cgroup's quota."""
    return limited(os.cpu_count() or 1, _affinity(), quota(CGROUPS, _text(OWN_GROUPS)))


def limited(machine: int, affinity: int, share: float | None) -> Cpus:
    """The smallest of three limits.

    Args:
        machine: CPUs of the machine.
        affinity: CPUs on which the process may run.
        share: CPU seconds a second that its cgroup may use, or None for all; 1.5 is one run at a time.
    """
    whole = max(1, int(share)) if share is not None else machine
    count = min(machine, affinity, whole)
    if count == machine:
        return Cpus(count, f"{count}")
    return Cpus(count, f"{count} of {machine}: " + ("affinity" if affinity <= whole else f"cgroup quota {share:g}"))


def quota(root: Path, own: str) -> float | None:
    """CPU seconds a second that a cgroup and those above it allow, or None when none of them has a limit.

    Args:
        root: where cgroups are mounted: version 2, version 1 in a folder for each controller, or both.
        own: the text of /proc/self/cgroup: lines of number:controllers:path.
    """
    found = []
    for line in own.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found += [_v2(group) for mount in (root, root / "unified") for group in _upwards(mount, path)]
        elif "cpu" in controllers.split(","):
            found += [_v1(group) for mount in (root / controllers, root / "cpu") for group in _upwards(mount, path)]
    return min((share for share in found if share is not None), default=None)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """The folder of a group and of each above it. In a container the path may be that of the host: then its root."""
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    for n in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:n])


def _v2(group: Path) -> float | None:
    words = _text(group / "cpu.max").split()  # "150000 100000", or "max 100000"
    return _share(words[0], words[1]) if len(words) == 2 else None


def _v1(group: Path) -> float | None:
    return _share(_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us"))


def _share(amount: str, period: str) -> float | None:
    try:
        used, of = int(amount), int(period)
    except ValueError:
        return None
    return used / of if used > 0 and of > 0 else None  # -1 is no limit


def _affinity() -> int:
    if hasattr(os, "process_cpu_count"):  # from Python 3.13; the user can set it, with PYTHON_CPU_COUNT
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
