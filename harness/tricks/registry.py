"""Which tricks there are: built-ins by file name, entry points of other packages, and plug-in files.

Names are known without importing anything, so a typing error is answered at once.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness import plugins
from harness.errors import UserError, did_you_mean
from harness.experiment import Model
from harness.identity import Identity, network_version
from harness.models.architectures import ARCHITECTURES
from harness.models.pretrained import weights_digest
from harness.plugins import NETWORKS
from harness.sources import package_digest
from harness.tricks.not_applicable import known_names
from harness.tricks.recipes import PREFIX
from harness.values import Origins, explain

if TYPE_CHECKING:
    from harness.tricks.contract import Trick

GROUP = "harness.tricks"
_plugins: dict[str, type[Trick]] = {}
_sources: dict[str, str] = {}
"""Digest of the code of each plug-in trick."""


@lru_cache(maxsize=1)
def builtin() -> Mapping[str, str]:
    """Built-in trick names and their modules, from the file names of the family folders."""
    root = Path(__file__).parent
    return {
        path.stem: f"harness.tricks.{path.parent.name}.{path.stem}"
        for path in sorted(root.glob("*/*.py"))
        if not path.stem.startswith("_")
    }


@lru_cache(maxsize=1)
def installed() -> Mapping[str, EntryPoint]:
    """Tricks of other installed packages, through the entry point group `harness.tricks`.

    Raises:
        UserError: a name is taken twice; both owners are named.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name in builtin() or point.name in found:
            other = found[point.name].value if point.name in found else builtin()[point.name]
            raise UserError(f"trick '{point.name}' is defined by {point.value} and by {other}; uninstall or rename one")
        found[point.name] = point
    return found


def names() -> list[str]:
    """All known trick names, sorted."""
    return sorted({*builtin(), *installed(), *_plugins})


def check(name: str) -> None:
    """Refuse an unknown name, without importing any trick.

    Raises:
        UserError: with the nearest name and where the list is.
    """
    if name not in builtin() and name not in names():
        row = next((row for row in known_names() if row.name == name), None)
        if row is not None:
            hint = f" Try: {row.command}" if row.command else ""
            raise UserError(f"'{name}' is no trick here ({row.kind}): {row.reason}{hint}")
        if name in ARCHITECTURES:
            raise UserError(f"'{name}' is a network and no trick; train on it with --set model.name={name}")
        if name.startswith(PREFIX):
            raise UserError(f"{name}: a preset is a list of tricks, which `harness ablate`, `plan` and `run` take")
        near = did_you_mean(name, [*names(), *ARCHITECTURES])
        raise UserError(f"unknown trick '{name}'{near} `harness tricks` lists all {len(names())}")


def load(name: str) -> type[Trick]:
    """The class of a trick.

    Raises:
        UserError: the name is unknown, or the file or package that holds it is broken.
    """
    check(name)
    if name in _plugins:
        return _plugins[name]
    try:
        if name in builtin():
            return _tricks_in(importlib.import_module(builtin()[name]))[0]
        loaded: type[Trick] = installed()[name].load()
        return loaded
    except UserError:
        raise
    except Exception as error:
        source = builtin().get(name) or installed()[name].value
        raise UserError(f"trick '{name}' ({source}) cannot be imported: {type(error).__name__}: {error}") from error


def _tricks_in(module: Any) -> list[type[Trick]]:
    from harness.tricks.contract import Trick

    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Trick) and value.__module__ == module.__name__
    ]


def add_plugin(path: Path) -> list[str]:
    """Run a plug-in file and register its tricks; returns their names. Its other parts are found by name.

    Raises:
        UserError: no such file, broken code, nothing inside, or a name that is taken.
    """
    plugin = plugins.load(path)
    tricks = _tricks_in(plugin.module)
    for trick in tricks:
        name = trick.info.name
        if name in builtin() or name in installed():
            raise UserError(f"plug-in {path}: trick '{name}' exists already; choose another info.name")
        _plugins[name], _sources[name] = trick, plugin.digest
    return [t.info.name for t in tricks]


def is_plugin(name: str) -> bool:
    """Whether a trick comes from a plug-in file of this process."""
    return name in _plugins


def source(name: str) -> str:
    """16 hex digits of the code that a trick of somebody else comes from; empty for our own.

    A plug-in is its file and what its author wrote beside it that it imports. A trick of an installed package is all
    Python files of that package, since any may decide.

    Raises:
        UserError: the package cannot be found or read.
    """
    if name in _sources or name in builtin() or name not in installed():
        return _sources.get(name, "")
    return package_digest(installed()[name].module.partition(".")[0])


def may_need(name: str) -> bool:
    """Whether runs with the trick may need other runs first (`Trick.needs`)."""
    from harness.tricks.contract import Trick

    return load(name).needs is not Trick.needs


def identity_of(tricks: Iterable[str], model: Model, images: str) -> Identity:
    """What decides the numbers of a run with these tricks by name on a network, but for the runs that it needs.

    Raises:
        UserError: foreign code or pretrained weights cannot be found.
    """
    sources = {name: source(name) for name in tricks}
    sources[model.name] = plugins.digest_of(NETWORKS, model.name, "model.name")
    found = tuple(sorted((name, code) for name, code in sources.items() if code))
    return Identity(images, found, network=network_version(model.name), weights=weights_digest(model))


@contextmanager
def registered(trick: type[Trick]) -> Iterator[None]:
    """Know a trick that is no file of ours for the time of a test; built-in tricks are known anyway."""
    name = trick.info.name
    if name in builtin():
        yield
        return
    _plugins[name] = trick
    try:
        yield
    finally:
        del _plugins[name]


def make(name: str, params: Mapping[str, Any] | None = None, origins: Origins | None = None) -> Trick:
    """A trick with its hyperparameters, validated; `origins` says where they came from.

    Raises:
        UserError: unknown trick or parameter, or a value outside its domain; one line each.
    """
    cls = load(name)
    try:
        return cls(**(params or {}))
    except ValidationError as error:
        raise UserError("\n".join(explain(error, cls, origins or "", at=("tricks", name)))) from None
