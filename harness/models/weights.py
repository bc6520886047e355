"""A network that starts from a file of safetensors: names and shapes are compared before anything is taken over."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from harness.errors import UserError
from harness.models.classifier import Classifier

NET = "net."
"""How names of the network's tensors begin in a file that has its normalisation, too."""

NUMBERED = re.compile(r"(\d+)\.(.+)")
"""Names in a file that a run leaves for those that need it: of one network after another."""

TOLD = 3
"""Names that a message holds."""


def start_from(network: Classifier, path: Path, called: str) -> bool:
    """Give a network the weights of a file, and the normalisation that they were trained with where that is there, too.

    A last layer of another number of classes stays as it was drawn.

    Args:
        network: as it was built.
        path: the file. Its names are those of the network, or those of `Classifier`; of the networks in what a run
            left for others, the last counts.
        called: what the user calls the file.

    Returns:
        Whether the last layer was taken over, too.

    Raises:
        UserError: the file cannot be read, or does not hold this network; the line says which tensors differ.
    """
    what = f"model.weights = '{called}'"
    found = _read(path, what)
    wanted = network.state_dict()
    if not any(name.startswith(NET) for name in found):
        found = {f"{NET}{name}": value for name, value in found.items()}
        found |= {name: value for name, value in wanted.items() if not name.startswith(NET)}
    head = f"{NET}{network.head_path}."
    classes = {
        name for name in wanted if name.startswith(head) and name in found and _classes_differ(name, found, wanted)
    }
    anew = {name for name in wanted if name.startswith(head)} if classes else set[str]()
    _compare(
        what, {n: v for n, v in found.items() if n not in anew}, {n: v for n, v in wanted.items() if n not in anew}
    )
    with torch.no_grad():
        for name, value in wanted.items():
            if name not in anew:
                value.copy_(found[name])
    return not anew


def _classes_differ(name: str, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    """Whether two tensors differ in their first dimension alone, which is that of classes in the last layer."""
    old, new = found[name].shape, wanted[name].shape
    return old[:1] != new[:1] and old[1:] == new[1:]


def _read(path: Path, what: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{what} cannot be read as safetensors: {str(error).splitlines()[0]}") from None
    parts = [NUMBERED.fullmatch(name) for name in tensors]
    if not parts or not all(parts):
        return tensors
    last = max(int(part[1]) for part in parts if part)
    return {part[2]: tensors[part[0]] for part in parts if part and int(part[1]) == last}


def _compare(what: str, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    lacking, beyond = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    shapes = [
        f"{name.removeprefix(NET)} is {tuple(found[name].shape)} there and {tuple(value.shape)} here"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    said = [f"it lacks {_told(lacking)}"] if lacking else []
    said += [f"it has {_told(beyond)}, which the network has not"] if beyond else []
    said += ["; ".join(shapes[:TOLD]) + (f"; and {len(shapes) - TOLD} more" if len(shapes) > TOLD else "")] * bool(
        shapes
    )
    if said:
        raise UserError(
            f"{what} does not fit the network: {'; '.join(said)}; give model.name, width and args with which the file "
            "was made, and images of as many channels"
        )


def _told(names: Iterable[str]) -> str:
    listed = sorted(name.removeprefix(NET) for name in names)
    more = f" and {len(listed) - TOLD} more" if len(listed) > TOLD else ""
    return ", ".join(listed[:TOLD]) + more
