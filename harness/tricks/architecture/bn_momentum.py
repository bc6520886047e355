"""How fast running statistics of batch normalisation follow the batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from harness.tricks.contract import Info, ModelStage, NoEffect, Run, Search, Trick, at
from harness.tricks.modules import batch_norms

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class BnMomentum(Trick):
    """Ioffe & Szegedy 2015, 1502.03167, section 3.1; the value of Jordan 2024, 2404.00498."""

    info: ClassVar = Info(
        name="bn_momentum",
        family="architecture",
        kind="value",
        summary="another momentum of the running statistics",
        paper="Ioffe, Szegedy 2015, arXiv:1502.03167, section 3.1; value: Jordan 2024, arXiv:2404.00498 (airbench)",
        formula="running = (1 - momentum) running + momentum batch; training itself is as before",
        expect=(
            "Changes evaluations only. Short runs end before slow statistics have caught up, so a larger value helps "
            "there; in long ones, at a rate that has fallen to zero, nothing, or more noise."
        ),
        differs="The baseline has 0.1. What the paper and other libraries call momentum is often 1 minus this",
        excludes={"batch_norm": "it sets the momentum, too"},
    )
    momentum: Annotated[float, Field(gt=0, le=1), Search(0.01, 0.6, log=True)] = 0.4

    @at(ModelStage.WRAP)  # after surgery on norms
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Set every norm's momentum."""
        norms = batch_norms(model)
        if not norms:
            raise NoEffect("needs batch norms with running statistics, and the model has none")
        if all(norm.momentum == self.momentum for norm in norms):
            raise NoEffect(f"momentum = {self.momentum:g} is the baseline's")
        for norm in norms:
            norm.momentum = self.momentum
        return model
