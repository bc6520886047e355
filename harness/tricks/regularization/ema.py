"""Exponential moving average of the weights, evaluated in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from harness.tricks.contract import Choice, Info, NoOp, Run, Search, Trick
from harness.tricks.modules import WeightAverage

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


Ramp = Literal["none", "tensorflow", "timm"]


def decay_at(decay: float, updates: int, ramp: Ramp) -> float:
    """The decay at update t = 1, 2, ...; a ramp has a short memory early, which soon forgets the initial weights.

    tensorflow: min(decay, (1 + t) / (10 + t)). timm: min(decay, 1 - t^(-2/3)), with `use_warmup` and its defaults.
    """
    if ramp == "tensorflow":
        return min(decay, (1 + updates) / (10 + updates))
    return min(decay, 1 - updates ** (-2 / 3)) if ramp == "timm" else decay


class Ema(Trick):
    """Polyak & Juditsky 1992; in the exponential form Tarvainen & Valpola 2017, 1703.01780."""

    info: ClassVar = Info(
        name="ema",
        family="regularization",
        summary="evaluate an exponential moving average of the weights",
        paper=(
            "Polyak, Juditsky 1992, SIAM J. Control Optim. 30(4); exponential: Tarvainen, Valpola 2017, "
            "arXiv:1703.01780"
        ),
        formula=(
            "a = d a + (1 - d) w after every step, with d = decay; a starts as w after the first step. Half of its "
            "weight lies on the last ln 2 / (1 - d) steps: 69 at d = 0.99"
        ),
        expect=(
            "Helps early evaluations and training at a constant or high learning rate; near nothing at the "
            "end of a schedule that falls to zero. Harms when 1 / (1 - decay) steps are not short against "
            "the training."
        ),
        differs=(
            "A decay for short runs: papers and libraries have 0.999 to 0.9999 for 10^5 steps and more. What carries "
            "over is the half-life as a share of training: torchvision's recipe has 2.7 %, Composer's 0.4 %, so 0.99 "
            "is that of 2,500 to 17,000 steps. The ramp of mean teacher's code, 1 - 1 / (1 + t), is not offered. "
            "Floating buffers, the running statistics of batch normalisation, are averaged as the weights are; "
            "integer buffers are copied."
        ),
        cost=1.02,
        version=2,
    )
    decay: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.9999, log1m=True), NoOp(0)] = 0.99
    ramp: Annotated[Ramp, Choice(("none", "tensorflow", "timm"))] = "none"

    def prepare(self, run: Run) -> None:
        """Make room for the average."""
        run.state[self.name] = WeightAverage(run.model)

    def after_step(self, run: Run) -> None:
        """Move the average towards the new weights; the first ones are taken as they are."""
        average = run.state[self.name]
        d = decay_at(self.decay, average.count + 1, self.ramp) if average.count else 0.0
        average.update(run.model, 1 - d)

    def evaluation_weights(self, run: Run) -> Classifier:
        """The averaged network, or the live one before the first step."""
        average = run.state[self.name]
        model: Classifier = average.model.eval() if average.count else run.model
        return model
