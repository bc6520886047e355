"""What a trick is: hyperparameters, a card, and hooks with a rule each.

A trick is a frozen pydantic model whose fields are its hyperparameters and whose methods are hooks that it
overrides. The hook's rule in `harness.tricks.rules`, not the trick, decides what happens when two tricks meet.

State that outlives a step lives in `run.state[name]`. Draws come from `run.rng(name)` (a torch generator on
the run's device) or `run.numpy(name)` (host-side), both named after the trick, never from a global generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from harness import rng
from harness.data.types import Batch as Batch
from harness.data.types import DataInfo as DataInfo
from harness.data.types import Invariances as Invariances
from harness.data.types import Part as Part
from harness.data.types import Rows as Rows
from harness.data.types import TrainingSet as TrainingSet
from harness.data.types import at_once as at_once
from harness.data.types import to_pixels as to_pixels
from harness.experiment import Recipe, RunSpec, TrickSpec
from harness.tricks.kinds import TrickKind
from harness.tricks.marks import RATE as RATE
from harness.tricks.marks import Choice as Choice
from harness.tricks.marks import NoOp as NoOp
from harness.tricks.marks import Search as Search
from harness.tricks.marks import times as times
from harness.tricks.rules import HOOKS as HOOKS
from harness.tricks.rules import MIXING as MIXING
from harness.tricks.rules import PARTS as PARTS
from harness.tricks.rules import BatchStage as BatchStage
from harness.tricks.rules import GradientStage as GradientStage
from harness.tricks.rules import InitStage as InitStage
from harness.tricks.rules import LossStage as LossStage
from harness.tricks.rules import ModelStage as ModelStage
from harness.tricks.rules import Passes as Passes
from harness.tricks.rules import RecipeStage as RecipeStage
from harness.tricks.rules import at as at
from harness.values import Added as Added
from harness.values import Strict, canonical

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

Schedule = Callable[[float], float]
"""Maps progress, the fraction of updates done in [0, 1), to a factor on the peak learning rate."""

Predict = Callable[[Tensor], Tensor]
"""Maps pixels (N, C, H, W) in [0, 1] to logits (N, K)."""

Groups = list[dict[str, Any]]
"""Parameter groups as torch optimizers take them."""


class Info(NamedTuple):
    """A trick's card.

    `kind` says what the trick does to the baseline (`harness.tricks.kinds`); headlines count additions. `differs` says
    what this code does otherwise than the paper. `cost` is the expected time of a training step in multiples of the
    baseline's. `excludes` maps the names of tricks that cannot be combined with this one, or roles that it cannot
    bear (`rules.ROLES`), to the reason. `version` is bumped when the trick's numbers change; it enters the run id.
    `measured` says why our own studies contradict `expect`, with the figures that show it, their n and intervals.
    `eager` says what a step reads on the host that changes from step to step; empty when there is nothing, so that
    a step can be captured as a CUDA graph and replayed.
    """

    name: str
    family: str
    summary: str
    paper: str
    formula: str
    expect: str
    differs: str = "nothing"
    cost: float = 1.0
    excludes: Mapping[str, str] = {}
    version: int = 1
    measured: str = ""
    eager: str = ""
    kind: TrickKind = "addition"


class NotApplicable(Exception):
    """A trick cannot act on this data set, model or recipe. The run is stored as skipped, with the reason."""


class NoEffect(NotApplicable):
    """The trick would change nothing (a surgery matches nothing, say), so the arm would silently be the baseline."""


class Precision(NamedTuple):
    """Autocast dtype (None is float32) and, for float16, the initial scale of the gradient scaler."""

    dtype: torch.dtype | None = None
    init_scale: float | None = None


class Stage(Protocol):
    """A run that was trained before this one, because a trick of this one needs it (`Trick.needs`).

    It predicts as it was evaluated at its end: with its own predictors, and with the mean probability of its networks
    where it has several. In a rehearsal it is untrained, and what it says of the first images stands for all.
    """

    @property
    def spec(self) -> RunSpec:
        """The run."""

    def network(self) -> Classifier:
        """A copy of the network of its last epoch, as it was evaluated: in evaluation mode, frozen, on the device."""

    def part(self, name: str) -> Part:
        """Its own images.

        By name: "train", "val", "test" or "unlabelled", or "rest", the training images that its fold leaves out.
        """

    def logits(self, of: str | Part) -> Tensor:
        """Logits (N, K) of one of its parts by name, or of any images, without augmentation, in float32."""

    def features(self, of: str | Part) -> Tensor:
        """The input (N, D) of the head of `network()` for the same."""


@dataclass
class Run:
    """One training as its tricks see it. Only the loop writes here; tricks write `state[their name]`."""

    spec: RunSpec
    recipe: Recipe
    data: DataInfo
    device: torch.device
    stage: Callable[[RunSpec], Stage]
    """The run that a trick has declared in `needs`, and that was trained before."""
    seed_of: Callable[[int, str], int] = field(default=lambda seed, purpose: seed)
    state: dict[str, Any] = field(default_factory=dict)
    model: Classifier = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    train: TrainingSet = field(init=False)
    unlabelled: Part | None = None
    """The training images whose labels `data.labelled` hides, each labelled -1; None where there are none."""
    step: int = 0
    epoch: int = 0
    steps_per_epoch: int = 0
    loss: Callable[[Batch], Tensor] = field(init=False)
    """The total loss of a batch: forward pass, criterion, weights, mean and all tricks' terms."""
    autocast: Callable[[], Any] = field(init=False)
    backward: Callable[[Tensor], None] = field(init=False)
    """Back-propagates a loss, scaled where the precision needs it."""
    unscale: Callable[[], None] = field(init=False)
    """Brings gradients to their true scale; safe to call more than once a step."""
    streams: dict[str, torch.Generator] = field(default_factory=dict)
    numpy_streams: dict[str, np.random.Generator] = field(default_factory=dict)
    rehearsal: bool = False
    """Whether this is a trial of one step before a study: what trains in set-up does one step, too."""
    logged: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    again: bool = False
    """Whether an earlier pass of this step was of the same images: what counts images once looks the first time."""
    weight: Tensor | float = 1.0
    """The mean of the example weights of this pass, which scales what a trick compares the mean loss with."""

    @property
    def total_steps(self) -> int:
        """Optimizer updates in the whole training."""
        return self.steps_per_epoch * self.recipe.epochs

    @property
    def progress(self) -> float:
        """Fraction of the updates done, in [0, 1]."""
        return self.step / self.total_steps

    def rng(self, name: str) -> torch.Generator:
        """The torch generator of one purpose, on the run's device; the same object all through the run."""
        if name not in self.streams:
            seed = self.seed_of(self.spec.seed, name)
            self.streams[name] = rng.torch_stream(seed, name, self.device)
        return self.streams[name]

    def numpy(self, name: str) -> np.random.Generator:
        """The NumPy generator of one purpose, for draws that stay on the host."""
        if name not in self.numpy_streams:
            self.numpy_streams[name] = rng.numpy_stream(self.seed_of(self.spec.seed, name), name)
        return self.numpy_streams[name]

    def log(self, name: str, value: Tensor) -> None:
        """Add a scalar to the epoch's mean of `name`, without leaving the device."""
        total, count = self.logged.get(name, (None, 0))
        value = value.detach()
        self.logged[name] = (value.clone() if total is None else total + value, count + 1)


