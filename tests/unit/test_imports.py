"""The import graph points one way and has no circles, and what must start fast imports neither torch nor timm."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

LONGEST = 400

VALUES = {
    "errors",
    "values",
    "invariance",
    "names",
    "sections",
    "experiment",
    "identity",
    "plugins",
    "sources",
    "version",
}
MACHINE = {"cpus", "ending"}
OUTSIDE = {"cpus", *VALUES}
CARDS = {"tricks.index", "tricks.kinds", "tricks.recipes"}
"""What is known of tricks without torch."""
ALLOWED = {
    "analysis": {"analysis", "store", "metrics", "errors"},
    "store": {"store", "metrics", "identity", "errors"},
    "report": {
        "report",
        "analysis",
        "store",
        "metrics",
        "errors",
        "experiment",
        "identity",
        "values",
        "names",
        "plugins",
        *CARDS,
    },
    "readers": {"readers", "errors"},
    "commands": {"commands", "readers", "data", "metrics", "store", "tricks.kinds", *VALUES},
    "judging": {"judging", "readers", "report", "analysis", "store", "metrics", *VALUES},
    "models": {"models", "data.types", "rng", "errors", "experiment", "identity", "plugins"},
    "data": {"data", "rng", "errors", "experiment", "cpus", "values", "plugins"},
    "training": {"training", "tricks", "data", "models", "metrics", "rng", "errors", "experiment", "identity"},
    "tuning": {"tuning", "commands", "study", "training", "store", "analysis", "tricks", "metrics", "rng", *VALUES},
    "study": {
        "study",
        "commands",
        "training",
        "models",
        "store",
        "analysis",
        "data",
        "tricks",
        "metrics",
        "rng",
        *MACHINE,
        *VALUES,
    },
    "tricks": {"tricks", "rng", "models", "data.types", *VALUES},
    "metrics": set(),
    "version": set(),
    "workflow": {
        "workflow",
        "commands",
        "judging",
        "readers",
        "report",
        "tuning",
        "study",
        "training",
        "store",
        "analysis",
        "data",
        "tricks",
        *OUTSIDE,
    },
    "identity": set(),
    "plugins": {"errors", "identity", "sources"},
    "sources": {"errors", "identity"},
    "experiment": {"errors", "values", "sections", "identity", "names"},
    "sections": {"errors", "values", "invariance", "identity", "plugins"},
    "invariance": {"errors", "values"},
    "names": {"errors", "values"},
    "values": {"errors"},
    "rng": set(),
    "errors": set(),
    "cpus": set(),
    "ending": set(),
}


def module_of(path, root):
    """The dotted name of a file; a package's is that of its folder."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(("harness", *(parts[:-1] if parts[-1] == "__init__" else parts)))


@cache
def modules(root):
    """All files below a folder by their dotted names."""
    return {module_of(path, root): path for path in root.rglob("*.py")}


def imports_of(path, root=ROOT):
    """The harness modules that a file imports, in functions too; those under TYPE_CHECKING are left out."""
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
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in modules(root) else node.module for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("harness."))


def order_of(root):
    """All modules, each after those that it imports.

    Raises:
        CycleError: two files import each other, perhaps by a detour.
    """
    graph = {name: set(imports_of(path, root)) for name, path in modules(root).items()}
    return list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if part in ("cli", "api", "__main__", "__init__", "testing", "bench"):
        return
    found = [module.split(".")[1:3] for module in imports_of(path) if module != "harness"]

    assert [name for name in found if not {name[0], ".".join(name)} & ALLOWED[part]] == []


def test_no_two_files_import_each_other():
    order = order_of(ROOT)

    assert order.index("harness.data.types") < order.index("harness.tricks.contract")


def test_a_circle_inside_a_function_is_found(tmp_path):
    (tmp_path / "one.py").write_text("from harness import two\n")
    (tmp_path / "two.py").write_text("def late():\n    from harness.three import something\n")
    (tmp_path / "three.py").write_text("import harness.one\n")

    with pytest.raises(CycleError):
        order_of(tmp_path)


def test_no_file_is_too_long_to_read():
    lengths = {p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in FILES}

    assert {name: n for name, n in lengths.items() if n > LONGEST} == {}


@pytest.mark.parametrize("path", sorted((ROOT / "tricks").glob("*/*.py")), ids=lambda p: p.stem)
def test_a_trick_imports_the_contract_and_never_another_trick(path):
    shared = {
        "blocks",
        "contract",
        "functional",
        "images",
        "mixtures",
        "modules",
        "operations",
        "optimizers",
        "passes",
        "policies",
        "probes",
        "stages",
        "taught",
    }
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
        ["replicate", "no-such-study"],
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


def test_the_list_of_tricks_imports_no_torch():
    loaded, out = modules_after("from harness.tricks.cards import cards\ncards()")

    assert loaded == "[]", out.stderr


def test_trick_cards_are_made_without_torchvision_and_timm():
    loaded, out = modules_after("from harness.tricks.cards import text\ntext()")

    assert loaded == "['torch']", out.stderr
