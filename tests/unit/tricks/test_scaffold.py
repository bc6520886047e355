import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.errors import UserError
from harness.tricks.scaffold import new_trick

ROOT = Path(harness.__file__).parent.parent


def test_the_skeleton_passes_its_own_test_in_a_checkout(tmp_path):
    shutil.copytree(ROOT / "harness", tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    trick, test = new_trick("my_dimmer", "augment", tmp_path)
    assert trick == tmp_path / "harness" / "tricks" / "augment" / "my_dimmer.py"
    out = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin"},
    )  # fmt: skip

    assert out.returncode == 0, out.stdout + out.stderr


@pytest.mark.parametrize(("name", "family"), [("mixup", "core"), ("Bad", "core"), ("x", "../up"), ("1x", "core")])
def test_bad_names_are_refused(name, family, tmp_path):
    with pytest.raises(UserError):
        new_trick(name, family, tmp_path)


def test_outside_a_checkout_it_points_to_plugins(tmp_path):
    with pytest.raises(UserError, match="--plugin"):
        new_trick("fine", "core", tmp_path)
