"""What the site lists: its index as a page, and as an Atom feed."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote
from xml.etree import ElementTree

from harness.analysis.types import Effect, VerdictKind
from harness.errors import UserError
from harness.report.evidence import Origin, TrickEvidence
from harness.report.load import Loaded
from harness.report.pages.frame import BADGES, render
from harness.report.text.kinds import directed, headline, kinds_of
from harness.report.text.numbers import plural
from harness.store.schema import SearchRecord

ATOM = "http://www.w3.org/2005/Atom"


@dataclass(frozen=True)
class IndexEntry:
    """A study, search or comparison as the index lists it.

    `counts` has the arms of each kind of verdict, in the order in which verdicts are told, and `named` the arms whose
    verdict claims a direction, by what it claims: of the additions, or of all arms where none is one. `rest` tells of
    the other arms, and `others` names them; `found` are the verdicts of all arms. `created` is a time in UTC. `table`
    is the address of a study's table as CSV.
    """

    kind: str
    name: str
    page: str
    title: str
    created: datetime
    scope: str
    experiment: str
    size: str
    counts: Mapping[str, int]
    named: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rest: str = ""
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)
    found: Sequence[str] = ()
    table: str = ""

    @property
    def verdicts(self) -> str:
        """The counts in words: "helps 2, undecided 5"."""
        return ", ".join(f"{kind} {count}" for kind, count in self.counts.items())


@dataclass(frozen=True)
class IndexPage:
    """The variables of the template: the entries of each kind, what they can be sifted by, and the tricks' pages.

    `measured` is how many of `tricks` have an effect.
    """

    kinds: Sequence[tuple[str, Sequence[IndexEntry]]]
    experiments: Sequence[str]
    verdicts: Sequence[str]
    tricks: Collection[str]
    measured: int
    root: str = ""


def href(name: str, ending: str = "html") -> str:
    """The address of a page, or of a study's table, from the site's root, for a folder of any name."""
    return f"{quote(name)}.{ending}"


def _time(created: str, name: str) -> datetime:
    """A stored time in UTC.

    Raises:
        UserError: the declaration of a foreign program has something else there.
    """
    try:
        found = datetime.fromisoformat(created)
    except ValueError:
        raise UserError(f"{name}: created = '{created}' is no ISO 8601 time, so it has no place in the feed") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def study_entry(origin: Origin) -> IndexEntry:
    """What the index says of a study.

    Raises:
        UserError: its declaration has no time; so for the other kinds.
    """
    manifest, analysis = origin.loaded.manifest, origin.loaded.analysis
    told = headline(analysis.effects, kinds_of(manifest))
    kinds, others = (Counter(e.verdict.kind for e in effects) for effects in (told.counted, told.others))
    arms = sum(bool(arm.tricks) for arm in manifest.arms)
    design = manifest.design.replace("_", " ")
    return IndexEntry(
        kind="study",
        name=origin.name,
        page=origin.page,
        title=manifest.question or origin.name,
        created=_time(manifest.created, origin.name),
        scope=manifest.scope,
        experiment=manifest.experiment,
        size=f"{design}, {plural(arms, 'arm')} × {plural(len(manifest.seeds), 'seed')}",
        counts={kind: kinds[kind] for kind in BADGES if kinds[kind]},  # type: ignore[index]
        named=_named(told.counted),
        rest=told.rest,
        others=_named(told.others),
        found=[kind for kind in BADGES if kind in kinds | others],
        table=href(origin.name, "csv"),
    )


def _named(effects: Sequence[Effect]) -> dict[str, list[str]]:
    """The arms by what their verdicts claim, each with at least one arm."""
    claims: dict[str, tuple[VerdictKind, ...]] = {
        "Help": ("helps", "helps slightly"),
        "Likely help": ("likely helps",),
        "Hurt": ("hurts", "hurts slightly"),
        "Likely hurt": ("likely hurts",),
    }
    found = {claim: directed(effects, verdicts) for claim, verdicts in claims.items()}
    return {claim: arms for claim, arms in found.items() if arms}


def search_entry(name: str, record: SearchRecord) -> IndexEntry:
    """What the index says of a search."""
    searched = [arm.label for arm in record.arms if arm.space]
    seeds = plural(len(record.fresh_seeds), "fresh seed")
    return IndexEntry(
        kind="search",
        name=name,
        page=href(name),
        title=record.question or name,
        created=_time(record.created, name),
        scope=record.scope,
        experiment=record.experiment,
        size=f"{', '.join(searched)}: {plural(record.trials, 'trial')} each, judged on {seeds}",
        counts={},
    )


def comparison_entry(name: str, title: str, chosen: Mapping[str, Loaded]) -> IndexEntry:
    """What the index says of a comparison, which is as new as the newest of its studies."""
    experiments = dict.fromkeys(study.manifest.experiment for study in chosen.values())
    return IndexEntry(
        kind="comparison",
        name=name,
        page=href(name),
        title=title,
        created=max(_time(study.manifest.created, of) for of, study in chosen.items()),
        scope=f"compares {', '.join(chosen)}",
        experiment=next(iter(experiments)) if len(experiments) == 1 else "",
        size=f"{len(chosen)} studies",
        counts={},
    )


def render_index(entries: Sequence[IndexEntry], tricks: Collection[str], evidence: Mapping[str, TrickEvidence]) -> str:
    """The page that lists everything.

    Args:
        entries: in the order in which they are shown.
        tricks: names that have a page in the folder `tricks`.
        evidence: what studies say, by trick.
    """
    page = IndexPage(
        kinds=[(kind, [e for e in entries if e.kind == kind]) for kind in ("study", "comparison", "search")],
        experiments=sorted({e.experiment for e in entries if e.experiment}),
        verdicts=[kind for kind in BADGES if any(kind in e.found for e in entries)],
        tricks=tricks,
        measured=sum(any(m.effect.n for m in e.alone) for name, e in evidence.items() if name in tricks),
    )
    return render("index.html.j2", page)


def feed(entries: Sequence[IndexEntry]) -> bytes:
    """The entries as an Atom feed (RFC 4287), newest first; ids and times come from the declarations."""
    ElementTree.register_namespace("", ATOM)

    def element(parent: ElementTree.Element, name: str, text: str = "", **attributes: str) -> ElementTree.Element:
        found = ElementTree.SubElement(parent, f"{{{ATOM}}}{name}", attributes)
        found.text = _printable(text) or None
        return found

    root = ElementTree.Element(f"{{{ATOM}}}feed")
    element(root, "title", "Ablation studies of training tricks")
    element(root, "id", _urn("feed"))
    element(root, "updated", _stamp(max(e.created for e in entries)))
    element(element(root, "author"), "name", "harness")
    element(root, "link", rel="self", href="feed.xml")
    element(root, "link", rel="alternate", type="text/html", href="index.html")
    for e in entries:
        entry = element(root, "entry")
        element(entry, "title", e.title)
        element(entry, "id", _urn(e.kind, e.name, e.created.isoformat()))
        element(entry, "updated", _stamp(e.created))
        element(entry, "link", rel="alternate", type="text/html", href=e.page)
        element(entry, "summary", ". ".join(filter(None, (e.verdicts, e.rest.removesuffix("."), e.size, e.scope))))
    ElementTree.indent(root)
    return b"%s\n" % ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _urn(*parts: str) -> str:
    """A name that is the same for ever and needs no domain."""
    return uuid.uuid5(uuid.NAMESPACE_OID, "\n".join(("harness", *parts))).urn


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _printable(text: str) -> str:
    """The text without what no XML 1.0 document may hold, escaped or not."""
    return re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)
