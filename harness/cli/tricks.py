"""What is known of tricks: `harness tricks` lists them, searches them, and shows a card or a contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import AsJson, DataRoot, Plugins, print_json
from harness.errors import UserError

Card = Mapping[str, Any]


def tricks(
    name: Annotated[
        str | None, typer.Argument(help="Show the card of one trick, or a published recipe: preset:NAME.")
    ] = None,
    search: Annotated[
        str | None, typer.Option(help="Only names, summaries, formulas and papers with all of these words.")
    ] = None,
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind, for example removal.")] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="Only tricks whose step takes at most so many times the baseline's.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="List the known names that are no tricks here, too.")
    ] = False,
    presets: Annotated[
        bool, typer.Option("--presets", help="List the published recipes, and which trick is in which.")
    ] = False,
    plugin: Plugins = None,
    html: Annotated[
        Path | None, typer.Option(help="Write all cards as a page, for example reports/tricks.html.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Write what a trick does to images as a contact sheet, for example cutmix.png.")
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option("--experiment", "-e", help="Take the images of --pictures from this experiment's data."),
    ] = None,
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """List the tricks by family, or show one trick's card or what it does to images.

    Names that are no tricks here need --all, or a choice that asks for them; JSON and HTML always have them.
    """
    from harness.cli.presets import show_presets
    from harness.tricks import recipes, registry
    from harness.tricks.cards import card, cards, others

    for path in plugin or []:
        registry.add_plugin(path)
    if name is not None and html is not None:
        raise UserError(f"tricks {name} --html: the page has all tricks; leave the name out, or --html")
    if pictures is None and experiment is not None:
        raise UserError(f"tricks --experiment {experiment}: only --pictures shows images; add --pictures FILE.png")
    if data_root is not None and experiment is None:
        raise UserError(f"tricks --data-root {data_root}: the data are named by --experiment and drawn by --pictures")
    if presets or (name is not None and recipes.is_preset(name)):
        show_presets(name, as_json)
        return
    if pictures is not None:
        _write_pictures(name, pictures, experiment, data_root, as_json)
        return
    if name is not None:
        if name not in others():
            registry.check(name)
        if as_json:
            print_json(card(name))
        else:
            _print_card(card(name))
        return
    listed = chosen(cards(), search, family, kind, max_cost)
    if html is not None:
        from harness.report.pages.tricks import write_tricks

        typer.echo(f"tricks: {write_tricks(listed, html)}", err=as_json)
    if as_json:
        print_json(listed)
    elif html is None:
        asked = (search, family, kind) != (None, None, None)
        _print_cards(listed, everything or asked)


def chosen(
    listed: Sequence[Card], search: str | None, family: str | None, kind: str | None, max_cost: float | None
) -> list[Card]:
    """The cards that all choices let through; None chooses nothing.

    Raises:
        UserError: there is none; names the choice and what there is.
    """
    out = list(listed)
    for key, wanted in (("family", family), ("kind", kind)):
        known = sorted({str(c[key]) for c in out})
        out = [c for c in out if wanted in (None, c[key])]
        if not out:
            there = f" in the family {family}" if key == "kind" and family else ""
            raise UserError(f"--{key} {wanted}: no such {key}{there}. Known: {', '.join(known)}")
    if max_cost is not None:
        least = min((c["cost"] for c in out if c["trick"]), default=None)
        out = [c for c in out if c["trick"] and c["cost"] <= max_cost]
        if not out:
            there = "there is no trick among them" if least is None else f"the cheapest of them takes {least:.2f}x"
            raise UserError(f"--max-cost {max_cost:g}: {there}; allow more, or choose others")
    if search is None:
        return out
    words = search.lower().split()
    if not words:
        raise UserError("--search '': give a word, for example --search warm")
    found = sorted((c for c in out if all(word in _text(c) for word in words)), key=lambda c: _rank(c, words))
    if not found:
        raise UserError(f"--search '{search}': no card has all of these words; try fewer, or a part of one")
    return found


def _text(c: Card) -> str:
    """What a search reads of a card."""
    keys = ("name", "family", "summary", "formula", "paper", "reason")
    return " ".join(str(c.get(key, "")) for key in keys).lower()


def _rank(c: Card, words: Sequence[str]) -> tuple[bool, bool, str, str]:
    """Tricks first, and of those the ones with the words in their names."""
    return not c["trick"], not all(word in c["name"] for word in words), c["family"], c["name"]


def _write_pictures(
    name: str | None, path: Path, experiment: str | None, data_root: Path | None, as_json: bool
) -> None:
    """Write a trick's contact sheet."""
    from harness.tricks import registry

    if name is None:
        raise UserError(f"tricks --pictures {path}: name the trick that is to be shown")
    form = path.suffix.lower()[1:]
    if form not in ("png", "webp"):
        raise UserError(f"--pictures {path}: a contact sheet is a .png, or a small .webp; let its name end with one")
    registry.check(name)
    from harness.workflow.pictures import contact_sheet

    sheet = contact_sheet(name, experiment, data_root, form)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sheet)
    if as_json:
        print_json({"trick": name, "pictures": str(path)})
    else:
        typer.echo(f"pictures: {path}")


