"""Stochastic weight averaging: the mean of the epochs' weights at a constant learning rate."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from harness.tricks.contract import Info, Run, Schedule, Search, Trick
from harness.tricks.modules import WeightAverage, plain_batches, recompute_statistics

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def hold(schedule: Schedule, start: float, factor: float) -> Schedule:
    """The schedule until `start`, then the constant factor."""
    return lambda progress: schedule(progress) if progress < start else factor


class StochasticWeightAveraging(Trick):
    """Izmailov et al. 2018, 1803.05407, algorithm 1."""

    info: ClassVar = Info(
        name="stochastic_weight_averaging",
        family="regularization",
        summary="average the last epochs' weights at a constant learning rate",
        paper="Izmailov, Podoprikhin, Garipov, Vetrov, Wilson 2018, arXiv:1803.05407",
        formula=(
            "from the fraction `start` of training the learning rate is swa_lr times the peak; the "
            "evaluated network is the mean of the weights at the ends of the epochs from then on, with "
            "batch statistics recomputed"
        ),
        expect=(
            "Helps when the constant rate keeps the weights moving around one basin: long training, weights "
            "that already fit. Harms short training, whose schedule it cuts off, and very small swa_lr "
            "makes it a copy."
        ),
        differs=(
            "Constant rate only, no cycles, and no ramp towards it. Batch statistics come from the training "
            "images without augmentation, with dropout off, as the mean over batches of nearly equal size."
        ),
        cost=1.02,
    )
    start: Annotated[float, Field(gt=0, lt=1), Search(0.5, 0.95)] = 0.75
    swa_lr: Annotated[float, Field(gt=0, le=1), Search(0.05, 1.0, log=True)] = 0.5

    def wrap_schedule(self, schedule: Schedule, run: Run) -> Schedule:
        """Take over the tail of the schedule."""
        return hold(schedule, self.start, self.swa_lr)

    def prepare(self, run: Run) -> None:
        """Make room for the mean."""
        run.state[self.name] = WeightAverage(run.model)

    def epoch_end(self, run: Run) -> None:
        """Add the epoch's weights to the mean."""
        if (run.epoch + 1) / run.recipe.epochs < self.start:
            return
        average = run.state[self.name]
        average.update(run.model, 1 / (average.count + 1))

    def evaluation_weights(self, run: Run) -> Classifier:
        """The mean with its own batch statistics, or the live network before there is a mean."""
        average = run.state[self.name]
        if not average.count:
            return run.model
        recompute_statistics(average.model, islice(plain_batches(run), 1 if run.rehearsal else None))
        model: Classifier = average.model
        return model
