"""Attention transfer: where a stage's map is large agrees with the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Batch, Info, ModelStage, NoEffect, NoOp, Run, Search, at
from harness.tricks.modules import OutputTap
from harness.tricks.taught import Taught

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def attention(maps: Tensor) -> Tensor:
    """Mean square over channels of maps (N, C, H, W), as unit rows (N, H W)."""
    return F.normalize(maps.square().mean(1).flatten(1))


class AttentionTransfer(Taught):
    """Zagoruyko & Komodakis 2016, 1612.03928, section 3.1."""

    info: ClassVar = Info(
        name="attention_transfer",
        family="distillation",
        summary="stages are large where the teacher's are",
        paper="Zagoruyko, Komodakis 2016, arXiv:1612.03928, section 3.1",
        formula="L + beta / 2 sum over stages of mean (A^S - A^T)^2, A = mean over channels of map^2, over its norm",
        expect=(
            "The paper gains one point on ImageNet with a ResNet-18 taught by a ResNet-34, and adds to distillation. "
            "On tiny maps there is little to attend to; with a teacher no better than the student nothing. The "
            "teacher's training counts as this arm's cost."
        ),
        differs=(
            "The teacher is the wider baseline, as in knowledge_distillation. The mean of the squares over images and "
            "places is that of the authors' code, to which beta = 1000 belongs; the paper writes norms."
        ),
        cost=2.3,
    )
    beta: Annotated[float, Field(ge=0), Search(10.0, 5000.0, log=True), NoOp(0)] = 1000.0

    @at(ModelStage.WRAP)  # after surgery on the stages, which would lose the hooks
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Tap the stages behind the stem."""
        stages = model.stages[1:]
        if not stages:
            raise NoEffect("needs named stages behind the stem, and the model has none")
        taps = [OutputTap() for _ in stages]
        for tap, stage in zip(taps, stages, strict=True):
            model.stage(stage).register_forward_hook(tap)
        run.state[self.name] = {"taps": taps}
        return model

    def reduce_loss(self, loss: Tensor, run: Run) -> Tensor:
        """Keep this pass's maps before any term runs the network again; the loss stays."""
        for tap in run.state[self.name]["taps"]:
            tap.hold()
        return loss

    def _taught(self, x: Tensor, run: Run) -> list[Tensor]:
        teacher, maps = run.state[self.name]["teacher"], []
        hooks = [
            teacher.stage(stage).register_forward_hook(lambda _module, _args, out: maps.append(out.float()))
            for stage in teacher.stages[1:]
        ]
        try:
            with torch.no_grad(), run.autocast():
                teacher(x)
        finally:
            for hook in hooks:
                hook.remove()
        return maps

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The difference of the attentions on the very pixels that the student saw."""
        own = [tap.take() for tap in run.state[self.name]["taps"]]
        pairs = zip(own, self._taught(batch.x, run), strict=True)
        parts = [F.mse_loss(attention(a), attention(b)) for a, b in pairs if a.shape[-2:] == b.shape[-2:]]
        return {"attention": self.beta / 2 * torch.stack(parts).sum()}
