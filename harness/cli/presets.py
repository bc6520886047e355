"""Published recipes in the terminal: one with its ingredients, or which trick is in which."""

from __future__ import annotations

from typing import Any

from harness.cli.options import print_json
from harness.errors import UserError
from harness.tricks.recipes import PREFIX, STATUS, Preset, Rule, preset, preset_names


def show_presets(word: str | None, as_json: bool) -> None:
    """Print one preset, or all of them with the tricks that each has.

    Raises:
        UserError: there is no such preset, or a trick is named beside all of them.
    """
    if word is not None and not word.startswith(PREFIX):
        raise UserError(f"tricks {word} --presets: leave the name out, or write {PREFIX}NAME")
    chosen = [preset(name) for name in ([word] if word is not None else preset_names())]
    if as_json:
        found = [p.model_dump() | {"steps": p.steps} for p in chosen]
        print_json(found if word is None else found[0])
    elif word is None:
        _print_table(chosen)
    else:
        _print_preset(chosen[0])


def _print_table(presets: list[Preset]) -> None:
    """The presets by number, and a row for each trick with a mark under the numbers of those that have it."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for number, p in enumerate(presets, 1):
        console.print(f"{number:3}  {PREFIX}{p.name}  {p.title}; for {p.design.replace('_', ' ')}", soft_wrap=True)
    console.print()
    out = Table(box=None, pad_edge=False)
    out.add_column("trick", no_wrap=True)
    for number in range(1, len(presets) + 1):
        out.add_column(str(number), justify="right", no_wrap=True)
    has = [{trick for i in p.ingredients for trick in i.tricks} for p in presets]
    for trick in sorted(set().union(*has), key=lambda name: (-sum(name in tricks for tricks in has), name)):
        out.add_row(trick, *("x" if trick in tricks else "" for tricks in has))
    console.print(out)
    console.print(f"\n`harness tricks {PREFIX}NAME` shows one, `harness ablate {PREFIX}NAME` takes it apart.")


def _print_preset(p: Preset) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]{PREFIX}{p.name}[/bold]  {p.title}")
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("source", p.source)
    facts.add_row("figures", p.caution)
    for key, value in p.base.items():
        facts.add_row(key, value)
    if p.baseline is not None:
        facts.add_row("baseline", f"{p.baseline:g} ({p.status})")
    if p.together is not None:
        facts.add_row("together", f"{p.together:g} ({p.together_status})")
    for note in p.notes:
        facts.add_row("note", note)
    for name, why in p.left_out.items():
        facts.add_row("left out", f"{name}: {why}")
    console.print(facts)
    table = Table(box=None, pad_edge=False)
    for column, right in (("ingredient", False), ("as published", False), ("score", True), ("gain", True), ("", False)):
        table.add_column(column, overflow="fold", justify="right" if right else "left")
    for i, step in zip(p.ingredients, p.steps, strict=True):
        rules = [
            f"{t}.{key}: {_rule(v)}" for t, own in i.values.items() for key, v in own.items() if isinstance(v, Rule)
        ]
        told = "; ".join([i.said, *rules])
        score, gain = ("" if x is None else f"{x:{form}}" for x, form in ((i.published, ".2f"), (step, "+.2f")))
        table.add_row(", ".join(i.tricks), told, score, gain, i.status)
    console.print(table)
    marks = dict.fromkeys([p.status, p.together_status, *(i.status for i in p.ingredients)])
    console.print("; ".join(f"{mark}: {STATUS[mark]}" for mark in marks if mark))
    console.print(f"harness ablate {PREFIX}{p.name} --design {p.design}", style="bold", soft_wrap=True)


def _rule(rule: Rule) -> str:
    """How a value carries over, in words."""
    what: dict[str, Any] = {"half_life": "of training as the half-life"}
    return f"here {rule.times:g} {what.get(rule.of, f'of the {rule.of} of the recipe')}"
