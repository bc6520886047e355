"""The public suites for networks and data, each on a part that breaks one promise, and the skeletons that pass them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.errors import UserError
from harness.testing import DataConformance, NetworkConformance
from harness.testing.skeletons import new_part

ROOT = Path(harness.__file__).parent.parent


class Net(nn.Module):
    def __init__(self, classes, channels, size):
        super().__init__()
        self.body = nn.Conv2d(channels, 6, 3)
        self.head = nn.Linear(6, classes)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)).relu())


class TestNet(NetworkConformance):
    network = Net
    size = 8


def load(root, count=60, draw=None):
    draw = draw or np.random.default_rng(0)
    labels = np.arange(count) % 2
    images = draw.integers(0, 128, (count, 16, 16), dtype=np.uint8) + (100 * labels[:, None, None]).astype(np.uint8)
    return images, labels, np.arange(count) // 4


class TestLoad(DataConformance):
    load = staticmethod(load)
    options = {"val_size": 8, "test_size": 16}  # noqa: RUF012


class Idle(Net):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.spare = nn.Linear(2, 2)


class SameForAll(Net):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for p in self.parameters():
            nn.init.constant_(p, 0.1)


class OfTheBatch(Net):
    def forward(self, x):
        return self.head(self.body(x - x.mean(0)).mean((2, 3)).relu())


class Hidden(Net):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = torch.rand(1)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)).relu() * self.scale)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Idle, "test_every_parameter_learns"),
        (SameForAll, "test_the_seed_decides_its_weights"),
        (OfTheBatch, "test_images_do_not_see_each_other_in_evaluation"),
        (Hidden, "test_a_copy_and_its_stored_weights_are_the_network"),
    ],
)
def test_a_network_that_breaks_one_promise_fails_that_test(broken, test):
    class Suite(NetworkConformance):
        network = broken
        size = 8

    failed = []
    for name in (name for name in dir(Suite) if name.startswith("test_")):
        try:
            getattr(Suite(), name)()
        except AssertionError:
            failed.append(name)
    assert failed == [test]


ENDLESS = np.random.default_rng(1)


def again(root):
    return load(root, draw=ENDLESS)


def copied(root):
    images, labels, _ = load(root)
    images[10] = images[2]
    return images, labels


def black(root):
    images, labels, groups = load(root)
    return images // 100, labels, groups


def one_sided(root):
    return {"train": load(root), "test": tuple(part[::2] for part in load(root, 80, np.random.default_rng(5))[:2])}


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (again, "test_it_gives_the_same_images_twice"),
        (copied, "test_no_image_is_in_two_splits"),
        (black, "test_images_differ_and_use_the_range"),
        (one_sided, "test_every_class_is_trained_and_tested"),
    ],
)
def test_data_that_break_one_promise_fail_that_test(broken, test, tmp_path):
    class Suite(DataConformance):
        load = staticmethod(broken)
        options = {"val_size": 8, "test_size": 16}  # noqa: RUF012

    failed = []
    for name in (name for name in dir(Suite) if name.startswith("test_")):
        function = getattr(Suite(), name)
        try:
            function(tmp_path) if "tmp_path" in function.__code__.co_varnames else function()
        except AssertionError:
            failed.append(name)
    assert failed == [test]


@pytest.mark.parametrize("kind", ["network", "data"])
def test_a_skeleton_passes_its_own_test(kind, tmp_path):
    part, test = new_part(kind, "my_part", tmp_path)
    out = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin"},
    )  # fmt: skip

    assert out.returncode == 0, out.stdout + out.stderr
    assert "5 passed" in out.stdout
    with pytest.raises(UserError, match=f"{part} exists already"):
        new_part(kind, "my_part", tmp_path)
    with pytest.raises(UserError, match=r"name '\.\./up': lower-case letters"):
        new_part(kind, "../up", tmp_path)
