"""The command line: the only place that parses arguments and prints.

Imports are inside the commands, so that help, argument errors and reports start without torch.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from harness.analysis.types import Analysis
    from harness.experiment import Experiment
    from harness.study.plan import Plan
    from harness.training.execute import Place

app = typer.Typer(
    name="harness",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Does this training trick help my image classifier, by how much, how sure are we, and what does it cost?",
)

ExperimentOption = Annotated[str, typer.Option("--experiment", "-e", help="Bundled experiment name or .toml path.")]
DesignOption = Annotated[str | None, typer.Option(help="Which arms to make of the tricks: one_at_a_time.")]
SeedsOption = Annotated[int | None, typer.Option(min=1, help="Number of seeds (blocks); default from the experiment.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="TRICK.PARAM=VALUE, or recipe.epochs=5; may be repeated.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Runs at a time; default: CPU cores, or 1 on a GPU.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="CPU threads of each run; part of the fingerprint.")]
ResultsOption = Annotated[Path, typer.Option(help="Folder of all studies' rows.")]
ReportsOption = Annotated[Path, typer.Option(help="Folder of the HTML reports.")]
DataRootOption = Annotated[
    Path | None, typer.Option(help="Folder of the data sets; default $HARNESS_DATA or ~/.cache/harness.")
]
NameOption = Annotated[str | None, typer.Option(help="Name of the study; made from experiment and tricks by default.")]
PluginOption = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="Python file with tricks of your own. Runs its code: use files you trust."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would run, and stop.")]
CheckOption = Annotated[bool, typer.Option("--check", help="Verify the tricks' contract at every step (slower).")]


@app.command()
def ablate(
    tricks: Annotated[
        list[str] | None, typer.Argument(help="Trick names; join names with + to make one arm of them.")
    ] = None,
    experiment: ExperimentOption = "digits",
    design: DesignOption = None,
    seeds: SeedsOption = None,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    threads: ThreadsOption = 1,
    results: ResultsOption = Path("results"),
    reports: ReportsOption = Path("reports"),
    data_root: DataRootOption = None,
    name: NameOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    check: CheckOption = False,
) -> None:
    """Train the baseline and the baseline plus each trick over paired seeds, and report the difference."""
    from harness.tricks import registry

    for path in plugin or []:
        registry.add_plugin(path)
    if not tricks:
        raise UserError(f"name at least one trick. Known: {', '.join(registry.names())}")
    for arm in tricks:
        for trick in arm.split("+"):
            registry.check(trick)
    study(
        experiment, tricks, design, seeds, settings, device, workers, threads, results, reports, data_root, name,
        plugin, as_json, dry_run, check,
    )  # fmt: skip


@app.command()
def run(
    experiment: Annotated[str, typer.Argument(help="Experiment name or .toml path; its [study] says what to run.")],
    seeds: SeedsOption = None,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    threads: ThreadsOption = 1,
    results: ResultsOption = Path("results"),
    reports: ReportsOption = Path("reports"),
    data_root: DataRootOption = None,
    name: NameOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    check: CheckOption = False,
) -> None:
    """Run the study that an experiment file declares in its [study] section."""
    from harness.experiment import load_experiment
    from harness.tricks import registry

    for path in plugin or []:
        registry.add_plugin(path)
    declared = load_experiment(experiment).study
    if not declared.tricks:
        raise UserError(f"{experiment} names no tricks in [study]; add tricks = [...] or use `harness ablate TRICK`")
    study(
        experiment, list(declared.tricks), declared.design, seeds, settings, device, workers, threads, results,
        reports, data_root, name, plugin, as_json, dry_run, check,
    )  # fmt: skip


def study(
    experiment: str,
    tricks: list[str],
    design: str | None,
    seeds: int | None,
    settings: list[str] | None,
    device: str,
    workers: int | None,
    threads: int,
    results: Path,
    reports: Path,
    data_root: Path | None,
    name: str | None,
    plugins: list[Path] | None,
    as_json: bool,
    dry_run: bool,
    check: bool,
) -> None:
    """Plan, run and report one study: what `ablate` and `run` have in common."""
    from rich.console import Console

    from harness.experiment import find_experiment, load_experiment

    log = Console(stderr=True, highlight=False)
    loaded = load_experiment(experiment, _overrides(settings or []))
    from harness.study.plan import make_plan  # imports torch, so only when the input is known to be good

    design = design or loaded.study.design
    seed_list = range(seeds or loaded.study.seeds)
    command = ["harness", "ablate", *tricks, "--experiment", experiment, "--seeds", str(len(seed_list))]
    command += ["--design", design] if design != "one_at_a_time" else []
    command += [word for text in settings or [] for word in ("--set", text)]
    command += [word for path in plugins or [] for word in ("--plugin", str(path))]
    place = _place(device, threads, data_root, check)
    plan = make_plan(
        loaded,
        tricks,
        design=design,
        seeds=seed_list,
        place=place,
        results=results,
        command=shlex.join(command),
        toml=find_experiment(experiment).read_text(encoding="utf-8"),
        name=name,
    )
    for problem in plan.problems:
        log.print(f"warning: {problem}", style="yellow", markup=False, soft_wrap=True)
    workers = workers or (1 if place.device.startswith("cuda") else os.cpu_count() or 1)
    if dry_run:
        _print_plan(plan, as_json)
        return
    _train(plan, loaded, place, results, workers, plugins or [], log)

    from harness.report.build import write_report

    page, analysis = write_report(results / plan.manifest.study, reports)
    _print_verdicts(analysis, page, plan.manifest.study, as_json)


def _overrides(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`--set` values by section and key: trick.param=value, or section.key=value for recipe, data, model.

    Raises:
        UserError: not of the form NAME.KEY=VALUE.
    """
    import tomllib

    from harness.tricks import registry

    out: dict[str, dict[str, Any]] = {}
    for text in settings:
        left, equals, right = text.partition("=")
        section, dot, key = left.partition(".")
        if not (equals and dot and section and key):
            raise UserError(f"--set {text}: write NAME.KEY=VALUE, for example mixup.alpha=0.4 or recipe.epochs=5")
        try:
            value: Any = tomllib.loads(f"value = {right}")["value"]
        except tomllib.TOMLDecodeError:
            value = right  # a bare word is a string
        if section in ("experiment", "data", "model", "recipe", "study"):
            target = out.setdefault(section, {})
        else:
            registry.check(section)
            target = out.setdefault("tricks", {}).setdefault(section, {})
        *nested, last = key.split(".")
        for part in nested:
            target = target.setdefault(part, {})
        target[last] = value
    return out


