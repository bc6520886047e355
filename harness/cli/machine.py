"""This machine and this checkout: `bench`, `doctor`, and skeletons of new parts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import AsJson, DataRoot, Device, Results, print_json


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Two minutes instead of ten.")] = False,
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Measure the engine against hand-written loops on this machine, as ratios in one process."""
    from datetime import UTC, datetime

    from harness.bench import run_bench
    from harness.bench.rows import BenchRow

    def show(row: BenchRow) -> None:
        met = {True: "ok  ", False: "MISS", None: "    "}[row.met]
        spread = f" [{row.low:.3g}, {row.high:.3g}]" if row.n > 1 else ""
        aim = f", target {row.target}" if row.target else ""
        typer.echo(f"{met}  {row.name}: {row.value:.3g} {row.unit}{spread} (n = {row.n}){aim}", err=as_json)

    path = results / "bench" / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.json"
    rows = run_bench(quick, path, show)
    if as_json:
        print_json([asdict(r) for r in rows])
    else:
        typer.echo(f"stored: {path}")


def doctor(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A network, as timm/convnext_atto or mine.py:Net: its size, what surgery finds in it, and which "
            "tricks its library built in."
        ),
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="Channels of the network's images.")] = 3,
    size: Annotated[int | None, typer.Option(min=4, max=1024, help="Side of the network's images in pixels.")] = None,
    device: Device = "auto",
    data_root: DataRoot = None,
    results: Results = Path("results"),
) -> None:
    """Say what this machine offers and what is missing: packages, devices, data, folders. Or what a network has."""
    from harness.study.doctor import examine, examine_network

    healthy = True
    facts = examine_network(model, channels, size) if model is not None else examine(device, data_root, results)
    for what, good, detail in facts:
        healthy &= good
        typer.echo(f"{'ok  ' if good else 'FAIL'}  {what}: {detail}")
    if not healthy:
        raise typer.Exit(1)


def new_trick(
    name: Annotated[str, typer.Argument(help="Name of the trick and of its file.")],
    family: Annotated[str, typer.Argument(help="Family, which is the folder.")],
) -> None:
    """Write the skeleton of a trick and of its test into this checkout."""
    from harness.tricks.scaffold import new_trick

    for path in new_trick(name, family, Path.cwd()):
        typer.echo(f"wrote {path.relative_to(Path.cwd())}")
    typer.echo("when its card is written, `make cards` adds it to harness/tricks/index.json")


PartName = Annotated[str, typer.Argument(help="Name of the file, in this folder.")]


def new_network(name: PartName) -> None:
    """Write the skeleton of a network of your own and of its test into this folder."""
    _new_part("network", name, "model.name")


def new_data(name: PartName) -> None:
    """Write the skeleton of a data set of your own and of its test into this folder."""
    _new_part("data", name, "data.name")


def _new_part(kind: str, name: str, key: str) -> None:
    from harness.testing.skeletons import CALLED, new_part

    for path in new_part(kind, name, Path.cwd()):
        typer.echo(f"wrote {path.name}")
    part = CALLED[kind] or "".join(word.capitalize() for word in name.split("_"))
    typer.echo(f'{key} = "{name}.py:{part}"; pytest test_{name}.py holds it to what runs rest on')
