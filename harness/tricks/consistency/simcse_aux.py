"""SimCSE as an auxiliary loss: two views of an image are closer than views of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import PARTS, Batch, Choice, Groups, Info, ModelStage, NoEffect, Run, Search, Trick, at
from harness.tricks.images import random_view
from harness.tricks.modules import DropInput, FeatureTap, frozen_statistics, projection

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


SHIFT, NOISE = 0.125, 0.1
"""The augmented view: largest shift as a fraction of the side, if the data bear it, and std of the pixel noise."""


def nt_xent(a: Tensor, b: Tensor, tau: float, label: Tensor | None = None) -> Tensor:
    """Cross-entropy of finding each embedding's other view among all others, by cosine over tau.

    a, b: (N, D), two views of N images. With label (N,), other images of the same class are no candidates.
    """
    n = len(a)
    z = F.normalize(torch.cat((a, b)))
    partner = torch.arange(2 * n, device=z.device).roll(n)
    excluded = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    if label is not None:
        both = torch.cat((label, label))
        excluded = (both[:, None] == both) & ~F.one_hot(partner, 2 * n).bool()
    return F.cross_entropy((z @ z.T / tau).masked_fill(excluded, float("-inf")), partner)


class SimcseAux(Trick):
    """Gao, Yao, Chen 2021, 2104.08821, section 3; on two augmented views Chen et al. 2020, 2002.05709."""

    info: ClassVar = Info(
        name="simcse_aux",
        family="consistency",
        summary="contrast two dropout passes or views of each image with the others",
        paper="Gao, Yao, Chen 2021, arXiv:2104.08821; NT-Xent Chen, Kornblith, Norouzi, Hinton 2020, arXiv:2002.05709",
        formula=(
            "L + weight mean over 2N embeddings of -log exp(z_i z_j / tau) / sum_k exp(z_i z_k / tau), j the other "
            "view of i, k all but i; z = normalised projection of the penultimate features"
        ),
        expect=(
            "The paper learns sentence embeddings without labels, where dropout is the best of views tried. As an "
            "addition to labels on images expect little: it spreads features that the class loss draws together. "
            "May help features with few labels; harms when weight is large."
        ),
        differs=(
            "An auxiliary loss beside the classification loss, not pretraining. Candidates are both views, as in "
            "SimCLR; the paper has only the other ones. `mask_class` leaves out images of the same class, which the "
            "paper does not know. `views = 'aug'` shifts and adds noise on top of dropout of p before the head. The "
            "second pass leaves running statistics alone. tau = 0.05 in the paper. What the contrast is worth shows "
            "against weight = 0, which keeps the dropout."
        ),
        cost=2.0,
        excludes={PARTS: "images are compared with all of the batch"},
    )
    weight: Annotated[float, Field(ge=0), Search(0.01, 1.0, log=True)] = 0.1
    tau: Annotated[float, Field(gt=0), Search(0.03, 1.0, log=True)] = 0.1
    views: Annotated[Literal["dropout", "aug"], Choice(("dropout", "aug"))] = "dropout"
    mask_class: Annotated[bool, Choice((False, True))] = True
    p: Annotated[float, Field(ge=0, lt=1), Search(0.05, 0.5)] = 0.1
    width: Annotated[int, Field(ge=1), Search(16, 128, log=True)] = 64

    @at(ModelStage.WRAP)  # after surgery on the head, which would lose the hooks
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Drop features, tap what is left, and make the projection."""
        if self.weight == 0 and self.p == 0:
            raise NoEffect("weight = 0 and p = 0 leave everything as it is in the baseline")
        g, tap = run.rng(self.name), FeatureTap()
        model.head.register_forward_pre_hook(DropInput(self.p, g, whole_channels=False))
        model.head.register_forward_pre_hook(tap)
        run.state[self.name] = {"tap": tap, "projection": projection(model, self.width, g)}
        return model

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """The projection learns, too."""
        return [*groups, {"params": list(run.state[self.name]["projection"].parameters())}]

    def reduce_loss(self, loss: Tensor, run: Run) -> Tensor:
        """Keep this pass's features before any term runs the network again; the loss stays."""
        run.state[self.name]["tap"].hold()
        return loss

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """NT-Xent between this pass and another."""
        state, x = run.state[self.name], batch.x
        first = state["tap"].take()
        if self.views == "aug":
            x = random_view(x, min(SHIFT, run.data.invariances.shift), NOISE, run.rng(self.name))
        with frozen_statistics(run.model), run.autocast():
            _, second = run.model.forward_with_features(x)
        a, b = (state["projection"](features) for features in (first, second.float()))
        return {"contrast": self.weight * nt_xent(a, b, self.tau, batch.label if self.mask_class else None)}
