"""The network of airbench94 (Jordan 2024, 2404.00498, section 3.1) without what is a trick here.

Its 2x2 whitening convolution, GELU, the identity at the start, the frozen scales and the factor 1/9 on the logits are
`whitening_init`, `activations`, `identity_init`, `frozen_bn_scale` and `logit_scale`; with the first, on CIFAR-10, it
has the paper's 1.97 million parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from harness.models.resnet import conv3x3, draw


class Airbench(nn.Module):
    """Groups of conv-pool-norm-relu-conv-norm-relu, the maximum over the last map, and a linear head without bias.

    Args:
        channels: of the input images.
        classes: number of logits.
        stages: (width, size of the max-pooling, 1) of each group.
    """

    def __init__(self, channels: int, classes: int, stages: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        width = channels
        self.stage_names: tuple[str, ...] = ()
        for i, (out, pool, _) in enumerate(stages, start=1):
            group = nn.Sequential(
                conv3x3(width, out), nn.MaxPool2d(pool), nn.BatchNorm2d(out), nn.ReLU(),
                conv3x3(out, out), nn.BatchNorm2d(out), nn.ReLU(),
            )  # fmt: skip
            self.add_module(f"stage{i}", group)
            self.stage_names += (f"stage{i}",)
            width = out
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head: nn.Module = nn.Linear(width, classes, bias=False)
        draw(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, K); H and W are 8 at least."""
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
        return self.head(self.pool(x).flatten(1))  # type: ignore[no-any-return]
