"""The front: what no other option beats on both of two counts, and its edge as a line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def unbeaten(options: Sequence[tuple[float, float]]) -> list[int]:
    """Which options no other beats: gains at least as much for at most the same price, and is better in one.

    Args:
        options: gain and price of each.

    Returns:
        Their places, the lowest price first.
    """

    def beaten(gain: float, price: float) -> bool:
        return any(g >= gain and p <= price and (g, p) != (gain, price) for g, p in options)

    kept = [i for i, option in enumerate(options) if not beaten(*option)]
    return sorted(kept, key=lambda i: (options[i][1], options[i][0]))


def stairs(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The edge of what the front's points reach: along at the old height, then up or down to the next."""
    return [*points[:1], *(corner for (_, up), (a, b) in pairwise(points) for corner in ((a, up), (a, b)))]
