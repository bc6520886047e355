"""Tables: one list of rows feeds the page, CSV, Markdown and LaTeX, so that their numbers cannot disagree."""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.types import Analysis, Effect, Ratio
from harness.errors import UserError, did_you_mean
from harness.experiment import BASELINE
from harness.report.text.numbers import (
    NONE,
    clear_of_zero,
    confidence,
    decimals,
    in_unit,
    interval,
    metric_name,
    number,
    p_value,
    plural,
    ratio,
    signed,
)

Values = dict[str, Any]
"""One arm's raw values by name: numbers unrounded, None where there is nothing to show."""


def effect_rows(analysis: Analysis, effects: Sequence[Effect] | None = None) -> list[Values]:
    """The rows of the ablation table: the baseline, then the arms of `effects`, or all in the order of the analysis."""
    base: Values = dict.fromkeys(_KEYS) | {
        "arm": BASELINE,
        "verdict": "reference",
        "kind": "reference",
        "unstable": False,
        "n": analysis.baseline_n,
        "mean_base": analysis.baseline_mean,
        "sd_base": analysis.baseline_sd,
        "n_failed": analysis.baseline_failed,
        "n_lost": analysis.baseline_failed,
        "reason": "",
    }
    return [base, *map(_row, analysis.effects if effects is None else effects)]


def _row(effect: Effect) -> Values:
    time, memory = effect.time, effect.memory
    return {
        "arm": effect.arm,
        "verdict": effect.verdict.label,
        "kind": effect.verdict.kind,
        "unstable": effect.verdict.unstable,
        "n": effect.n,
        "n_planned": effect.n_planned,
        "mean_base": effect.mean_base,
        "sd_base": _sd(effect.base),
        "mean_arm": effect.mean_arm,
        "sd_arm": _sd(effect.treated),
        "does": effect.does,
        "effect": effect.mean,
        "low": effect.low,
        "high": effect.high,
        "p": effect.p,
        "p_holm": effect.p_holm,
        "p_permutation": effect.p_permutation,
        "p_wilcoxon": effect.p_wilcoxon,
        "p_tost": effect.p_tost,
        "p_tost_holm": effect.p_tost_holm,
        "q": effect.q,
        "test": effect.test,
        "low_all": effect.low_all,
        "high_all": effect.high_all,
        "n_judged": effect.n_judged,
        "p_least": effect.p_least,
        "more_for_effect": effect.more_for_effect,
        "n_diverged_base": effect.lost[1] + effect.lost[2],
        "p_diverged_holm": effect.p_lost,
        "e_value": effect.e_value,
        "wins": effect.wins,
        "ties": effect.ties,
        "sd_paired": effect.sd,
        "dz": effect.dz,
        "mde": effect.mde,
        "time": time and time.value,
        "time_low": time and time.low,
        "time_high": time and time.high,
        "memory": memory and memory.value,
        "memory_low": memory and memory.low,
        "memory_high": memory and memory.high,
        "n_diverged": effect.n_diverged,
        "n_failed": effect.n_failed,
        "n_skipped": effect.n_skipped,
        "n_lost": effect.n_diverged + effect.n_failed + effect.n_skipped,
        "reason": "; ".join(effect.reasons) or ("" if effect.n else effect.verdict.sentence),
    }


_KEYS = (
    "arm", "verdict", "kind", "unstable", "n", "n_planned", "mean_base", "sd_base", "mean_arm",
    "sd_arm", "effect", "low", "high", "p", "p_holm", "p_permutation", "p_wilcoxon", "p_tost", "e_value", "wins",
    "ties", "sd_paired", "dz", "mde", "time", "time_low", "time_high", "memory", "memory_low",
    "memory_high", "n_diverged", "n_failed", "n_skipped", "n_lost", "reason", "test", "q", "low_all", "high_all",
    "p_tost_holm", "n_judged", "n_diverged_base", "p_diverged_holm", "p_least", "more_for_effect", "does",
)  # fmt: skip


