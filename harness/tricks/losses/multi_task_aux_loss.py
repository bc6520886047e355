"""An auxiliary task on the shared features, whose head is dropped after training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from harness.tricks.contract import (
    Batch,
    Choice,
    Groups,
    Info,
    LossStage,
    ModelStage,
    NotApplicable,
    Run,
    Search,
    Trick,
    at,
)
from harness.tricks.modules import FeatureTap, drawn_linear, frozen_statistics

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

CHUNK = 500
"""Images whose brightness is taken at once."""

SLOW = 0.1
"""Rate of the learned weights, as a factor on the recipe's: at the whole rate a bad batch throws them far off."""


class AuxHead(nn.Module):
    """The auxiliary task's linear layer, and the log variances of the main and the auxiliary loss."""

    def __init__(self, layer: nn.Linear, weight: float) -> None:
        super().__init__()
        self.layer = layer
        self.log_variance = nn.Parameter(layer.weight.new_tensor([0.0, -math.log(weight)]))


def intensity(x: Tensor, mean: float, std: float) -> Tensor:
    """Mean brightness of images (N, C, H, W), standardised: (N, 1)."""
    return (x.float().mean((1, 2, 3))[:, None] - mean) / std


def turned(x: Tensor, quarters: Tensor) -> Tensor:
    """Square images (N, C, S, S), each turned by its number (N,) of quarters, counter-clockwise."""
    views = torch.stack([x.rot90(k, (2, 3)) for k in range(4)])
    return views[quarters, torch.arange(len(x), device=x.device)]


class MultiTaskAuxLoss(Trick):
    """Caruana 1997; learned weights Kendall, Gal, Cipolla 2017, 1705.07115, section 3.2.

    weight: the factor on the auxiliary loss; with learned weights, the one at the start.
    """

    info: ClassVar = Info(
        name="multi_task_aux_loss",
        family="losses",
        summary="learn a second task, which needs no labels, from the same features",
        paper=(
            "Caruana 1997, Machine Learning 28; learned weights: Kendall, Gal, Cipolla 2017, arXiv:1705.07115; "
            "rotation: Gidaris, Singh, Komodakis 2018, arXiv:1803.07728"
        ),
        formula=(
            "fixed: L = L_main + w L_aux; uncertainty: L = exp(-s_0) L_main + exp(-s_1) L_aux + (s_0 + s_1) / 2, s "
            "learned; L_aux is the smooth absolute error of standardised mean brightness, or the cross-entropy of the "
            "quarter by which a second view is turned"
        ),
        expect=(
            "Helps when the tasks need the same features and labels are few. Rotation does so on natural images, in "
            "the paper as pre-training; it is undefined for round shapes. Brightness is easy and hardly related to "
            "the class: a null arm. Learned weights grow as a loss falls, so an easy task takes over: the paper gains "
            "on dense prediction, where no loss nears zero; a small net at a high rate loses a lot."
        ),
        differs=(
            "Self-made targets in place of annotated tasks. Turned views leave running statistics alone. The paper's "
            "squared error at weight one makes training at high rates collapse, so its smooth absolute form stands "
            "for it, and one form of learned weight serves both kinds of loss. Learned weights move at a tenth of "
            "the rate, without decay."
        ),
        cost=1.05,  # rotation: 2.0
    )
    task: Annotated[Literal["intensity", "rotation"], Choice(("intensity", "rotation"))] = "intensity"
    weight: Annotated[float, Field(gt=0), Search(1e-3, 1.0, log=True)] = 0.1
    weighting: Annotated[Literal["fixed", "uncertainty"], Choice(("fixed", "uncertainty"))] = "fixed"

    @at(ModelStage.WRAP)  # after surgery on the head, which would lose the hook
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Tap the features."""
        if self.task == "rotation" and not run.data.invariances.flip:
            raise NotApplicable("these images may look the same or mean another thing turned; use task = 'intensity'")
        tap = FeatureTap()
        model.head.register_forward_pre_hook(tap)
        run.state[self.name] = {"tap": tap}
        return model

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """Make the auxiliary head for the network as it is now, and train it, too."""
        size, channels, device = run.data.size, run.data.channels, run.device
        mode = run.model.training
        with torch.no_grad():
            _, features = run.model.eval().forward_with_features(torch.zeros(1, channels, size, size, device=device))
        run.model.train(mode)
        layer = drawn_linear(features.shape[1], 1 if self.task == "intensity" else 4, run.rng(self.name))
        head = run.state[self.name]["head"] = AuxHead(layer, self.weight)
        rows = run.train.rows
        parts = torch.split(torch.arange(len(rows)), CHUNK)
        brightness = torch.cat([rows.take(part).flatten(1).float().mean(1) for part in parts]) / run.train.peak
        run.state[self.name]["scale"] = (float(brightness.mean()), max(float(brightness.std()), 1e-3))
        added: Groups = [{"params": list(layer.parameters())}]
        if self.weighting == "uncertainty":
            added.append({"params": [head.log_variance], "weight_decay": 0.0, "lr": SLOW * run.recipe.lr})
        return groups + added

    @at(LossStage.WEIGH)
    def reduce_loss(self, loss: Tensor, run: Run) -> Tensor:
        """Keep the features of this pass, and weigh the main loss where that is learned."""
        state = run.state[self.name]
        state["tap"].hold()
        return loss * (-state["head"].log_variance[0]).exp() if self.weighting == "uncertainty" else loss

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The weighted auxiliary loss, and what keeps learned weights from vanishing."""
        loss = self._auxiliary(batch, run)
        if self.weighting == "fixed":
            return {"aux": self.weight * loss}
        log_variance = run.state[self.name]["head"].log_variance
        return {"aux": (-log_variance[1]).exp() * loss, "balance": log_variance.sum() / 2}

    def _auxiliary(self, batch: Batch, run: Run) -> Tensor:
        state = run.state[self.name]
        tap, layer = state["tap"], state["head"].layer
        features = tap.take()
        if self.task == "intensity":
            return F.smooth_l1_loss(layer(features), intensity(batch.x, *state["scale"]))
        quarters = torch.randint(4, (len(batch.x),), generator=run.rng(self.name), device=batch.x.device)
        with frozen_statistics(run.model), run.autocast():
            run.model(turned(batch.x, quarters))
        tap.hold()
        return F.cross_entropy(layer(tap.take()), quarters)
