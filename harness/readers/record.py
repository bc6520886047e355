"""What a reader makes of a file: runs as plain values. No reader runs code that it finds, or loads a pickle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Unit = Literal["percent", "fraction", "none"]


@dataclass(frozen=True)
class Run:
    """One run as its program logged it.

    `values` are settings and scores by name: text, numbers and booleans; what was empty is absent. `curve` are the rows
    that were logged while it trained, in order, each a number by name; its scores are a row of them where `values` has
    none. `where` says where it stands, for messages: "row 7", or a file. `reason` says why it has no scores, or is
    empty. `note` says what its scores are, where their names mislead, or is empty.
    """

    values: Mapping[str, Any]
    where: str
    curve: Sequence[Mapping[str, float]] = ()
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class Reader:
    """A format: its name, whether a path is of it, and how its runs are read.

    `about` says in a few words what it reads. `unit` is that of the accuracies that this program writes; None where it
    is the user's own. `address`: it is no path that is read, but an address elsewhere, and only where it is asked for.
    """

    name: str
    about: str
    fits: Callable[[Path], bool]
    read: Callable[[Path], Iterator[Run]]
    unit: Unit | None = None
    address: bool = False
