"""A hyperparameter search as one HTML document that opens from disk without a network.

All effects come from the comparisons on fresh seeds. What the trials themselves say is of the validation split only.
"""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.effects import analyse, t_interval
from harness.analysis.rows import arm_values, own_rows
from harness.analysis.types import Analysis, Effect, Verdict
from harness.errors import UserError
from harness.experiment import BASELINE
from harness.metrics import COLUMNS, OBJECTIVES
from harness.report import search_figures as figures
from harness.report import tables
from harness.report.build import preface as preface_of
from harness.report.commands import GRAPHS
from harness.report.figures import drawable, swatch
from harness.report.render import environment, paragraphs, provenance
from harness.report.search_figures import shown
from harness.store.reader import read_kind, read_search
from harness.store.schema import RUNS, TUNED_BASELINE, SearchArm, SearchRecord, Trial
from harness.store.writer import atomically

EDGE = 0.05
"""A winner within this share of its range from an end suggests a wider range."""

SHARED_OPTIONS = ("--experiment", "--set", "--threads", "--plugin", "--data-root", "--device")
"""What a search's command has in common with `harness ablate` and changes numbers."""


def write_search(search_dir: Path, reports: Path, linked: bool = False) -> Path:
    """Render a search's page to `reports/<search>.html`, with a link to the site's index if `linked`.

    Raises:
        UserError: there is no search in the folder, it is broken, or the page cannot be written.
    """
    record = read_search(search_dir)
    table, _, problems = read_kind(search_dir, "runs", record.runs)
    runs: pd.DataFrame = (RUNS.empty_table() if table is None else table).to_pandas()
    html = render_search(record, runs, problems, preface_of(search_dir), linked)
    page = reports / f"{search_dir.name}.html"  # not the name inside, which a foreign file could choose
    try:
        reports.mkdir(parents=True, exist_ok=True)
        atomically(page, lambda file: file.write(html.encode()))
    except OSError as error:
        raise UserError(f"report {page} cannot be written: {error.strerror}; choose a folder with --reports") from None
    return page


def render_search(
    record: SearchRecord,
    runs: pd.DataFrame,
    problems: Sequence[str] = (),
    preface: str = "",
    linked: bool = False,
) -> str:
    """The search's page.

    Args:
        record: what was searched and found; its first objective is the accuracy.
        runs: stored runs; those that the record does not name, or of other fingerprints, are left out.
        problems: files that could not be read, one line each.
        preface: what was expected and what was found, in plain text; empty lines separate paragraphs.
        linked: the page stands in a site, beside its index.
    """
    runs = own_rows(runs, record)
    effects = Effects({name: analyse(runs, manifest) for name, manifest in record.comparisons.items()})
    arms = sorted(record.arms, key=lambda arm: arm.label != BASELINE)  # the baseline has the first colour
    views = [_view(record, arm, i, runs, effects) for i, arm in enumerate(arms)]
    budgets = [view["budget"] for view in views if view["budget"]]
    rows = effects.rows([arm.label for arm in arms])
    return environment.get_template("search.html.j2").render(
        record=record,
        preface=paragraphs(preface),
        linked=linked,
        arms=views,
        effects=effects,
        tuned_baseline=TUNED_BASELINE,
        answers=[_answer(effects, arm.label) for arm in (*arms[1:], arms[0])],
        unequal=_unequal(record),
        forest=figures.Forest(rows, effects.any) if effects.any and rows else None,
        metric=tables.metric_name(effects.any.metric) if effects.any else "",
        level=tables.confidence(effects.any) if effects.any else "",
        margin=_margin(effects.any),
        digits=tables.decimals(effects.any) if effects.any else 2,
        budget=figures.budget_plot(budgets) if budgets else None,
        legend=[(b.name, swatch(b.arm)) for b in budgets],
        objectives=[OBJECTIVES[o] for o in record.objectives],
        problems=problems,
        provenance=_provenance(record, runs),
        shown=shown,
        why_empty=why_empty,
        signed=tables.signed,
        interval=tables.interval,
        p_value=tables.p_value,
        clear=tables.clear_of_zero,
        plural=tables.plural,
    )


