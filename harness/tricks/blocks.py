"""Residual blocks and stems: what is put behind a branch or dropped, downsampling, convolutions of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness import rng
from harness.models.build import build
from harness.tricks.contract import NoEffect, Run
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


def stem_convolution(model: Classifier) -> tuple[str, nn.Conv2d]:
    """The first convolution of the network and its path in `model.net`.

    Raises:
        NoEffect: the network has none.
    """
    found = next(((path, m) for path, m in model.net.named_modules() if isinstance(m, nn.Conv2d)), None)
    if found is None:
        raise NoEffect("needs a first convolution, and the model has none")
    return found


def drawn_conv(
    channels_in: int, channels_out: int, kernel: int, run: Run, name: str, stride: int = 1, padding: int = 0
) -> nn.Conv2d:
    """A convolution without bias, He-normal (fan out) as the baseline's, from the stream of the trick `name`."""
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False, device="meta")
    conv.to_empty(device=run.device)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu", generator=run.rng(name))
    return conv


def another_network(run: Run, name: str) -> Classifier:
    """The experiment's model without the arm's surgery, with initial weights that the trick `name` draws."""
    return build(run.spec.model, run.data, rng.derive(run.seed_of(run.spec.seed, name), name))


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
