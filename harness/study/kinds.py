"""What plans need of an experiment, whichever kind its runs are of: tricks, how they combine, and words for pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.rows import metric_of, values_in
from harness.commands.experiment import CommandExperiment, Switch
from harness.commands.experiment import clashes as switch_clashes
from harness.commands.kinds import AnyExperiment, AnySpec
from harness.commands.place import CommandPlace
from harness.errors import UserError
from harness.experiment import Arm, Experiment, RunSpec
from harness.models.build import built_in
from harness.models.pretrained import weights_digest
from harness.store.schema import Manifest, MetricSpec
from harness.study.places import AnyPlace
from harness.study.stages import NO_STAGES, Stages, find_stages
from harness.tricks import registry
from harness.tricks.contract import Trick
from harness.tricks.stack import conflicts
from harness.values import canonical

AnyTrick = Trick | Switch


class Card(NamedTuple):
    """What a plan says of a trick."""

    summary: str
    cost: float
    kind: str


def stages_at(place: AnyPlace, specs: Sequence[AnySpec], images: str) -> Stages:
    """The runs that some runs need; commands need none."""
    if isinstance(place, CommandPlace):
        return NO_STAGES
    return find_stages([spec for spec in specs if isinstance(spec, RunSpec)], place, images)


def check_trick(experiment: AnyExperiment, name: str) -> None:
    """Refuse a name that is no trick of the experiment, without importing any.

    Raises:
        UserError: with the nearest name and where the list is.
    """
    if isinstance(experiment, Experiment):
        registry.check(name)
    else:
        experiment.switch(name)


def trick_of(experiment: AnyExperiment, name: str, params: Mapping[str, Any] | None = None) -> AnyTrick:
    """A trick with the experiment's hyperparameters, and over them those of one arm.

    Raises:
        UserError: unknown trick or parameter, or a value outside its domain; one line each.
    """
    if isinstance(experiment, CommandExperiment):
        return experiment.switch(name, params)
    own = params or {}
    origins = experiment.origins.given({("tricks", name, key): f"{name}.{key}={value}" for key, value in own.items()})
    return registry.make(name, {**experiment.tricks.get(name, {}), **own}, origins)


def with_base(experiment: AnyExperiment, arm: Arm) -> Arm:
    """The tricks of an arm's runs: its own, over those that all runs of the study have (`[study] base`).

    Raises:
        UserError: as for `trick_of`.
    """
    base = [trick_of(experiment, name).spec() for name in experiment.study.base if name not in arm.names]
    return Arm(tricks=(*base, *arm.tricks)) if base else arm


def card_of(trick: AnyTrick) -> Card:
    """What a plan says of a trick."""
    if isinstance(trick, Switch):
        return Card(trick.summary, trick.cost, trick.kind)
    return Card(trick.info.summary, trick.info.cost, trick.info.kind)


def conflicts_of(tricks: Sequence[AnyTrick]) -> list[str]:
    """Every reason why these tricks cannot be one arm; empty when they can."""
    switches = [t for t in tricks if isinstance(t, Switch)]
    return switch_clashes(switches) if switches else conflicts([t for t in tricks if not isinstance(t, Switch)])


def refuse_clashes(tricks: Sequence[AnyTrick]) -> None:
    """Refuse tricks that cannot be one arm, which was asked for.

    Raises:
        UserError: names every clash and why.
    """
    found = conflicts_of(tricks)
    if found:
        raise UserError("these tricks cannot be combined: " + "; ".join(found))


def settings_of(experiment: AnyExperiment) -> dict[str, Any]:
    """What a declaration keeps of the baseline: all that its runs have in common whatever their seed."""
    return {k: v for k, v in canonical(experiment.spec(Arm(), 0)).items() if k not in ("arm", "seed")}


def network_of(experiment: AnyExperiment) -> str:
    """What the network's library has built into it and what was made of it; empty where that is nothing."""
    return built_in(experiment.model).sentence if isinstance(experiment, Experiment) else ""


