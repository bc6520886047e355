"""R-Drop: two dropout passes of every image, and a penalty where they disagree."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Batch, Info, ModelStage, Passes, Run, Search, Trick, at
from harness.tricks.modules import DropInput
from harness.tricks.passes import together

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def disagreement(logits: Tensor) -> Tensor:
    """½ [KL(p || q) + KL(q || p)], mean over pairs; p is of the first half of logits (2N, K), q of the second."""
    p, q = F.log_softmax(logits, dim=-1).chunk(2)
    # The sum of both divergences: (p - q) (log p - log q).
    return 0.5 * ((p.exp() - q.exp()) * (p - q)).sum(-1).mean()


class RDrop(Trick):
    """Liang et al. 2021, 2106.14448, algorithm 1."""

    info: ClassVar = Info(
        name="r_drop",
        family="consistency",
        summary="two dropout passes that must agree",
        paper="Liang, Wu, Li, Wang, Meng, Qin, Chen, Zhang, Liu 2021, arXiv:2106.14448",
        formula="CE(p1) + CE(p2) + alpha / 2 [KL(p1 || p2) + KL(p2 || p1)], p1 and p2 by two dropout masks",
        expect=(
            "Helps fine-tuning of transformers, on text most; the paper gains 0.4 to 0.5 points on CIFAR-100 and "
            "ImageNet with ViT. Little to expect of nets with dropout before the head only, and nothing without "
            "dropout. Two passes a step: compare with a baseline of twice the epochs. Both cross-entropies are added, "
            "which doubles the gradient: tune the learning rate too."
        ),
        differs=(
            "One pass over the batch followed by itself, as in the authors' code. KL is the mean over images and both "
            "cross-entropies count, as in the paper; the authors' example sums KL over the batch. Dropout of p before "
            "the head comes with the trick; other dropout of the arm also differs between the passes. alpha = 0.6 is "
            "the paper's for ViT; text tasks take 1 to 5. What the penalty is worth shows against alpha = 0, which "
            "keeps the dropout, the second pass and the doubled gradient."
        ),
        cost=2.0,
    )
    alpha: Annotated[float, Field(ge=0), Search(0.1, 5.0, log=True)] = 0.6
    p: Annotated[float, Field(ge=0, lt=1), Search(0.05, 0.5)] = 0.1

    @at(ModelStage.WRAP)  # after surgery on the head, which would lose the hook
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Drop features before the head."""
        model.head.register_forward_pre_hook(DropInput(self.p, run.rng(self.name), whole_channels=False))
        return model

    @at(Passes.WHOLE)
    def gradient(self, closure: Callable[[Batch], Tensor], batch: Batch, run: Run) -> Tensor:
        """One pass over both copies."""
        loss = closure(together(batch, batch))
        run.backward(loss)
        return loss.detach()

    def example_weights(self, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """Two, so that the mean over both copies is the sum of two cross-entropies."""
        return logits.new_full((len(logits),), 2.0)

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The disagreement of the two passes."""
        return {"kl": self.alpha * disagreement(logits)}
