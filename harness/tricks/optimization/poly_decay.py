"""Polynomial decay: the learning rate falls as a power of what is left of training."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from harness.tricks.contract import Info, Run, Schedule, Search, Trick
from harness.tricks.functional import polynomial


class PolyDecay(Trick):
    """Chen et al. 2016 (DeepLab), 1606.00915, section 4.1.1.

    power: 1 is a straight line. final: the last rate, as a factor on the peak.
    """

    info: ClassVar = Info(
        name="poly_decay",
        family="optimization",
        summary="learning rate falls as a power of what is left of training",
        paper="Chen, Papandreou, Kokkinos, Murphy, Yuille 2016, arXiv:1606.00915",
        formula="lr(t) = lr (final + (1 - final) (1 - t / T)^power) at update t of T",
        expect=(
            "The paper gains over steps in segmentation. Near power 1 it is the line of `linear_decay`; "
            "higher powers leave high rates sooner, which suits short trainings less."
        ),
        differs="power 0.9 is the paper's; torch's PolynomialLR has 1, timm's scheduler 0.5",
    )
    power: Annotated[float, Field(gt=0), Search(0.5, 3.0, log=True)] = 0.9
    final: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.1)] = 0.0

    def schedule(self, run: Run) -> Schedule:
        """A power over the whole training."""
        return polynomial(self.power, self.final)
