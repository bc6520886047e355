"""Inside the report, words know no drawings, drawings no pages, and pages no site; and nobody uses another's inside."""

import ast
from pathlib import Path

import pytest

import harness.report

ROOT = Path(harness.report.__file__).parent
LAYERS = {"text": 0, "drawings": 1, "load": 1, "evidence": 2, "sheets": 2, "pages": 3, "export": 4, "site": 4}
FILES = sorted(ROOT.rglob("*.py"))


def imported(path):
    """(module, name) of all that a file takes from the report."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness.report"):
            yield from ((node.module, alias.name) for alias in node.names)


def layer(module, name=""):
    parts = f"{module}.{name}".split(".")
    return LAYERS[parts[2]]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_layers_look_down_only(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if part == "__init__":
        return
    above = [(module, name) for module, name in imported(path) if layer(module, name) > LAYERS[part]]
    assert above == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_takes_another_s_private_names(path):
    assert [name for _, name in imported(path) if name.startswith("_")] == []


def test_no_two_modules_import_each_other():
    graph = {}
    for path in FILES:
        here = ".".join(("harness", "report", *path.relative_to(ROOT).with_suffix("").parts))
        graph[here] = {m if m in graph or not (ROOT / m[15:].replace(".", "/") / f"{n}.py").exists() else f"{m}.{n}"
                       for m, n in imported(path)}  # fmt: skip
    done = set()

    def visit(module, way):
        assert module not in way, f"circle: {' -> '.join([*way, module])}"
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, [*way, module])
            done.add(module)

    for module in graph:
        visit(module, [])
    assert len(done) >= len(FILES)
