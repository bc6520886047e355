"""Parts of drawings as inline SVG. Colours are CSS classes, so one drawing suits light, dark, print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from harness.report.text.numbers import number

COLOURS = 7
DASHES = ("", "7 3", "2 3", "9 3 2 3")

Span = tuple[float, float]


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element with everything in it escaped. `class_` and `stroke_width` become class and stroke-width."""
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is not None:
            text = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else escape(value)
            parts.append(f' {key.rstrip("_").replace("_", "-")}="{text}"')
    return Markup("".join((*parts, ">", *map(escape, children), f"</{name}>")))


def svg(
    width: float,
    height: float,
    title: str,
    description: str,
    *children: object,
    class_: str = "",
    style: str | None = None,
) -> Markup:
    """A drawing that scales with its container, unless `style` says otherwise, and says in words what it shows."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *children,
        role="img",
        class_=class_ or None,
        viewBox=f"0 0 {width:g} {height:g}",
        style=style,
    )


@dataclass(frozen=True)
class Scale:
    """A linear map from data to drawing units."""

    data: Span
    out: Span

    def bend(self, value: float) -> float:
        """The value as the axis counts it."""
        return value

    def __call__(self, value: float) -> float:
        """Where a value is drawn."""
        (a, b), (c, d) = map(self.bend, self.data), self.out
        return c + (self.bend(value) - a) / ((b - a) or 1.0) * (d - c)

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """Round values inside the range with their labels, about `count` of them."""
        found = ticks(*self.data, count)
        return list(zip(found, tick_labels(found), strict=True))


@dataclass(frozen=True)
class LogScale(Scale):
    """A map in which equal ratios are equally far apart; both ends are positive."""

    def bend(self, value: float) -> float:
        """The value as the axis counts it."""
        return math.log(value)

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """Round values inside the range: equal steps while it is short, else 1, 2 and 5 times powers of ten."""
        low, high = self.data
        if high < 2.5 * low:
            return super().ticks(count)
        steps = (1, 1.5, 2, 3, 5, 7) if high < 20 * low else (1, 2, 5)
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        return [(v, f"{v:g}") for v in (m * 10.0**e for e in powers for m in steps) if low <= v <= high]


@dataclass(frozen=True)
class SignedLog(Scale):
    """A map that is linear up to about `unit` on both sides of zero, and logarithmic beyond."""

    unit: float = 1.0

    def bend(self, value: float) -> float:
        """The value as the axis counts it."""
        return math.copysign(math.log1p(abs(value) / self.unit), value)

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """Zero, and on both sides powers of ten times 1, 2 and 5, as far apart as `count` wants them."""
        most = max(map(abs, self.data))
        first = math.floor(math.log10(self.unit))
        sizes = [m * 10.0**e for e in range(first, math.ceil(math.log10(most)) + 1) for m in (1, 2, 5)]
        every = [v for v in (*(-x for x in reversed(sizes)), 0.0, *sizes) if self.data[0] <= v <= self.data[1]]
        least = abs(self.out[1] - self.out[0]) / (1.5 * count)
        kept = [0.0]  # from zero outwards, so that it always has a label
        for v in sorted(every, key=abs):
            if all(abs(self(v) - self(k)) >= least for k in kept):
                kept.append(v)
        return [(v, f"{v:g}".replace("-", "−")) for v in sorted(kept)]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values (steps of 1, 2 or 5 times a power of ten) inside the range, about `count` of them."""
    if not low < high:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= 0.7 * raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """Just as many decimals as the step needs."""
    step = min((b - a for a, b in pairwise(values)), default=1.0)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    return [number(v, places) for v in values]


def padded(low: float, high: float, share: float = 0.05) -> Span:
    """The range with some air on both sides, never empty."""
    pad = (high - low) * share or abs(low) * share or 1.0
    return low - pad, high + pad


def clip(text: str, characters: int) -> str:
    """The text, or its beginning with an ellipsis."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def rect(x0: float, x1: float, y0: float, y1: float, class_: str) -> Markup:
    """A rectangle between two corners."""
    return tag("rect", x=min(x0, x1), y=min(y0, y1), width=abs(x1 - x0), height=abs(y1 - y0), class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str, *children: object) -> Markup:
    """A straight line."""
    return tag("line", *children, x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> Markup:
    """Words on a base line; `anchor` is start, middle or end."""
    return tag("text", content, x=x, y=y, class_=class_ or None, text_anchor=None if anchor == "start" else anchor)


def path(points: Sequence[tuple[float, ...]]) -> str:
    """An open polyline through the finite points."""
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points if math.isfinite(b))


class Places:
    """Where names still have room beside the dots of a plot."""

    def __init__(self, dots: Sequence[tuple[float, float]], across: Span, down: Span) -> None:
        self.across, self.down = across, down
        self.boxes = [(a - 4, a + 4, b - 4, b + 4) for a, b in dots]

    def name(self, cx: float, cy: float, content: str, class_: str) -> list[Markup]:
        """A name beside the dot at (cx, cy), or nothing where all sides are taken."""
        width = 7.6 * len(content)  # what a wide font takes
        for at, base, anchor in (
            (cx + 8, cy + 4, "start"),
            (cx + 6, cy - 8, "start"),
            (cx + 6, cy + 16, "start"),
            (cx - 8, cy + 4, "end"),
        ):
            x0, y0, y1 = at if anchor == "start" else at - width, base - 10, base + 2
            x1 = x0 + width
            inside = self.across[0] <= x0 and x1 <= self.across[1] and self.down[0] <= y0 and y1 <= self.down[1]
            if inside and not any(x0 < b and a < x1 and y0 < d and c < y1 for a, b, c, d in self.boxes):
                self.boxes.append((x0, x1, y0, y1))
                return [text(at, base, content, class_, anchor)]
        return []


def arm_class(arm: int) -> str:
    """CSS class of an arm's colour: the baseline (0) is drawn in ink, the others take turns."""
    return "c0" if arm == 0 else f"c{(arm - 1) % COLOURS + 1}"


def arm_dash(arm: int) -> str | None:
    """Dash pattern that tells arms of one colour apart."""
    return DASHES[(arm - 1) // COLOURS % len(DASHES)] or None if arm else None


def swatch(arm: int) -> Markup:
    """The line sample of a legend entry."""
    stroke = tag("line", x1=1, y1=5, x2=27, y2=5, class_=f"mean {arm_class(arm)}", stroke_dasharray=arm_dash(arm))
    return tag("svg", stroke, viewBox="0 0 28 10", class_="swatch", aria_hidden="true")
