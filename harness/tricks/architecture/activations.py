"""Smooth activations in the place of every ReLU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from harness.tricks.contract import Choice, Info, ModelStage, NotApplicable, Run, Search, Trick, at
from harness.tricks.modules import replace_modules

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

Name = Literal["gelu", "silu", "mish", "hardswish", "celu"]

SMOOTH: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
}

ALPHA = 0.3
"""Page's: CELU of 0.075, scales of norms frozen at 1/4, which is the same as 0.3 and scales of one."""


class Activations(Trick):
    """Hendrycks & Gimpel 2016, 1606.08415 (gelu); the others have papers of their own."""

    info: ClassVar = Info(
        name="activations",
        family="architecture",
        summary="a smooth activation that recipes propose in place of ReLU",
        paper=(
            "gelu: Hendrycks, Gimpel 2016, arXiv:1606.08415; silu: Ramachandran, Zoph, Le 2017, arXiv:1710.05941; "
            "mish: Misra 2019, arXiv:1908.08681; hardswish: Howard et al. 2019, arXiv:1905.02244; celu: Barron 2017, "
            "arXiv:1704.07483"
        ),
        formula=(
            "gelu: x Phi(x); silu: x sigmoid(x); mish: x tanh(log(1 + e^x)); hardswish: x relu6(x + 3) / 6; celu: x "
            "for x > 0, else alpha (e^(x / alpha) - 1)"
        ),
        expect=(
            "Some tenths of a point in deep nets and long training by the papers, 0.1 to 0.3 in the fast trainings of "
            "CIFAR-10 that use gelu and celu, at a small cost in time. Little in short runs of shallow nets."
        ),
        differs=(
            "The initial weights stay those drawn for ReLU. What recipes propose, as an addition; `relu` removes the "
            "rectifier to see its worth, by some of the same functions and by older ones."
        ),
        cost=1.05,
        excludes={
            "relu": "each replaces every ReLU",
            "soft_threshold_act": "each replaces every ReLU",
            "tanh_hidden": "each replaces every ReLU",
        },
    )
    act: Annotated[Name, Choice(("gelu", "silu", "mish", "hardswish", "celu"))] = "gelu"
    alpha: Annotated[
        float | None, Field(gt=0, description="of celu; 0.3 when left out"), Search(0.075, 1.0, log=True)
    ] = None

    @at(ModelStage.ACT)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Swap every ReLU."""
        if self.alpha is not None and self.act != "celu":
            raise NotApplicable(f"alpha belongs to act = 'celu', and act is '{self.act}'")
        build = SMOOTH.get(self.act, lambda: nn.CELU(self.alpha or ALPHA))
        replace_modules(model, lambda m: isinstance(m, nn.ReLU), lambda _m: build(), "ReLU modules")
        return model
