"""Residual branches: what is put behind one, and dropping one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.tricks.modules import conv_norm_names, dropout, residual_blocks

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class Then(nn.Sequential):
    """A branch's last norm and what follows it; its scale is the norm's, for tricks that ask for it."""

    @property
    def weight(self) -> Any:
        """The scale of the norm."""
        return self[0].weight


def last_of_branch(block: nn.Module) -> str:
    """Name of the module that ends the block's residual branch: its own word for it, or its last norm."""
    return getattr(block, "branch_end", None) or conv_norm_names(block)[-1][1]


def behind_branches(model: Classifier, build: Callable[[int], nn.Module]) -> list[nn.Module]:
    """Put `build(channels)` behind every residual branch, before the shortcut is added; return what was put there.

    Raises:
        NoEffect: the model has no residual blocks.
    """
    put = []
    for block in residual_blocks(model):
        name, conv = last_of_branch(block), getattr(block, conv_norm_names(block)[-1][0])
        put.append(build(conv.out_channels))
        setattr(block, name, Then(getattr(block, name), put[-1]))
    return put


class DropBranch:
    """Forward hook that drops a module's whole output, image by image, while that module trains."""

    def __init__(self, p: float, generator: torch.Generator) -> None:
        self.p, self.generator = p, generator

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """The new output; None keeps it."""
        if not module.training:
            return None
        factors = dropout(output.new_ones(len(output)), self.p, self.generator)
        return output * factors.view(-1, *[1] * (output.ndim - 1))

    def __deepcopy__(self, memo: dict[int, Any]) -> DropBranch:
        return self
