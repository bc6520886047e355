"""Which tests a mutant meets: the record of a run of all tests, made once for a state of the code and its tests."""

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import coverage

from mutants.record import FOLDER, PACKAGES


@dataclass(frozen=True)
class Record:
    """`seconds` of each test that passes, and the tests that run each line: {file: {line: {test}}}."""

    seconds: dict
    lines: dict

    def meeting(self, mutant, text, budget):
        """The tests that a mutant meets, in their order: those of its own test file, then the others; fast before slow.

        A line outside of functions runs when it is imported, so that any test that runs the file meets it. Together
        they take at most `budget` seconds, and are at least one.
        """
        of_file = self.lines.get(mutant.file, {})
        first, last = within(text, mutant.number)
        if first is None:
            tests = set().union(*of_file.values()) | {t for t in self.seconds if own(t, mutant.file)}
        else:
            tests = set().union(*(of_file.get(n, set()) for n in range(first, last + 1)))
        order = sorted(tests, key=lambda t: (not own(t, mutant.file), self.seconds[t], t))
        taken, spent = [], 0.0
        for test in order:
            spent += self.seconds[test]
            if taken and spent > budget:
                break
            taken.append(test)
        return taken


def own(test, file):
    """Whether a test's file is named after a file of the code, or one of the test's parameters is its name."""
    stem = Path(file).stem
    path, _, name = test.partition("::")
    return Path(path).name == f"test_{stem}.py" or stem in re.split(r"[][-]", name)[1:]


def within(text, number):
    """First and last line of the smallest statement around a line, without its body; (None, None) outside of functions.

    Those lines run when the file is imported: so do decorators, and the defaults of arguments.
    """
    function, best = False, None
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.stmt) or not node.lineno <= number <= node.end_lineno:
            continue
        body = getattr(node, "body", None) or getattr(node, "cases", None)
        start = body[0].lineno if body and isinstance(body[0], ast.stmt) else None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function |= start <= number
        last = node.end_lineno if start is None or start <= number else max(node.lineno, start - 1)
        if best is None or last - node.lineno <= best[1] - best[0]:
            best = node.lineno, last
    return best if function else (None, None)


def state(root, packages, tests):
    """A digest of all code and tests: a record holds as long as none of it changes."""
    tops = {Path(p).parts[0] for p in (*packages, *tests)}
    digest = hashlib.sha256()
    for path in sorted(p for top in tops for p in (root / top).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def record(root, packages, tests, jobs, cache):
    """The record of these tests; read from `cache` where it is of this state, else made by running them."""
    now = state(root, packages, tests)
    if cache.exists():
        found = json.loads(cache.read_text())
        if found["state"] == now:
            return loaded(found)
    with tempfile.TemporaryDirectory() as folder:
        run_all(root, packages, tests, jobs, folder)
        found = {"state": now, **gathered(root, Path(folder))}
    cache.parent.mkdir(exist_ok=True)
    cache.write_text(json.dumps(found))
    return loaded(found)


def loaded(found):
    names = list(found["seconds"])
    lines = {f: {int(n): {names[i] for i in at} for n, at in of.items()} for f, of in found["lines"].items()}
    return Record(found["seconds"], lines)


def run_all(root, packages, tests, jobs, folder):
    """Run the tests and note lines; tests that fail are left out and named."""
    where = {FOLDER: folder, PACKAGES: os.pathsep.join(packages), "COVERAGE_CORE": "ctrace"}
    command = [sys.executable, "-m", "pytest", "-p", "mutants.record", "-p", "no:cacheprovider", "-q", "--tb=line"]
    if jobs > 1:
        command += ["-n", str(jobs), "--dist", "loadfile"]
    ended = subprocess.run([*command, *tests], cwd=root, env={**os.environ, **where}, check=False)
    if ended.returncode not in (0, 1):
        sys.exit(f"error: the tests that note lines ended with {ended.returncode}")


def gathered(root, folder):
    """What all processes noted."""
    tests = {}
    for path in folder.glob("tests.*.json"):
        tests |= json.loads(path.read_text())
    users = defaultdict(set)
    for test, note in tests.items():
        if note["passed"]:
            for context in (test, *note["fixtures"]):
                users[context].add(test)
    seconds = {test: tests[test]["seconds"] for test in sorted(tests) if tests[test]["passed"]}
    index = {test: i for i, test in enumerate(seconds)}
    lines = defaultdict(lambda: defaultdict(set))
    for path in folder.glob("lines.*"):
        data = coverage.CoverageData(basename=str(path))
        data.read()
        for file in data.measured_files():
            of_file = lines[str(Path(file).relative_to(root))]
            for number, contexts in data.contexts_by_lineno(file).items():
                for context in contexts:
                    of_file[number] |= users.get(context, set())
    return {
        "seconds": seconds,
        "lines": {f: {n: sorted(index[t] for t in at) for n, at in of.items()} for f, of in lines.items()},
    }
