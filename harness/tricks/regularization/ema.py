"""Exponential moving average of the weights, evaluated in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from harness.tricks.contract import Info, NoOp, Run, Search, Trick
from harness.tricks.modules import WeightAverage

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def ramped(decay: float, updates: int) -> float:
    """min(decay, (1 + t) / (10 + t)): a short memory early, which soon forgets the initial weights."""
    return min(decay, (1 + updates) / (10 + updates))


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
            "a = d a + (1 - d) w after step t, d = min(decay, (1 + t) / (10 + t)); a starts as w after the first step"
        ),
        expect=(
            "Helps early evaluations and training at a constant or high learning rate; near nothing at the "
            "end of a schedule that falls to zero. Harms when 1 / (1 - decay) steps are not short against "
            "the training."
        ),
        differs=(
            "The ramp of the decay is from TensorFlow's ExponentialMovingAverage. Floating buffers, the "
            "running statistics of batch normalisation, are averaged as the weights are; integer buffers "
            "are copied."
        ),
        cost=1.02,
    )
    decay: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.9999, log1m=True), NoOp(0)] = 0.999

    def prepare(self, run: Run) -> None:
        """Make room for the average."""
        run.state[self.name] = WeightAverage(run.model)

    def after_step(self, run: Run) -> None:
        """Move the average towards the new weights; the first ones are taken as they are."""
        average = run.state[self.name]
        average.update(run.model, 1 - ramped(self.decay, average.count + 1) if average.count else 1.0)

    def evaluation_weights(self, run: Run) -> Classifier:
        """The averaged network, or the live one before the first step."""
        average = run.state[self.name]
        model: Classifier = average.model.eval() if average.count else run.model
        return model
