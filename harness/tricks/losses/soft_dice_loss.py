"""Soft Dice: train on a smooth form of the macro F1 score of the batch."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import PARTS, Batch, Info, Run, Search, Trick


def soft_dice(p: Tensor, y: Tensor) -> Tensor:
    """One minus the mean over classes of 2 sum p y / (sum p + sum y), for (N, K) probabilities.

    Only classes that are the most probable target of some example count; for the others the score is zero
    whatever is predicted.
    """
    present = F.one_hot(y.argmax(-1), y.shape[-1]).amax(0)
    score = 2 * (p * y).sum(0) / (p.sum(0) + y.sum(0)).clamp(min=1e-12)
    return 1 - (score * present).sum() / present.sum()


class SoftDiceLoss(Trick):
    """Milletari, Navab, Ahmadi 2016, 1606.04797, section 3, with images in the place of voxels."""

    info: ClassVar = Info(
        name="soft_dice_loss",
        family="losses",
        summary="train on a soft macro F1 score of the batch",
        paper="Milletari, Navab, Ahmadi 2016, arXiv:1606.04797",
        formula=(
            "(1 - w) CE + w (1 - mean over present classes k of 2 sum_i p_ik y_ik / (sum_i p_ik + sum_i y_ik)), sums "
            "over the batch"
        ),
        expect=(
            "The paper gains on segmentation with rare foreground, over weighted cross-entropy. On balanced "
            "classes F1 and accuracy agree: expect a slower start, since confident errors have small gradients, "
            "and overconfident predictions. Use it to see what optimising the metric itself brings on imbalanced "
            "data."
        ),
        differs=(
            "Sums over the images of a batch, hence a noisy score where the batch has few images of a class; "
            "softmax over K classes; sums without squares in the denominator, which makes one-hot predictions "
            "give exactly one minus the macro F1 score; mixed with cross-entropy by `weight`."
        ),
        excludes={PARTS: "the score belongs to the whole batch, not to its parts"},
    )
    weight: Annotated[float, Field(gt=0, le=1), Search(0.1, 1.0)] = 0.5

    def example_weights(self, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """The weight of the criterion."""
        return logits.new_full((len(logits),), 1 - self.weight)

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The weighted Dice loss of the batch."""
        return {"dice": self.weight * soft_dice(logits.softmax(-1), batch.y)}
