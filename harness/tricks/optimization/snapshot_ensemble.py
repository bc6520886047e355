"""Snapshot ensemble: several cosine cycles, and the mean prediction of the networks at their ends."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Info, NotApplicable, Run, Schedule, Search, Trick
from harness.tricks.functional import cosine

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

Weights = dict[str, Tensor]


def cyclic(cycles: int) -> Schedule:
    """Cosines from one to zero, in equal cycles over training."""
    one = cosine()
    return lambda progress: one(round(progress * cycles, 9) % 1)  # so that no restart is missed by 1e-17


def restored(model: Classifier, weights: Weights) -> Classifier:
    """A copy of the network with the weights and buffers of a snapshot."""
    network = copy.deepcopy(model)
    network.load_state_dict(weights)
    return network


class SnapshotEnsemble(Trick):
    """Huang et al. 2017, 1704.00109, section 3.

    cycles: of the learning rate over training. last: at most so many of the latest snapshots are averaged.
    """

    info: ClassVar = Info(
        name="snapshot_ensemble",
        family="optimization",
        summary="average the predictions of networks from the ends of cosine cycles",
        paper="Huang, Li, Pleiss, Liu, Hopcroft, Weinberger 2017, arXiv:1704.00109",
        formula=(
            "lr(t) = lr_0 / 2 (cos(pi (t mod T/M) / (T/M)) + 1); p = mean of softmax over the last m networks saved "
            "at cycle ends"
        ),
        expect=(
            "The paper gains over one network of the same training time on CIFAR with 200 epochs and more, most where "
            "cycles are long enough to fit. In short runs every member is under-trained and the mean may lose to one "
            "long cosine. Evaluation takes m passes: compare with other ensembles, too."
        ),
        differs=(
            "The peak rate is the recipe's (the paper has 0.1 and 0.2). Cycle ends are those nearest below equal "
            "fractions of the updates. Before the first one the live network is evaluated; networks keep the batch "
            "statistics with which they were saved."
        ),
    )
    cycles: Annotated[int, Field(ge=2), Search(2, 10)] = 5
    last: Annotated[int, Field(ge=1), Search(1, 10)] = 5

    def schedule(self, run: Run) -> Schedule:
        """Cosine cycles over the whole training."""
        if self.cycles > run.total_steps:
            raise NotApplicable(f"cycles = {self.cycles} is more than the {run.total_steps} updates of the run")
        return cyclic(self.cycles)

    def prepare(self, run: Run) -> None:
        """Make room for the snapshots, oldest first."""
        run.state[self.name] = []

    def after_step(self, run: Run) -> None:
        """Save the weights when a cycle is over."""
        done, before = (step * self.cycles // run.total_steps for step in (run.step, run.step - 1))
        if done > before:
            weights = {name: t.detach().clone() for name, t in run.model.state_dict().items()}
            run.state[self.name] = [*run.state[self.name], weights][-self.last :]

    def evaluation_weights(self, run: Run) -> Sequence[Classifier]:
        """The networks of the snapshots, once there are any; their slot, so that no average takes their place."""
        return [restored(run.model, weights) for weights in run.state[self.name]] or [run.model]
