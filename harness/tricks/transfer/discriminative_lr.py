"""Lower learning rates for lower layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from harness.tricks.contract import Choice, Groups, Info, NoOp, Run, Search, Trick
from harness.tricks.modules import parameters_by_depth, split_groups

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def parameters_by_layer(model: Classifier) -> list[list[nn.Parameter]]:
    """Parameters of each convolution or linear layer with the norm that follows, in the order of the modules."""
    layers: list[list[nn.Parameter]] = []
    for group in parameters_by_depth(model):
        for parameter in group:
            if parameter.ndim > 1 or not layers:
                layers.append([])
            layers[-1].append(parameter)
    return layers


class DiscriminativeLr(Trick):
    """Howard & Ruder 2018, 1801.06146, section 3.2."""

    info: ClassVar = Info(
        name="discriminative_lr",
        family="transfer",
        kind="fine-tuning",
        summary="lower learning rates for lower layers",
        paper="Howard, Ruder 2018, arXiv:1801.06146; as layer decay Bao, Dong, Piao, Wei 2021, arXiv:2106.08254",
        formula="lr_l = lr d^(L - l) for depth l, L the head, at every step of the schedule",
        expect=(
            "Helps fine-tuning: the more the data resemble the source, the less lower layers should move; the "
            "paper uses d = 1/2.6. A network trained from scratch has nothing to keep: expect a loss that grows "
            "as d falls, most with `groups = 'layer'` in deep nets."
        ),
        differs=(
            "Depth counts stages as the model names them, or single layers. The rates scale every parameter of a "
            "depth, through the optimizer's groups, so weight decay times rate shrinks with them."
        ),
    )
    d: Annotated[float, Field(gt=0, le=1), Search(0.3, 0.95), NoOp(1)] = 0.65
    groups: Annotated[Literal["stage", "layer"], Choice(("stage", "layer"))] = "stage"

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """Split the groups."""
        depths = (parameters_by_layer if self.groups == "layer" else parameters_by_depth)(run.model)
        top = len(depths) - 1
        parts = split_groups(groups, depths)
        return [{**part, "lr": part.get("lr", run.recipe.lr) * self.d ** (top - depth)} for depth, part in parts]
