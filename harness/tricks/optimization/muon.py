"""Muon: momentum whose singular values are made equal."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field

from harness.tricks.contract import RATE, Groups, Info, Run, Search
from harness.tricks.modules import split_groups
from harness.tricks.optimizers import OwnOptimizer


class Muon(OwnOptimizer):
    """Jordan et al. 2024; at Adam's rates: Liu et al. 2025, 2502.16982, section 2.2."""

    info: ClassVar = Info(
        name="muon",
        family="optimization",
        summary="orthogonalised momentum for matrices and convolutions, AdamW for the rest",
        paper=(
            "Jordan et al. 2024 (no paper); Liu et al. 2025, arXiv:2502.16982; airbench: Jordan 2024, arXiv:2404.00498"
        ),
        formula=(
            "m = mu m + g, looked ahead; w = (1 - lr wd) w - 0.2 sqrt(max(rows, columns)) lr O, with O from 5 "
            "Newton-Schulz steps, which bring all singular values of m near 1; filters are rows of in x height x width "
            "values. Vectors and the head take AdamW's steps"
        ),
        expect=(
            "Fits small convolutional nets and transformers in fewer steps; it holds the speed records on CIFAR-10 and "
            "nanoGPT. Small batches pay most for the matrix products."
        ),
        differs=(
            "The scale of Liu et al., so that the rate and the decay are AdamW's; Jordan's rates (0.02 to 0.24) are of "
            "another scale. timm's code; where momentum looks ahead, so does AdamW's (NAdamW)"
        ),
        cost=1.5,
    )
    decay: ClassVar = "decoupled"
    lr: Annotated[float, Field(gt=0), Search(1e-4, 3e-2, log=True), RATE] = 3e-3
    weight_decay: Annotated[float, Field(ge=0), Search(1e-3, 0.3, log=True)] = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1), Search(0.6, 0.98, log1m=True)] = 0.95
    steps: Annotated[int, Field(ge=1, le=10), Search(3, 6)] = 5

    def build(self, groups: Groups, run: Run, **common: Any) -> torch.optim.Optimizer:
        """The one of timm, told which weights are whose: its own rule leaves out small ones."""
        from timm.optim.muon import Muon as Library

        head = set(run.model.head.parameters())
        plain = [p for group in groups for p in group["params"] if p.ndim < 2 or p in head]
        parts = [part | {"use_muon": bool(rest)} for rest, part in split_groups(groups, [plain, []])]
        own: dict[str, Any] = {"momentum": self.momentum, "nesterov": True, "ns_steps": self.steps}
        built: torch.optim.Optimizer = Library(parts, adjust_lr_fn="match_rms_adamw", **own, **common)
        return built
