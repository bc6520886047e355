"""`make` passes on what is set, in a folder with a space and whatever the values hold, and runs none of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from processes import OUTSIDE

MAKEFILE = Path(__file__).parents[2] / "Makefile"


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Call make where the harness is a program that prints its words; returns them, or the exit code and the error."""
    folder = tmp_path_factory.mktemp("a clone")
    shutil.copy(MAKEFILE, folder)
    bin_ = folder / ".venv" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "python").symlink_to(sys.executable)
    (bin_ / "harness").write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    (bin_ / "harness").chmod(0o755)
    (folder / "pyproject.toml").touch()
    (folder / ".venv" / ".installed").touch()

    def call(target, env=None, **values):
        done = subprocess.run(
            ["make", target, *(f"{name}={value}" for name, value in values.items())],
            cwd=folder, capture_output=True, text=True, env={**OUTSIDE, **(env or {})}, check=False,
        )  # fmt: skip
        left = sorted(path.name for path in folder.iterdir())
        assert left == [".venv", "Makefile", "pyproject.toml"], "something was run"
        return json.loads(done.stdout) if done.returncode == 0 else (done.returncode, done.stderr)

    return call


def test_options_are_passed_on_with_their_spaces(make):
    words = make(
        "ablate", TRICK="mixup  ema", EXPERIMENT="my files/e.toml", SEEDS=3, DATA_ROOT="/a b/c", RESULTS="r s",
        REPORTS="p q", NAME="x", ARGS="--set 'model.args.act=a b' --verify",
    )  # fmt: skip
    assert words == [
        "ablate", "mixup", "ema", "--experiment=my files/e.toml", "--seeds=3", "--results=r s", "--reports=p q",
        "--data-root=/a b/c", "--name=x", "--set", "model.args.act=a b", "--verify",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "values", "words"),
    [
        ("search", {"TRICK": "ema", "TRIALS": 4, "SEEDS": 5}, ["search", "ema", "--trials=4", "--seeds=5"]),
        ("ablate", {"TRICK": "ema", "SEEDS": "10:20"}, ["ablate", "ema", "--seeds=10:20"]),
        (
            "replicate",
            {"STUDY": "a", "SEEDS": "10:20", "ARGS": "--arms b,c"},
            ["replicate", "a", "--seeds=10:20", "--arms", "b,c"],
        ),
        ("plan", {"TRICK": "ema", "DESIGN": "pairs"}, ["plan", "ema", "--design=pairs"]),
        ("report", {"STUDY": "a b", "RESULTS": "r"}, ["report", "a", "b", "--results=r"]),
        ("site", {"RESULTS": "r s"}, ["site", "--results=r s"]),
        ("publish", {"STUDY": "a", "ARGS": "--preface='a b'"}, ["publish", "a", "--preface=a b"]),
        ("tricks", {"NAME": "mixup"}, ["tricks", "mixup"]),
        ("tricks", {}, ["tricks"]),
        ("doctor", {"DATA_ROOT": "d e", "DEVICE": "cpu"}, ["doctor", "--device=cpu", "--data-root=d e"]),
        ("new-trick", {"NAME": "x", "FAMILY": "core"}, ["new-trick", "x", "core"]),
    ],
)
def test_every_target_passes_on_its_own_options(make, target, values, words):
    assert make(target, **values) == words


HOSTILE = [
    "mixup; touch x", "$(touch x)", "$$(touch x)", "`touch x`", "$(shell touch x)", "a\ntouch x", "'; touch x; '",
    '"; touch x; "', "*", "${shell touch x}", "a'b\"c", "#x", "\\", "$$", "a,b", "(", "é",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
def test_nothing_that_is_set_is_run(make, value):
    words = make("ablate", TRICK=value, EXPERIMENT=value, DATA_ROOT=value)
    assert words == ["ablate", *value.split(), f"--experiment={value}", f"--data-root={value}"]

    by_environment = make("ablate", {"TRICK": value, "RESULTS": value})
    assert by_environment == ["ablate", *value.split(), f"--results={value}"]


@pytest.mark.parametrize("value", HOSTILE)
def test_further_words_are_split_as_a_shell_does_and_not_run(make, value):
    quoted = "'" + value.replace("'", "'\\''") + "'"
    assert make("tricks", ARGS=f"--family {quoted}") == ["tricks", "--family", value]


def test_what_a_target_cannot_pass_on_is_refused(make):
    for target, values in {
        "search": {"DESIGN": "pairs"}, "report": {"SEEDS": 3}, "tricks": {"DEVICE": "cpu"}, "doctor": {"NAME": "x"},
        "bench": {"SEEDS": 2}, "replicate": {"DESIGN": "pairs"}, "ablate": {"TRICKS": "mixup"}, "test": {"SEEDS": 2},
    }.items():  # fmt: skip
        code, err = make(target, **values)
        assert code == 2
        assert f"make {target} takes no {next(iter(values))}, but " in err
    code, err = make("tricks", ARGS="'a")
    assert (code, "error: ARGS: No closing quotation" in err) == (2, True)


def test_the_name_of_the_machine_is_no_name_of_a_trick(make):
    assert make("tricks", {"NAME": "laptop", "ARGS": ""}) == ["tricks"]


@pytest.mark.parametrize("given", [True, False])
def test_the_environment_is_made_with_the_python_that_is_given_or_found(tmp_path, given):
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "pyproject.toml").touch()
    python = tmp_path / "p y" / ("python; touch x" if given else "python3.13")
    python.parent.mkdir()
    script = '#!/bin/sh\necho "$0 $*" >> log\n[ "$2" != venv ] || { mkdir -p .venv/bin; cp "$0" .venv/bin/python; }\n'
    python.write_text(script)
    python.chmod(0o755)
    env = {**OUTSIDE, "PATH": f"{python.parent}:{os.environ['PATH']}"}
    words = ["make", "setup", *([f"PYTHON={python}"] if given else [])]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=env, check=False)

    assert done.returncode == 0, done.stderr
    made = [line for line in (tmp_path / "log").read_text().splitlines() if " -c " not in line]
    assert made[0] == f"{python} -m venv .venv"
    assert made[1].startswith(".venv/bin/python -m pip install")
    assert (tmp_path / ".venv" / ".installed").exists()
    assert not (tmp_path / "x").exists()
