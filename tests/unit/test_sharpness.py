"""The measure of sharpness behind docs/photographs.md."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.bench.sharpness import compared, main, ratio, sharpness


def test_sharpness_is_the_mean_length_of_the_gradient():
    across = torch.arange(5.0).expand(1, 1, 5, 5)
    flat = torch.full((1, 1, 5, 5), 7.0)

    assert sharpness(across).tolist() == [1.0]
    assert sharpness(flat).tolist() == [0.0]
    assert sharpness(3 * across + 4 * across.mT).tolist() == [5.0]


def test_ratio_and_its_interval_by_hand():
    """Leaving one of (1, 3) over (2, 2) out gives 3/2 and 1/2: a standard error of sqrt(1/2 * 1/2) = 1/2."""
    value, half = ratio(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0]))

    assert value == 1.0
    assert half == pytest.approx(1.96 * 0.5)


def test_crops_of_squares_are_blurred_and_crops_of_what_is_kept_are_not(tmp_path: Path, monkeypatch):
    """Noise of 128 pixels shown at 32: of a crop of a small square hardly anything is left."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in "ab":
            path = tmp_path / "noise" / split / name / "0.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(draw.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(path)

    before, now = compared(tmp_path, "noise", 64, 0.08)
    assert before[:2] == ("squares, then crops", 1000)
    assert before[2] < 0.6
    assert abs(now[2] - 1) < 0.05


def test_the_command_prints_a_row_for_each_side_smallest_area_and_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("harness.bench.sharpness.CROPS", 8)
    main(None, [16])

    rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[:3] for row in rows] == [
        ["| 16", "0.08", "squares, then crops"], ["| 16", "0.08", "crops of what is kept"],
        ["| 16", "0.35", "squares, then crops"], ["| 16", "0.35", "crops of what is kept"],
    ]  # fmt: skip
