"""Larger learning rates for biases and shifts."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from harness.tricks.contract import Groups, Info, NoEffect, NoOp, Run, Search, Trick
from harness.tricks.modules import split_groups


class BiasLrScale(Trick):
    """Jordan 2024 (airbench), 2404.00498, section 3.4; the factor 2 is that of Caffe and of re-identification."""

    info: ClassVar = Info(
        name="bias_lr_scale",
        family="optimization",
        summary="a multiple of the learning rate for biases and shifts of normalisations",
        paper="Jordan 2024, arXiv:2404.00498; Page 2019 (myrtle.ai), with factor 64",
        formula="lr_b = factor lr for every bias and every shift of a normalisation; their decay per update as it was",
        expect=(
            "Shortens very short trainings: the paper trains for 10 epochs with factor 64, scales of its norms frozen. "
            "In long ones, or at a rate near the largest that is stable, nothing or harm."
        ),
        differs="scales of normalisations are trained on, at the plain rate; `frozen_bn_scale` freezes them",
    )
    factor: Annotated[float, Field(gt=0), Search(1.5, 64.0, log=True), NoOp(1)] = 64.0

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """Split the groups; weight decay times rate is what it was."""
        biases = [p for name, p in run.model.named_parameters() if name.rpartition(".")[2] == "bias"]
        if not biases:
            raise NoEffect("the model has no bias")
        lr, decay = run.recipe.lr, run.recipe.weight_decay
        return [
            part
            if rest
            else part
            | {
                "lr": part.get("lr", lr) * self.factor,
                "weight_decay": part.get("weight_decay", decay) / self.factor,
            }
            for rest, part in split_groups(groups, [biases, []])
        ]
