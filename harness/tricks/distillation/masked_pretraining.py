"""Masked image modelling before training: start from a network that has learned to fill in painted patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field

from harness.experiment import RunSpec
from harness.tricks.contract import RATE, Info, InitStage, NotApplicable, Run, Search, Trick, at
from harness.tricks.stages import same_network, used

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class MaskedPretraining(Trick):
    """SimMIM, Xie et al. 2021, 2111.09886, for networks with feature maps."""

    info: ClassVar = Info(
        name="masked_pretraining",
        family="distillation",
        summary="first learn to fill in masked patches of the training images",
        paper=(
            "Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu 2021, arXiv:2111.09886 (SimMIM); He et al. 2021, arXiv:2111.06377"
        ),
        formula=(
            "before training, for `epochs` times the recipe's epochs and at least one: minimise mean "
            "|decoder(f(masked x)) - x| over masked pixels, f the last feature map and the decoder linear; then train "
            "f as usual"
        ),
        expect=(
            "The papers gain with large transformers, long pretraining and far more images than labels. On the same "
            "labelled images, with a small convolutional net, expect nothing or a loss: compare with a baseline that "
            "trains longer by as much. The pretraining counts as this arm's cost."
        ),
        differs=(
            "The pretraining is that of masked_image_modelling, which says what differs from SimMIM and MAE. It is a "
            "run of its own on the same images, with AdamW at 1e-3, decay 0.05 on all parameters, a cosine without "
            "warm-up, no clipping of gradients, and otherwise the recipe's values. Afterwards there is no decay of the "
            "rate by layers."
        ),
        version=2,
    )
    epochs: Annotated[float, Field(gt=0), Search(0.1, 2.0, log=True)] = 0.5
    ratio: Annotated[float, Field(gt=0, lt=1), Search(0.15, 0.9)] = 0.6
    patches: Annotated[int, Field(ge=2), Search(2, 8)] = 4
    lr: Annotated[float, Field(gt=0), Search(1e-4, 1e-2, log=True), RATE] = 1e-3

    def needs(self, spec: RunSpec) -> Sequence[RunSpec]:
        """The pretraining of the same network, as the arm's other tricks shape it."""
        epochs = max(1, round(self.epochs * spec.recipe.epochs))
        recipe = {"optimizer": "adamw", "lr": self.lr, "head_lr": None, "weight_decay": 0.05, "schedule": "cosine"}
        changes = recipe | {"epochs": epochs, "evaluations": 1}
        stage = same_network(spec, used("masked_image_modelling", ratio=self.ratio, patches=self.patches))
        return (stage.model_copy(update={"recipe": spec.recipe.model_copy(update=changes)}),)

    @at(InitStage.PRETRAIN)
    def init(self, model: Classifier, run: Run) -> None:
        """Take over what was learned; the head, which took no part, stays as it is."""
        (stage,) = self.needs(run.spec)
        learned = run.stage(stage).network().state_dict()
        own = model.state_dict()
        head = f"net.{model.head_path}."
        body = {name: value for name, value in learned.items() if not name.startswith(head)}
        strange = [name for name, value in body.items() if name not in own or own[name].shape != value.shape]
        if strange:
            raise NotApplicable(f"another trick changes the network after it was pretrained: {strange[0]} is other")
        with torch.no_grad():
            for name, value in body.items():
                own[name].copy_(value)
