"""The ablation table for a paper."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from harness.analysis.types import Analysis
from harness.errors import UserError
from harness.report.text.numbers import NONE, confidence, decimals, metric_name, number
from harness.report.text.tables import Values, choose, columns, effect_rows, strong_in, too_many

MOST_LATEX_ROWS = 60
"""Arms of a LaTeX table: what fits on a page."""

LONGEST_LATEX_ARM = 17
"""Characters of an arm's name that stay on one line in a paper's column; longer ones are broken."""


def to_latex(analysis: Analysis, arms: Sequence[str] = ()) -> str:
    """A table of the named arms, or of all, that fits a paper's column of 8.5 cm; it needs the package booktabs.

    Effect, interval, p, n and time alone. The caption has the level, the correction, the baseline and the scope;
    below the table stand the arms without an effect, with their reasons.

    Raises:
        UserError: there are more arms than a page has room for, or no such arm.
    """
    effects = choose(analysis, arms)
    if len(effects) > MOST_LATEX_ROWS:
        raise UserError(too_many("a LaTeX table", MOST_LATEX_ROWS, effects, analysis))
    rows = effect_rows(analysis, effects)[1:]
    by_key = {c.key: c for c in columns(analysis)}
    p, level = by_key.get("p_holm", by_key["p"]), latex_escape(confidence(analysis))

    def cells(row: Values) -> Iterator[str]:
        yield re.sub(r"(\+|\\_)", r"\1\\allowbreak{}", latex_escape(row["arm"]))
        effect = latex_escape(by_key["effect"].show(row))
        yield rf"\textbf{{{effect}}}" if strong_in(row) else effect
        yield latex_escape(by_key["low"].show(row))
        yield latex_escape(p.show(row))
        yield str(row["n"]) if row["n"] == row["n_planned"] else f"{row['n']}/{row['n_planned']}"
        # Its interval would not fit: the caption says how wide the widest is.
        timed = row["time"] is not None and math.isfinite(row["time_low"])
        yield latex_escape(f"{number(row['time'])}×" if timed else NONE)

    fits = max((len(row["arm"]) for row in rows), default=0) <= LONGEST_LATEX_ARM
    first = "l" if fits else rf">{{\raggedright}}p{{{0.3 if decimals(analysis) <= 2 else 0.2}\linewidth}}"
    lost = [latex_escape(f"{row['arm']}: {row['verdict']}, {row['reason']}.") for row in rows if not row["n"]]
    lines = [
        rf"% needs \usepackage{{{'' if fits else 'array,'}booktabs}}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(analysis, rows)}}}",
        rf"\label{{tab:{re.sub('[^A-Za-z0-9.:-]+', '-', analysis.study)}}}",
        r"\medskip\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\begin{{tabular}}{{@{{}}{first}rrrrr@{{}}}}",
        r"\toprule",
        " & ".join(("Arm", "Effect", f"{level} interval", p.title.replace("p", "$p$", 1), "$n$", "Time")) + r" \\",
        r"\midrule",
        *(" & ".join(cells(row)) + r" \\" for row in rows if row["n"]),
        r"\bottomrule",
        r"\end{tabular}",
        *([r"\par\smallskip\raggedright", *lost] if lost else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _caption(analysis: Analysis, rows: Sequence[Values]) -> str:
    """What a reader needs to know of these rows, in LaTeX."""
    unit = f" in {analysis.unit}" if analysis.unit else ""
    scope = f", on {analysis.scope}" if analysis.scope else ""
    level, d = latex_escape(confidence(analysis)).replace(" ", "~"), decimals(analysis)
    family = analysis.family
    test = rf"$p$ adjusted by Holm's method for {family} arms" if family > 1 else r"$p$ of the paired $t$ test"
    reaches = f"{number(analysis.baseline_mean, d)} {'%' if analysis.unit == 'points' else analysis.unit}".rstrip()
    parts = [
        latex_escape(f"Effects on {metric_name(analysis.metric)}{unit} against the baseline{scope}."),
        rf"Mean paired difference over $n$ seeds with its {level} $t$ interval, bold where that "
        rf"excludes zero and no run diverged; {test}.",
        rf"The baseline reaches {latex_escape(reaches)} (standard deviation {number(analysis.baseline_sd, d)}, "
        rf"$n = {analysis.baseline_n}$).",
    ]
    reach = [max(r["time_high"] / r["time"], r["time"] / r["time_low"]) - 1 for r in rows if r["time"]]
    if known := [v for v in reach if math.isfinite(v)]:
        parts.append(
            r"Time: training time over the baseline's; its 95~\% intervals reach at most "
            rf"{math.ceil(100 * max(known))}~\% to either side."
        )
    return " ".join(parts)


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
    "’": "'",
    "\u00a0": "~",
} | {c: "\\" + c for c in "&%$#_{}"}


def latex_escape(text: str) -> str:
    """Text in which no character is a LaTeX command; what its usual fonts lack becomes a question mark."""
    return "".join(
        _LATEX.get(c, c if c.isprintable() and ord(c) < 0x180 else "?") for c in " ".join(re.split(r"[ \t\n\r]+", text))
    )