@dataclass(frozen=True)
class Effects:
    """The comparisons on fresh seeds by name: "default", "tuned", "tuning"; any may be missing."""

    analyses: Mapping[str, Analysis]

    @property
    def any(self) -> Analysis | None:
        """One of the analyses, for the metric, unit, margin and level that all share."""
        return next(iter(self.analyses.values()), None)

    def of(self, comparison: str, arm: str) -> Effect | None:
        """One arm's effect, or None where it was not compared."""
        found = self.analyses.get(comparison)
        return next((e for e in found.effects if e.arm == arm), None) if found else None

    def tested(self, comparison: str) -> int:
        """How many p values of a comparison were corrected together."""
        found = self.analyses.get(comparison)
        return sum(math.isfinite(e.p) for e in found.effects) if found else 0

    def rows(self, labels: Sequence[str]) -> list[figures.Row]:
        """The forest plot's rows: what tuning was worth for the baseline, then every arm's two effects."""
        wanted = [("tuning", TUNED_BASELINE, BASELINE, "tuning alone")]
        wanted += [(c, label, label, c) for label in labels for c in ("default", "tuned")]
        found = [(self.of(c, arm), name, kind) for c, arm, name, kind in wanted]
        return [figures.Row(name, kind, e) for e, name, kind in found if e is not None and drawable([e])]


def _margin(analysis: Analysis | None) -> str | None:
    if analysis is None or math.isnan(analysis.margin):
        return None
    return f"±{tables.in_unit(analysis.margin, analysis.unit)}"


def _answer(effects: Effects, label: str) -> tuple[Verdict | None, str, str]:
    """Verdict, name and sentence of an arm: of its tuned effect, or for the baseline of what tuning was worth."""
    if label == BASELINE:
        worth = effects.of("tuning", TUNED_BASELINE)
        if worth is None:
            return None, label, "what tuning alone is worth was not measured on fresh seeds."
        return worth.verdict, label, f"tuning it alone was worth {_told(worth, effects, 'tuning')}."
    default, tuned = effects.of("default", label), effects.of("tuned", label)
    parts = []
    if default is not None:
        parts.append(f"{_told(default, effects, 'default', 'at its default values')}")
    if tuned is not None:
        parts.append(f"{_told(tuned, effects, 'tuned', 'tuned, against an equally tuned baseline')}")
    if not parts:
        return None, label, "no comparison on fresh seeds, and what a search found is not an effect yet."
    return tuned.verdict if tuned else None, label, f"{'; '.join(parts)}."


def _told(effect: Effect, effects: Effects, comparison: str, where: str = "") -> str:
    """An effect in words: "+1.20 points [0.30, 2.10] at its default values (10 fresh seeds, p = 0.012)"."""
    analysis = effects.analyses[comparison]
    d, where = tables.decimals(analysis), f" {where}".rstrip()
    if not effect.n:
        return f"not measured{where} ({why_empty(effect)})"
    size = f"{tables.signed(effect.mean, d)} {analysis.unit}".rstrip()
    seeds = tables.plural(effect.n, "fresh seed")
    if effect.n < effect.n_planned:
        lost = f", {effect.n_diverged} diverged" if effect.n_diverged else ""
        seeds = f"{effect.n} of {tables.plural(effect.n_planned, 'fresh seed')}{lost}"
    if effect.n < 2:
        return f"{size}{where} ({seeds}, so no interval)"
    p = tables.p_value(effect.p_holm)
    name = "Holm p" if effects.tested(comparison) > 1 else "p"
    said = f"{name} {'< ' if p.startswith('<') else '= '}{p.removeprefix('<')}".replace(" ", "\xa0")
    return f"{size} {tables.interval(effect.low, effect.high, d)}{where} ({seeds}, {said})"


def why_empty(effect: Effect) -> str:
    """Why an effect has no pair of runs."""
    if effect.verdict.kind == "skipped":
        return effect.verdict.sentence.removesuffix(".")
    return "; ".join(effect.reasons) or "no finished pair of runs"


def _unequal(record: SearchRecord) -> str:
    """How many trials the arms with something to search had, where they differ; else empty."""
    counts = {arm.label: len(arm.trials) for arm in record.arms if arm.space}
    return ", ".join(f"{label} {n}" for label, n in counts.items()) if len(set(counts.values())) > 1 else ""


def value_of(trial: Trial, objective: str) -> float | None:
    """A trial's value in the objective's unit: the mean over its seeds. None for failed trials."""
    values = trial.values.get(objective, ())
    if trial.state == "failed" or not values:
        return None
    return statistics.fmean(values) * OBJECTIVES[objective].factor


def _sort_key(trial: Trial, objective: str) -> str:
    value = value_of(trial, objective)
    return "" if value is None else f"{value:.6g}"


