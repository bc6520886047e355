"""The order of a cumulative stack, chosen greedily on the validation split."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence


def greedy_order(
    tricks: Sequence[str], clash: Callable[[str], bool] = lambda arm: False
) -> Generator[list[str], Mapping[str, float], tuple[list[str], list[str]]]:
    """Add, again and again, the trick with which the stack validates best.

    The order is data-dependent, so the steps of the resulting stack flatter the tricks that come first: they
    were picked for their validation score on the same seeds. The test split is not looked at, but shares their luck
    (`harness.analysis.interactions.greedy_order`), so only fresh seeds give unbiased steps.

    Args:
        tricks: names, or combinations joined by "+".
        clash: whether an arm's tricks cannot be combined.

    Yields:
        Arms ("a+b" labels) of which the mean validation metric is to be sent, by arm; none for one that did not finish.

    Returns:
        The order, and the tricks that could not join because they clash with the stack or did not finish in it.
    """
    order: list[str] = []
    left = list(dict.fromkeys(tricks))
    refused: list[str] = []
    while left:
        arms = {trick: "+".join([*order, trick]) for trick in left}
        refused += [t for t in left if clash(arms[t])]
        left = [t for t in left if t not in refused]
        if not left:
            break
        found = yield [arms[t] for t in left]
        refused += [t for t in left if arms[t] not in found]
        left = [t for t in left if t not in refused]
        if not left:
            break
        best = max(left, key=lambda t: found[arms[t]])
        order.append(best)
        left.remove(best)
    return order, refused
