"""The skeletons of a network and of a data set of one's own, with their tests (`harness new-network`, `new-data`)."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import UserError

NETWORK = '''"""Say in one line what the network is."""

from torch import Tensor, nn


class CLASS(nn.Module):
    """Called with the classes, channels and side of the images, and with what `model.args` holds."""

    def __init__(self, classes: int, channels: int, size: int, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of normalised images (N, channels, size, size)."""
        return self.head(self.body(self.stem(x)).mean((2, 3)))
'''

NETWORK_TEST = """from NAME import CLASS

from harness.testing import NetworkConformance


class TestCLASS(NetworkConformance):
    network = CLASS
    classes, channels, size = 5, 3, 32
"""

DATA = '''"""Say in one line where the images come from."""

from pathlib import Path

import numpy as np


def load(root: Path, count: int = 60) -> dict:
    """Called with `data.root` in the data root, and with what `data.args` holds.

    Read your images here, in place of these made ones. Give (images, labels) or (images, labels, groups), or a data set
    whose items are (image, label); leave "test" out, and each seed draws its own.
    """
    draw = np.random.default_rng(0)
    labels = np.arange(count) % 2
    images = draw.integers(0, 128, (count, 16, 16), dtype=np.uint8) + (100 * labels[:, None, None]).astype(np.uint8)
    patients = np.arange(count) // 4
    return {"train": (images, labels, patients), "classes": ["healthy", "ill"]}
'''

DATA_TEST = """from NAME import load

from harness.testing import DataConformance


class TestData(DataConformance):
    load = staticmethod(load)
    options = {"val_size": 8, "test_size": 16}  # as in [data]
"""

KINDS = {"network": (NETWORK, NETWORK_TEST), "data": (DATA, DATA_TEST)}


CALLED = {"network": "", "data": "load"}
"""What is called in the file; empty where it is named after the file."""


def new_part(kind: str, name: str, folder: Path) -> tuple[Path, Path]:
    """Write NAME.py and test_NAME.py, which pass, and return their paths.

    Args:
        kind: "network" or "data".
        name: of the file; a network's class is called after it.
        folder: where they are written.

    Raises:
        UserError: a name that is no Python identifier, or a file is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"name '{name}': lower-case letters, digits and '_', beginning with a letter")
    paths = folder / f"{name}.py", folder / f"test_{name}.py"
    for path in paths:
        if path.exists():
            raise UserError(f"{path} exists already; choose another name")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    for path, text in zip(paths, KINDS[kind], strict=True):
        path.write_text(text.replace("CLASS", class_name).replace("NAME", name), encoding="utf-8")
    return paths
