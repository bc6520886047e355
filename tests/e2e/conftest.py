import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Cli:
    """The command line in a folder of its own, as a user would type it."""

    folder: Path

    # The timeout is a guard against hangs, not a measurement: a busy machine may take any time.
    def __call__(self, *arguments, timeout=3600, env=None):
        return subprocess.run(
            [sys.executable, "-m", "harness", *map(str, arguments)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
            check=False,
        )


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    return Cli(tmp_path_factory.mktemp("cli"))


SHORT = ("--set", "recipe.epochs=6", "--set", "data.test_size=400")


@pytest.fixture(scope="session")
def short():
    """Options that make a digits study take seconds."""
    return SHORT