def metrics_of(experiment: AnyExperiment) -> tuple[str, dict[str, MetricSpec]]:
    """The metric of the question, and what is declared of metrics that are no columns of the runs table."""
    if isinstance(experiment, Experiment):
        return experiment.experiment.metric, {}
    return experiment.metric_name, experiment.scores


def validation_metric(experiment: CommandExperiment) -> str:
    """The metric of validation data by which settings may be chosen: that of the question, or the first other one.

    Raises:
        UserError: there is none.
    """
    declared = experiment.declared
    names = [n for n in (experiment.metric_name, *declared) if declared[n].split == "val"]
    if not names:
        raise UserError(
            f'{experiment.file}: choosing by results needs a metric of validation data, and none says split = "val"; '
            "choosing on the test split would flatter what is chosen"
        )
    return names[0]


def validated(rows: pd.DataFrame, manifest: Manifest, experiment: AnyExperiment) -> NDArray[np.float64]:
    """What validation says of each of these runs, more being better; NaN where it says nothing.

    Raises:
        UserError: runs of the experiment have no metric of validation data.
    """
    name = "val_accuracy" if isinstance(experiment, Experiment) else validation_metric(experiment)
    metric = metric_of(manifest, name)
    values = values_in(rows, metric)
    return values if metric.higher_is_better else -values


def public(experiment: AnyExperiment, text: str) -> str:
    """A text of the experiment file or of a command line without the secret values of the experiment."""
    if isinstance(experiment, CommandExperiment):
        for secret in experiment.secrets:
            text = text.replace(secret, "(hidden)")
    return text


def notes_of(experiment: AnyExperiment) -> list[str]:
    """What a reader of results must know of the workload."""
    if isinstance(experiment, CommandExperiment):
        return []
    said, model = [], experiment.model
    if experiment.data.imbalance != 1:
        said.append(
            f"Training classes differ in size (data.imbalance = {experiment.data.imbalance:g}); what a trick does to "
            "the rare ones stands in harness report --metric balanced_accuracy and worst_class_recall."
        )
    if model.weights is not None:
        said.append(
            f"All runs start from {PurePath(model.weights).name} (sha256 {weights_digest(model)}...); the last layer "
            "is drawn anew where the file has it for another number of classes."
        )
    return said


def scope_of(experiment: AnyExperiment) -> str:
    """The workload in a few words, for the sentences of verdicts."""
    base = [f"always with {' + '.join(experiment.study.base)}"] if experiment.study.base else []
    if isinstance(experiment, CommandExperiment):
        return ", ".join([experiment.scope, *base])
    d, r = experiment.data, experiment.recipe
    size = f"{d.train_size:,}" if d.train_size else "all"
    parts = [d.root or d.name, f"{size} training images"]
    if d.image_size:
        parts.append(f"{d.image_size} px")
    if d.classes:
        parts.append(f"{d.classes if isinstance(d.classes, int) else len(d.classes)} classes")
    if d.label_noise:
        kind = "" if d.label_noise_kind == "uniform" else f" by {d.label_noise_kind}"
        parts.append(f"{d.label_noise:.0%} label noise{kind}")
    if d.labels:
        parts.append(f"labels of {d.labels}")
    if d.labelled < 1:
        parts.append(f"{d.labelled:.0%} labelled")
    if d.imbalance < 1:
        parts.append(f"imbalance {d.imbalance:g}")
    if d.fold:
        parts.append(f"{'fold' if d.fold_alone else 'all but fold'} {d.fold[0]} of {d.fold[1]}")
    width = f" width {experiment.model.width}" if experiment.model.width else ""
    start = " pretrained" if experiment.model.pretrained else ""
    if experiment.model.weights is not None:
        start = f" from {PurePath(experiment.model.weights).name}"
    return ", ".join([*parts, f"{experiment.model.name}{width}{start}", f"{r.epochs} epochs", *base])