def _place(device: str, threads: int, data_root: Path | None, check: bool) -> Place:
    from harness.data.sources import data_root as default_root
    from harness.training.execute import Place
    from harness.training.provenance import resolve_device

    root = data_root or default_root()
    if data_root is not None and not data_root.is_dir():
        raise UserError(f"--data-root {data_root}: no such folder")
    return Place(data_root=root.absolute(), device=resolve_device(device), threads=threads, check=check)


def _train(
    plan: Plan,
    loaded: Experiment,
    place: Place,
    results: Path,
    workers: int,
    plugins: Sequence[Path],
    log: Console,
) -> None:
    """Do the missing runs with a progress bar and a line for each."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from harness.data.sources import load_source
    from harness.experiment import Arm, spec_of
    from harness.store.writer import prepare
    from harness.study.runner import run_study
    from harness.training.execute import set_up

    total, missing = len(plan.specs), len(plan.missing)
    prepare(results / plan.manifest.study)
    if missing:
        set_up(spec_of(loaded, Arm(), seed=0), place)  # data, sizes and model are refused here, not in every run
        log.print(f"{plan.manifest.study}: {total} runs, {total - missing} done already, {missing} to train")
        for path, why in load_source(loaded.data, place.data_root).unreadable:
            log.print(f"warning: {path}: {why}, left out", style="yellow", markup=False, soft_wrap=True)
    else:
        log.print(f"{plan.manifest.study}: all {total} runs are done already")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=log, transient=True) as progress:
        task = progress.add_task("training", total=total, completed=total - missing)
        for done in run_study(plan, place, results, workers, plugins):
            progress.advance(task)
            what = f"val {done.val_accuracy:.1%}" if done.val_accuracy is not None else f"{done.status}: {done.reason}"
            log.print(f"  {done.arm}, seed {done.seed}: {what} ({done.seconds:.1f} s)", markup=False, soft_wrap=True)


def _print_plan(plan: Plan, as_json: bool) -> None:
    manifest = plan.manifest
    facts: dict[str, Any] = {
        "study": manifest.study,
        "arms": [a.label for a in manifest.arms],
        "seeds": len(manifest.seeds),
        "runs": len(plan.specs),
        "to_train": len(plan.missing),
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(f"{manifest.study}: {len(manifest.arms)} arms x {len(manifest.seeds)} seeds = {len(plan.specs)} runs")
    typer.echo(f"  arms: {', '.join(facts['arms'])}")
    typer.echo(f"  to train: {len(plan.missing)} (the others are stored)")


def _print_verdicts(analysis: Analysis, page: Path, study: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_as_json(analysis, page, study), indent=2))
        return
    for effect in analysis.effects:
        typer.echo(effect.verdict.sentence)
    typer.echo(f"report: {page}")


def _as_json(analysis: Analysis, page: Path, study: str) -> dict[str, Any]:
    """One document with every number; NaN, which JSON lacks, becomes null."""
    from dataclasses import asdict

    def clean(value: Any) -> Any:
        if isinstance(value, float) and value != value:
            return None
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [clean(v) for v in value]
        return value

    document: dict[str, Any] = clean({"study": study, "report": str(page), **asdict(analysis)})
    return document


@app.command()
def report(
    studies: Annotated[
        list[str] | None, typer.Argument(help="Study names; all in the results folder by default.")
    ] = None,
    output: Annotated[
        str, typer.Option("--format", help="html (a file), or csv, markdown or latex (the table on stdout).")
    ] = "html",
    results: ResultsOption = Path("results"),
    reports: ReportsOption = Path("reports"),
    metric: Annotated[str | None, typer.Option(help="Another stored metric, for example test_nll.")] = None,
) -> None:
    """Write the report of finished studies again. Needs no torch and trains nothing."""
    from harness.report.build import FORMATS, study_dirs, table, write_report

    if output not in FORMATS:
        raise UserError(f"--format {output}: choose one of {', '.join(FORMATS)}")
    for study_dir in study_dirs(results, studies or []):
        if output == "html":
            page, _ = write_report(study_dir, reports, metric)
            typer.echo(f"report: {page}")
        else:
            typer.echo(table(study_dir, output, metric))


@app.command()
def tricks(
    name: Annotated[str | None, typer.Argument(help="Show the card of one trick.")] = None,
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the tricks by family, or show one trick's card."""
    from harness.tricks import registry
    from harness.tricks.cards import card, cards

    for path in plugin or []:
        registry.add_plugin(path)
    if name is not None:
        registry.check(name)
        if as_json:
            typer.echo(json.dumps(card(name), indent=2))
        else:
            _print_card(card(name))
        return
    listed = [c for c in cards() if family in (None, c["family"])]
    if not listed:
        known = sorted({str(c["family"]) for c in cards()})
        raise UserError(f"--family {family}: no such family. Known: {', '.join(known)}")
    if as_json:
        typer.echo(json.dumps(listed, indent=2))
    else:
        _print_cards(listed)


