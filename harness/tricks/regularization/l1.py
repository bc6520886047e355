"""L1 penalty on the weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, Info, NoOp, Run, Search, Trick


def l1_norm(weights: Iterable[Tensor]) -> Tensor:
    """The sum of all magnitudes."""
    return torch.stack(torch._foreach_norm(list(weights), 1)).sum()


class L1(Trick):
    """Tibshirani 1996 (lasso); for networks Scardapane et al. 2016, 1607.00485."""

    info: ClassVar = Info(
        name="l1",
        family="regularization",
        summary="penalise the magnitudes of the weights",
        paper="Tibshirani 1996, J. R. Stat. Soc. B 58(1); networks: Scardapane et al. 2016, arXiv:1607.00485",
        formula="L + lam sum |w| over the weights of convolutions and linear layers",
        expect=(
            "Drives unneeded weights towards zero, for sparsity rather than accuracy: near nothing at small lam, "
            "underfitting at large. Before batch normalisation the scale of a layer does not matter, so the penalty "
            "shrinks it and the effective learning rate grows."
        ),
        differs=(
            "The slope lam sign(w) enters the momentum as any gradient does, so weights oscillate about zero and none "
            "becomes it exactly, as a proximal step would. Vectors (biases, norms) are spared."
        ),
    )
    lam: Annotated[float, Field(ge=0), Search(1e-7, 1e-3, log=True), NoOp(0)] = 1e-5

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The penalty."""
        return {"l1": self.lam * l1_norm(p for p in run.model.parameters() if p.ndim > 1)}
