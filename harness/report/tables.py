"""Tables: one list of rows feeds the page, CSV, Markdown and LaTeX, so that their numbers cannot disagree."""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from harness.analysis.types import Analysis, Effect, Ratio
from harness.experiment import BASELINE

Row = dict[str, Any]
"""One arm's raw values by name: numbers unrounded, None where there is nothing to show."""

NONE = "–"


def number(value: float | None, digits: int = 2) -> str:
    """A rounded number with a true minus sign, or a dash for None, NaN and infinities."""
    if value is None or not math.isfinite(value):
        return NONE
    # Adding zero turns the -0.0 that rounding can leave into 0.0.
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """A rounded difference that always shows its sign: "+1.25"."""
    text = number(value, digits)
    return text if text == NONE or text.startswith("−") else f"+{text}"


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """Both ends of an interval: "[0.33, 2.17]"."""
    if number(low) == NONE or number(high) == NONE:
        return NONE
    return f"[{number(low, digits)}, {number(high, digits)}]"


def p_value(p: float | None) -> str:
    """Three decimals, or "<0.001"."""
    return "<0.001" if p is not None and p < 0.001 else number(p, 3)


def ratio(value: Ratio | None) -> str:
    """A ratio with its interval: "1.93× [1.90, 1.96]"."""
    if value is None or number(value.value) == NONE:
        return NONE
    return f"{number(value.value)}× {interval(value.low, value.high)}"


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 seed", "10 seeds"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def clear_of_zero(low: float | None, high: float | None) -> bool:
    """Whether an interval exists and excludes zero: the only licence for bold type."""
    return low is not None and high is not None and (low > 0 or high < 0)


def decimals(analysis: Analysis) -> int:
    """Decimals that suit the metric: 2 for points, else four significant digits of the baseline's mean."""
    if analysis.unit == "points":
        return 2
    size = abs(analysis.baseline_mean)
    return min(max(3 - math.floor(math.log10(size)), 0), 6) if 0 < size < math.inf else 4


def confidence(analysis: Analysis) -> str:
    """Level of the effects' intervals: "95 %"."""
    return f"{100 * (1 - analysis.alpha):.4g} %"


def in_unit(value: float, unit: str) -> str:
    """A declared number with its unit, if it has one: "0.5 points"."""
    return f"{value:g} {unit}".rstrip()


def effect_rows(analysis: Analysis) -> list[Row]:
    """The rows of the ablation table: the baseline, then every arm in the order of the analysis."""
    base: Row = dict.fromkeys(_KEYS) | {
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
    return [base, *map(_row, analysis.effects)]


def _row(effect: Effect) -> Row:
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
        "effect": effect.mean,
        "low": effect.low,
        "high": effect.high,
        "p": effect.p,
        "p_holm": effect.p_holm,
        "p_permutation": effect.p_permutation,
        "p_wilcoxon": effect.p_wilcoxon,
        "p_tost": effect.p_tost,
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
    "memory_high", "n_diverged", "n_failed", "n_skipped", "n_lost", "reason",
)  # fmt: skip


