"""What a study will cost and what it can find, said before it runs.

Time comes from stored runs of the same workload, or else from a pilot of a second or two. The smallest
effect comes from the deviation of paired differences that stored studies of the same workload show.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.power import mde, pooled_sd, seeds_needed
from harness.analysis.rows import metric_of, values_in
from harness.analysis.verdicts import MIN_SEEDS
from harness.commands.kinds import AnyExperiment
from harness.data.cifar import not_here
from harness.errors import UserError
from harness.experiment import BASELINE, PREMISES, Arm, Experiment, spec_of
from harness.identity import NUMBERS
from harness.store.folders import study_folders
from harness.store.reader import read_kind
from harness.store.schema import Manifest
from harness.study.kinds import with_base
from harness.study.places import AnyPlace
from harness.study.plan import Plan
from harness.training.layout import layer_at_risk
from harness.training.loop import Clock, Diverged, train
from harness.training.place import Place
from harness.training.session import set_up

PILOT_SECONDS = 2.0


@dataclass(frozen=True)
class Forecast:
    """Before the launch: wall seconds and disk bytes of the missing runs, and the smallest effect (80 % power).

    `stages` of the runs that others need are missing beside the `missing` ones of arms; time and disk are of both.

    `seconds` are NaN where nothing can be timed, because the data are not here; `seconds_from` then says so.

    `seconds_per_block` is the time of one more seed of all arms. `sd` is the standard deviation of paired
    differences in points, from `sd_pairs` stored pairs (NaN and 0 when there are none; see `paired_sd`). `smallest`
    and `for_margin` follow from it, and allow for Holm's correction; without pairs `smallest` is in standard
    deviations.
    """

    seeds: int
    runs: int
    missing: int
    seconds: float
    seconds_per_block: float
    seconds_from: str
    disk: int
    sd: float
    sd_pairs: int
    smallest: float
    margin: float
    for_margin: int | None
    stages: int = 0


def forecast(plan: Plan, experiment: AnyExperiment, place: AnyPlace, results: Path, workers: int) -> Forecast:
    """Time, disk and power of a plan."""
    stored = stored_runs(plan.manifest, experiment, results)
    per_run, source = run_seconds(stored, plan.manifest, experiment, place)
    # Training time scales with the arm; start-up of the workers does not.
    total = sum(per_run * plan.cost(s) for s in plan.missing) / max(1, min(workers, len(plan.missing)))
    sd, pairs = paired_sd(stored, plan.manifest)
    n, family = len(plan.manifest.seeds), max(1, len(plan.manifest.family))
    level = plan.manifest.alpha / family
    test = (experiment.data.test_size or 10_000) if isinstance(experiment, Experiment) else 0
    return Forecast(
        seeds=n,
        runs=len(plan.specs),
        missing=sum(not plan.label(s) for s in plan.missing),
        stages=sum(bool(plan.label(s)) for s in plan.missing),
        seconds=total,
        seconds_per_block=per_run * _block_cost(plan) / workers,
        seconds_from=source,
        disk=len(plan.missing) * (20_000 + 24 * test),
        sd=sd,
        sd_pairs=pairs,
        smallest=mde(sd if pairs else 1.0, n, level) if n > 1 else float("inf"),
        margin=plan.manifest.margin,
        for_margin=seeds_needed(plan.manifest.margin, sd, level) if pairs else None,
    )


def _block_cost(plan: Plan) -> float:
    """The time of one more seed of all arms and of what they need, in multiples of the baseline's run."""
    of = plan.manifest.seeds[0]
    first = [spec for spec in plan.specs if spec.seed == of]
    stages = {i: plan.stages.specs[i] for spec in first for i in plan.stages.chain(spec.run_id)}
    return sum(map(plan.cost, ({spec.run_id: spec for spec in first} | stages).values()))


def stored_runs(manifest: Manifest, experiment: AnyExperiment, results: Path) -> pd.DataFrame:
    """Finished rows of the same workload and fingerprint in all studies, once each."""
    workloads = _workloads(manifest, experiment)
    frames = []
    for folder in study_folders(results):
        table, _, _ = read_kind(folder, "runs")
        if table is None:
            continue
        rows = table.to_pandas()
        rows = rows[(rows["fingerprint"] == manifest.fingerprint) & (rows["status"] == "ok")]
        rows = rows[_comparable(rows, manifest, experiment)]
        frames.append(rows[rows["spec"].map(lambda text: _workload(text) in workloads).astype(bool)])
    if not frames:
        return pd.DataFrame(
            columns=["run_id", "arm", "hyperparameters", "seed", "seconds_total", "host", manifest.metric, "scores"]
        )
    merged: pd.DataFrame = pd.concat(frames).drop_duplicates("run_id")
    base = {trick.name: trick.params for trick in with_base(experiment, Arm()).tricks}
    return over_base(merged, base) if base else merged


