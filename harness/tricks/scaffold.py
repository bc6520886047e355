"""The skeleton of a new trick and of its test, to be filled in (`make new-trick NAME=x FAMILY=y`)."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import UserError
from harness.tricks import registry

TRICK = '''"""TITLE: say in one line what it does."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, Run, Search, Trick, at


def FUNCTION(x: Tensor, strength: float) -> Tensor:
    """Say what it computes, with shapes and ranges; test it against numbers computed by hand."""
    return x * (1 - strength)


class CLASS(Trick):
    """Name the paper and the section."""

    info: ClassVar = Info(
        name="NAME",
        family="FAMILY",
        kind="addition",  # or what else it does to the baseline: harness/tricks/kinds.py
        summary="a few words for the list",
        paper="Authors year, arXiv:0000.00000",
        formula="x = (1 - strength) x",
        expect="When it is expected to help, and when not.",
        differs="what this code does otherwise than the paper, or: nothing",
        cost=1.0,
    )
    strength: Annotated[float, Field(ge=0, le=1), Search(0.1, 0.9)] = 0.5

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Override the hooks that the trick needs; `harness/tricks/contract.py` lists them."""
        return replace(batch, x=FUNCTION(batch.x, self.strength))
'''

TEST = """import torch

from harness.testing import TrickConformance, tiny_batch
from harness.tricks.FAMILY.NAME import CLASS, FUNCTION


class TestCLASS(TrickConformance):
    trick = CLASS


def test_numbers_by_hand():
    assert FUNCTION(torch.tensor([0.5, 1.0]), 0.5).tolist() == [0.25, 0.5]


def test_strength_zero_is_the_identity():
    x = tiny_batch().x
    assert torch.equal(FUNCTION(x, 0.0), x)
"""


def new_trick(name: str, family: str, root: Path) -> tuple[Path, Path]:
    """Write both files below `root`, the top of a checkout, and return their paths.

    Raises:
        UserError: a name that is no Python identifier or is taken, or `root` is no checkout.
    """
    for what, value in (("NAME", name), ("FAMILY", family)):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", value):
            raise UserError(f"{what} '{value}': lower-case letters, digits and '_', beginning with a letter")
    if name in registry.names():
        raise UserError(f"trick '{name}' exists already; choose another name")
    if not (root / "harness" / "tricks").is_dir():
        raise UserError(f"{root} is no checkout of the harness; tricks of your own go into a file for --plugin")
    words = {
        "TITLE": name.replace("_", " ").capitalize(),
        "CLASS": "".join(part.capitalize() for part in name.split("_")),
        "FUNCTION": name,
        "NAME": name,
        "FAMILY": family,
    }
    paths = (root / "harness" / "tricks" / family / f"{name}.py", root / "tests" / "tricks" / f"test_{name}.py")
    for path, text in zip(paths, (TRICK, TEST), strict=True):
        for key, value in words.items():
            text = re.sub(rf"\b{key}\b|(?<=Test){key}\b", value, text)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return paths
