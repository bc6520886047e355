"""An experiment of the stand-in for timm's train.py."""

import shutil
from pathlib import Path

import pytest

from harness.commands.kinds import load_any

PROGRAM = Path(__file__).parents[2] / "shared" / "programs" / "timm_like.py"

TOML = """
[experiment]
name = "timm-like"
margin = 0.5

[command]
run = ["{python}", "train.py", "--seed", "{seed}", "--output", "{out}", "{flags}"]
code = ["*.py"]
flags = { "--epochs" = 3, "--smoothing" = 0.0 }

[metrics.top1]
file = "run/summary.csv"
column = "eval_top1"
unit = "percent"

[curve]
file = "run/summary.csv"
last = 2

[tricks.mixup]
flags = { "--mixup" = "{alpha}" }
alpha = 0.2

[tricks.smoothing]
flags = { "--smoothing" = "{eps}" }
eps = 0.1

[tricks.smoother]
flags = { "--smoothing" = 0.3 }

[tricks.ema]
flags = { "--ema" = true }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the program and `timm.toml`, where the test runs."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(PROGRAM, tmp_path / "train.py")
    (tmp_path / "timm.toml").write_text(TOML)
    return tmp_path


@pytest.fixture
def read(folder):
    """The experiment of the file with some of its text replaced."""

    def loaded(*replaced, settings=None):
        text = TOML
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        (folder / "timm.toml").write_text(text)
        return load_any("timm.toml", settings)

    return loaded