def _sd(values: tuple[float, ...]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Column:
    """A column for people: the value that it sorts by, its heading, what it means, and its text in a row.

    `brief` columns make up the narrower Markdown and LaTeX tables.
    """

    key: str
    title: str
    meaning: str
    show: Callable[[Row], str]
    brief: bool = False


def columns(analysis: Analysis) -> tuple[Column, ...]:
    """The columns of the ablation table; those of tests that were not made are left out."""
    d, unit = decimals(analysis), analysis.unit

    def spread(mean: str, sd: str) -> Callable[[Row], str]:
        return lambda r: number(r[mean], d) + ("" if number(r[sd]) == NONE else f" ± {number(r[sd], d)}")

    def scaled(key: str) -> Callable[[Row], str]:
        return lambda r: ratio(r[key] and Ratio(r[key], r[f"{key}_low"], r[f"{key}_high"], r["n"]))

    def p(key: str) -> Callable[[Row], str]:
        return lambda r: p_value(r[key])

    def pairs(r: Row) -> str:
        return str(r["n"]) if r["n_planned"] is None else f"{r['n']}/{r['n_planned']}"

    def wins(r: Row) -> str:
        if r["wins"] is None or not r["n"]:
            return NONE
        return f"{r['wins']}/{r['n']}" + (f" ({plural(r['ties'], 'tie')})" if r["ties"] else "")

    def lost(r: Row) -> str:
        counts = ((r["n_diverged"], "diverged"), (r["n_failed"], "failed"), (r["n_skipped"], "skipped"))
        return ", ".join(f"{k} {what}" for k, what in counts if k) or "0"

    def verdict(r: Row) -> str:
        words = f"{r['kind']}, unstable" if r["unstable"] else str(r["kind"])
        return words if r["n"] else f"{words}: {r['reason']}"

    level = confidence(analysis)
    family = sum(math.isfinite(e.p) for e in analysis.effects)
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
            "Bold only where the interval excludes zero.",
            lambda r: signed(r["effect"], d),
            True,
        ),
        Column(
            "low",
            f"{level} CI",
            "Paired t interval of the effect, not adjusted for the number of arms. In the drawing, the "
            "shaded band is the margin and the vertical line is zero.",
            lambda r: interval(r["low"], r["high"], d),
            True,
        ),
        Column("p", "p", "Two-sided paired t test against no effect.", p("p"), True),
        Column(
            "p_holm",
            "p Holm",
            f"p of the deciding test (Wilcoxon's for unstable arms), adjusted for {family} arms.",
            p("p_holm"),
            True,
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
        Column("wins", "Wins", "Seeds on which the arm beat the baseline.", wins),
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
            "p_tost",
            "p equiv.",
            f"Two one-sided tests: small if the effect lies within ±{in_unit(analysis.margin, unit)}.",
            p("p_tost"),
        ),
        Column("time", "Time", "Training time over the baseline's [95 % CI].", scaled("time"), True),
        Column("memory", "Memory", "Peak memory over the baseline's [95 % CI].", scaled("memory"), True),
        Column("n_lost", "Lost runs", "Runs that diverged, failed or were skipped.", lost, True),
    )
    absent = {"p_holm"} if family < 2 else set()
    if math.isnan(analysis.margin):
        absent.add("p_tost")
    return tuple(c for c in found if c.key not in absent)


def metric_name(metric: str) -> str:
    """How people call a stored metric: "test accuracy"."""
    return metric.replace("_", " ")


def variance_rows(analysis: Analysis) -> list[dict[str, str]]:
    """What pairing bought and what more seeds would buy: a row per arm with an interval, text by heading."""
    d = decimals(analysis)
    return [
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


def _seeds_needed(effect: Effect, margin: float) -> str:
    if effect.more_seeds is not None:
        return f"{effect.n + effect.more_seeds} ({effect.more_seeds} more)"
    if effect.mde <= margin:
        return "enough"
    return "out of reach" if effect.mde > margin else NONE  # NaN is neither: no margin, or no power


def to_csv(analysis: Analysis) -> str:
    """All values of all rows, unrounded to six digits, for programs; empty where there is no value."""

    def cell(value: Any) -> Any:
        if isinstance(value, float):
            return f"{value:.6g}" if math.isfinite(value) else ""
        return value

    out = io.StringIO()
    writer = csv.DictWriter(out, ("metric", "unit", "margin", *_KEYS), lineterminator="\n")
    writer.writeheader()
    shared = {"metric": analysis.metric, "unit": analysis.unit, "margin": analysis.margin}
    for row in effect_rows(analysis):
        writer.writerow({key: cell(value) for key, value in (shared | row).items()})
    return out.getvalue()


def to_markdown(analysis: Analysis) -> str:
    """The brief columns as a GitHub-flavoured Markdown table."""
    head, body = _brief(analysis, lambda text: re.sub(r"([\\|*`]|<(?=[A-Za-z/!?]))", r"\\\1", text), "**{}**")
    lines = [head, ["---" if c.key in _LEFT else "---:" for c in columns(analysis) if c.brief], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_latex(analysis: Analysis) -> str:
    """The brief columns as a LaTeX tabular for the booktabs package."""
    head, body = _brief(analysis, latex_escape, r"\textbf{{{}}}")
    align = "".join("l" if c.key in _LEFT else "r" for c in columns(analysis) if c.brief)
    lines = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        *(" & ".join(line) + r" \\" for line in body),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


_LEFT = ("arm", "kind")


def _brief(analysis: Analysis, escape: Callable[[str], str], bold: str) -> tuple[list[str], list[list[str]]]:
    shown = [c for c in columns(analysis) if c.brief]

    def cells(row: Row) -> Iterable[str]:
        for column in shown:
            text = escape(" ".join(column.show(row).split()))
            strong = column.key == "effect" and clear_of_zero(row["low"], row["high"])
            yield bold.format(text) if strong else text

    return [escape(c.title) for c in shown], [list(cells(row)) for row in effect_rows(analysis)]


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
} | {c: "\\" + c for c in "&%$#_{}"}


def latex_escape(text: str) -> str:
    """Text in which no character is a LaTeX command."""
    return "".join(_LATEX.get(c, c) for c in text)
