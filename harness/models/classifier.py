"""The one shape in which the harness holds a network: normalisation, stages and a head with names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.models.plain import Builtin


class Normalize(nn.Module):
    """Map pixels in [0, 1] to zero mean and unit variance per channel of the training split.

    It is the first layer of the model, so that noise, erasing and attacks live in pixel space and every
    copy of the weights (averages, teachers) carries the right constants.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Pixels (N, C, H, W) to normalised pixels of the same shape."""
        return (x - self.mean) / self.std


class Classifier(nn.Module):
    """A network with named parts.

    Args:
        net: maps normalised images (N, C, H, W) to logits (N, K).
        normalize: the input layer.
        stages: paths of submodules of `net` from the input to the last feature map; the first is the stem.
        head: path of the final linear layer of `net`.
        builtin: what a library has built into `net`.
    """

    def __init__(
        self, net: nn.Module, normalize: Normalize, stages: Sequence[str], head: str, builtin: Builtin | None = None
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.net = net
        self.stages = tuple(stages)
        self.head_path = head
        self.builtin = builtin or Builtin()

    def forward(self, x: Tensor) -> Tensor:
        """Pixels (N, C, H, W) in [0, 1] to logits (N, K)."""
        logits: Tensor = self.net(self.normalize(x))
        return logits

    @property
    def head(self) -> nn.Module:
        """The final linear layer, or what replaced it."""
        return self.net.get_submodule(self.head_path)

    def set_head(self, module: nn.Module) -> None:
        """Replace the final layer; a property setter would not do, because assigned modules never reach one."""
        replace_submodule(self.net, self.head_path, module)

    def stage(self, name: str) -> nn.Module:
        """The submodule of one stage."""
        return self.net.get_submodule(name)

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and the head's input, the penultimate features (N, D)."""
        tapped: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _module, args: tapped.append(args[0]))
        try:
            return self(x), tapped[0]
        finally:
            handle.remove()


def replace_submodule(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put `module` in the place of the submodule at `path`."""
    parent, _, leaf = path.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)
