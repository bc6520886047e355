"""The driver of the mutation tests: what it changes, what it calls it, and whether it tells killed from alive."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mutants import forks, lines, sites

SHARED = Path(sites.__file__).parents[1]


def lines_of(text):
    return [(site.line, site.kind) for site in sites.sites("a.py", text)]


@pytest.mark.parametrize(
    "text",
    [
        '"""A text of 3 - 1 lines."""',
        "x: Annotated[float, Field(ge=0)]",
        "def f(x: int | None) -> int | None: ...",
        "info = Info(version=3, removed=True)",
        "def f(x):\n    raise ValueError(f'{x + 1} is above {2 * 3}')",
        "if TYPE_CHECKING:\n    LIMIT = 3",
        "__all__ = ['a'] + ['b']",
        "def f(a, *, b): return {**a, **b}, [*a]",
        "@overload\ndef f(x): ...",
    ],
)
def test_types_cards_and_messages_are_left_alone(text):
    assert lines_of(text) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x: Annotated[float, Field(ge=0)] = 0.5", "number_replacer"),
        ("def f(x: int = 3): ...", "number_replacer"),
        ("y = a + b", "binary_operator_replacement"),
        ("y = a < b", "comparison_operator_replacement"),
        ("y = -a", "unary_operator_replacement"),
        ("y = True", "boolean_replacer"),
        ("@property\ndef f(x): ...", "remove_decorator"),
        ("for a in b: pass", "zero_iteration_for_loop"),
        ("try:\n    f()\nexcept ValueError:\n    pass", "exception_replacer"),
    ],
)
def test_code_has_one_site_for_each_kind_of_change(text, kind):
    assert [k for _, k in lines_of(text)] == [kind]


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("y = a + b", {f"y = a {o} b" for o in ("-", "*", "/", "//", "%", "**")}),
        ("y = a | b", {"y = a & b", "y = a ^ b"}),
        ("y = a < b", {f"y = a {o} b" for o in ("<=", ">", ">=", "==", "!=")}),
        ("y = a is b", {"y = a is not b"}),
        ("y = 0.25", {"y = 1.25", "y = -0.75"}),
        ("y = True", {"y = False"}),
    ],
)
def test_the_seed_chooses_among_sensible_changes(text, becomes):
    (site,) = sites.sites("a.py", text)
    found = {sites.mutant(site, text, seed).becomes.replace("  ", " ") for seed in range(60)}

    assert found == becomes


def test_a_name_stays_when_other_lines_change():
    text = "def f(a, b):\n    return a + b\n\n\ndef g(a, b):\n    return a + b\n"
    longer = "import os\n\n\n" + text.replace("def g", "def h(a):\n    return a - 1\n\n\ndef g")

    def of(source):
        return {(m.id, m.number) for s in sites.sites("a.py", source) if (m := sites.mutant(s, source, 1))}

    ids, grown = dict(of(text)), dict(of(longer))
    assert ids.keys() < grown.keys()
    assert sorted(name[3] for name in ids) == [0, 1]  # equal lines are told apart
    assert [grown[name] - ids[name] for name in sorted(ids, key=ids.get)] == [3, 7]


def test_another_file_changes_few_choices(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    for k in range(10):
        (folder / f"m{k}.py").write_text("".join(f"x{i} = {k} + a\n" for i in range(20)))
    before, places = sites.chosen(tmp_path, "code", 40, seed=3)
    (folder / "new.py").write_text("y = b * c\nz = b > c\n")
    after, _ = sites.chosen(tmp_path, "code", 40, seed=3)

    assert (len(before), places) == (40, 400)
    assert len({m.id for m in before} & {m.id for m in after}) >= 38
    assert before != sites.chosen(tmp_path, "code", 40, seed=4)[0]


SOURCE = """LIMIT = 3


@mark
def f(
    a, b=2
):
    c = (
        a
        + b
    )
    if c > 3:
        return 1
    return c
