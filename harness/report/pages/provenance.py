"""Where numbers come from: machines, versions and data, and the runs that brought none."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pandas as pd

from harness.identity import Identity, network_version
from harness.store.schema import Manifest


@dataclass(frozen=True)
class LostRuns:
    """Runs of one arm without a result for one reason; `seeds` are those of the runs, in words."""

    arm: str
    status: str
    reason: str
    seeds: str


def lost_runs(manifest: Manifest, runs: pd.DataFrame) -> list[LostRuns]:
    """Every planned run without a result, grouped by arm and reason."""
    found = {row.run_id: (str(row.status), str(row.reason)) for row in runs.itertuples()}
    groups: dict[tuple[str, str, str], list[int]] = {}
    for arm in manifest.arms:
        for seed in manifest.seeds:
            status, reason = found.get(arm.run_ids.get(seed, ""), ("missing", "no stored run"))
            if arm.skipped is not None:
                status, reason = "skipped", arm.skipped
            if status != "ok":
                groups.setdefault((arm.label, status, reason), []).append(seed)
    return [
        LostRuns(arm, status, reason, ", ".join(map(str, seeds))) for (arm, status, reason), seeds in groups.items()
    ]


def provenance(manifest: Manifest, runs: pd.DataFrame) -> list[tuple[str, str]]:
    """Facts about where the numbers come from. Several values mean that the runs differ in it."""

    def values(column: str) -> list[str]:
        return sorted({str(v) for v in runs[column].dropna() if v != ""})

    versions = sorted({f"{k} {v}" for text in values("versions") for k, v in json.loads(text).items()})
    commits = [
        f"{commit if isinstance(commit, str) else 'unknown'}{' with uncommitted changes' if dirty is True else ''}"
        for commit, dirty in runs[["git_commit", "git_dirty"]].drop_duplicates().itertuples(index=False)
    ]
    packed = int(runs["packed"].fillna(False).astype(bool).sum())
    return [
        ("Study", manifest.study),
        ("Experiment", manifest.experiment),
        ("Created", manifest.created),
        ("Harness", manifest.harness_version),
        ("Git commit", ", ".join(commits) or "unknown"),
        ("Device", ", ".join(values("device")) or "unknown"),
        ("Hosts", str(len(values("host")))),
        ("Versions", ", ".join(versions) or "unknown"),
        ("Fingerprint", manifest.fingerprint),
        *_network(manifest, runs),
        ("Data", ", ".join(h[:16] for h in values("data_hash")) or "unknown"),
        *_unproven(runs),
        ("Runs", f"{len(runs)} stored, {packed} of them timed beside other runs on the same device (packed)"),
        *_graphs(runs),
    ]


def _network(manifest: Manifest, runs: pd.DataFrame) -> list[tuple[str, str]]:
    """What the network's library has built into it, or that runs of an earlier version had that on."""
    if manifest.network:
        return [("Network", manifest.network)]
    name = manifest.settings.get("model", {}).get("name", "")
    now = network_version(name)
    old = sum(Identity.of(text).network < now for text in runs["identity_json"].dropna()) if now else 0
    if not old:
        return []
    text = (
        f"{old} of {len(runs)} runs are of a version that left on what timm builds into its networks, in the baseline"
    )
    return [("Network", f"{text}, too: last norms at zero, layer scale, drop path, dropout; see harness doctor {name}")]


def _unproven(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """How many runs cannot prove which images and code they are of."""
    old = int(runs["identity"].isna().sum())
    if not old:
        return []
    text = f"{old} of {len(runs)} runs are of a version that did not record what their images and code were"
    return [("Identity", f"{text}; they are paired among themselves only, and never taken for other studies")]


def _graphs(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """Which runs replayed their steps as CUDA graphs, where that was asked for: the others' timings are longer."""
    asked = runs[runs["plain_steps"].notna()]
    if asked.empty:
        return []
    plain = asked[asked["plain_steps"] != ""]
    whys = [f"{arm} ({why})" for arm, why in plain[["arm", "plain_steps"]].drop_duplicates().itertuples(index=False)]
    text = f"{len(asked) - len(plain)} of {len(asked)} runs replayed their training steps"
    return [("CUDA graphs", "; ".join([text, *(f"plain steps in {why}" for why in whys)]))]
