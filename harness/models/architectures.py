"""The names and shapes of our own networks. Nothing here imports torch, so that a wrong name is answered at once."""

from __future__ import annotations

from collections.abc import Iterable

from harness.errors import did_you_mean

Stages = tuple[tuple[int, int, int], ...]


def _three_stages(blocks: int) -> Stages:
    return ((1, 1, blocks), (2, 2, blocks), (4, 2, blocks))


ARCHITECTURES: dict[str, tuple[int, Stages]] = {
    # name: (default width, stages as (width factor, stride, blocks))
    "digits_resnet": (16, ((1, 1, 1), (2, 2, 1))),
    "resnet8": (16, _three_stages(1)),
    "resnet20": (16, _three_stages(3)),
    "resnet56": (16, _three_stages(9)),
    "resnet18": (64, ((1, 1, 2), (2, 2, 2), (4, 2, 2), (8, 2, 2))),
    "resnet18d": (64, ((1, 1, 2), (2, 2, 2), (4, 2, 2), (8, 2, 2))),
    "airbench": (64, ((1, 2, 1), (4, 2, 1), (4, 2, 1))),
}
"""Networks for small images (`harness.models.resnet`, `harness.models.airbench`)."""


def near_network(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown network: libraries' networks of just this name, or else the nearest one.

    Imports both libraries.
    """
    from timm import is_model
    from torchvision.models import list_models

    have = [f"torchvision/{name}"] if name in list_models() else []
    have += [f"timm/{name}"] if is_model(name) else []
    return f"; did you mean '{' or '.join(have)}'?" if have else did_you_mean(name, known)