def _told_value(trial: Trial, objective: str) -> str:
    """A trial's value with its spread and n: "91.20 ± 1.10"."""
    o, values = OBJECTIVES[objective], trial.values.get(objective, ())
    if trial.state == "failed" or not values:
        return tables.NONE
    spread = f" ± {tables.number(o.factor * float(np.std(values, ddof=1)), o.digits)}" if len(values) > 1 else ""
    return tables.number(value_of(trial, objective), o.digits) + spread


def expected_best(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the best of k values, for k = 1 to their number.

    The k values are drawn at random with replacement from `values` (Dodge et al. 2019, arXiv:1909.03004, section
    3.2), so with F_i = (i / n)^k, the i-th smallest is the best with probability F_i - F_(i-1).
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    k = np.arange(1, n + 1)[:, None]
    weights = np.diff((np.arange(n + 1) / n) ** k, axis=1)
    mean = weights @ ordered
    variance = weights @ ordered**2 - mean**2
    return mean.tolist(), np.sqrt(np.maximum(variance, 0.0)).tolist()


def budget_of(arm: SearchArm, index: int) -> figures.Budget | None:
    """The expected best of k of an arm's trials with a band of one standard deviation inside the values seen.

    A pruned or failed trial counts as the worst complete one: it cost its place in the budget and could not win.
    None without a complete trial.
    """
    complete = [v for t in arm.trials if t.state == "complete" and (v := value_of(t, "accuracy")) is not None]
    if not complete:
        return None
    worst, best = min(complete), max(complete)
    mean, sd = expected_best(complete + [worst] * (len(arm.trials) - len(complete)))
    return figures.Budget(
        arm=index,
        name=arm.label,
        mean=mean,
        low=[max(m - s, worst) for m, s in zip(mean, sd, strict=True)],
        high=[min(m + s, best) for m, s in zip(mean, sd, strict=True)],
    )


def _view(record: SearchRecord, arm: SearchArm, index: int, runs: pd.DataFrame, effects: Effects) -> dict[str, Any]:
    """Everything that the page says of one arm."""
    winner = next((t for t in arm.trials if t.number == arm.winner), None)
    defaults = {name: space.get("default") for name, space in arm.space.items()}
    default = next((t.number for t in arm.trials if t.params == defaults), None)
    points = [figures.Point(t.number, t.state, t.params, value_of(t, "accuracy"), _trial_title(t)) for t in arm.trials]
    trials = figures.Trials(points, arm.winner, default, index)
    budget = budget_of(arm, index)
    pair = map_pair(arm)
    return {
        "arm": arm,
        "winner": winner,
        "default": default,
        "counts": [(state, sum(t.state == state for t in arm.trials)) for state in ("complete", "pruned", "failed")],
        "selection": _selection(record, arm, winner, runs),
        "default_effect": effects.of("default", arm.label),
        "tuned_effect": effects.of("tuned", arm.label),
        "values": value_rows(arm, winner),
        "history": figures.history(trials) if points else None,
        "budget": budget,
        "budget_plot": figures.budget_plot([budget]) if budget else None,
        "slices": [figures.slice_plot(trials, name, arm.space[name]) for name in by_importance(arm)] if points else [],
        "pair": pair,
        "map": figures.landscape(trials, {name: arm.space[name] for name in pair}) if pair else None,
        "fronts": _fronts(record, arm, trials),
        "front": [t for t in arm.trials if t.number in arm.front],
        "told": {t.number: [(_told_value(t, o), _sort_key(t, o)) for o in record.objectives] for t in arm.trials},
        "command": winner_command(record, arm, winner) if winner else "",
    }


def _trial_title(trial: Trial) -> str:
    values = ", ".join(f"{name} = {shown(value)}" for name, value in trial.params.items())
    if trial.state == "failed":
        return f"trial {trial.number}, failed: {values}. {trial.reason}"
    seeds = tables.plural(len(trial.values.get("accuracy", ())), "seed")
    return f"trial {trial.number}, {trial.state}: {_told_value(trial, 'accuracy')} %, {seeds}; {values}"


def _selection(record: SearchRecord, arm: SearchArm, winner: Trial | None, runs: pd.DataFrame) -> dict[str, Any]:
    """The winner's validation accuracy when it was chosen and on fresh seeds, in percent, and the difference.

    The interval of the difference has the uncertainty of the fresh seeds only: the choice happened once.
    """
    then = value_of(winner, "accuracy") if winner else None
    tuned = record.comparisons.get("tuned")
    fresh = arm_values(runs, tuned, arm.label, COLUMNS["val_accuracy"]) if tuned else ()
    now = low = high = math.nan
    if len(fresh):
        now, low, high = (float(v) for v in t_interval(fresh))
    seen = math.nan if then is None else then
    return {
        "then": _told_value(winner, "accuracy") if winner else tables.NONE,
        "seeds": len(winner.values.get("accuracy", ())) if winner else 0,
        "now": tables.number(now),
        "now_interval": tables.interval(low, high),
        "n": len(fresh),
        "optimism": tables.signed(seen - now),
        "optimism_interval": tables.interval(seen - high, seen - low),
    }


def by_importance(arm: SearchArm) -> list[str]:
    """The searched values, the most important first; in their own order where nothing is known of importance."""
    return sorted(arm.space, key=lambda name: -(arm.importance or {}).get(name, 0.0))


def value_rows(arm: SearchArm, winner: Trial | None) -> list[dict[str, Any]]:
    """Every searched value of an arm: where it was searched, its default, what won, and its importance."""
    rows = []
    for name in by_importance(arm):
        space = arm.space[name]
        share = (arm.importance or {}).get(name)
        won = winner.params.get(name) if winner else None
        rows.append(
            {
                "name": name,
                "space": _space(space),
                "default": shown(space.get("default")),
                "winner": tables.NONE if won is None else shown(won),
                "changed": won is not None and won != space.get("default"),
                "edge": _edge(space, won),
                "share": tables.NONE if share is None else f"{100 * share:.0f} %",
                "bar": "" if share is None else figures.share_bar(share),
            }
        )
    return rows


def _space(space: Mapping[str, Any]) -> str:
    """Where a value was searched, in words."""
    if "choices" in space:
        return ", ".join(map(shown, space["choices"]))
    kind = " integers" if space.get("integer") else ""
    return f"{shown(space['low'])} to {shown(space['high'])}{kind}, {'log' if space.get('log') else 'linear'}"


def _edge(space: Mapping[str, Any], value: Any) -> str:
    """Which end of its range a value is close to, if any."""
    share = None if "choices" in space else figures.Axis.of(space).share(value)
    if share is None:
        return ""
    return "lower end" if share < EDGE else "upper end" if share > 1 - EDGE else ""


def map_pair(arm: SearchArm) -> tuple[str, ...]:
    """The two most important ranges, or the first two where nothing is known of importance; empty below two."""
    ranges = [name for name in by_importance(arm) if "choices" not in arm.space[name]]
    return tuple(ranges[:2]) if len(ranges) > 1 else ()


def _fronts(record: SearchRecord, arm: SearchArm, trials: figures.Trials) -> list[Any]:
    """Accuracy against each further objective."""
    drawn = []
    for objective in record.objectives[1:]:
        o = OBJECTIVES[objective]
        known = {t.number: v for t in arm.trials if (v := value_of(t, objective)) is not None and t.state == "complete"}
        if known:
            drawn.append(figures.front_plot(trials, known, f"{o.name}, {o.unit}", arm.front))
    return drawn


def winner_command(record: SearchRecord, arm: SearchArm, winner: Trial) -> str:
    """What trains an arm with its winning values, exactly; for the baseline, the other arms on its tuned recipe."""
    others = [a.label for a in record.arms if a.tricks] or ["erm_baseline"]
    options: dict[str, list[str]] = {}
    words = shlex.split(record.command)
    for option, value in pairwise(words):
        if option in SHARED_OPTIONS and value.partition("=")[0] not in winner.params:
            options.setdefault(option, []).append(value)
    options.setdefault("--experiment", [record.experiment])
    for name, value in winner.params.items():
        # Text goes bare; all else as JSON, which writes numbers and booleans as TOML does.
        options.setdefault("--set", []).append(f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    said = [word for option, values in sorted(options.items()) for value in values for word in (option, value)]
    said += [GRAPHS] if GRAPHS in words else []
    return shlex.join(["harness", "ablate", *([arm.label] if arm.tricks else others), *said])


def _provenance(record: SearchRecord, runs: pd.DataFrame) -> list[tuple[str, str]]:
    """Facts about where the numbers come from."""
    facts = [("Search", record.search), ("Experiment", record.experiment), ("Created", record.created)]
    manifest = next(iter(record.comparisons.values()), None)
    if manifest is None:
        return [*facts, ("Harness", record.harness_version), ("Fingerprint", record.fingerprint)]
    hours = runs["seconds_total"].sum() / 3600
    told = [fact for fact in provenance(manifest, runs) if fact[0] not in ("Study", "Experiment", "Created")]
    return [*facts, *told, ("Run time", f"{hours:.2g} hours, the wall time of all these runs added up")]
