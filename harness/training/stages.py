"""Runs that other runs need: a file of each with its weights and what it took, and what tricks get of it.

A file is named by the run's key and fingerprint, as all files of runs are, so whoever needs the same run finds it. Its
format is that of safetensors: the weights of each network that was evaluated at the end, under its number, and in the
metadata what the run and its own stages took.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from harness.data.splits import Splits, first
from harness.data.types import Part, Source
from harness.errors import UserError
from harness.experiment import RunSpec
from harness.models.classifier import Classifier
from harness.training.assemble import Assembled, assemble, predict
from harness.training.evaluate import batch_size, predict_all
from harness.training.place import Place
from harness.tricks.contract import Predict, Run, Stage
from harness.tricks.needs import needs_of

SUFFIX = ".safetensors"

COSTS = "costs"
"""The entry of the metadata: JSON of the costs, by the name of the run's file."""


class Cost(NamedTuple):
    """What a stage took, training and set-up together: wall seconds, and CPU seconds of its process."""

    seconds: float
    cpu_seconds: float


def path_of(name: str, place: Place) -> Path | None:
    """Where the file of a run lies, by its name (`Place.name`); None where stages are not kept."""
    return place.stages_dir and place.stages_dir / f"{name}{SUFFIX}"


def packed(networks: Sequence[Classifier], costs: Mapping[str, Cost]) -> bytes:
    """The content of a run's file.

    Args:
        networks: those that were evaluated at the end, the newest last.
        costs: of the run and of its stages, by the names of their files.
    """
    states = (network.state_dict() for network in networks)
    tensors = {
        f"{i}.{name}": value.detach().cpu().contiguous().clone()
        for i, state in enumerate(states)
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    return safetensors.torch.save(tensors, {COSTS: json.dumps(costs)})


def costs_in(path: Path) -> dict[str, Cost]:
    """What the run of a file and its stages took.

    Raises:
        OSError: there is no such file.
        UserError: it is none of ours.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: Cost(*cost) for name, cost in json.loads(file.metadata()[COSTS]).items()}
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it, and the run is trained again") from None


class Needed:
    """The stages of one run; called with the spec of one of them, it hands it over.

    Args:
        spec: the run.
        place: where it executes.
        source: its images where the caller has loaded them; its stages learn from what they were.

    Raises:
        UserError: a stage has not been trained, or cannot be read.
    """

    def __init__(self, spec: RunSpec, place: Place, source: Source | None) -> None:
        self._spec, self._place, self._source = spec, place, source
        self._stages: dict[str, TrainedStage] = {}
        self._paths: dict[str, Path | None] = {}
        self.costs: dict[str, Cost] = {}
        for stage in needs_of(spec):
            path = None if place.rehearsal else self._path(stage)
            self._paths[stage.run_id] = path
            self.costs |= costs_in(path) if path is not None else {}

    def __call__(self, stage: RunSpec) -> Stage:
        """The trained run, which a trick has declared in `needs`."""
        if stage.run_id not in self._paths:
            raise UserError(
                f"the arm {self._spec.arm.label} asks for a run ({stage.arm.label}, seed {stage.seed}) that none of "
                "its tricks declares; return it from needs()"
            )
        if stage.run_id not in self._stages:
            source = self._source if self._same(stage) else None
            self._stages[stage.run_id] = TrainedStage(stage, self._place, self._paths[stage.run_id], source)
        return self._stages[stage.run_id]

    def _same(self, stage: RunSpec) -> bool:
        """Whether a stage is on the run's images."""
        return stage.data.images == self._spec.data.images

    def _path(self, stage: RunSpec) -> Path:
        digest = self._source.digest if self._source is not None and self._same(stage) else None
        path = path_of(self._place.name(stage, digest), self._place)
        if path is None or not path.is_file():
            raise UserError(
                f"the arm {self._spec.arm.label} needs run {stage.run_id} ({stage.arm.label}, seed {stage.seed}), "
                "which is not trained; studies train it first, and so does harness.training.execute.train_stages"
            )
        return path


class TrainedStage:
    """A run that was trained before, as `contract.Stage` describes it. `path` is None for an untrained one."""

    def __init__(self, spec: RunSpec, place: Place, path: Path | None, source: Source | None) -> None:
        self.spec, self._place, self._path, self._source = spec, place, path, source
        self._made: Assembled | None = None
        self._networks: list[Classifier] = []

    def network(self) -> Classifier:
        """A copy of its last network."""
        return copy.deepcopy(self._all()[-1])

    def part(self, name: str) -> Part:
        """Its own images, by the name of the split."""
        self._all()
        assert self._made is not None
        return _part(self._made.splits, name)

    def logits(self, of: str | Part) -> Tensor:
        """What it predicts (N, K)."""
        networks = self._all()
        made = self._made
        assert made is not None
        return self._few(of, lambda part: predict(made, made.amp(), networks, part).logits)

    def features(self, of: str | Part) -> Tensor:
        """What its last network computes before the head (N, D)."""
        network = self._all()[-1]
        made = self._made
        assert made is not None
        forward: Predict = lambda x: network.forward_with_features(x)[1].flatten(1)  # noqa: E731

        def of_part(part: Part) -> Tensor:
            with made.amp().autocast():
                return predict_all(forward, part, made.run.device, made.run.recipe.channels_last).logits

        return self._few(of, of_part)

    def _few(self, of: str | Part, what: Any) -> Tensor:
        """All of it, or in a rehearsal that of the first images as often as there are images."""
        part = self.part(of) if isinstance(of, str) else of
        if not self._place.rehearsal:
            found: Tensor = what(part)
            return found
        few = what(first(part, batch_size(part, torch.device(self._place.device))))
        count = len(part.label)
        repeated: Tensor = few.repeat(-(-count // len(few)), 1)[:count]
        return repeated

    def _all(self) -> list[Classifier]:
        """Its networks, built when they are first asked for."""
        if not self._networks:
            made = assemble(self.spec, self._place, _no_stage, self._source, relabel=False)
            self._made = made
            states = [made.run.model.state_dict()] if self._path is None else _states(self._path)
            self._networks = [_with(made.run, state) for state in states]
        return self._networks


def _no_stage(spec: RunSpec) -> Stage:
    raise UserError(f"a `model` hook of {spec.arm.label} asks for a stage; ask for it in `init` or later")


def _part(splits: Splits, name: str) -> Part:
    parts: dict[str, Part | None] = {
        "train": splits.train,
        "val": splits.val,
        "test": splits.test,
        "unlabelled": splits.unlabelled,
        "rest": splits.rest,
    }
    part = parts.get(name)
    if part is None:
        known = ", ".join(known for known, p in parts.items() if p is not None)
        raise UserError(f"a stage has no part '{name}'; it has {known}")
    return part


def _states(path: Path) -> list[dict[str, Tensor]]:
    """The weights of each network in a file."""
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it, and the run is trained again") from None
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        states.setdefault(int(number), {})[name] = value
    return [states[number] for number in sorted(states)]


def _with(run: Run, state: Mapping[str, Tensor]) -> Classifier:
    """A frozen copy of the run's network with these weights, on its device."""
    network = copy.deepcopy(run.model)
    network.load_state_dict(state)
    network.to(run.device)
    if run.recipe.channels_last:
        network.to(memory_format=torch.channels_last)
    return network.eval().requires_grad_(False)
