"""A gate: one candidate of a stream, run look by look until the rule of `harness.analysis.gate` decides.

The state is a JSON file that all candidates of the stream share: what was declared, and what each spent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from harness.analysis.gate import LOOKS, Decision, Look, judge, smallest
from harness.errors import UserError
from harness.store.writer import atomically
from harness.workflow.events import Event, Written
from harness.workflow.request import GateRequest, Request

if TYPE_CHECKING:
    from harness.analysis.types import Analysis, Effect
    from harness.report.load import Loaded

VERSION = 1
NOISE = 5
"""Pairs of baseline runs with other seeds, by which the noise floor is measured."""

APART = 10_000
"""Between the seeds of such a pair."""

CODES = {"accept": 0, "inactive": 3, "reject": 3, "undecided": 4}
"""Exit codes."""


@dataclass(frozen=True)
class Decided:
    """What became of a candidate: its looks, its gain on fresh seeds where it was accepted, and the state after it."""

    candidate: str
    decision: Decision
    why: str
    metric: str
    unit: str
    looks: tuple[Look, ...]
    fresh: dict[str, float] | None
    noise: dict[str, float] | None
    charged: int
    candidates: int
    alpha: float

    @property
    def code(self) -> int:
        """The exit code: 0 accept, 3 reject, 4 undecided."""
        return CODES[self.decision]

    @property
    def summary(self) -> str:
        """The decision as a text in Markdown."""
        unit = f" {self.unit}" if self.unit else ""
        lines = [
            f"### Gate: {self.candidate}: {self.decision}",
            "",
            self.why or "shown to be better than the baseline",
            "",
        ]
        if self.looks:
            lines += ["| pairs | gain | 95 % interval | p | level |", "|---|---|---|---|---|"]
            lines += [
                f"| {k.n} | {k.mean:+.3g}{unit} | {k.low:+.3g} to {k.high:+.3g} | {k.p:.2g} | {k.level:.2g} |"
                for k in self.looks
            ]
        if self.fresh:
            f = self.fresh
            lines += ["", f"On {f['n']:.0f} fresh seeds: {f['mean']:+.3g}{unit} [{f['low']:+.3g}, {f['high']:+.3g}]."]
        if self.noise:
            found = self.noise["smallest"]
            lines += [
                "",
                f"Noise floor: sd {self.noise['sd']:.3g}{unit} of {self.noise['n']:.0f} pairs of baselines; gains from "
                f"{found:.3g}{unit} are found with 80 % power in {LOOKS[-1]} pairs.",
            ]
        spent = (
            f"{self.charged} of {self.candidates} candidates of the stream are spent (alpha {self.alpha:g} over all)."
        )
        return "\n".join([*lines, "", spent, ""])


def gate(r: GateRequest) -> Iterator[Event | Decided]:
    """Do what is asked; the last event is `Decided`.

    Raises:
        UserError: something of the request is not possible, or the state is of another stream.
    """
    if not r.candidate:
        raise UserError(
            "--candidate is missing: name the trick, or the method of the table, that may replace the baseline"
        )
    r.state.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{r.state}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"--state {r.state}: another gate works on it; wait until it ends") from None
    try:
        yield from _with_state(r)
    finally:
        lock.release()


def _with_state(r: GateRequest) -> Iterator[Event | Decided]:
    state = _read(r)
    before = next((e for e in state["history"] if e["candidate"] == r.candidate), None)
    if before is not None and before["decision"] != "undecided":
        yield _decided(r, state, before)
        return
    if before is None and state["charged"] >= r.candidates:
        raise UserError(
            f"--state {r.state}: the {r.candidates} declared candidates are spent, so no further one can be "
            f"accepted with alpha = {r.alpha:g} over the stream; another state is another stream, with its own alpha"
        )
    if before is None:
        before = {"candidate": r.candidate, "decision": "undecided", "why": "not looked at", "looks": [], "fresh": None}
        state["history"].append(before)
    if r.rows is None and state["noise"] is None:
        state["noise"] = yield from _noise(r)
        _write(r, state)
    for position, n in enumerate(LOOKS):
        if position < len(before["looks"]):
            continue
        found = _from_rows(r, n) if r.rows is not None else (yield from _run(r, range(n)))
        analysis, effect = found
        before |= {"metric": analysis.metric, "unit": analysis.unit}
        if effect.verdict.kind in ("skipped", "failed") or effect.n < n:
            before["why"] = _missing(effect, n)
            break
        if effect.verdict.kind == "inactive":
            before |= {"decision": "inactive", "why": "its runs are those of the baseline: it changes nothing"}
            break
        gains = [
            (b - a) * (1 if analysis.higher_is_better else -1) for a, b in zip(effect.base, effect.treated, strict=True)
        ]
        look = judge(gains, position, r.alpha, r.candidates, _margin(r, analysis))
        before["looks"].append(asdict(look))
        before |= {"decision": look.decision, "why": look.why}
        if look.decision != "undecided":
            break
        _write(r, state)
    if before["decision"] == "accept" and r.rows is None:
        before["fresh"] = yield from _fresh(r)
    free = before["decision"] in ("accept", "inactive") or not before["looks"]
    counted = before.get("charged", False)
    before["charged"] = not free
    state["charged"] += int(not free) - int(counted)
    _write(r, state)
    yield _decided(r, state, before)


def _margin(r: GateRequest, analysis: Analysis) -> float:
    margin = analysis.margin if r.margin is None else r.margin
    if math.isnan(margin):
        raise UserError(
            f"what is the smallest difference in {analysis.metric} that matters? Add --margin, in its own unit"
        )
    return margin


def _missing(effect: Effect, n: int) -> str:
    """Why a candidate cannot be looked at."""
    if effect.verdict.kind == "skipped" or effect.n_failed or any(effect.lost):
        return effect.verdict.sentence
    return f"{effect.n} pairs, and the next look is at {n}"


def _run(r: GateRequest, seeds: range, name: str = "gate") -> Generator[Event, None, tuple[Analysis, Effect]]:
    """The candidate and the baseline with these seeds, as a study of their own."""
    from harness.workflow.ablation import ablate

    request = Request(
        tricks=(r.candidate,), experiment=r.experiment, seeds=f"{seeds.start}:{seeds.stop}", settings=r.settings,
        device=r.device, devices=r.devices, workers=r.workers, threads=r.threads, results=r.results, reports=r.reports,
        data_root=r.data_root, plugins=r.plugins, margin=r.margin, no_probe=True, name=_name(r, name),
    )  # fmt: skip
    loaded: Loaded | None = None
    for event in ablate(request):
        if isinstance(event, Written):
            loaded = event.loaded
        else:
            yield event
    assert loaded is not None
    return loaded.analysis, loaded.analysis.effects[0]


def _name(r: GateRequest, what: str) -> str:
    from harness.judging.judge import slug

    return f"{slug(Path(r.experiment).stem)}-{what}-{slug(r.candidate)}"


def _fresh(r: GateRequest) -> Generator[Event, None, dict[str, float]]:
    """The gain of an accepted candidate on seeds that no look has used: the looks chose it, so theirs flatters it."""
    analysis, effect = yield from _run(r, range(LOOKS[-1], LOOKS[-1] + LOOKS[1]), "fresh")
    sign = 1 if analysis.higher_is_better else -1
    low, high = sorted((sign * effect.low, sign * effect.high))
    return {"n": effect.n, "mean": sign * effect.mean, "low": low, "high": high}


def _noise(r: GateRequest) -> Generator[Event, None, dict[str, float]]:
    """How much runs of the baseline alone differ, in pairs of other seeds: as a candidate without effect would."""
    import numpy as np

    from harness.analysis.rows import metric_of, values_in
    from harness.workflow.checking import run_round
    from harness.workflow.request import CheckRequest

    asked = CheckRequest(
        experiment=r.experiment, settings=r.settings, device=r.device, devices=r.devices, workers=r.workers,
        threads=r.threads, results=r.results, reports=r.reports, data_root=r.data_root, plugins=r.plugins,
    )  # fmt: skip
    seeds = [*range(NOISE), *range(APART, APART + NOISE)]
    rows, manifest = yield from run_round(asked, seeds, f"{Path(r.experiment).stem}-noise")
    lost = rows[rows["status"] != "ok"]
    if len(lost):
        first = lost.iloc[0]
        raise UserError(f"the baseline, seed {first['seed']}, {first['status']}: {first['reason']}")
    values = dict(zip(rows["seed"], values_in(rows, metric_of(manifest)), strict=True))
    sd = float(np.std([values[s] - values[s + APART] for s in range(NOISE)], ddof=1))
    if not sd:
        raise UserError(
            f"{r.experiment}: {2 * NOISE} seeds of the baseline have the same {manifest.metric}, so the seed is not "
            "used and nothing can be told apart; `harness check` says more"
        )
    return {"n": NOISE, "sd": sd, "smallest": smallest(sd, r.alpha, r.candidates)}


def _from_rows(r: GateRequest, n: int) -> tuple[Analysis, Effect]:
    """The first `n` pairs of a candidate in runs that were made elsewhere."""
    import tempfile

    from harness.judging.judge import judge as judged
    from harness.judging.judge import source_of
    from harness.judging.options import Options

    assert r.rows is not None
    source = source_of([r.rows], r.reader)
    options = Options(metric=r.metric, method=r.method, baseline=r.baseline, margin=r.margin)
    with tempfile.TemporaryDirectory(prefix="harness-gate-") as folder:
        (study,) = judged(source, options, "gate", Path(folder), Path(folder))
    analysis = study.loaded.analysis
    effect = next((e for e in analysis.effects if e.arm == r.candidate), None)
    if effect is None:
        known = ", ".join(e.arm for e in analysis.effects)
        raise UserError(f"--candidate {r.candidate}: {r.rows} has no such method. Known: {known}")
    if effect.n < n:
        return analysis, effect
    order = sorted(range(effect.n), key=lambda i: effect.seeds[i])[:n]
    base, treated = (tuple(v[i] for i in order) for v in (effect.base, effect.treated))
    seeds = tuple(effect.seeds[i] for i in order)
    return analysis, replace(effect, n=n, seeds=seeds, base=base, treated=treated)


def _read(r: GateRequest) -> dict[str, Any]:
    """The state of the stream, begun now where there is none.

    Raises:
        UserError: the file is none of ours, or was declared otherwise.
    """
    declared = {
        "version": VERSION, "stream": str(r.rows or r.experiment), "alpha": r.alpha, "candidates": r.candidates,
        "looks": list(LOOKS),
    }  # fmt: skip
    if not r.state.exists():
        return declared | {"charged": 0, "noise": None, "history": []}
    try:
        state: dict[str, Any] = json.loads(r.state.read_bytes())
        was = {key: state[key] for key in declared}
        _ = state["charged"], state["noise"], state["history"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"--state {r.state}: it is no state of a gate; name another file") from None
    changed = [f"{k} was {was[k]} and is {declared[k]}" for k in declared if was[k] != declared[k]]
    if changed:
        raise UserError(
            f"--state {r.state}: it was begun for another stream ({'; '.join(changed)}); what a stream may spend is "
            "declared before it begins, so name another file"
        )
    return state


def _write(r: GateRequest, state: dict[str, Any]) -> None:
    atomically(r.state, lambda file: file.write(json.dumps(state, indent=2).encode() + b"\n"))


def _decided(r: GateRequest, state: dict[str, Any], entry: dict[str, Any]) -> Decided:
    return Decided(
        candidate=entry["candidate"],
        decision=entry["decision"],
        why=entry["why"],
        metric=entry.get("metric", ""),
        unit=entry.get("unit", ""),
        looks=tuple(Look(**look) for look in entry["looks"]),
        fresh=entry["fresh"],
        noise=state["noise"],
        charged=state["charged"],
        candidates=r.candidates,
        alpha=r.alpha,
    )
