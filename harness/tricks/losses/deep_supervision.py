"""Deep supervision: stages inside the network have heads of their own in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tricks.contract import Batch, Groups, Info, ModelStage, NoEffect, NoOp, Run, Search, Trick, at
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.modules import OutputTap, check_forward, drawn_linear

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class DeepSupervision(Trick):
    """Lee et al. 2014, 1409.5185, section 2; Szegedy et al. 2014, 1409.4842, section 5."""

    info: ClassVar = Info(
        name="deep_supervision",
        family="losses",
        summary="classify from inner stages, too, in training",
        paper="Lee, Xie, Gallagher, Zhang, Tu 2014, arXiv:1409.5185; Szegedy et al. 2014, arXiv:1409.4842, section 5",
        formula="L + weight sum over inner stages of CE(y, W_s mean(map_s) + b_s); these heads are dropped at the end",
        expect=(
            "Helped deep nets before normalisation and shortcuts carried gradients to the bottom. In residual nets "
            "near nothing; early stages that must be linearly separable may lose what later ones need."
        ),
        differs=(
            "A linear head on the mean of the map, where GoogLeNet has a small network and Lee et al. squared hinge "
            "losses. weight = 0.3 is GoogLeNet's and stays constant."
        ),
        cost=1.05,
    )
    weight: Annotated[float, Field(ge=0), Search(0.03, 1.0, log=True), NoOp(0)] = 0.3

    @at(ModelStage.WRAP)  # after surgery on the stages, which would lose the hooks
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Tap the stages between the stem and the last."""
        inner = model.stages[1:-1]
        if not inner:
            raise NoEffect("needs a named stage between the stem and the last, and the model has none")
        taps = [OutputTap() for _ in inner]
        for tap, stage in zip(taps, inner, strict=True):
            model.stage(stage).register_forward_hook(tap)
        run.state[self.name] = {"taps": taps}
        return model

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """Make the heads for the maps as they are now, and train them, too."""
        widths: list[int] = []
        stages = [run.model.stage(stage) for stage in run.model.stages[1:-1]]
        handles = [m.register_forward_hook(lambda _m, _a, out: widths.append(out.shape[1])) for m in stages]
        check_forward(run.model, run, run.data.size, "heads at its stages")
        for handle in handles:
            handle.remove()
        heads = [drawn_linear(width, len(run.data.classes), run.rng(self.name)) for width in widths]
        run.state[self.name]["heads"] = nn.ModuleList(heads)
        return [*groups, {"params": list(run.state[self.name]["heads"].parameters())}]

    def reduce_loss(self, loss: Tensor, run: Run) -> Tensor:
        """Keep this pass's maps before any term runs the network again; the loss stays."""
        for tap in run.state[self.name]["taps"]:
            tap.hold()
        return loss

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The weighted losses of the inner heads."""
        state = run.state[self.name]
        losses = [
            soft_cross_entropy(head(tap.take().flatten(2).mean(-1)), batch.y).mean()
            for head, tap in zip(state["heads"], state["taps"], strict=True)
        ]
        return {"stages": self.weight * torch.stack(losses).sum()}
