"""Images that two splits share, by what tells their content."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from harness.data.listing import SPLITS


def leak_of(marks: Sequence[Sequence[str]], groups: Sequence[str] | None = None) -> str:
    """Which splits share images, as a sentence; empty where none do.

    Copies within train count where a split is drawn from there: it may have one and training the other. Those of one
    group stay together.

    Args:
        marks: for each of `SPLITS` what tells the content of its images; none where it is drawn from train.
        groups: of the images of train, if they have any.
    """
    said = []
    for a, b in combinations(range(len(SPLITS)), 2):
        if both := len(set(marks[a]) & set(marks[b])):
            said.append(f"{both} in {SPLITS[a]} and in {SPLITS[b]}")
    if not all(marks):
        first: dict[str, int] = {}
        copies = 0
        for i, mark in enumerate(marks[0]):
            was = first.setdefault(mark, i)
            copies += was < i and (groups is None or groups[was] != groups[i])
        said += [f"{copies} twice in train, from which a split is drawn"] if copies else []
    return f"The same images lie in more than one place: {'; '.join(said)}. Remove the copies." if said else ""
