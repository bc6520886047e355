"""The suite that any trick must pass, and small batches, runs and specs for tests of tricks; stores nothing.

A plug-in author writes

    class TestMine(TrickConformance):
        trick = Mine
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from harness.data.rows import to_pixels
from harness.experiment import Arm, Augment, Data, Model, Recipe, RunSpec
from harness.models.build import build
from harness.models.classifier import Classifier
from harness.rng import numpy_stream
from harness.study.probes import at_rate
from harness.training import graph
from harness.training.execute import Result, execute, train_stages
from harness.training.graph import Replay
from harness.training.loop import Clock, train
from harness.training.place import Place
from harness.training.session import Session, set_up
from harness.tricks import registry
from harness.tricks.contract import Batch, Choice, DataInfo, Invariances, Part, Run, Search, Stage, TrainingSet, Trick
from harness.tricks.kinds import KINDS

TINY: dict[str, Any] = {"batch_size": 8, "channels_last": False}
"""Of the recipes of tests. Their strided 1x1 convolutions have too few channels for channels last on some processors
(`layout.layer_at_risk`)."""


def tiny_batch(n: int = 8, classes: int = 10, channels: int = 1, size: int = 8, seed: int = 0) -> Batch:
    """Random pixels in [0, 1] and one-hot targets; labels cycle through the classes."""
    g = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % classes
    y = torch.nn.functional.one_hot(label, classes).float()
    return Batch(torch.rand(n, channels, size, size, generator=g), y, label, torch.arange(n))


def tiny_info(classes: int = 10, channels: int = 1, size: int = 8) -> DataInfo:
    """A data set that allows everything: flips, shifts, rotations, colour."""
    return DataInfo(
        classes=tuple(f"class{i}" for i in range(classes)),
        channels=channels,
        size=size,
        mean=(0.5,) * channels,
        std=(0.29,) * channels,
        invariances=Invariances(flip=True, shift=0.25, rotation=30.0, color=channels == 3),
        train_counts=(8,) * classes,
    )


def tiny_run(
    channels: int = 1,
    size: int = 8,
    seed: int = 0,
    model: str = "digits_resnet",
    width: int | None = 4,
    info: DataInfo | None = None,
    **recipe: Any,
) -> Run:
    """A run with a small network, an SGD optimizer and 80 random images, as a hook would find it.

    Its stages are a `TinyStage` each, of a network drawn with seed 5.
    """
    info = info or tiny_info(channels=channels, size=size)
    spec = RunSpec(
        data=Data(name="digits", train_size=80, val_size=20),
        model=Model(name=model, width=width),
        recipe=Recipe(**(TINY | {"epochs": 10, "lr": 0.1} | recipe)),
        arm=Arm(),
        seed=seed,
    )

    def stage(asked: RunSpec) -> Stage:
        return TinyStage(asked, build(asked.model, info, seed=5), run.train)

    run = Run(spec=spec, recipe=spec.recipe, data=info, device=torch.device("cpu"), stage=stage)
    run.model = build(spec.model, info, seed)
    run.optimizer = torch.optim.SGD(run.model.parameters(), lr=spec.recipe.lr)
    host = numpy_stream(seed, "tiny")
    images = torch.from_numpy(host.integers(0, 256, (80, info.size, info.size, info.channels), dtype="uint8"))
    label = torch.arange(80) % len(info.classes)
    run.train = TrainingSet(images=images, label=label, index=torch.arange(80))
    run.steps_per_epoch = 80 // spec.recipe.batch_size
    run.backward = torch.autograd.backward
    run.unscale = lambda: None
    run.autocast = lambda: torch.autocast("cpu", enabled=False)
    return run


def tiny_spec(trick: Trick | None = None, seed: int = 0, model: str = "digits_resnet", **recipe: Any) -> RunSpec:
    """A training of 10 updates on 40 real digits: small enough for hundreds of tests, real enough to trust."""
    settings: dict[str, Any] = {**TINY, "epochs": 2, "lr": 0.05, "augment": Augment(shift=0.125)}
    return RunSpec(
        data=Data(name="digits", train_size=40, val_size=40, test_size=100),
        model=Model(name=model, width=4),
        recipe=Recipe(**(settings | recipe)),
        arm=Arm(tricks=() if trick is None else (trick.spec(),)),
        seed=seed,
    )


@dataclass(frozen=True)
class TinyStage:
    """A stage with a network of one's own, which predicts in float32; all its parts are the same images."""

    spec: RunSpec
    model: Classifier
    images: Part

    def network(self) -> Classifier:
        """A copy of the network, as a stage hands it over."""
        return copy.deepcopy(self.model).eval().requires_grad_(False)

    def part(self, name: str) -> Part:
        """The images."""
        return self.images

    @torch.no_grad()
    def logits(self, of: str | Part) -> Tensor:
        """Logits (N, K) of the images."""
        return self.network().forward_with_features(self._pixels(of))[0]

    @torch.no_grad()
    def features(self, of: str | Part) -> Tensor:
        """The head's input (N, D)."""
        return self.network().forward_with_features(self._pixels(of))[1]

    def _pixels(self, of: str | Part) -> Tensor:
        part = self.images if isinstance(of, str) else of
        return to_pixels(part.rows[:], part.peak, channels_last=False)


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What a CUDA graph is, without a GPU: operations on the memory that they used, done again in the same order.

    Whatever Python decided or read while the tape was taken stays as it was.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.done: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation and keep it, with the memory that it read and wrote."""
        out = func(*args, **(kwargs or {}))
        held = tree_map(lambda x: x.detach() if isinstance(x, torch.Tensor) else x, (args, kwargs or {}, out))
        self.done.append((func, *held))
        return out

    @torch.no_grad()
    def play(self) -> None:
        """Do everything again."""
        for func, args, kwargs, out in self.done:
            for old, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.numel() and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def tape(work: Callable[[], None], generators: Sequence[torch.Generator]) -> Replay:
    """Capture on a tape. Taking it does the work, too, which a CUDA graph does not, so the first replay is nothing."""
    taken, first = Tape(), [True]
    with taken:
        work()

    def replay() -> None:
        if not first:
            taken.play()
        first.clear()

    return replay


class TrickConformance:
    """Subclass it in a test file and set `trick` (a class) and, where defaults do not show an effect, `params`.

    `inert` is for tricks that must change nothing on digits (the control arm, for one), and `unfit` for
    those that must refuse digits with a reason. `recipe` changes the tiny recipe where the trick needs it, and
    `data` the data, such as `{"imbalance": 0.2}`.
    """

    trick: Any
    params: dict[str, Any] = {}  # noqa: RUF012 (overridden, never written)
    recipe: dict[str, Any] = {}  # noqa: RUF012
    data: dict[str, Any] = {}  # noqa: RUF012
    inert = False
    unfit = False

    @pytest.fixture(autouse=True)
    def _known(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """Make the trick known to the registry while its tests run, as a plug-in would be."""
        self._place = Place(Path("unused-by-digits"), stages_dir=tmp_path_factory.getbasetemp() / "stages")
        with registry.registered(self.trick):
            yield

    def execute(self, trick: Trick | None, seed: int = 0) -> Result:
        """Train and evaluate the tiny spec, with every invariant checked at every step."""
        spec = self._spec(trick, seed)
        train_stages(spec, self._place)
        return execute(spec, "conformance", replace(self._place, check=True))

    def _spec(self, trick: Trick | None, seed: int = 0) -> RunSpec:
        spec = tiny_spec(trick, seed, **self.recipe)
        return spec.model_copy(update={"data": spec.data.model_copy(update=self.data)})

    def test_card_is_complete(self) -> None:
        """The card says what it is, where it comes from, what to expect and what it costs."""
        info = self.trick.info
        for text in (
            info.name,
            info.family,
            info.summary,
            info.paper,
            info.formula,
            info.expect,
            info.differs,
        ):
            assert text.strip()
        assert info.kind in KINDS
        assert info.cost > 0
        assert info.version >= 1
        assert all(reason.strip() for reason in info.excludes.values())
        assert info.name not in info.excludes

    def test_defaults_are_valid_and_inside_their_search_ranges(self) -> None:
        """The search range lies where values are valid and do something, and the default in the search range."""
        default = self.trick()
        for key, field in self.trick.model_fields.items():
            for mark in field.metadata:
                if isinstance(mark, Search):
                    value = getattr(default, key)
                    assert value is None or mark.low <= value <= mark.high, f"{key} = {value} outside {mark}"
                    for end in (mark.low, mark.high):
                        self.trick(**{key: type(value)(end) if value is not None else end}).check_acts()
                if isinstance(mark, Choice):
                    for option in mark:
                        self.trick(**{key: option})

    def test_runs_and_keeps_the_contract(self) -> None:
        """Targets stay probabilities, labels and indices stay, and no global generator is drawn from."""
        row = self.execute(self.trick(**self.params)).row
        assert row["status"] == ("skipped" if self.unfit else "ok"), row["reason"]
        assert bool(row["reason"]) == self.unfit

    def test_same_seed_gives_the_same_bits(self) -> None:
        """Two runs of one seed predict identically, whatever ran between them."""
        first = self.execute(self.trick(**self.params)).row
        self.execute(None, seed=1)
        second = self.execute(self.trick(**self.params)).row
        assert first.get("test_digest") == second.get("test_digest")
        assert first["train_loss"] == second["train_loss"]

    def test_changes_something_and_nothing_when_inert(self) -> None:
        """The arm differs from the baseline in its curves or predictions; an inert one is bit-identical."""
        arm, base = self.execute(self.trick(**self.params)), self.execute(None)
        same = arm.row.get("test_digest") == base.row["test_digest"] and arm.points == base.points
        assert same == self.inert

    def test_a_part_of_the_rate_is_that_part_for_every_weight(self) -> None:
        """Rates that the trick brings are marked `RATE`, so that a probe lowers them with the recipe's (`at_rate`)."""
        if self.unfit:
            return
        whole, half = (self._rates(factor) for factor in (1.0, 0.5))
        assert half == pytest.approx([0.5 * rate for rate in whole], rel=1e-3)

    def _rates(self, factor: float) -> list[float]:
        """The peak rate of each group of weights, at that multiple; what trains in set-up does one step."""
        spec = at_rate(self._spec(self.trick(**self.params)), factor)
        session = set_up(spec, replace(self._place, rehearsal=True, contiguous=True))
        return [group["initial_lr"] for group in session.run.optimizer.param_groups]

    def test_draws_only_from_its_own_stream(self) -> None:
        """Switching the trick on shifts no other random stream."""
        if self.unfit:
            return
        trick = self.trick(**self.params)
        session = self._session()
        steps = train(
            session.run, session.stack, session.loader, session.step, session.lr_factors, dict, Clock()
        )  # fmt: skip
        next(steps)
        drawn = {*session.run.streams, *session.run.numpy_streams}
        assert all(name == trick.name or name.startswith(f"{trick.name}/") for name in drawn)
        assert set(session.run.state) <= {trick.name}

    def test_a_replayed_step_gives_the_bits_of_a_plain_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing that changes from step to step is read on the host, unless the card says so (`Info.eager`)."""
        if self.unfit:
            return
        replayed, replays = self._trained_on_tape()
        monkeypatch.setattr(graph, "WARM_UP", 10**9)
        plain, none = self._trained_on_tape()
        assert none == 0
        assert (replays == 0) == bool(self._reason_against())
        assert replayed == plain

    def _session(self) -> Session:
        spec = self._spec(self.trick(**self.params))
        train_stages(spec, self._place)
        return set_up(spec, self._place)

    def _reason_against(self) -> str:
        s = self._session()
        return graph.reason_against(s.run, s.stack, s.amp)

    def _trained_on_tape(self) -> tuple[list[Any], int]:
        """Curves and final weights, and how many steps were replayed."""
        s = self._session()
        step = graph.graphed(s.step, s.run, s.stack, s.amp, tape)
        curves = list(chain(*train(s.run, s.stack, s.loader, step, s.lr_factors, dict, Clock())))
        weights = {name: t.tolist() for name, t in s.evaluated()[-1].state_dict().items()}
        return [curves, weights], getattr(step, "replays", 0)
