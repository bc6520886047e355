"""The suites that a network and a data set of the user's pass; inherit from one and say which part it is.

Each is what a run rests on and would not notice: that nothing is drawn where nothing may be, that images do not see
each other, that a patient is on one side.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.data.given import Given, given_source
from harness.data.own import check
from harness.data.rows import rows_of
from harness.data.splits import Splits, split
from harness.data.types import PHOTOS, DataInfo
from harness.models.classifier import Classifier
from harness.models.own import build_own
from harness.plugins import Part
from harness.sections import Data, Model


class NetworkConformance:
    """A subclass says `network`, the class or function, and what it is tested with.

    classes, channels, size: of the images. args: as `model.args`.
    """

    network: ClassVar[Callable[..., Any]]
    classes: ClassVar[int] = 5
    channels: ClassVar[int] = 3
    size: ClassVar[int] = 32
    args: ClassVar[Mapping[str, Any]] = {}

    def make(self, seed: int = 0) -> Classifier:
        """The network as a run makes it, which looks at its logits and its last layer."""
        data = DataInfo(
            tuple(map(str, range(self.classes))), self.channels, self.size, (0.5,) * self.channels,
            (0.25,) * self.channels, PHOTOS, (10,) * self.classes,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_own(
                Part("network", type(self).network, ""), Model(name="mine.py:network", args=dict(self.args)), data
            )

    def images(self, count: int = 8) -> Tensor:
        """Pixels (count, channels, size, size) in [0, 1]."""
        draw = torch.Generator().manual_seed(0)
        return torch.rand(count, self.channels, self.size, self.size, generator=draw)

    def test_it_is_what_runs_can_train(self) -> None:
        """It gives logits (N, K), the same twice, and ends in a layer."""
        assert self.make()(self.images()).shape == (8, self.classes)

    def test_the_seed_decides_its_weights(self) -> None:
        """Equal seeds give equal weights, and another seed gives others."""
        first, again, other = ([p.detach() for p in self.make(seed).parameters()] for seed in (0, 0, 1))
        assert all(map(torch.equal, first, again)), "weights are drawn from something else than torch's generator"
        assert not all(map(torch.equal, first, other)), "every seed has the same weights"

    def test_every_parameter_learns(self) -> None:
        """The loss has a gradient for each parameter that is to be trained."""
        model = self.make().train()
        cross_entropy(model(self.images()), torch.arange(8) % self.classes).backward()  # type: ignore[no-untyped-call]
        unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not unused, f"no gradient reaches {', '.join(unused)}"

    @torch.no_grad()
    def test_images_do_not_see_each_other_in_evaluation(self) -> None:
        """An image has the logits in a batch that it has in another one."""
        model, x = self.make().eval(), self.images()
        assert torch.allclose(model(x)[:4], model(torch.cat([x[:4], x[4:].flip(0) * 0.5]))[:4], atol=1e-4)

    @torch.no_grad()
    def test_a_copy_and_its_stored_weights_are_the_network(self) -> None:
        """What is kept, averaged and loaded by name is all that decides the logits."""
        model, other, x = self.make(0).eval(), self.make(1).eval(), self.images()
        other.load_state_dict(model.state_dict())
        assert torch.equal(copy.deepcopy(model)(x), model(x)), "a copy gives other logits"
        assert torch.equal(other(x), model(x)), "something that decides the logits is no parameter and no buffer"


class DataConformance:
    """A subclass says `load`, the function, and how it is called and split.

    root: the path that it is called with. args: as `data.args`. options: further entries of `[data]`, of which
    `val_size` is needed, and `test_size` where `load` gives no test images. seeds: of the splits that are looked at.
    """

    load: ClassVar[Callable[..., Any]]
    root: ClassVar[Path] = Path()
    args: ClassVar[Mapping[str, Any]] = {}
    options: ClassVar[Mapping[str, Any]]
    seeds: ClassVar[range] = range(3)

    @property
    def data(self) -> Data:
        """The `[data]` table."""
        return Data.model_validate({"name": "mine.py:load", **self.options, "args": dict(self.args)})

    def found(self) -> Given:
        """What the function gives now, after everything was looked at that a run looks at."""
        return check(type(self).load(root=self.root, **self.args), self.data, "load")

    def splits(self, folder: Path, seed: int) -> tuple[Splits, Any]:
        """The splits of a seed, and the source that they come from."""
        source = given_source(self.found(), self.data, folder, "load")
        return split(source, self.data, seed), source

    def test_it_gives_the_same_images_twice(self) -> None:
        """Nothing is drawn at random, so that stored runs are of these images."""
        assert self.found().digest == self.found().digest

    def test_no_image_is_in_two_splits(self) -> None:
        """No copy of an image that is tested may be trained on."""
        assert self.found().leak == ""

    def test_images_differ_and_use_the_range(self, tmp_path: Path) -> None:
        """Not all are one grey, as where a scale or `data.window` is wrong."""
        _, source = self.splits(tmp_path, 0)
        images = rows_of(source.train_images)[:100].numpy()
        assert len({image.tobytes() for image in images}) > len(images) / 2, "most images are equal"
        assert np.ptp(images) > 32, f"all pixels lie from {images.min()} to {images.max()} of 0 to 255"

    def test_no_group_is_on_both_sides(self, tmp_path: Path) -> None:
        """For each seed, images of one group are all trained on, all in validation, or all tested."""
        for seed in self.seeds:
            parts, source = self.splits(tmp_path, seed)
            drawn: list[Any] = [parts.train, *([parts.val] if source.val_images is None else [])]
            drawn += [parts.test] if source.test_images is None else []
            if source.groups is not None:
                told = [set(source.groups[part.index.numpy()].tolist()) for part in drawn]
                assert sum(map(len, told)) == len(set().union(*told)), f"seed {seed}: a group is in two splits"

    def test_every_class_is_trained_and_tested(self, tmp_path: Path) -> None:
        """In the splits of each seed."""
        for seed in self.seeds:
            parts, source = self.splits(tmp_path, seed)
            wanted = set(range(len(source.classes)))
            assert set(parts.train.label.tolist()) == wanted, f"seed {seed}: a class has no image to train on"
            assert set(parts.test.label.tolist()) == wanted, f"seed {seed}: a class has no image to test on"