class Trick(Strict):
    """Base of all tricks: subclass it, declare `info` and fields, override the hooks that are needed."""

    info: ClassVar[Info]

    @property
    def name(self) -> str:
        """The catalogue's id, which is also the file name."""
        return self.info.name

    def spec(self) -> TrickSpec:
        """The trick as part of a run's identity."""
        return TrickSpec(name=self.name, version=self.info.version, params=canonical(self))

    def at_rate(self, factor: float) -> Self:
        """The trick at that multiple of the learning rates of its own, which are the fields marked `RATE`.

        Beside a recipe at the same multiple, every weight of the network then has that multiple of its rate. A trick
        whose rate is not the value of a field overrides it.
        """
        own = {n: getattr(self, n) for n, f in type(self).model_fields.items() if RATE in f.metadata}
        return self.model_copy(update={n: times(v, factor) for n, v in own.items() if v is not None})

    def check_acts(self) -> None:
        """Refuse a value that is declared to do nothing (`NoOp`).

        Raises:
            NoEffect: with the hyperparameter and its value.
        """
        for name, declared in type(self).model_fields.items():
            value = getattr(self, name)
            if any(isinstance(mark, NoOp) and value == mark.value for mark in declared.metadata):
                raise NoEffect(f"{name} = {value:g} leaves everything as it is in the baseline")

    # Before training -------------------------------------------------------------------------------

    def needs(self, spec: RunSpec) -> Sequence[RunSpec]:
        """The runs that must be trained before this one, its stages (union).

        A stage is any run: of another arm, experiment, seed or fold. It may need runs itself. It is planned, trained
        once for all arms and studies that ask for it, and stored with its curves; `run.stage` hands it over in any
        later hook. Its cost is added to that of every run that needs it.

        Args:
            spec: the run that the trick is part of.

        Raises:
            NotApplicable: the trick cannot act on this run, which is then skipped without its stages.
        """
        return ()

    def stream_seed(self, seed: int, purpose: str) -> int:
        """The seed from which the block's stream `purpose` is drawn (slot). Only the placebo changes it."""
        return seed

    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """Change values of the recipe (pipeline over `RecipeStage`)."""
        return recipe

    def dataset(self, train: TrainingSet, run: Run) -> TrainingSet:
        """Relabel, drop or reorder the training split, and only that (pipeline)."""
        return train

    def sampler(self, train: TrainingSet, run: Run) -> Tensor:
        """Positions in the training split that the coming epoch visits, (M,), on the CPU (slot)."""
        raise NotImplementedError

    def sample_transform(self, image: Tensor, run: Run) -> Tensor:
        """Change one uint8 image (C, H, W) on the host, before batching (pipeline). Slow; prefer `batch`."""
        return image

    # Set-up ----------------------------------------------------------------------------------------

    def model(self, model: Classifier, run: Run) -> Classifier:
        """Replace modules (pipeline over `ModelStage`). The baseline's weights are drawn before."""
        return model

    def init(self, model: Classifier, run: Run) -> None:
        """Set initial weights in place, after all surgery (pipeline over `InitStage`)."""

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """Split or change parameter groups (pipeline)."""
        return groups

    def optimizer(self, groups: Groups, run: Run) -> torch.optim.Optimizer:
        """Build the optimizer (slot). A key that a group already has must win over the trick's own value.

        Where its weight decay is not coupled, its defaults say so (`optimizers.FORM`).
        """
        raise NotImplementedError

    def wrap_optimizer(self, optimizer: torch.optim.Optimizer, run: Run) -> torch.optim.Optimizer:
        """Wrap or hook the optimizer (pipeline)."""
        return optimizer

    def schedule(self, run: Run) -> Schedule:
        """The learning-rate factor over training (slot)."""
        raise NotImplementedError

    def wrap_schedule(self, schedule: Schedule, run: Run) -> Schedule:
        """Change the schedule (pipeline)."""
        return schedule

    def precision(self, run: Run) -> Precision:
        """Numeric precision of forward and backward (slot)."""
        raise NotImplementedError

    def prepare(self, run: Run) -> None:
        """Get what training needs: stages, indices, probes (notify). Called last before training.

        An object in `run.state` that has a `state_dict` is made here, so that a resumed run can load into it.
        A probe such as a learning-rate finder may train, if it then restores weights, buffers, optimizer and
        the other tricks' state, and draws batches from `run.train` rather than from the loader. What takes long here
        or in `init`, as such a probe does, does one step of it when `run.rehearsal` says so.
        """

    # Each step -------------------------------------------------------------------------------------

    def epoch_start(self, run: Run) -> None:
        """Before an epoch's first batch (notify)."""

    def batch(self, batch: Batch, run: Run) -> Batch:
        """Change images and targets together (pipeline over `BatchStage`)."""
        return batch

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """The loss of each example, (N,), for logits (N, K) in float32 and soft targets y (N, K) (slot)."""
        raise NotImplementedError

    def example_weights(self, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """Factors on the examples' losses, (N,) (product)."""
        raise NotImplementedError

    def reduce_loss(self, loss: Tensor, run: Run) -> Tensor:
        """Change the mean loss of the batch, before loss terms are added (pipeline over `LossStage`).

        The loss is that of examples times their weights, whose mean is `run.weight`.
        """
        return loss

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """Scalars that are added to the loss and logged by name (sum).

        Called in every pass of a step. A term that is none of single images cannot bear the role `PARTS`.
        """
        return {}

    def gradient(self, closure: Callable[[Batch], Tensor], batch: Batch, run: Run) -> Tensor:
        """Own forward and backward (slot, which declares its `Passes`): leave gradients in `.grad`, return the loss.

        `closure(batch)` runs the forward pass and returns the total loss; `run.backward` and `run.unscale`
        hide the gradient scaler. Gradients are None on entry.
        """
        raise NotImplementedError

    def on_gradients(self, parameters: list[nn.Parameter], run: Run) -> None:
        """Change gradients in place, at their true scale (pipeline over `GradientStage`)."""

    def after_step(self, run: Run) -> None:
        """After the optimizer's update (notify)."""

    def epoch_end(self, run: Run) -> None:
        """After an epoch's last batch, before its validation (notify)."""

    # After training --------------------------------------------------------------------------------

    def evaluation_weights(self, run: Run) -> Classifier | Sequence[Classifier]:
        """The network that is evaluated, at every evaluation and at the end, or several, oldest first (slot).

        Each of several goes through `finalize` and the predictors by itself; their mean probability is predicted.
        """
        raise NotImplementedError

    def predictor(self, predict: Predict, run: Run) -> Predict:
        """Change how a prediction is made from a network, at every evaluation (pipeline).

        While it predicts, `run.model` is the network that is evaluated, at the end as `finalize` returned it.
        """
        return predict

    def finalize(self, model: Classifier, run: Run) -> Classifier:
        """Rewrite an evaluated network before the test is read, or return another; outputs stay equal (pipeline)."""
        return model


def overrides(trick: Trick, hook: str) -> bool:
    """Whether the trick's class implements the hook."""
    return getattr(type(trick), hook) is not getattr(Trick, hook)
