"""Center loss: pull the features of a class together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import MIXING, Batch, Info, ModelStage, Run, Search, Trick, at
from harness.tricks.modules import FeatureTap

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def center_loss(features: Tensor, centers: Tensor, target: Tensor) -> Tensor:
    """Half the squared distance of features (N, D) to their class's center, as a mean over the batch."""
    return (features - centers[target]).square().sum(1).mean() / 2


@torch.no_grad()
def move(centers: Tensor, features: Tensor, target: Tensor, lr: float) -> Tensor:
    """Centers (K, D) after one step: c_k - lr sum over class k of (c_k - f_i) / (1 + n_k)."""
    member = F.one_hot(target, len(centers)).to(features.dtype)
    count = member.sum(0)[:, None]
    return centers - lr * (count * centers - member.T @ features) / (1 + count)


class CenterLoss(Trick):
    """Wen, Zhang, Li, Qiao 2016 (ECCV), section 3.2."""

    info: ClassVar = Info(
        name="center_loss",
        family="losses",
        summary="pull the features of a class towards a moving center",
        paper="Wen, Zhang, Li, Qiao 2016, ECCV; recipe: Luo, Gu, Liu, Lai, Jiang 2019, arXiv:1903.07071",
        formula=(
            "L = CE + weight mean_i ||f_i - c_(y_i)||^2 / 2; after the step c_k = c_k - center_lr sum over class k "
            "of (c_k - f_i) / (1 + n_k)"
        ),
        expect=(
            "The paper gains in face verification, where distances between features are the output. A "
            "classifier that reads the logits gains little; a large weight shrinks all features instead."
        ),
        differs=(
            "Mean over the batch, as in later code. Centers start at zero and move by the paper's rule, so their "
            "step does not depend on the weight. The features are the head's input. The default weight is the number "
            "of Luo et al., whose code has no factor 1/2: ours pulls half as hard, and 1e-3 is theirs."
        ),
        cost=1.01,
        excludes={MIXING: "a mixture belongs to no class's center"},
        eager="its centers are replaced after each step",
    )
    weight: Annotated[float, Field(gt=0), Search(1e-5, 1e-2, log=True)] = 5e-4
    center_lr: Annotated[float, Field(gt=0, le=1), Search(0.1, 1.0)] = 0.5

    @at(ModelStage.WRAP)  # after surgery on the head, which would lose the hook
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Tap the features; centers are made when their number is known."""
        tap = FeatureTap()
        model.head.register_forward_pre_hook(tap)
        run.state[self.name] = {"tap": tap}
        return model

    def reduce_loss(self, loss: Tensor, run: Run) -> Tensor:
        """Keep the features of this pass."""
        run.state[self.name]["tap"].hold()
        return loss

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The weighted distance to the centers, which stay where they are until the step is done."""
        state = run.state[self.name]
        features, target = state["tap"].take(), batch.y.argmax(-1)
        if "centers" not in state:
            state["centers"] = features.new_zeros(batch.y.shape[1], features.shape[1])
        if not run.again:
            state.setdefault("seen", []).append((features.detach(), target))
        return {"center": self.weight * center_loss(features, state["centers"], target)}

    def after_step(self, run: Run) -> None:
        """Move the centers of the classes that were seen, by all images of the step as they were in its first pass."""
        state = run.state[self.name]
        features, target = (torch.cat(parts) for parts in zip(*state.pop("seen"), strict=True))
        state["centers"] = move(state["centers"], features, target, self.center_lr)
