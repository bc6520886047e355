"""The tutorial's commands: all are run, in order and in one folder (slow); here, that they would be understood."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from harness.cli import app

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.S)
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines() if line]
FILES = {text.splitlines()[0].removeprefix("# "): text for language, text in BLOCKS if language in ("python", "toml")}


@pytest.mark.parametrize("line", [c for c in COMMANDS if c.startswith("harness ")])
def test_every_command_is_understood(line):
    """Click parses it: the command exists, and so do its options."""
    _, name, *words = shlex.split(line)
    command = typer.main.get_command(app).commands[name]
    command.make_context(name, words)


def test_files_are_named_in_their_first_line():
    assert set(FILES) == {"contrast.py", "make_images.py", "mine.toml"}


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_every_command_runs_in_order(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for line in COMMANDS:
        done = subprocess.run(shlex.split(line), cwd=tmp_path, capture_output=True, text=True, env=env, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        if line == "harness ablate mixup":
            assert re.search(r"^mixup .* points \[.*, .*\]", done.stdout), "the answer is a sentence with its interval"
    assert (tmp_path / "reports" / "index.html").is_file()
    assert "contrast" in (tmp_path / "reports" / "digits-noisy-contrast-mixup.html").read_text()