def _sd(values: tuple[float, ...]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def strong_in(row: Values) -> bool:
    """Whether an arm's effect is set in bold: its interval excludes zero, and no run of it diverged."""
    return bool(row["n"] == row["n_judged"] and clear_of_zero(row["low"], row["high"]))


@dataclass(frozen=True)
class Column:
    """A column for people: the value that it sorts by, its heading, what it means, and its text in a row.

    `brief` columns make up the narrower Markdown table.
    """

    key: str
    title: str
    meaning: str
    show: Callable[[Values], str]
    brief: bool = False


def columns(analysis: Analysis) -> tuple[Column, ...]:
    """The columns of the ablation table; those of tests that were not made are left out."""
    d, unit = decimals(analysis), analysis.unit

    def spread(mean: str, sd: str) -> Callable[[Values], str]:
        return lambda r: number(r[mean], d) + ("" if number(r[sd]) == NONE else f" ± {number(r[sd], d)}")

    def scaled(key: str) -> Callable[[Values], str]:
        return lambda r: ratio(r[key] and Ratio(r[key], r[f"{key}_low"], r[f"{key}_high"], r["n"]))

    def p(key: str) -> Callable[[Values], str]:
        return lambda r: p_value(r[key])

    def pairs(r: Values) -> str:
        return str(r["n"]) if r["n_planned"] is None else f"{r['n']}/{r['n_planned']}"

    def wins(r: Values) -> str:
        if r["wins"] is None or not r["n_judged"]:
            return NONE
        return f"{r['wins']}/{r['n_judged']}" + (f" ({plural(r['ties'], 'tie')})" if r["ties"] else "")

    def lost(r: Values) -> str:
        counts = ((r["n_diverged"], "diverged"), (r["n_failed"], "failed"), (r["n_skipped"], "skipped"))
        return ", ".join(f"{k} {what}" for k, what in counts if k) or "0"

    def verdict(r: Values) -> str:
        words = f"{r['kind']}, unstable" if r["unstable"] else str(r["kind"])
        return words if r["n"] else f"{words}: {r['reason']}"

    level = confidence(analysis)
    family = analysis.family
    better = "higher" if analysis.higher_is_better else "lower"
    found = (
        Column("arm", "Arm", "The tricks added to the baseline.", lambda r: str(r["arm"]), True),
        Column("kind", "Verdict", "The answer in words; rules below.", verdict, True),
        Column("n", "Pairs", "Seeds with a finished run of both arm and baseline, of those planned.", pairs, True),
        Column(
            "mean_base",
            "Baseline",
            f"Mean {metric_name(analysis.metric)} of the baseline over the same seeds ± standard deviation.",
            spread("mean_base", "sd_base"),
            True,
        ),
        Column("mean_arm", "Arm mean", "The same for the arm.", spread("mean_arm", "sd_arm"), True),
        Column(
            "effect",
            "Effect",
            f"Mean of arm minus baseline on each seed{f', in {unit}' if unit else ''}; {better} is better. "
            "Bold only where the interval excludes zero and no run diverged.",
            lambda r: signed(r["effect"], d),
            True,
        ),
        Column(
            "low",
            f"{level} CI",
            "Paired t interval of the effect over the pairs that finished, not adjusted for the number of arms. In the "
            "drawing, the shaded band is the margin and the vertical line is zero.",
            lambda r: interval(r["low"], r["high"], d),
            True,
        ),
        Column("p", "p", "Two-sided paired t test against no effect, where no run diverged.", p("p"), True),
        Column(
            "p_holm",
            "p Holm",
            f"p of the test that decides (t, or ranks or signs where t cannot), adjusted for {family} arms.",
            p("p_holm"),
            True,
        ),
        Column(
            "q",
            "q",
            f"Benjamini and Hochberg's: of arms with q below {analysis.alpha:g}, that share is expected to be wrong.",
            p("q"),
        ),
        Column(
            "p_permutation",
            "p perm.",
            "Sign-flip permutation test: no assumption of normal differences.",
            p("p_permutation"),
        ),
        Column(
            "e_value",
            "e-value",
            "Evidence that stays valid while seeds are added: above 20 is as strong as p below 0.05 at one look.",
            lambda r: number(r["e_value"], 1),
        ),
        Column(
            "wins",
            "Wins",
            "Seeds on which the arm beat the baseline; one that diverged is beaten by any that finished.",
            wins,
        ),
        Column(
            "sd_paired",
            "Paired sd",
            "Standard deviation of the differences.",
            lambda r: number(r["sd_paired"], d),
        ),
        Column(
            "mde",
            "MDE",
            "Smallest effect that this n finds with 80 % power at the adjusted level.",
            lambda r: number(r["mde"], d),
            True,
        ),
        Column(
            "p_tost_holm",
            "p equiv.",
            "Two one-sided tests, adjusted for the arms without a divergence: small if the effect lies within "
            f"±{in_unit(analysis.margin, unit)}.",
            p("p_tost_holm"),
        ),
        Column("time", "Time", "Training time over the baseline's [95 % CI].", scaled("time"), True),
        Column("memory", "Memory", "Peak memory over the baseline's [95 % CI].", scaled("memory"), True),
        Column("n_lost", "Lost runs", "Runs that diverged, failed or were skipped.", lost, True),
    )
    absent = {"p_holm"} if family < 2 else set()
    if not any(math.isfinite(e.q) for e in analysis.effects):
        absent.add("q")
    if math.isnan(analysis.margin):
        absent.add("p_tost_holm")
    return tuple(c for c in found if c.key not in absent)


def variance_rows(analysis: Analysis) -> list[dict[str, str]]:
    """What pairing bought and what more seeds would buy: a row per arm with an interval, text by heading.

    Scores that were made elsewhere have no predictions, and so no columns about test images.
    """
    d = decimals(analysis)
    rows = [
        {
            "Arm": e.arm,
            "Pairs": str(e.n),
            "sd unpaired": number(e.sd * math.sqrt(e.pairing_gain), d),
            "sd paired": number(e.sd, d),
            "Pairing gain": NONE if number(e.pairing_gain) == NONE else f"{number(e.pairing_gain, 1)}×",
            "Correlation": number(e.correlation),
            "Seed error": number(e.sd / math.sqrt(e.n), d),
            "Image error": number(e.image_error, d),
            "Test-noise share": NONE if number(e.noise_share) == NONE else f"{number(100 * e.noise_share, 0)} %",
            "Seeds for the margin": _seeds_needed(e, analysis.margin),
        }
        for e in analysis.effects
        if math.isfinite(e.low)
    ]
    empty = {h for h in ("Image error", "Test-noise share") if all(row[h] == NONE for row in rows)}
    return [{h: text for h, text in row.items() if h not in empty} for row in rows]


def _seeds_needed(effect: Effect, margin: float) -> str:
    if effect.more_seeds is not None:
        return f"{effect.n + effect.more_seeds} ({effect.more_seeds} more)"
    if effect.mde <= margin:
        return "enough"
    return "out of reach" if effect.mde > margin else NONE  # NaN is neither: no margin, or no power


def choose(analysis: Analysis, arms: Sequence[str] = ()) -> list[Effect]:
    """The effects of the named arms in that order, or of all.

    Raises:
        UserError: the analysis has no such arm.
    """
    effects = {e.arm: e for e in analysis.effects}
    for arm in arms:
        if arm not in effects:
            raise UserError(f"unknown arm '{arm}'{did_you_mean(arm, effects)} This study has: {', '.join(effects)}")
    return [effects[arm] for arm in dict.fromkeys(arms)] if arms else list(effects.values())


FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet takes for a formula."""


def to_csv(analysis: Analysis, arms: Sequence[str] = ()) -> str:
    """All values of the named arms, or of all, unrounded to six digits, for programs; empty where there is none."""

    def cell(value: Any) -> Any:
        if isinstance(value, float):
            return f"{value:.6g}" if math.isfinite(value) else ""
        # Spreadsheets would compute what begins like a formula, and names of arms are other people's text.
        return f"'{value}" if isinstance(value, str) and value[:1] in FORMULA else value

    out = io.StringIO()
    shared = {name: getattr(analysis, name) for name in ("study", "scope", "metric", "unit", "margin", "alpha")}
    writer = csv.DictWriter(out, (*shared, *_KEYS), lineterminator="\n")
    writer.writeheader()
    for row in effect_rows(analysis, choose(analysis, arms)):
        writer.writerow({key: cell(value) for key, value in (shared | row).items()})
    return out.getvalue()


def to_markdown(analysis: Analysis, arms: Sequence[str] = ()) -> str:
    """The brief columns of the named arms, or of all, as a GitHub-flavoured Markdown table, and what they hold on."""
    shown = [c for c in columns(analysis) if c.brief]

    def cells(row: Values) -> Iterator[str]:
        for column in shown:
            text = markdown_escape(column.show(row))
            strong = column.key == "effect" and strong_in(row)
            yield f"**{text}**" if strong else text

    lines = [[c.title for c in shown], ["---" if c.key in ("arm", "kind") else "---:" for c in shown]]
    lines += [list(cells(row)) for row in effect_rows(analysis, choose(analysis, arms))]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{table}\n{markdown_escape(legend(analysis))}\n"


def markdown_escape(text: str) -> str:
    """Text on one line in which no character is a Markdown command."""
    return re.sub(r"([\\|*`]|<(?=[A-Za-z/!?]))", r"\\\1", " ".join(text.split()))


def legend(analysis: Analysis) -> str:
    """What the effects of a table are, and what they hold on: one sentence."""
    unit = f" in {analysis.unit}" if analysis.unit else ""
    what = f"Effects on {metric_name(analysis.metric)}{unit}, paired by seed, with {confidence(analysis)} t intervals"
    return f"{what}; {analysis.scope}." if analysis.scope else f"{what}."


def too_many(what: str, most: int, effects: Sequence[Effect], analysis: Analysis) -> str:
    """The message that refuses to show so many arms, with the largest effects as an example of a choice."""
    known = [e for e in effects if math.isfinite(e.mean)]
    largest = sorted(known, key=lambda e: e.mean, reverse=analysis.higher_is_better)[: min(most, 3)]
    example = ",".join(e.arm for e in largest)
    return f"{what} of {len(effects)} arms: at most {most} fit; name those to show, such as --arms {example}"
