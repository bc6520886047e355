"""The control arm: empirical risk minimisation, with no hook at all."""

from __future__ import annotations

from typing import ClassVar

from harness.tricks.contract import Info, Trick


class ErmBaseline(Trick):
    """Vapnik 1998. As an arm it is the harness's self-test: its effect must be exactly zero on every seed."""

    info: ClassVar = Info(
        name="erm_baseline",
        family="core",
        kind="control",
        summary="nothing: the control that must come out inactive",
        paper="Vapnik 1998, Statistical Learning Theory; baseline recipe He et al. 2015, arXiv:1512.03385",
        formula="minimise the mean of the loss over the training examples",
        expect="Exactly zero in every seed. Anything else is a leak between random streams.",
    )
