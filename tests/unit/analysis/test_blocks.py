from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from harness.analysis.blocks import blocks_of
from harness.analysis.effects import analyse
from harness.testing import make_arm, make_manifest, make_row

DATA = {"name": "digits", "classes": None, "train_size": 100, "val_size": 297, "test_size": 1400, "label_noise": 0.0}


def rows(data: Any = DATA, images: str | None = "ab") -> pd.DataFrame:
    return pd.DataFrame([make_row(spec=json.dumps({"data": data, "recipe": {"lr": 0.1}}), data_hash=images)])


@pytest.mark.parametrize("changed", [{"label_noise": 0.4}, {"train_size": 50}])
def test_labels_and_the_size_of_the_training_split_leave_the_blocks_the_same(changed: dict[str, Any]) -> None:
    assert blocks_of(rows(DATA | changed)) == blocks_of(rows()) != ""


@pytest.mark.parametrize("changed", [{"test_size": 1300}, {"val_size": 100}, {"classes": [3, 5]}])
def test_other_images_held_out_are_other_blocks(changed: dict[str, Any]) -> None:
    assert blocks_of(rows(DATA | changed)) != blocks_of(rows())


def test_other_images_are_other_blocks() -> None:
    assert blocks_of(rows(images="cd")) != blocks_of(rows())


@pytest.mark.parametrize(
    "foreign", [rows(images=None), rows(images=""), rows(data=3), rows().assign(spec="{"), rows()[:0]]
)
def test_what_rows_do_not_say_is_unknown(foreign: pd.DataFrame) -> None:
    assert blocks_of(foreign) == ""


def test_an_analysis_knows_its_blocks() -> None:
    arms = make_arm(seeds=1), make_arm("mixup", 1)
    table = pd.DataFrame([make_row(arm) for arm in arms])
    assert analyse(table, make_manifest(arms, 1)).blocks == blocks_of(table) != ""