def _print_cards(listed: Sequence[Card], everything: bool) -> None:
    """One line for each trick below its family, and then one for each name that is no trick here, where they are asked.

    A name stands in one piece, however narrow the terminal is.
    """
    from rich.console import Console
    from rich.table import Table

    from harness.tricks.kinds import ADDITION

    console = Console(highlight=False)

    def show(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], families: Sequence[str]) -> None:
        out = Table(box=None, pad_edge=False)
        for column in columns:
            whole = column in (columns[0], "cost")
            out.add_column(
                column, overflow="fold", no_wrap=whole, justify="right" if column == "cost" else "left",
            )  # fmt: skip
        last = None
        for family, row in zip(families, rows, strict=True):
            if family != last:
                out.add_row(f"[bold]{family}[/bold]")
            out.add_row(f"  {row[0]}", *row[1:])
            last = family
        console.print(out)

    def does(c: Card) -> str:
        return str(c["summary"]) + ("" if c["kind"] == ADDITION else f" ({c['kind']})")

    def counts(key: str, of: Sequence[Card]) -> str:
        return ", ".join(f"{word} {n}" for word, n in Counter(str(c[key]) for c in of).most_common())

    tricks = [c for c in listed if c["trick"]]
    others = [c for c in listed if not c["trick"]]
    if tricks:
        rows = [(c["name"], f"{c['cost']:.2f}x", does(c)) for c in tricks]
        show(("trick", "cost", "what it does"), rows, [c["family"] for c in tricks])
        console.print(f"\n{len(tricks)} tricks. `harness tricks NAME` shows a card.")
        console.print(f"families: {counts('family', tricks)}")
        console.print(f"kinds: {counts('kind', tricks)}")
    if others and everything:
        console.print(f"\n{len(others)} other known names, which are no tricks here:")
        described = [(c["name"], c["kind"], c["command"] or c["reason"].split(". ")[0]) for c in others]
        show(("name", "kind", "what it is here"), described, [c["family"] for c in others])
        console.print("`harness tricks NAME` says why.")
    elif others:
        console.print(f"{len(others)} other known names are no tricks here:")
        console.print("`harness tricks --all` lists them.")


def _print_card(c: dict[str, Any]) -> None:
    """A trick's card as text, or why a known name is no trick here."""
    from rich.console import Console
    from rich.table import Table

    from harness.tricks.kinds import KINDS

    console = Console(highlight=False)
    if not c["trick"]:
        console.print(f"[bold]{c['name']}[/bold]  ({c['family']}, no trick here: {c['kind']})")
        console.print(c["reason"])
        if c["command"]:
            console.print(c["command"], style="bold", soft_wrap=True)
        return
    console.print(
        f"[bold]{c['name']}[/bold]  ({c['family']}, version {c['version']}, expected step time {c['cost']:.2f}x)"
    )
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("kind", f"{c['kind']}: {KINDS[c['kind']]}")
    for key in ("summary", "formula", "paper", "differs", "expect", "measured"):
        if c[key]:
            facts.add_row(key, c[key])
    for other, why in c["excludes"].items():
        facts.add_row("not with", f"{other}: {why}")
    if c["eager"]:
        facts.add_row("no CUDA graph", c["eager"])
    facts.add_row("hooks", ", ".join(c["hooks"]) or "none")
    console.print(facts)
    if c["parameters"]:
        table = Table(box=None, pad_edge=False)
        for column in ("hyperparameter", "default", "domain", "search range"):
            table.add_column(column, overflow="fold")
        for p in c["parameters"]:
            search = "" if p["search"] is None else ", ".join(str(v) for v in p["search"])
            table.add_row(p["name"], str(p["default"]), str(p["domain"]), search)
        console.print(table)
