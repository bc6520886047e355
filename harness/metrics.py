"""The numbers that are known of a run: a record each, which says how all others store, show, judge and search it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Split = Literal["test", "val", "train", ""]
Needs = Literal["answers", "logits", "training", "cpu", "network", "scores"]


@dataclass(frozen=True)
class Metric:
    """A number that is known of each run.

    `name` is a column of the runs table, or a key of its column `scores`. `split` is what it is measured on, empty for
    costs. Stored values times `factor` are in `unit`, which is "%" or a name, and empty where there is none. `margin`
    is the smallest difference that matters, in `points`; None where nothing was declared for this metric.

    `needs` is what it takes to have it: the classes that a network predicts (`answers`), more of its outputs than that
    (`logits`), a training on any device (`training`), one on the CPU, whose clock it reads (`cpu`), the network alone
    (`network`), or that whoever made the row put it among the `scores`.
    """

    name: str
    split: Split
    unit: str
    factor: float
    higher_is_better: bool
    needs: Needs
    margin: float | None = None

    @property
    def points(self) -> str:
        """The unit of a difference of two values: "points" for percent."""
        return "points" if self.unit == "%" else self.unit

    def holds_on(self, device: str) -> bool:
        """Whether it says what it should of a run on "cpu" or "cuda:0": an accelerator's work is on no CPU's clock."""
        return self.needs != "cpu" or device.startswith("cpu")


_ACCURACY = Metric("accuracy", "", "%", 100.0, True, "answers")
_NLL = Metric("nll", "", "nats", 1.0, False, "logits")
_EVALUATED = (
    _ACCURACY,
    Metric("top5", "", "%", 100.0, True, "logits"),
    _NLL,
    Metric("ece", "", "", 1.0, False, "logits"),
    Metric("brier", "", "", 1.0, False, "logits"),
)

EVALUATED = tuple(metric.name for metric in _EVALUATED)
"""What is computed of a network's outputs; stored for the validation and the test split, as `val_*` and `test_*`.
Accuracies are stored as fractions in [0, 1]."""


def _on(split: Split, metrics: Iterable[Metric]) -> list[Metric]:
    return [replace(metric, name=f"{split}_{metric.name}", split=split) for metric in metrics]


COLUMNS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        *_on("test", _EVALUATED),
        *_on("val", _EVALUATED),
        *_on("train", (_ACCURACY, _NLL)),
        Metric("train_loss", "train", "", 1.0, False, "training"),
        Metric("cpu_seconds_train", "", "s", 1.0, False, "cpu"),
        Metric("seconds_train", "", "s", 1.0, False, "training"),
        Metric("seconds_total", "", "s", 1.0, False, "training"),
        Metric("seconds_per_step", "", "s", 1.0, False, "training"),
        Metric("images_per_second", "", "images/s", 1.0, True, "training"),
        Metric("peak_memory_bytes", "", "bytes", 1.0, False, "training"),
        Metric("parameters", "", "parameters", 1.0, False, "network"),
        Metric("forward_flops", "", "FLOPs", 1.0, False, "network"),
    )
}
"""The columns of the runs table that can be analysed."""

TRAINING_TIME = (COLUMNS["cpu_seconds_train"], COLUMNS["seconds_train"])
"""CPU time first: it stays true when the machine is shared."""


WALL = "seconds_train"

BESIDE: Mapping[str, tuple[str, ...]] = {
    "cpu_seconds_train": ("cpu_seconds_setup", "cpu_seconds_other"),
    WALL: ("seconds_setup", "seconds_other"),
}
"""What a run costs beside its training steps, on the clock of that column: its set-up, and the runs that it needs."""


def usable(metrics: Sequence[Metric], devices: Iterable[str]) -> Metric:
    """The first of these metrics that holds on all devices; the last holds on any."""
    devices = list(devices)
    return next(metric for metric in metrics if all(map(metric.holds_on, devices)))


ObjectiveName = Literal["accuracy", "seconds", "memory"]


@dataclass(frozen=True)
class Objective:
    """What a search can ask for: the first of `metrics` that holds on its device, shown with `digits` decimals."""

    name: str
    metrics: tuple[Metric, ...]
    digits: int

    @property
    def unit(self) -> str:
        """The unit of values times `factor`."""
        return self.metrics[0].unit

    @property
    def factor(self) -> float:
        """What leads from stored values to `unit`."""
        return self.metrics[0].factor

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Which way is better, in Optuna's words."""
        return "maximize" if self.metrics[0].higher_is_better else "minimize"


OBJECTIVES: Mapping[str, Objective] = {
    "accuracy": Objective("validation accuracy", (COLUMNS["val_accuracy"],), 2),
    "seconds": Objective("training time", TRAINING_TIME, 2),
    "memory": Objective("peak memory", (replace(COLUMNS["peak_memory_bytes"], unit="MB", factor=1e-6),), 1),
}
"""By the name that the command line and records use."""
