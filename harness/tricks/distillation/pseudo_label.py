"""Pseudo-labels: hide most labels, and learn the network's own certain guesses in their place."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Batch, Info, NotApplicable, Rows, Run, Search, TrainingSet, Trick
from harness.tricks.images import views
from harness.tricks.modules import frozen_statistics


def ramp(progress: float, start: float, end: float) -> float:
    """Zero until `start`, one from `end` on, linear between."""
    if progress >= end:
        return 1.0
    return 0.0 if progress <= start else (progress - start) / (end - start)


def stratified(label: Tensor, share: float, host: np.random.Generator) -> Tensor:
    """Positions of `share` of each class, rounded, at least one of each that is there; ascending."""
    chosen = []
    for k in sorted(set(label.tolist())):
        own = (label == k).nonzero()[:, 0].numpy()
        chosen.append(host.permutation(own)[: max(1, round(share * len(own)))])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def guessing_loss(logits: Tensor, threshold: float) -> Tensor:
    """Cross-entropy with the own argmax where its probability exceeds `threshold`; mean over all images."""
    certainty, guess = logits.detach().softmax(-1).max(-1)
    return (F.cross_entropy(logits, guess, reduction="none") * (certainty > threshold)).mean()


class Hidden:
    """Images without labels, on the run's device where they fit."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def state_dict(self) -> dict[str, Any]:
        """Nothing: it is made again from the data."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class PseudoLabel(Trick):
    """Lee 2013, ICML workshop on challenges in representation learning."""

    info: ClassVar = Info(
        name="pseudo_label",
        family="distillation",
        kind="protocol",
        summary="hide most labels and learn the own certain guesses instead",
        paper="Lee 2013, ICML workshop WREPL; threshold Sohn et al. 2020, arXiv:2001.07685",
        formula=(
            "L(labelled) + a(t) mean over unlabelled of 1[max p > threshold] CE(argmax p, p); a rises linearly from 0 "
            "at `start` to `weight` at `end` of training"
        ),
        expect=(
            "NOT comparable with the baseline, which knows every label: this arm knows only `labelled` of them. "
            "Compare it with this trick at threshold = 1, which learns from the labelled images alone. The paper gains "
            "on MNIST with 100 to 3000 labels; with few labels a net also confirms its own errors."
        ),
        differs=(
            "A threshold keeps uncertain guesses out; threshold 0 is the paper's. Guesses are made afresh at every "
            "batch. Labelled images are repeated so that an epoch has as many updates as the baseline's; as many "
            "unlabelled ones, augmented as the recipe says, come with each batch, and leave running statistics alone. "
            "The ramp is from 10 % to 60 % of training, after the paper's epochs 100 and 600; it has weight 3."
        ),
        cost=2.0,
        excludes={
            "kd_logits_cached": "the teacher would know the hidden labels",
            "kd_plus_ood": "the teacher would know the hidden labels",
            "knowledge_distillation": "the teacher would know the hidden labels",
        },
        measured=(
            "As expected of ten labels: −35.9 points [−40.8, −31.0] on digits (n = 10). The unlabelled images are "
            "worth what lies between that and threshold = 1: −36.8 [−45.0, −28.6] against −42.2 [−50.8, −33.7] (n = "
            "5; harness ablate pseudo_label.threshold=0.95,1.0 --design sweep --experiment digits --seeds 5)."
        ),
        eager="the weight of its loss grows from step to step",
    )
    labelled: Annotated[float, Field(gt=0, lt=1), Search(0.02, 0.5, log=True)] = 0.1
    threshold: Annotated[float, Field(ge=0, le=1), Search(0.7, 0.99, log1m=True)] = 0.95
    weight: Annotated[float, Field(ge=0), Search(0.1, 3.0, log=True)] = 1.0
    start: Annotated[float, Field(ge=0, le=1), Search(0.0, 0.3)] = 0.1
    end: Annotated[float, Field(ge=0, le=1), Search(0.3, 1.0)] = 0.6

    @model_validator(mode="after")
    def _ordered(self) -> PseudoLabel:
        if self.start > self.end:
            raise ValueError(f"start = {self.start} is after end = {self.end}")
        return self

    def dataset(self, train: TrainingSet, run: Run) -> TrainingSet:
        """Keep the labelled images, repeated to the old number, and put the others aside without labels.

        Where `data.labelled` has done so already, its share must be the trick's.
        """
        if run.unlabelled is not None:
            if self.labelled != run.spec.data.labelled:
                raise NotApplicable(
                    f"labelled = {self.labelled:g} and data.labelled = {run.spec.data.labelled:g} disagree; set them "
                    "equal"
                )
            run.state[self.name] = Hidden(run.unlabelled.rows.on(run.device))
            return train
        kept = stratified(train.label, self.labelled, run.numpy(self.name))
        hidden = torch.ones(len(train.label), dtype=torch.bool)
        hidden[kept] = False
        if not hidden.any():
            raise NotApplicable(f"labelled = {self.labelled:g} leaves no image of {len(hidden)} without a label")
        run.state[self.name] = Hidden(train.rows.select(hidden.nonzero()[:, 0]).on(run.device))
        rows = kept.repeat(-(-len(hidden) // len(kept)))[: len(hidden)]
        y = None if train.y is None else train.y[rows]
        return replace(train, images=train.rows.select(rows), label=train.label[rows], index=train.index[rows], y=y)

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The loss on as many unlabelled images."""
        hidden, g = run.state[self.name].rows, run.rng(self.name)
        chosen = torch.randint(len(hidden), (len(batch.x),), generator=g, device=run.device)
        x = views(hidden, chosen, run.train.peak, run.recipe, g)
        strength = self.weight * ramp(run.progress, self.start, self.end)
        if strength == 0:
            return {"unlabelled": logits.new_zeros(())}
        with frozen_statistics(run.model), run.autocast():
            guessed: Tensor = run.model(x)
        return {"unlabelled": strength * guessing_loss(guessed.float(), self.threshold)}
