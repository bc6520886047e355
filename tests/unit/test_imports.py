"""The import graph points one way, and what must start fast imports neither torch nor timm."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parent

VALUES = {"errors", "values", "experiment", "identity"}
ALLOWED = {
    "analysis": {"analysis", "store", "errors"},
    "store": {"store", "identity", "errors"},
    "report": {"report", "analysis", "store", "errors", "experiment", "values"},
    "models": {"models", "tricks", "rng", "errors", "experiment"},
    "data": {"data", "tricks", "rng", "errors", "experiment", "cpus"},
    "training": {"training", "tricks", "data", "models", "rng", "errors", "experiment", "identity"},
    "search": {"search", "study", "training", "store", "analysis", "tricks", "rng", *VALUES},
    "study": {"study", "training", "store", "analysis", "data", "tricks", "rng", "cpus", *VALUES},
    "tricks": {"tricks", "rng", "models", *VALUES},
    "identity": set(),
    "experiment": {"errors", "values"},
    "values": {"errors"},
    "rng": set(),
    "errors": set(),
    "cpus": set(),
    "ending": set(),
}


def imports_of(path):
    """The harness modules that a file imports, those under TYPE_CHECKING left out."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "harness":
            if node.module == "harness":
                yield from (f"harness.{alias.name}" for alias in node.names if not alias.name.startswith("__"))
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("harness."))


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if part in ("cli", "__main__", "__init__", "testing", "bench"):
        return
    found = {module.split(".")[1] for module in imports_of(path)}

    assert found <= ALLOWED[part]


@pytest.mark.parametrize("path", sorted((ROOT / "tricks").glob("*/*.py")), ids=lambda p: p.stem)
def test_a_trick_imports_the_contract_and_never_another_trick(path):
    shared = {"contract", "functional", "images", "modules", "probes"}
    allowed = {"harness.rng", "harness.experiment", *(f"harness.tricks.{name}" for name in shared)}

    assert set(imports_of(path)) <= allowed


def modules_after(code):
    """Names of the heavy modules loaded after running `code` in a fresh interpreter."""
    heavy = "('torch', 'timm', 'torchvision')"
    script = f"{code}\nimport sys\nprint([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return out.stdout.strip().splitlines()[-1], out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["ablate", "--help"],
        ["ablate", "mixpu"],
        ["search", "--help"],
        ["search", "mixpu"],
        ["search", "mixup", "--export", "no-such-folder/best.toml"],
        ["ablate"],
        ["ablate", "mixup", "--experiment", "digts"],
        ["ablate", "mixup", "--set", "recipe.epochs=-1"],
        ["report", "--results", "no-such-folder"],
    ],
    ids=" ".join,
)
def test_help_and_argument_errors_import_neither_torch_nor_timm(arguments):
    code = (
        "import sys\nfrom harness.cli import main\n"
        f"sys.argv = ['harness', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass"
    )
    loaded, _ = modules_after(code)

    assert loaded == "[]"


def test_rendering_a_report_imports_neither_torch_nor_timm():
    loaded, out = modules_after("import harness.report.pages.study")

    assert loaded == "[]", out.stderr


def test_trick_cards_import_neither_torchvision_nor_timm():
    loaded, out = modules_after("from harness.tricks.cards import cards\ncards()")

    assert loaded == "['torch']", out.stderr
