"""What others install: a wheel in an empty folder, and a clone in a folder whose name has a space.

Neither downloads anything: the packages that the harness needs are those of this environment.
"""

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

import harness
from processes import OUTSIDE

ROOT = Path(__file__).parents[2]
SHORT = ("--set", "recipe.epochs=2", "--set", "data.test_size=100")


def run(*command, folder, **variables):
    done = subprocess.run(
        [*map(str, command)], cwd=folder, env=OUTSIDE | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs Python in an empty folder, where the wheel takes the place of the checkout."""
    folder, packages = tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("packages")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", packages, wheel, folder=folder)

    def python(*arguments):
        return run(sys.executable, *arguments, folder=folder, PYTHONPATH=str(packages))

    python.folder, python.packages = folder, packages
    return python


def test_a_wheel_holds_every_file_of_the_package_and_every_experiment(wheel):
    files = [p for p in (ROOT / "harness").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    experiments = {f"harness/{p.relative_to(ROOT)}" for p in (ROOT / "experiments").glob("*.toml")}
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == {str(p.relative_to(ROOT)) for p in files} | experiments


def test_a_wheel_has_the_version_that_the_package_says(wheel, installed):
    assert wheel.name.split("-")[1] == harness.__version__
    told = "import harness; from importlib.metadata import version as v; print(harness.__version__, v('harness'))"
    assert installed("-c", told).split() == [harness.__version__] * 2


def test_an_installed_wheel_needs_no_checkout(installed):
    where = "import harness, harness.experiment as e; print(harness.__file__, e.experiments_dir(), sep='\\n')"
    package = installed.packages / "harness"
    assert installed("-c", where).split("\n")[:2] == [str(package / "__init__.py"), str(package / "experiments")]
    names = {card["name"] for card in json.loads(installed("-m", "harness", "tricks", "--json"))}
    assert {"mixup", "sam", "placebo"} <= names
    assert re.search(r"^ok +tricks: \d{3} load$", installed("-m", "harness", "doctor"), re.M)


@pytest.mark.slow
def test_an_installed_wheel_trains_and_reports(installed):
    out = installed("-m", "harness", "ablate", "mixup", "--seeds", 2, *SHORT)
    assert out.splitlines()[-1] == "report: reports/digits-noisy-mixup.html"
    assert "harness ablate mixup" in (installed.folder / "reports" / "digits-noisy-mixup.html").read_text()


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Runs make in a clone, whose environment borrows the packages of this one."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone of the repository, so there is nothing to clone")
    clone = tmp_path_factory.mktemp("with a space") / "my clone"
    run("git", "clone", "--quiet", ROOT, clone, folder=clone.parent)
    run(sys.executable, "-m", "venv", "--without-pip", ".venv", folder=clone)
    site = next((clone / ".venv").glob("lib/python*/site-packages"))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))

    def target(*words):
        # 0 turns the isolation off: pip reads it as the value of --build-isolation.
        offline = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
        return run("make", "--no-print-directory", *words, folder=clone, **offline)

    target.clone = clone
    return target


def test_make_sets_itself_up_in_a_clone_in_a_folder_with_a_space(make):
    make("setup")
    script = (make.clone / ".venv" / "bin" / "harness").read_text()
    assert str(make.clone) in script, "installed by make, and not borrowed"
    assert "mixup" in make("tricks", "NAME=mixup")
    where = run(".venv/bin/python", "-c", "import harness; print(harness.__file__)", folder=make.clone)
    assert where.strip() == str(make.clone / "harness" / "__init__.py")


@pytest.mark.slow
def test_make_ablate_works_in_a_clone_in_a_folder_with_a_space(make):
    out = make("ablate", "TRICK=mixup", "SEEDS=2")
    assert out.splitlines()[-1] == "report: reports/digits-noisy-mixup.html"
    assert (make.clone / "reports" / "digits-noisy-mixup.html").is_file()
