"""Numeric precision of a run: autocast for forward and backward, loss scaling for float16."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from harness.tricks.contract import Precision

DTYPES: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Amp:
    """Autocast and, for float16 only, a gradient scaler (Micikevicius et al. 2017, 1710.03740).

    Weights, optimizer state and losses stay float32.
    """

    def __init__(self, precision: Precision, device: torch.device) -> None:
        self.device, self.dtype = device, precision.dtype
        self.scaler: GradScaler | None = None
        if precision.dtype is torch.float16:
            self.scaler = GradScaler(device.type, init_scale=precision.init_scale or 65536.0)
        self._unscaled = False

    def autocast(self) -> Any:
        """The context of a forward pass."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, dtype=self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Back-propagate, scaled where float16 needs it."""
        torch.autograd.backward(loss if self.scaler is None else self.scaler.scale(loss))

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide gradients by the scale, once a step."""
        if self.scaler is not None and not self._unscaled:
            self.scaler.unscale_(optimizer)
            self._unscaled = True

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the weights; with a scaler, skip the update when a gradient overflowed."""
        if self.scaler is None:
            optimizer.step()
            return
        self.scaler.step(optimizer)
        self.scaler.update()
        self._unscaled = False
