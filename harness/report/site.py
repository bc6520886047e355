"""The site: every page again from stored rows, and what ties them together.

Its bytes depend on the rows and the cards alone, never on the clock or the machine, so a page that changed is a number
that changed. All links are relative: any static host serves it, and it opens from disk.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from harness.errors import UserError, did_you_mean
from harness.names import RESERVED
from harness.report.evidence import Origin, TrickEvidence, gather
from harness.report.load import Loaded, analysed
from harness.report.pages.compare import write_comparison
from harness.report.pages.index import (
    IndexEntry,
    comparison_entry,
    feed,
    href,
    render_index,
    search_entry,
    study_entry,
)
from harness.report.pages.search import write_search
from harness.report.pages.study import write_report
from harness.report.pages.tricks import Card, write_trick, write_tricks
from harness.report.pages.writing import write_page
from harness.report.text.tables import to_csv
from harness.store.reader import read_manifest, read_search, read_study
from harness.store.schema import SearchRecord
from harness.values import Strict, explain


class ComparePage(Strict):
    """One page that compares studies, as `compare.toml` asks for it; its file is `name`.html."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    studies: Annotated[list[str], Field(min_length=2)]
    title: Annotated[str, Field(min_length=1)]
    preface: str = ""


@dataclass(frozen=True)
class Site:
    """What was written: the index, and how many pages of each kind; and what was not, each with the reason."""

    index: Path
    studies: int
    searches: int
    comparisons: int
    tricks: int
    left_out: tuple[str, ...] = ()


def write_site(results: Path, reports: Path, cards: Sequence[Card]) -> Site:
    """Render every study, search and comparison, the cards, a page for each trick, the index and the feed.

    A study's table lies beside its page as CSV.

    Args:
        results: the folder of all studies; its own come before published ones of the same name.
        reports: the folder of the pages.
        cards: of all tricks and other known names, as plain data.

    A study or search whose declaration is broken is left out, and so is a comparison that needs it.

    Raises:
        UserError: there is nothing to show, two pages would have one name, or the folder cannot be written.
    """
    studies, searches = _folders(results, "study.json"), _folders(results, "search.json")
    if not studies and not searches:
        raise UserError(f"no study in {results}; run `harness ablate TRICK` first or name its folder with --results")
    left_out: list[str] = []
    broken: set[str] = set()
    for folders, read in ((studies, read_manifest), (searches, read_search)):
        for name, folder in list(folders.items()):
            try:
                read(folder)
            except UserError as error:
                left_out.append(str(error))
                del folders[name]
                broken.add(name)
    asked = []
    for page in _compare_pages(results, {*studies, *broken}):
        if broken.isdisjoint(page.studies):
            asked.append(page)
        else:
            left_out.append(f"{page.name}.html: it compares what is left out")
    _check_names([*studies, *searches, *(page.name for page in asked)])
    known = {c["name"] for c in cards if c["trick"]}
    loaded = {name: _lean(write_report(folder, reports, linked=known)[1]) for name, folder in studies.items()}
    for name, study in loaded.items():
        write_page(reports / f"{name}.csv", to_csv(study.analysis))
    origins = [Origin(name, href(name), study) for name, study in loaded.items()]
    entries = [study_entry(origin) for origin in origins]
    for name, folder in searches.items():
        write_search(folder, reports, linked=True)
        record = read_search(folder)
        entries.append(search_entry(name, record))
        origins += _search_origins(name, folder, record)
    entries += [_compared(page, loaded, reports, known) for page in asked]
    entries.sort(key=lambda e: (-e.created.timestamp(), e.name))
    evidence = gather(origins)
    write_tricks(cards, reports / "tricks.html", evidence, root="")
    for card in cards:
        if card["trick"]:
            write_trick(card, evidence.get(card["name"], TrickEvidence()), known, reports / "tricks")
    write_page(reports / "index.html", render_index(entries, known, evidence))
    write_page(reports / "feed.xml", feed(entries))
    return Site(reports / "index.html", len(studies), len(searches), len(asked), len(known), tuple(left_out))


def _folders(results: Path, declaration: str) -> dict[str, Path]:
    """The folders that hold such a declaration, by name; one's own hide published ones."""
    patterns = (f"published/*/{declaration}", f"*/{declaration}")
    found = {path.parent.name: path.parent for pattern in patterns for path in sorted(results.glob(pattern))}
    return dict(sorted(found.items()))


def _check_names(names: Sequence[str]) -> None:
    """Every page needs a name of its own."""
    for name in RESERVED:
        if name in names:
            raise UserError(f"a study named '{name}' would replace a page of the site; rename its folder")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"'{twice[0]}' names two of the studies, searches and comparisons; rename one of them")


def _lean(loaded: Loaded) -> Loaded:
    """Without the predictions, which are large and which only the study's own page needs."""
    return replace(loaded, data=replace(loaded.data, predictions=None))


def _search_origins(name: str, folder: Path, record: SearchRecord) -> list[Origin]:
    """The comparisons of a search that tell of tricks: with default values, and tuned."""
    out = []
    for kind in ("default", "tuned"):
        manifest = record.comparisons.get(kind)
        if manifest is not None:
            data = read_study(folder, manifest.runs, predictions=False)
            loaded = replace(analysed(manifest, data), design=None)
            out.append(Origin(f"{name} ({kind})", href(name), loaded))
    return out


def _compare_pages(results: Path, studies: Collection[str]) -> list[ComparePage]:
    """The comparisons that a results folder asks for, in `compare.toml` or published/compare.toml.

    Raises:
        UserError: a file is broken, or names a study that is not there.
    """
    found = []
    for path in (results / "published" / "compare.toml", results / "compare.toml"):
        for i, table in enumerate(_page_tables(path), 1):
            try:
                page = ComparePage.model_validate(table)
            except ValidationError as error:
                raise UserError("\n".join(explain(error, ComparePage, f"{path}: page {i}"))) from None
            for name in page.studies:
                if name not in studies:
                    near = did_you_mean(name, studies)
                    raise UserError(f"{path}: page {i}: unknown study '{name}'{near} Known: {', '.join(studies)}")
            found.append(page)
    return found


def _page_tables(path: Path) -> list[Any]:
    """The [[page]] tables of a file, unchecked; none where there is no file."""
    if not path.is_file():
        return []
    try:
        held = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    pages = held.pop("page", [])
    if held or not isinstance(pages, list):
        raise UserError(f"{path}: it holds [[page]] tables and nothing else, but has {', '.join(held) or '[page]'}")
    return pages


def _compared(page: ComparePage, loaded: Mapping[str, Loaded], reports: Path, tricks: Collection[str]) -> IndexEntry:
    """Write one comparison and return its entry."""
    chosen = {name: loaded[name] for name in page.studies}
    write_comparison(chosen, reports / f"{page.name}.html", page.title, page.preface, tricks, root="")
    return comparison_entry(page.name, page.title, chosen)
