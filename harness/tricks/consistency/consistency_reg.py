"""Consistency regularisation: predictions must survive a small shift and noise."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Batch, Choice, Info, NoEffect, NoOp, Run, Search, Trick
from harness.tricks.images import random_view
from harness.tricks.modules import frozen_statistics

Divergence = Literal["kl", "js", "mse"]

WEIGHTS = {"kl": 1.0, "js": 12.0, "mse": 100.0}
"""The papers' weights: of UDA, of AugMix, and of the Pi model where all images are labelled."""


def divergence(logits: Tensor, view: Tensor, kind: Divergence) -> Tensor:
    """How far the prediction on a view is from that on the image, mean over the batch; logits are (N, K).

    kl: KL(p || q); js: ½ KL(p || m) + ½ KL(q || m), m = (p + q) / 2; mse: mean of (p - q)² over classes.
    """
    p, q = F.log_softmax(logits, dim=-1), F.log_softmax(view, dim=-1)
    if kind == "mse":
        return F.mse_loss(q.exp(), p.exp())
    if kind == "kl":
        return F.kl_div(q, p, reduction="batchmean", log_target=True)
    middle = ((p.exp() + q.exp()) / 2).clamp(min=1e-12).log()
    return 0.5 * sum((F.kl_div(middle, a, reduction="batchmean", log_target=True) for a in (p, q)), p.new_zeros(()))


class ConsistencyReg(Trick):
    """Laine & Aila 2016, 1610.02242 (mse); Xie et al. 2019, 1904.12848 (kl); Hendrycks et al. 2019 (js)."""

    info: ClassVar = Info(
        name="consistency_reg",
        family="consistency",
        summary="predictions must survive a small shift and noise",
        paper=(
            "Laine, Aila 2016, arXiv:1610.02242 (Pi model); Xie et al. 2019, arXiv:1904.12848 (UDA); Hendrycks et al. "
            "2019, arXiv:1912.02781 (JS); for translated text Zheng et al. 2021, arXiv:2106.08226"
        ),
        formula=(
            "L + weight D(p(x), p(x')), x' a shifted and noisy view of x. kl: D = KL(p || p'), weight 1, p held fixed; "
            "js: D = JS, weight 12; mse: D = mean over classes of (p - p')², weight 100; in both p learns, too"
        ),
        expect=(
            "The papers gain most on unlabelled images, which this arm has none of. On labelled ones it helps with few "
            "images and against noise and corruptions (JS in AugMix); little where the augmentation already covers the "
            "view. Large weights early flatten the predictions."
        ),
        differs=(
            "The view is of the very pixels that the loss sees, after the arm's augmentation and mixing: a shift, "
            "never more than the data set bears, and Gaussian noise, where UDA has RandAugment and AugMix two chains "
            "of its own beside the image (JS of three). No ramp of the weight over training, which the Pi model has, "
            "no sharpening, no signal annealing. The view's pass normalises by its own batch and leaves running "
            "statistics alone."
        ),
        cost=2.0,
        version=2,
    )
    weight: Annotated[float | None, Field(ge=0), Search(0.1, 200.0, log=True), NoOp(0)] = None
    kind: Annotated[Divergence, Choice(("kl", "js", "mse"))] = "kl"
    stop_gradient: Annotated[bool | None, Choice((False, True))] = None
    shift: Annotated[float, Field(ge=0, le=0.5), Search(0.0, 0.25)] = 0.125
    noise: Annotated[float, Field(ge=0), Search(0.01, 0.3, log=True)] = 0.1

    def prepare(self, run: Run) -> None:
        """Refuse a view that is the image itself."""
        if not self.noise and not round(self._shift(run) * run.data.size):
            raise NoEffect("the view is the image: noise is zero and these images bear no shift")

    def _shift(self, run: Run) -> float:
        return min(self.shift, run.data.invariances.shift)

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The divergence between the prediction and that on a view."""
        x = random_view(batch.x, self._shift(run), self.noise, run.rng(self.name))
        with frozen_statistics(run.model), run.autocast():
            view: Tensor = run.model(x)
        weight = WEIGHTS[self.kind] if self.weight is None else self.weight
        stop = self.kind == "kl" if self.stop_gradient is None else self.stop_gradient
        return {"divergence": weight * divergence(logits.detach() if stop else logits, view.float(), self.kind)}
