"""Named random streams: one per (seed, purpose), so that switching one trick on changes nothing else.

The streams of a block, `split`, `init`, `order` and `augment`, are shared by all arms of one seed. Every
trick draws from a stream under its own name. No part of the harness draws from a global generator.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

SPLIT, INIT, ORDER, AUGMENT = "split", "init", "order", "augment"


def derive(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose: the first bytes of sha256("seed/purpose").

    Hashing rather than adding keeps streams of neighbouring seeds unrelated.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def numpy_stream(seed: int, purpose: str) -> np.random.Generator:
    """A NumPy generator for host-side draws (splits, mixing coefficients)."""
    return np.random.default_rng(derive(seed, purpose))


def torch_stream(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator for draws on `device`."""
    import torch

    return torch.Generator(device=device).manual_seed(derive(seed, purpose))
