"""The README's commands: each is understood, and each is run as far as a moment and no downloads allow."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from harness.cli import app
from harness.experiment import experiments_dir, load_experiment
from harness.study import forecast
from harness.testing import make_manifest, make_study
from harness.tricks.scaffold import new_trick

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LINES = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines() if line.strip()]
COMMANDS = [part for line in LINES for part in re.sub(r"\s+#.*", "", line).split(" && ")]
SAID = re.findall(r"`((?:harness|make) [^`]+)`", README)
HARNESS, MAKE = ([c for c in dict.fromkeys(COMMANDS + SAID) if c.startswith(p)] for p in ("harness ", "make "))
HARNESS.remove("harness --debug")  # an option, to be put before a command

NOT_RUN = {
    "harness ablate cutout --experiment cifar10-small --data-root ~/data": "needs CIFAR-10",
    "harness ablate cutout --experiment cifar10-small --seeds 3": "needs CIFAR-10",
    "harness ablate mixup --experiment imagenette --data-root FOLDER": "needs a folder of photographs",
    "harness ablate mixup --experiment cifar10 --device cuda --workers 1 --cuda-graphs": "needs a GPU and CIFAR-10",
    "harness ablate mixup --workers ray://HOST:10001": "needs a cluster; tests/e2e/test_ray.py has one",
    "harness judge runs.csv": "needs a table; tests/unit/judging has many",
    "harness check timm.toml": "needs a program; tests/e2e/test_commands.py has one",
    "harness gate timm.toml --candidate mixup": "needs a program; tests/e2e/test_commands.py has one",
    "harness run NAME": "a placeholder; the names of the table are loaded below",
    "harness replicate STUDY": "a placeholder; that of digits-noisy-untuned is run",
    "harness plan": "says which command, without a trick",
}
"""Commands that are only parsed, with the reason."""


def test_the_readme_has_commands_and_none_of_the_exceptions_is_gone():
    assert len(HARNESS) > 15
    assert len(MAKE) > 8
    assert set(NOT_RUN) <= set(HARNESS)


@pytest.mark.parametrize("line", HARNESS)
def test_every_command_is_understood(line):
    """Its parser takes it: the command exists, and so do its options."""
    _, name, *words = shlex.split(line)
    command = typer.main.get_command(app).commands[name]
    if "--help" not in words:
        command.make_context(name, words)


@pytest.fixture(scope="module")
def user(cli):
    """The command line of a user who has two stored studies and a trick of their own."""
    for name in ("one", "two"):
        make_study(cli.folder / "results" / name, make_manifest(study=name, scope=f"digits, {name}"))
    (cli.folder / "checkout" / "harness" / "tricks").mkdir(parents=True)
    trick, _ = new_trick("my_trick", "core", cli.folder / "checkout")
    shutil.copy(trick, cli.folder)
    return cli


@pytest.mark.parametrize("line", [c for c in HARNESS if c not in NOT_RUN])
def test_every_command_works(line, user, monkeypatch):
    """What would train says what it would do; what reads results reads two small studies, or ours."""
    monkeypatch.setattr(forecast, "run_seconds", lambda *_: (1.0, "no pilot"))
    words = shlex.split(line.replace("STUDY STUDY", "one two").replace("STUDY", "one"))[1:]
    if words[0] in ("ablate", "replicate", "search") and "--help" not in words:
        words.append("--dry-run")
    if {"digits-noisy-untuned", "digits-noisy-all-tricks"} & set(words):
        words += ["--results", ROOT / "results" / "published"]
    done = user.here(*words)

    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("line", MAKE)
def test_make_takes_every_target_with_its_values(line):
    """`make -n` refuses what a target cannot pass on, and runs nothing."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "NAME")}
    words = shlex.split(line)
    done = subprocess.run([words[0], "-n", *words[1:]], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_of_experiments_has_every_experiment():
    table = README[README.index("| experiment |") :].split("\n\n")[0]
    first = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = [name for cell in first for name in re.findall(r"`([^`]+)`", cell)]

    assert sorted(named) == sorted(path.stem for path in experiments_dir().glob("*.toml"))
    assert all(load_experiment(name).experiment.name for name in named)
