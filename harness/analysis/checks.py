"""What makes the comparison of a study valid, from its rows: complete pairs, one machine, one commit, one data set."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from harness.analysis.rows import Pairs
from harness.store.schema import Manifest


def checks(
    rows: pd.DataFrame, elsewhere: pd.DataFrame, pairs: Sequence[Pairs], manifest: Manifest
) -> tuple[tuple[str, bool, str], ...]:
    """What makes the comparison valid: (what, whether it holds, detail).

    Args:
        rows: the study's own.
        elsewhere: those of its runs that other machines made.
        pairs: of each arm.
        manifest: the study as declared.
    """
    planned = len(manifest.seeds)
    wanted = [p for p in pairs if p.plan.label in manifest.family]
    short = [f"{p.plan.label} has {len(p.seeds)} of {planned}" for p in wanted if len(p.seeds) < planned]
    commits = sorted(set(rows["git_commit"].fillna("")))
    dirty = int(rows["git_dirty"].eq(True).sum())
    versions, data = rows["versions"].nunique(), rows["data_hash"].nunique()
    return (
        ("paired seeds complete", not short, "; ".join(short) or f"{planned} for each arm"),
        ("one fingerprint", *_one_machine(rows, elsewhere, manifest)),
        (
            "fresh split for each seed",
            len(set(manifest.seeds)) == planned,
            f"{len(set(manifest.seeds))} distinct seeds of {planned}",
        ),
        ("test split read once", True, "at the end of training, with the last weights"),
        (
            "one clean git commit",
            len(commits) <= 1 and not dirty,
            f"{', '.join(c[:10] or 'none recorded' for c in commits)}; {dirty} runs with uncommitted changes",
        ),
        ("equal package versions", versions <= 1, f"{versions} sets of versions"),
        ("one data set", data <= 1, f"{data} data hashes"),
    )


def _one_machine(rows: pd.DataFrame, elsewhere: pd.DataFrame, manifest: Manifest) -> tuple[bool, str]:
    """Whether every stored run was made on the study's machine, and which were not."""
    said = f"{len(rows)} runs of {manifest.fingerprint}; {len(elsewhere)} rows of other fingerprints left out"
    only = elsewhere[~elsewhere["run_id"].isin(rows["run_id"])]
    if only.empty:
        return True, said
    arms = {arm.label: [s for s, i in arm.run_ids.items() if i in set(only["run_id"])] for arm in manifest.arms}
    seeds = "; ".join(f"{label}, seeds {', '.join(map(str, s))}" for label, s in arms.items() if s)
    here, there = (json.loads(next(iter(frame["fingerprint_json"].dropna()), "{}")) for frame in (rows, only))
    changed = ", ".join(f"{k} {there.get(k)}, not {here.get(k)}" for k in sorted(here) if there.get(k) != here[k])
    why = f" ({changed})" if changed else ""
    return False, f"{said}, among them the only ones of {seeds}{why}; the study's command trains those here"
