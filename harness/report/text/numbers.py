"""How numbers are written: the same rounding, signs and dashes on every page, in every table and figure."""

from __future__ import annotations

import math
from typing import Any

from harness.analysis.types import Analysis, Ratio

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


def chance(p: float) -> str:
    """A chance or a share in whole percent; never a certainty."""
    if 0.99 < p < math.inf:
        return ">99 %"
    return NONE if number(p) == NONE else f"{number(100 * p, 0)} %"


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


def metric_name(metric: str) -> str:
    """How people call a stored metric: "test accuracy"."""
    return metric.replace("_", " ")


def told_p(p: float) -> str:
    """A p value in a sentence: "p = 0.047", "p < 0.001"."""
    text = p_value(p)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def margin_of(analysis: Analysis | None) -> str | None:
    """The declared margin: "±0.5 points"; None where there is none."""
    if analysis is None or math.isnan(analysis.margin):
        return None
    return f"±{in_unit(analysis.margin, analysis.unit)}"


def sort_key(value: Any) -> str:
    """What a table's script sorts a cell by; empty for what is no finite number."""
    return f"{value:.6g}" if isinstance(value, int | float) and math.isfinite(value) else ""


def _rounded(value: float, digits: int) -> str:
    """That many significant digits, of the distance to one just below it: 0.9999 is not 1."""
    if 0.99 < value < 1:
        return f"{1 - float(f'{1 - value:.{digits}g}'):.12g}"
    return f"{value:.{digits}g}"


def shown(value: Any) -> str:
    """A hyperparameter's value as people write it: three significant digits, a true minus sign."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    if not isinstance(value, float):
        return str(value)
    mantissa, e, power = _rounded(value, 3).partition("e")
    return (f"{mantissa}e{int(power)}" if e else mantissa).replace("-", "−")


def typed(value: Any) -> str:
    """A hyperparameter's value as one types it: without digits that only binary fractions need."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(typed, value))
    return _rounded(value, 4) if isinstance(value, float) else shown(value)
