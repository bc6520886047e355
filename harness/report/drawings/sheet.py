"""The sheet that figures for papers are drawn on: its look, its parts in cm, and its bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

CM = 1 / 2.54
WIDE = 12.0
"""From this width in cm, panels stand side by side."""

BLUE, VERMILION, GREY, BAND, RULE = "#0072B2", "#D55E00", "#555555", "#E8E8E8", "#999999"

STYLE: dict[Any, Any] = {
    "font.family": "serif",
    "font.serif": ["STIXGeneral", "Times New Roman", "Times"],  # the first comes with matplotlib, and is narrow
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "axes.labelpad": 2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "savefig.dpi": 400,
    "pdf.fonttype": 42,  # TrueType: journals refuse matplotlib's usual type 3
    "svg.fonttype": "none",
    "text.parse_math": False,  # names are no formulas
    "svg.hashsalt": "harness",
}


def to_bytes(drawn: Figure, form: str, title: str, scope: str) -> bytes:
    """The file without the time at which it was made; a webp says nothing of itself."""
    about = {
        "svg": {"Title": title, "Description": scope, "Date": None},
        "pdf": {"Title": title, "Subject": scope, "CreationDate": None},
        "png": {"Title": title, "Description": scope, "Software": None},
    }
    out = io.BytesIO()
    drawn.savefig(out, format=form, metadata=about.get(form))
    return out.getvalue()


class Sheet:
    """A figure of a known width in cm, whose parts are placed in cm from its left and its top."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width * CM, height * CM), dpi=300)
        self._canvas = FigureCanvasAgg(self.figure)

    def axes(self, left: float, top: float, right: float, bottom: float) -> Axes:
        """Axes whose edges lie at these distances from the left and the top."""
        w, h = self.width, self.height
        return self.figure.add_axes((left / w, 1 - bottom / h, (right - left) / w, (bottom - top) / h))

    def text(self, x: float, y: float, words: str, **how: Any) -> None:
        """Words at a place."""
        self.figure.text(x / self.width, 1 - y / self.height, words, **how)

    def box(self, words: Text) -> Bbox:
        """Where a text of this sheet lies, in pixels, without the line that an annotation has."""
        renderer = self._canvas.get_renderer()  # type: ignore[no-untyped-call]
        if isinstance(words, Annotation):
            words.update_positions(renderer)
        return Text.get_window_extent(words, renderer)


def extent(words: Sequence[str], weight: str = "normal") -> float:
    """Width in cm of the widest of these texts."""
    sheet = Sheet(1, 1)
    drawn = [sheet.figure.text(0, 0, text, weight=weight) for text in words]
    return max(sheet.box(text).width for text in drawn) / 300 / CM


def wrapped(arm: str, characters: int = 23) -> str:
    """A long name broken after its plus signs and underscores."""
    lines, rest = [], arm
    while len(rest) > characters:
        cut = max(rest.rfind(sign, 0, characters) for sign in "+_,") + 1 or characters
        lines.append(rest[:cut])
        rest = rest[cut:].lstrip()
    return "\n".join([*lines, rest])