def _print_cards(listed: list[dict[str, Any]]) -> None:
    """One line for each trick, grouped by family."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    out = Table(box=None, pad_edge=False)
    for column in ("family", "trick", "cost", "what it does", "not with"):
        out.add_column(column, overflow="fold", justify="right" if column == "cost" else "left")
    last = None
    for c in listed:
        family = c["family"] if c["family"] != last else ""
        last = c["family"]
        out.add_row(family, c["name"], f"{c['cost']:.2f}x", c["summary"], ", ".join(c["excludes"]))
    console.print(out)
    console.print(f"{len(listed)} tricks. `harness tricks NAME` shows a card.", highlight=False)


def _print_card(c: dict[str, Any]) -> None:
    """A trick's card as text."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"[bold]{c['name']}[/bold]  ({c['family']}, version {c['version']}, expected step time {c['cost']:.2f}x)"
    )
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for key in ("summary", "formula", "paper", "differs", "expect"):
        facts.add_row(key, c[key])
    for other, why in c["excludes"].items():
        facts.add_row("not with", f"{other}: {why}")
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


@app.command()
def doctor(
    device: DeviceOption = "auto", data_root: DataRootOption = None, results: ResultsOption = Path("results")
) -> None:
    """Say what this machine offers and what is missing: packages, devices, data, folders."""
    from harness.study.doctor import examine

    healthy = True
    for what, good, detail in examine(device, data_root, results):
        healthy &= good
        typer.echo(f"{'ok  ' if good else 'FAIL'}  {what}: {detail}")
    if not healthy:
        raise typer.Exit(1)


def main() -> None:
    """Entry point: user errors and failing file systems end with one line and exit code 2, never a traceback."""
    try:
        app(standalone_mode=True)
    except UserError as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("stopped; finished runs are stored, and the same command goes on from here", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        typer.echo(f"error: {error.strerror or error}{where}; finished runs are stored", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
