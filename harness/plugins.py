"""Code of the user's: plug-in files, the parts in them by name, and entry points of installed packages.

A part is named as "mine.py:Net", where the file is one of the plug-ins or lies at that path, or by the name of an entry
point. Nothing here imports torch; a file that is loaded may.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import UserError, did_you_mean
from harness.identity import source_digest
from harness.sources import package_digest, plugin_digest

NETWORKS, DATASETS, METRICS = GROUPS = ("harness.models", "harness.datasets", "harness.metrics")
"""Entry point groups of the parts that are no tricks."""


@dataclass(frozen=True)
class Plugin:
    """A plug-in file that has run. digest: 16 hex digits of its code and of its author's modules that it imports."""

    path: Path
    module: ModuleType
    digest: str

    @property
    def public(self) -> dict[str, Any]:
        """The classes and functions that it defines, by name; those that begin with "_" are its own matter."""
        return {
            name: value
            for name, value in vars(self.module).items()
            if name[0] != "_" and callable(value) and getattr(value, "__module__", None) == self.module.__name__
        }


@dataclass(frozen=True)
class Part:
    """A class or function of somebody else. name: as it was asked for. digest: of the code that it comes from."""

    name: str
    value: Any
    digest: str


_files: dict[str, Plugin] = {}
"""Plug-ins of this process by the name of the file."""


def load(path: Path) -> Plugin:
    """Run a plug-in file, each time anew.

    Raises:
        UserError: no such file, broken code, or nothing public in it.
    """
    if not path.is_file():
        raise UserError(f"plug-in {path} does not exist; --plugin takes the path of a Python file")
    module_name = f"harness_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"plug-in {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    digest = source_digest([path])  # before it runs, so that a later edit is another part
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"plug-in {path} cannot be imported: {type(error).__name__}: {error}") from error
    plugin = Plugin(path, module, plugin_digest(path, digest))
    if not plugin.public:
        raise UserError(f"plug-in {path} defines nothing: no class and no function that could be a part")
    _files[path.name] = plugin
    return plugin


def is_own(name: str) -> bool:
    """Whether a name is that of a part in a file, as "mine.py:Net"."""
    return ".py:" in name


def own(name: str, key: str) -> Part:
    """The class or function "FILE.py:NAME"; the file runs now if it has not yet.

    Args:
        name: of the part.
        key: where it was asked for, as "model.name", for errors.

    Raises:
        UserError: the file is missing or broken, or has nothing of that name.
    """
    path, _, wanted = name.rpartition(":")
    plugin = _files.get(Path(path).name)
    if plugin is None:
        if not Path(path).is_file():
            raise UserError(
                f"{key} = '{name}': there is no file {path}, seen from this folder and from that of the experiment "
                "file; name it as --plugin FILE"
            )
        plugin = load(Path(path))
    if wanted not in plugin.public:
        known = sorted(plugin.public)
        raise UserError(
            f"{key} = '{name}': {plugin.path} defines no {wanted}{did_you_mean(wanted, known)} It defines: "
            f"{', '.join(known)}"
        )
    return Part(name, plugin.public[wanted], plugin.digest)


def installed(group: str, name: str) -> EntryPoint | None:
    """The entry point of that name in a group, or None.

    Raises:
        UserError: two packages have it.
    """
    found = list(entry_points(group=group, name=name))
    if len(found) > 1:
        raise UserError(
            f"'{name}' is defined by {' and by '.join(point.value for point in found)} ({group}); uninstall one"
        )
    return found[0] if found else None


def names(group: str) -> list[str]:
    """The names of all entry points of a group."""
    return sorted({point.name for point in entry_points(group=group)})


def part(group: str, name: str, key: str) -> Part | None:
    """The part of that name, of a file or of an installed package; None where no package has it.

    Raises:
        UserError: as `own` and `installed`, or it cannot be imported.
    """
    if is_own(name):
        return own(name, key)
    point = installed(group, name)
    if point is None:
        return None
    try:
        value = point.load()
    except Exception as error:
        raise UserError(
            f"{key} = '{name}' ({point.value}) cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return Part(name, value, package_digest(point.module.partition(".")[0]))


def digest_of(group: str, name: str, key: str) -> str:
    """16 hex digits of the code that a part comes from; empty where no package has it; raises as `part`."""
    if is_own(name):
        return own(name, key).digest
    point = installed(group, name)
    return package_digest(point.module.partition(".")[0]) if point else ""


def files_of(names: Iterable[str], experiment: str, known: Sequence[Path]) -> tuple[Path, ...]:
    """The plug-in files that hold parts of an experiment and are not among the known ones.

    Args:
        names: of the parts, of which those of files count.
        experiment: the experiment's file; a path is seen from its folder, too.
        known: plug-ins that are loaded anyway, in which a part is looked for first.

    Raises:
        UserError: two different files have one name, by which their parts could not be told apart.
    """
    found = {path.name: path for path in known}
    for name in filter(is_own, names):
        typed = Path(name.rpartition(":")[0])
        beside = Path(experiment).parent / typed
        path = beside if beside.is_file() and not typed.is_file() else typed
        there = found.get(path.name)
        if there is None and path.is_file():
            found[path.name] = path
        elif there is not None and path.is_file() and not there.samefile(path):
            raise UserError(f"{there} and {path} have one name, and parts are found by it; rename one")
    return tuple(path for path in found.values() if path not in known)


def complaint(error: Exception) -> str:
    """An error of somebody else's code in one line: what, and where if it was raised in a plug-in."""
    text = " ".join(str(error).split())
    files = {str(plugin.module.__file__): plugin.path for plugin in _files.values()}
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in files]
    where = f" ({files[lines[-1].filename].name}, line {lines[-1].lineno})" if lines else ""
    return f"{type(error).__name__}{': ' + text if text else ''}{where}"