"""


@pytest.mark.parametrize(
    ("number", "among"), [(1, None), (4, None), (6, None), (8, (8, 11)), (10, (8, 11)), (12, (12, 12)), (13, (13, 13))]
)
def test_a_line_belongs_to_its_statement_or_to_the_import(number, among):
    assert lines.within(SOURCE, number) == (among or (None, None))


def test_a_mutant_meets_its_own_tests_first_then_the_fast_ones_within_the_budget():
    seconds = {"tests/test_b.py::slow": 9.0, "tests/test_a.py::own": 3.0, "tests/test_b.py::fast": 1.0, "t.py::x": 2.0}
    record = lines.Record(seconds, {"code/a.py": {12: set(seconds) - {"t.py::x"}, 13: {"t.py::x"}}})

    def met(number, budget):
        return record.meeting(sites.Mutant("code/a.py", "", "", 0, number, ""), SOURCE, budget)

    assert met(12, 100) == ["tests/test_a.py::own", "tests/test_b.py::fast", "tests/test_b.py::slow"]
    assert met(12, 5) == ["tests/test_a.py::own", "tests/test_b.py::fast"]
    assert met(12, 1) == ["tests/test_a.py::own"]
    assert met(1, 5) == ["tests/test_a.py::own", "tests/test_b.py::fast"]  # who runs the file has imported it
    assert met(14, 100) == []


@pytest.mark.parametrize(
    ("test", "own"),
    [
        ("tests/tricks/test_mixup.py::test_a", True),
        ("tests/test_pairs.py::test_a[3-mixup]", True),
        ("tests/test_pairs.py::test_mixup", False),
        ("tests/tricks/test_mixup_knn.py::test_a[mixup_knn]", False),
    ],
)
def test_tests_of_a_file_are_named_after_it(test, own):
    assert lines.own(test, "code/mixup.py") == own


@pytest.mark.parametrize(
    ("status", "state"), [(0, "survived"), (1, "killed"), (2, "killed"), (-24, "killed"), (-11, "killed"), (4, "error")]
)
def test_how_a_process_ended_is_read(status, state):
    assert forks.outcome(status, "t")[0] == state


CODE = {
    "planted/__init__.py": "",
    "planted/good.py": "def double(x):\n    return 2 * x\n",
    "planted/even.py": "def larger(a, b):\n    return a if a > b else b\n",
    "planted/loose.py": "def low():\n    return 7\n",
    "planted/dead.py": "def never():\n    return 8\n",
    "planted/loop.py": "def wait(n):\n    while n:\n        n -= 1\n    return True\n",
    "tests/test_all.py": """
import os

from planted import dead, even, good, loop, loose


def test_double():
    assert [good.double(x) for x in (0, 1, 5)] == [0, 2, 10]


def test_larger():
    assert [even.larger(2, b) for b in (1, 2, 3)] == [2, 2, 3]


def test_low():
    assert loose.low()


def test_wait():
    assert loop.wait(3)
""",
}
LEFT = [("loose.py", "return 7"), ("dead.py", "return 8"), ("loop.py", "while n:")]
"""A weak test, none, and one that does not see whether it waited. The other change of the loop never ends."""


def planted(folder, more="", code=CODE):
    for name, text in code.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "tests" / "mutants.toml").write_text(
        'seed = 2\nshare = 0.6\nbudget = 60.0\nmargin = 8.0\ntests = ["tests"]\n' + more + "\n[count]\nplanted = 99\n"
    )
    path = os.pathsep.join((str(folder), str(SHARED)))
    ended = subprocess.run(
        [sys.executable, "-m", "mutants", "--jobs", "1"],
        cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not ended.stderr
    return ended.returncode, ended.stdout


def listed(found, reasons):
    """Entries of survivors, as the file has them."""
    keys = "file = 'planted/{}'\nline = '{}'\nbecomes = '{}'\nnth = 0\nreason = '{}'\n"
    return "\n".join(
        "[[survivor]]\n" + keys.format(*names, reason) for names, reason in zip(found, reasons, strict=True)
    )


def test_planted_mutants_are_told_apart(tmp_path):
    status, out = planted(tmp_path)
    alive = re.findall(r"planted/(\w+\.py):\d+\n  - (.*)\n  \+ (.*)\n", out.partition("change none")[2])

    assert status == 1, out
    assert sorted(name[:2] for name in alive) == sorted([*LEFT, ("even.py", "return a if a > b else b")]), out
    assert out.count("not listed") == len(alive) == 4
    assert "untested (0 tests): not listed\nplanted/dead.py" in out
    assert "5 of 9 mutants that change behaviour killed (55.6%); 0 change none" in out
    assert "fewer than 60% of the mutants" in out
    assert "tests/test_all.py::test_wait (time)" in out

    reasons = ["equivalent: the larger of two equal numbers" if n[0] == "even.py" else "planted" for n in alive]
    status, out = planted(tmp_path, listed(alive, reasons))

    assert (status, out.count("not listed")) == (0, 0)
    assert "5 of 8 mutants that change behaviour killed (62.5%); 1 change none" in out


def test_a_test_that_fails_without_a_mutant_kills_none(tmp_path):
    code = {
        "planted/__init__.py": "def f():\n    return 3\n",
        "tests/test_all.py": """
import os

from planted import f


def test_f():
    assert f() and "MUTANTS_FOLDER" in os.environ
""",
    }
    status, out = planted(tmp_path, code=code)

    assert status == 1
    assert "fails without a mutant, too, so that it killed none: tests/test_all.py::test_f" in out
