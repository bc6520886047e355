"""Which networks this CPU must not train in the channels-last layout, because its library would corrupt memory."""

from __future__ import annotations

import platform

import torch
from torch import nn

BLOCKS = {"AVX512": 16, "AVX2": 8}
"""Channels that oneDNN takes at once, by the CPU's vector instructions."""


class AtRisk(Exception):
    """A network that this CPU must not train in channels last; the text is the layer that is to blame."""


def layer_at_risk(model: nn.Module) -> str:
    """The path of a layer whose backward pass in channels last would corrupt memory on this CPU; empty without one.

    That of a strided 1x1 convolution of float32 images writes past oneDNN's workspace, unless the channels in fill a
    block: signals 6 and 11, hangs and wrong gradients, from 8 pixels on with AVX2 and from 56 with AVX-512
    (github.com/uxlfoundation/oneDNN/issues/6035; seen with oneDNN 3.12 in torch 2.14). No version is known to be
    mended, so all are taken to do it. The image's side and the batch that it takes depend on the CPU's caches, and are
    not asked for. Grouped convolutions take other code.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return ""
    block = BLOCKS.get(torch.backends.cpu.get_cpu_capability(), max(BLOCKS.values()))
    for path, m in model.named_modules():
        strided = isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and m.stride != (1, 1)
        if strided and m.groups == 1 and m.in_channels < block:
            return str(path)
    return ""
