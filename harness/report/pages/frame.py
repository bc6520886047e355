"""What all pages have in common: the templates, the signs of verdicts, and the words that their templates may use."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.analysis.types import GAINS, LOSSES
from harness.analysis.verdicts import MANY
from harness.report.text import comparison, kinds, numbers, words
from harness.tricks.kinds import KINDS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

BADGES = {
    "helps": "▲",
    "helps slightly": "△",
    "likely helps": "▴",
    "hurts": "▼",
    "hurts slightly": "▽",
    "likely hurts": "▾",
    "suggestive": "≈",
    "equivalent": "=",
    "undecided": "?",
    "inactive": "○",
    "no verdict": "·",
    "failed": "✕",
    "skipped": "∅",
    "reference": "",
}
"""Sign of each verdict, so that colour is never alone; also the order in which verdicts are told."""


def contents(main: str) -> list[tuple[str, str]]:
    """Id and heading of each section of the page's body, for its table of contents."""
    found = re.findall(r'<h2 id="([^"<>]+)">([^<>]+)</h2>', main)
    return [(id_, Markup(title).unescape()) for id_, title in found]


environment = Environment(
    loader=PackageLoader("harness.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.globals |= {
    "agreement": comparison.agreement,
    "badges": BADGES,
    "by_reason": words.by_reason,
    "chance": numbers.chance,
    "clear": numbers.clear_of_zero,
    "contents": contents,
    "counted": words.counted,
    "decimals": numbers.decimals,
    "gains": GAINS,
    "heterogeneity_told": comparison.heterogeneity_told,
    "interval": numbers.interval,
    "kinds_of_tricks": KINDS,
    "losses": LOSSES,
    "many": MANY,
    "number": numbers.number,
    "p_value": numbers.p_value,
    "plural": numbers.plural,
    "ratio": numbers.ratio,
    "searched": words.searched,
    "shown": numbers.shown,
    "signed": numbers.signed,
    "tally": kinds.tally,
    "told": words.told,
    "told_p": numbers.told_p,
    "typed": numbers.typed,
    "why_empty": words.why_empty,
}


def render(template: str, page: DataclassInstance) -> str:
    """A document.

    Args:
        template: its file under `templates`.
        page: a dataclass whose fields are the template's variables; one that it lacks is an error.
    """
    return environment.get_template(template).render({f.name: getattr(page, f.name) for f in fields(page)})


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a plain text, which empty lines separate."""
    return [p for p in re.split(r"\n\s*\n", text.strip()) if p]
