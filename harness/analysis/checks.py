"""What makes the comparison of a study valid, from its rows: complete pairs, one machine, one commit, one data set."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from harness.analysis.rows import Pairs, Side
from harness.analysis.types import Check, State
from harness.analysis.verdicts import MIN_SEEDS
from harness.store.schema import Manifest


def checks(
    rows: pd.DataFrame, elsewhere: pd.DataFrame, base: Side, pairs: Sequence[Pairs], manifest: Manifest
) -> tuple[Check, ...]:
    """What makes the comparison valid. What the rows do not tell is not known, which is neither good nor bad.

    Args:
        rows: the study's own.
        elsewhere: those of its runs that other machines made.
        base: the baseline's runs.
        pairs: of each arm.
        manifest: the study as declared.
    """
    commits = _told(rows, "git_commit")
    dirty = int(rows["git_dirty"].eq(True).sum())
    same = _state(rows, commits, len(commits) <= 1 and not dirty)
    versions, data = _told(rows, "versions"), _told(rows, "data_hash")
    leaks: list[Check] = [("no image in two splits", "fails", manifest.leak)] if manifest.leak else []
    return (
        ("paired seeds complete", *_complete(pairs, manifest)),
        ("one fingerprint", *_one_machine(rows, elsewhere, manifest)),
        ("every seed gives runs of its own", *_seeds_differ(base, pairs, not manifest.in_loop)),
        ("looked at once", *_looks(manifest)),
        (
            "one clean git commit",
            same,
            f"{', '.join(c[:10] for c in commits) or 'none recorded'}; {dirty} runs with uncommitted changes",
        ),
        ("equal package versions", _state(rows, versions, len(versions) <= 1), f"{len(versions)} sets of versions"),
        ("one data set", _state(rows, data, len(data) <= 1), f"{len(data)} data hashes"),
        *leaks,
    )


def _told(rows: pd.DataFrame, column: str) -> list[str]:
    """The different values of a column that say something."""
    return sorted(set(rows[column].dropna()) - {""})


def _state(rows: pd.DataFrame, told: Sequence[str], holds: bool) -> State:
    """That of a check on a column: not known where no row says anything."""
    if not holds:
        return "fails"
    return "holds" if told and len(rows) else "not known"


def _complete(pairs: Sequence[Pairs], manifest: Manifest) -> tuple[State, str]:
    """Whether every arm has all its pairs; seeds that diverged are outcomes, and arms that cannot run have none."""
    planned = len(manifest.seeds)
    wanted = [
        p for p in pairs if p.plan.skipped is None and not (len(p.arm.status) and (p.arm.status == "skipped").all())
    ]
    if not wanted:
        return "not known", "no arm to pair with the baseline"
    short = [
        f"{p.plan.label} has {len(p.seeds) + len(p.lost)} of {planned}"
        for p in wanted
        if len(p.seeds) + len(p.lost) < planned
    ]
    return ("fails", "; ".join(short)) if short else ("holds", f"{planned} for each arm")


def _seeds_differ(base: Side, pairs: Sequence[Pairs], coarse: bool) -> tuple[State, str]:
    """Whether predictions differ from seed to seed; a program that ignores its seed makes one run.

    Of foreign runs a few logged numbers are known, which may be equal by chance: they are `coarse`.
    """
    sides = {"the baseline": base, **{p.plan.label: p.arm for p in pairs}}
    digests = {name: _digests(side) for name, side in sides.items()}
    counts = {name: (len(set(found)), len(found)) for name, found in digests.items() if len(found) > 1}
    if "the baseline" not in counts:
        stored = "logged numbers" if coarse else "stored predictions"
        return "not known", f"{len(digests['the baseline'])} runs of the baseline with {stored}"
    alike = [f"{different} different of {all_} runs of {name}" for name, (different, all_) in counts.items()]
    repeated = [said for said, (different, all_) in zip(alike, counts.values(), strict=True) if different < all_]
    by_chance = coarse and all(different > 1 for different, _ in counts.values())
    return ("not known" if by_chance else "fails", "; ".join(repeated)) if repeated else ("holds", alike[0])


def _digests(side: Side) -> list[str]:
    """Those of the predictions of an arm's finished runs, where they are stored."""
    return [d for d in side.table.texts("test_digest", [side.rows[s] for s in side.finished]) if d]


def _looks(manifest: Manifest) -> tuple[State, str]:
    """Whether the seeds were judged once, or as often as planned; each further look is a chance of a false alarm."""
    if manifest.source:
        return "not known", "runs that were made elsewhere"
    looks = [n for n in manifest.looks if n >= MIN_SEEDS]
    if not manifest.looks:
        return "not known", "a study of an earlier version, which did not record it"
    said = f"at {', '.join(map(str, manifest.looks))} seeds"
    if manifest.level is not None:
        return "holds", f"{said}, as planned, at a stricter level"
    return ("holds" if len(looks) < 2 else "fails"), said


def _one_machine(rows: pd.DataFrame, elsewhere: pd.DataFrame, manifest: Manifest) -> tuple[State, str]:
    """Whether every stored run was made on the study's machine, and which were not."""
    if manifest.source:
        return "not known", "runs that were made elsewhere"
    said = f"{len(rows)} runs of {manifest.fingerprint}; {len(elsewhere)} rows of other fingerprints left out"
    only = elsewhere[~elsewhere["run_id"].isin(rows["run_id"])]
    if only.empty:
        return ("holds" if len(rows) else "not known"), said
    arms = {arm.label: [s for s, i in arm.run_ids.items() if i in set(only["run_id"])] for arm in manifest.arms}
    seeds = "; ".join(f"{label}, seeds {', '.join(map(str, s))}" for label, s in arms.items() if s)
    here, there = (json.loads(next(iter(frame["fingerprint_json"].dropna()), "{}")) for frame in (rows, only))
    changed = ", ".join(f"{k} {there.get(k)}, not {here.get(k)}" for k in sorted(here) if there.get(k) != here[k])
    why = f" ({changed})" if changed else ""
    return "fails", f"{said}, among them the only ones of {seeds}{why}; the study's command trains those here"
