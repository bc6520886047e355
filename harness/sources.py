"""The source files that code of somebody else comes from, found without running them."""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from harness.errors import UserError
from harness.identity import source_digest

Folder = tuple[Path, Sequence[Path]]
"""A folder of a package, or of a module that is one file, and the source files there that belong to it."""

PACKAGES = {"site-packages", "dist-packages"}
OURS = Path(__file__).resolve().parent


def folders_of(name: str) -> list[Folder]:
    """The source files of a top-level module or package by folder; empty where it has none or cannot be found.

    A package without `__init__.py` may lie in several folders.
    """
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):  # a module that was made by hand has no spec
        return []
    if spec is None:
        return []
    if spec.has_location and spec.origin is not None:
        origin = Path(spec.origin)
        found = [(origin.parent, sorted(origin.parent.rglob("*.py")) if origin.stem == "__init__" else [origin])]
    else:
        roots = [Path(root) for root in spec.submodule_search_locations or ()]
        found = [(root, sorted(root.rglob("*.py"))) for root in roots]
    return [(root, files) for root, files in found if files]


@lru_cache
def package_digest(package: str) -> str:
    """16 hex digits of all Python files of an installed package.

    Raises:
        UserError: it cannot be found or read.
    """
    folders = folders_of(package)
    if not folders:
        raise UserError(f"package '{package}', which a part comes from, cannot be found; install it again")
    return _joined([_digest(folder) for folder in folders])


def plugin_digest(path: Path, own: str) -> str:
    """16 hex digits of a plug-in file and of the modules of its author that it imports, directly or not.

    Those are all that are not installed, not of Python and not ours. They are read off the import statements, which
    say the same whoever imported a module first; so a module counts too that only a method imports.

    Args:
        path: the plug-in, which has run, so that `sys.path` is as it made it.
        own: `source_digest` of the file itself from before it ran.

    Raises:
        UserError: a module's file cannot be read.
    """
    seen: dict[str, str] = {}
    ahead = sorted(_imports(path))
    while ahead:
        name = ahead.pop()
        if name in seen:
            continue
        folders = [folder for folder in folders_of(name) if _is_authors(folder)]
        seen[name] = _joined([_digest(folder) for folder in folders]) if folders else ""
        ahead += {found for _, files in folders for file in files for found in _imports(file)}
    return _joined([own, *(f"{name} {digest}" for name, digest in sorted(seen.items()) if digest)])


def _joined(digests: Sequence[str]) -> str:
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()[:16]


def _digest(folder: Folder) -> str:
    root, files = folder
    try:
        return source_digest(files, root)
    except OSError as error:
        raise UserError(f"{error.filename}, which a part comes from, cannot be read ({error.strerror})") from None


def _is_authors(folder: Folder) -> bool:
    """Whether a module is of a plug-in's author."""
    file = folder[1][0].resolve()
    python = (Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib"))
    return not PACKAGES.intersection(file.parts) and not any(file.is_relative_to(root) for root in (*python, OURS))


def _imports(file: Path) -> set[str]:
    """The top-level names of the modules that a file imports anywhere; none where it is no Python source."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()
    return {name.partition(".")[0] for node in ast.walk(tree) for name in _named(node)} - {""}


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))  # importlib.import_module("a"), __import__
        if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            yield node.args[0].value