def over_base(rows: pd.DataFrame, base: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The rows that have the tricks of a base with these values, called by what they add to it."""
    params = [json.loads(text) for text in rows["hyperparameters"]]
    added = [{name: values for name, values in p.items() if name not in base} for p in params]
    called = rows.assign(
        arm=["+".join(sorted(a)) or BASELINE for a in added],
        hyperparameters=[json.dumps(a, sort_keys=True) for a in added],
    )
    return called[[all(p.get(name) == values for name, values in base.items()) for p in params]]


def _comparable(rows: pd.DataFrame, manifest: Manifest, experiment: AnyExperiment) -> pd.Series[bool]:
    """Which rows are of the same images, code and numbers.

    Rows of the study's arms have the arms' identities. Of other arms, images and numbers decide. Earlier versions had
    no identities and other digests, but only folders can change.
    """
    identities = {json.dumps(a.tricks, sort_keys=True): a.identity for a in manifest.arms if a.identity}

    def fits(arm: str, data: str | None, identity: str | None, facts: str | None) -> bool:
        if identity is None or facts is None:
            return data == manifest.data or (isinstance(experiment, Experiment) and not experiment.data.from_files)
        if arm in identities:
            return identity == identities[arm]
        return data == manifest.data and json.loads(facts)["numbers"] == NUMBERS

    columns = rows[["hyperparameters", "data_hash", "identity", "identity_json"]].astype(object)
    found = [fits(*values) for values in columns.where(columns.notna(), None).itertuples(index=False)]
    return pd.Series(found, index=rows.index, dtype=bool)


def _workload(spec: str) -> dict[str, Any]:
    values: Mapping[str, Any] = json.loads(spec)
    if "kind" in values:  # of a command, which an arm changes
        return {k: v for k, v in values.items() if k not in ("arm", "seed", "number")}
    return {k: values[k] for k in PREMISES}


def _workloads(manifest: Manifest, experiment: AnyExperiment) -> list[dict[str, Any]]:
    """What the runs of a study have in common, whatever their seeds: one for the loop, one for each arm of commands."""
    if isinstance(experiment, Experiment):
        return [_workload(spec_of(experiment, Arm(), 0).canonical_json)]
    arms = [Arm(tricks=tuple(experiment.switch(n, p).spec() for n, p in a.tricks.items())) for a in manifest.arms]
    return [_workload(experiment.spec(with_base(experiment, arm), 0).canonical_json) for arm in arms]


def run_seconds(
    stored: pd.DataFrame, manifest: Manifest, experiment: AnyExperiment, place: AnyPlace
) -> tuple[float, str]:
    """Wall seconds of one baseline run, and where the figure comes from. Downloads nothing: then they are NaN."""
    timed = stored[(stored["arm"] == "baseline") & stored["host"].eq(socket.gethostname())]["seconds_total"]
    if timed.empty:  # a processor of that name elsewhere
        timed = stored[stored["arm"] == "baseline"]["seconds_total"]
    if len(timed):
        return float(timed.median()), f"median of {len(timed)} stored baseline runs"
    if not isinstance(experiment, Experiment) or not isinstance(place, Place):
        return float("nan"), f"unknown until one has run; `harness check {experiment.origins.file}` times some"
    absent = not_here(experiment.data, place.data_root)
    if absent:
        return float("nan"), absent
    spec = experiment.spec(with_base(experiment, Arm()), manifest.seeds[0])
    s = set_up(spec, place)
    if layer_at_risk(s.run.model):  # this process would die of it
        s = set_up(spec, replace(place, contiguous=True))
    clock, started = Clock(), time.perf_counter()
    said = ""
    try:
        for _ in train(s.run, s.stack, s.loader, s.step, s.lr_factors, s.validate, clock):
            if time.perf_counter() - started > PILOT_SECONDS:
                break
    except Diverged as error:
        said = f", where the baseline diverged ({error}): lower recipe.lr"
    done = s.run.step / s.run.steps_per_epoch
    seconds = (time.perf_counter() - started) / max(done, 1 / s.run.steps_per_epoch) * experiment.recipe.epochs
    return seconds, f"a pilot of {done:.3g} epochs{said}"


def paired_sd(stored: pd.DataFrame, manifest: Manifest) -> tuple[float, int]:
    """Deviation of arm minus baseline in points, and the number of stored pairs that it comes from.

    Pooled over the study's own arms where they have pairs. Otherwise the median over all other arms of the
    workload, since a few of them may be far more variable than what is planned.
    """
    values = stored.assign(value=values_in(stored, metric_of(manifest)))
    base = values[values["arm"] == "baseline"].set_index("seed")["value"]
    planned = {json.dumps(a.tricks, sort_keys=True) for a in manifest.arms if a.tricks}
    own: list[np.ndarray] = []
    others: list[np.ndarray] = []
    for hyperparameters, rows in values[values["arm"] != "baseline"].groupby("hyperparameters"):
        d = (rows.set_index("seed")["value"] - base).dropna().to_numpy()
        if len(d) >= 3 and d.any():
            (own if hyperparameters in planned else others).append(d)
    pairs = sum(d.size for d in own or others)
    if own:
        return float(pooled_sd(own)), pairs
    return (float(np.median([d.std(ddof=1) for d in others])), pairs) if others else (float("nan"), 0)


def choose_seeds(ahead: Forecast, limit: int) -> int:
    """The fewest seeds that find an effect of the margin with 80 % power, between five and `limit`.

    Raises:
        UserError: nothing stored tells how much seeds vary.
    """
    if not ahead.sd_pairs:
        raise UserError("--seeds auto: no stored pairs of this workload tell how much seeds vary; run 5 seeds first")
    return max(MIN_SEEDS, min(ahead.for_margin or limit, limit))


def affordable(plan: Plan, ahead: Forecast, seconds: float) -> int:
    """The most seeds of a plan, from the first, whose missing runs fit into a time; stored runs cost nothing."""
    per_cost = ahead.seconds_per_block / _block_cost(plan)
    missing = {seed: sum(map(plan.cost, specs)) for seed, specs in plan.missing_by_seed.items()}
    total = 0.0
    for count, seed in enumerate(plan.manifest.seeds):
        total += missing.get(seed, 0.0) * per_cost
        if total > seconds:
            return count
    return len(plan.manifest.seeds)
