"""The activation axis: another nonlinearity in place of every ReLU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from torch import nn

from harness.tricks.contract import Choice, Info, ModelStage, Run, Trick, at
from harness.tricks.modules import replace_modules

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "mish": nn.Mish,
    "leaky": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
}
"""With torch's constants: leaky slope 0.01, elu alpha 1, one learned slope per prelu that starts at 0.25."""


class Relu(Trick):
    """Nair & Hinton 2010; the alternatives have papers of their own."""

    info: ClassVar = Info(
        name="relu",
        family="architecture",
        kind="removal",
        summary="replace the rectifier by another activation",
        paper=(
            "Nair, Hinton 2010 (ICML); silu: Elfwing, Uchibe, Doya 2017, arXiv:1702.03118, Ramachandran, Zoph, Le "
            "2017, arXiv:1710.05941; gelu: Hendrycks, Gimpel 2016, arXiv:1606.08415; mish: Misra 2019, "
            "arXiv:1908.08681; prelu: He et al. 2015, arXiv:1502.01852; elu: Clevert, Unterthiner, Hochreiter "
            "2015, arXiv:1511.07289; leaky: Maas, Hannun, Ng 2013 (ICML workshop)"
        ),
        formula="every max(x, 0) becomes act(x): x sigmoid(x) for silu, x Phi(x) for gelu, tanh(x), and so on",
        expect=(
            "The papers report some tenths of a point for smooth activations in deep nets on ImageNet, at a "
            "small cost in time. tanh saturates and should lose in deep nets. Little in short runs of shallow ones."
        ),
        differs="the initial weights stay those drawn for ReLU, so that the activation is all that changes",
        cost=1.05,
        excludes={
            "soft_threshold_act": "each replaces every ReLU",
            "tanh_hidden": "each replaces every ReLU",
        },
    )
    act: Annotated[
        Literal["tanh", "silu", "gelu", "mish", "leaky", "prelu", "elu"],
        Choice(("tanh", "silu", "gelu", "mish", "leaky", "prelu", "elu")),
    ] = "silu"

    @at(ModelStage.ACT)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Swap every ReLU."""
        replace_modules(model, lambda m: isinstance(m, nn.ReLU), lambda m: ACTIVATIONS[self.act](), "ReLU modules")
        return model
