"""Mixed precision: matrix products in 16 bits, weights, sums and losses in 32."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator

from harness.tricks.contract import Choice, Info, NoEffect, Precision, Run, Trick

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}
INIT_SCALE = 65536.0


class MixedPrecision(Trick):
    """Micikevicius et al. 2017, 1710.03740.

    init_scale: the first loss scale of fp16; the other types need none.
    """

    info: ClassVar = Info(
        name="mixed_precision",
        family="core",
        kind="protocol",
        summary="forward and backward in 16 bits",
        paper="Micikevicius et al. 2017, arXiv:1710.03740",
        formula="autocast of the forward pass; fp16: backward of s L, gradients / s, s halves on overflow",
        expect=(
            "The same accuracy at lower cost on accelerators with 16-bit units, where a step takes 0.4 to "
            "0.7 of the time. No gain in accuracy is meant, and on a CPU without such units it is slower."
        ),
        differs="bf16, which needs no loss scaling, is the default; the scale adapts as torch.amp does it",
    )
    dtype: Annotated[Literal["bf16", "fp16", "fp32"], Choice(("bf16", "fp16", "fp32"))] = "bf16"
    init_scale: Annotated[float, Field(gt=0)] = INIT_SCALE

    @model_validator(mode="after")
    def _check(self) -> MixedPrecision:
        if self.dtype != "fp16" and self.init_scale != INIT_SCALE:
            raise ValueError(f"init_scale belongs to fp16, and dtype is {self.dtype}")
        return self

    def precision(self, run: Run) -> Precision:
        """Autocast dtype, and the scale where the dtype needs one."""
        if self.dtype == run.recipe.precision:
            raise NoEffect(f"the recipe's precision is {self.dtype} already")
        return Precision(DTYPES[self.dtype], self.init_scale if self.dtype == "fp16" else None)
