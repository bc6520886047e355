# ruff: noqa: T201 (a command prints)
"""`python -m mutants`: choose, run, compare with the listed survivors, and say it."""

import argparse
import importlib
import os
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from mutants import forks
from mutants.lines import Record, record
from mutants.sites import chosen

KEYS = ("file", "line", "becomes", "nth")


def options():
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("tests/mutants.toml"), help="counts, seed, survivors")
    parser.add_argument("--package", action="append", help="only this one, such as harness/analysis")
    parser.add_argument("--only", default="", help="only mutants of files whose path holds this text")
    parser.add_argument("--limit", type=int, help="only the first of each package")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes at once")
    parser.add_argument("--list", action="store_true", help="show the mutants and run nothing")
    return parser.parse_args()


def shown(mutant):
    """A mutant in three lines, as a change is shown."""
    return f"{mutant.file}:{mutant.number}\n  - {mutant.line}\n  + {mutant.becomes}"


def summary(results, listed, share):
    """What to print, and whether all is as it should be: enough are killed, and every survivor is listed."""
    reasons = {tuple(entry[k] for k in KEYS): entry["reason"] for entry in listed}
    by_package, lines, right = {}, [], True
    for package, result in results:
        by_package.setdefault(package, []).append(result)
    every = [r for _, r in results]
    for package, of in {**by_package, "all": every}.items():
        alive = [r for r in of if r.state != "killed"]
        equal = sum(reasons.get(r.mutant.id, "").startswith("equivalent") for r in alive)
        killed, total = len(of) - len(alive), len(of) - equal
        part = killed / total if total else 1.0
        lines.append(
            f"{package}: {killed} of {total} mutants that change behaviour killed ({part:.1%}); {equal} change none"
        )
        if package == "all" and part < share:
            right = False
            lines.append(f"fewer than {share:.0%} of the mutants that change behaviour are killed")
    for result in every:
        reason = reasons.get(result.mutant.id)
        if result.state == "killed" and reason:
            lines.append(
                f"\nlisted as a survivor, but killed by {result.by}; take it off the list\n{shown(result.mutant)}"
            )
        if result.state != "killed":
            right &= reason is not None and result.state != "error"
            lines.append(f"\n{result.state} ({result.tests} tests): {reason or 'not listed'}\n{shown(result.mutant)}")
            lines += [result.by] * (result.state == "error")
    return "\n".join(lines), right


def main():
    """Run it; returns the exit status."""
    asked, root, begun = options(), Path.cwd(), time.monotonic()
    settings = tomllib.loads(asked.config.read_text())
    counts = {p: n for p, n in settings["count"].items() if not asked.package or p in asked.package}
    mutants = []
    for package, count in counts.items():
        found, places = chosen(root, package, count, settings["seed"])
        print(f"{package}: {len(found)} mutants of {places} places", flush=True)
        mutants += [(package, m) for m in found[: asked.limit] if asked.only in m.file]
    if asked.list:
        print("\n".join(shown(m) for _, m in mutants))
        return 0
    tests: Record = record(
        root, list(settings["count"]), settings["tests"], asked.jobs, root / ".mutants" / "record.json"
    )
    print(f"{len(tests.seconds)} tests after {(time.monotonic() - begun) / 60:.1f} minutes", flush=True)
    for library in settings.get("libraries", ()):
        importlib.import_module(library)
    texts = {m.file: (root / m.file).read_text() for _, m in mutants}
    plans = [
        (m, {t: tests.seconds[t] for t in tests.meeting(m, texts[m.file], settings["budget"])}) for _, m in mutants
    ]
    package_of, results = {m.id: p for p, m in mutants}, []
    with tempfile.TemporaryDirectory() as folder:
        for result in forks.run(root, plans, asked.jobs, Path(folder), settings["margin"]):
            results.append((package_of[result.mutant.id], result))
            more = result.by[-90:] if result.state == "killed" else shown(result.mutant)
            print(f"{len(results)}/{len(plans)} {result.state} {result.seconds:.1f} s {more}", flush=True)
        killers = {r.by for _, r in results if r.state == "killed" and r.by in tests.seconds}
        guilty = list(wrong(root, killers, tests, asked.jobs, Path(folder), settings["margin"]))
    text, right = summary(results, settings.get("survivor", []), settings["share"])
    print(f"\n{text}\n")
    for test in guilty:
        print(f"fails without a mutant, too, so that it killed none: {test}")
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes")
    return 0 if right and not guilty else 1


def wrong(root, killers, tests, *how):
    """Those of the tests that fail on the code as it is; they are tried again without what failed."""
    left = sorted(killers, key=lambda t: (t.partition("::")[0], tests.seconds[t]))
    while left:
        (result,) = forks.run(root, [(None, {t: tests.seconds[t] for t in left})], *how)
        if result.state == "survived":
            return
        yield result.by
        left = [t for t in left if t != result.by]
        if result.by not in killers:
            return


if __name__ == "__main__":
    sys.exit(main())
