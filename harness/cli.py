"""The command line: the only place that parses arguments and prints.

Imports are inside the commands, so that help, argument errors and reports start without torch.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.analysis.interactions import DesignAnalysis
    from harness.experiment import Experiment
    from harness.search.plan import SearchPlan
    from harness.study.forecast import Forecast
    from harness.study.plan import Plan
    from harness.training.session import Place

MAX_SEEDS = 20

app = typer.Typer(
    name="harness",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Does this training trick help my image classifier, by how much, how sure are we, and what does it cost?",
)

Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="Python file with tricks of your own. Runs its code: use files you trust."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Results = Annotated[Path, typer.Option(help="Folder of all studies' rows.")]
Reports = Annotated[Path, typer.Option(help="Folder of the HTML reports.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder of the data sets; default $HARNESS_DATA or ~/.cache/harness.")
]


@dataclass(frozen=True)
class Options:
    """What `ablate`, `run` and `plan` have in common; the fields are the parameters of `ablate`."""

    tricks: list[str] | None
    experiment: str
    design: str | None
    seeds: str | None
    until_decided: bool
    max_seeds: int | None
    max_arms: int | None
    cross: str | None
    margin: float | None
    budget: str | None
    settings: list[str] | None
    device: str
    workers: str | None
    threads: int
    results: Path
    reports: Path
    data_root: Path | None
    name: str | None
    plugins: list[Path] | None
    as_json: bool
    dry_run: bool
    check: bool


@dataclass(frozen=True)
class SearchOptions:
    """The parameters of `search`."""

    tricks: list[str] | None
    experiment: str
    trials: int
    seeds: int
    fresh: int | None
    nuisance: str | None
    sampler: str
    pruner: str | None
    objectives: str
    storage: str | None
    workers: str | None
    timeout: str | None
    settings: list[str] | None
    export: Path | None
    device: str
    threads: int
    results: Path
    reports: Path
    data_root: Path | None
    name: str | None
    plugins: list[Path] | None
    as_json: bool
    dry_run: bool


@app.command()
def ablate(
    tricks: Annotated[
        list[str] | None, typer.Argument(help="Trick names; join names with + to make one arm of them.")
    ] = None,
    experiment: Annotated[
        str, typer.Option("--experiment", "-e", help="Bundled experiment name or .toml path.")
    ] = "digits",
    design: Annotated[
        str | None,
        typer.Option(
            help="Which arms to make: one_at_a_time, leave_one_out, cumulative, greedy, pairs, factorial, fractional, "
            "sweep (mixup.alpha=0.2,1) or aa (the baseline against itself)."
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Number of seeds (blocks), or auto: enough to find the margin.")
    ] = None,
    until_decided: Annotated[
        bool, typer.Option("--until-decided", help="Look at 5, 10, 20, ... seeds and stop when every arm is decided.")
    ] = False,
    max_seeds: Annotated[
        int | None, typer.Option(min=5, help="Most seeds of --until-decided and --seeds auto; 20 by default.")
    ] = None,
    max_arms: Annotated[int | None, typer.Option(min=2, help="Most arms of a factorial or fractional design.")] = None,
    cross: Annotated[
        str | None, typer.Option(help="Repeat the study under conditions: data.label_noise=0,0.2,0.5.")
    ] = None,
    margin: Annotated[float | None, typer.Option(help="Smallest effect that matters, in points.")] = None,
    budget: Annotated[str | None, typer.Option(help="Most time for --seeds auto, for example 20m.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="TRICK.PARAM=VALUE, or recipe.epochs=5; may be repeated.")
    ] = None,
    device: Device = "auto",
    workers: Annotated[
        str | None,
        typer.Option(help="Runs at a time (default: CPU cores, or 1 on a GPU), ray, or ray://HOST:PORT."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each run; part of the fingerprint.")] = 1,
    results: Results = Path("results"),
    reports: Reports = Path("reports"),
    data_root: DataRoot = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the study; made from experiment and tricks by default.")
    ] = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and stop: `harness plan`.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Verify the tricks' contract at every step (slower).")] = False,
) -> None:
    """Train the baseline and the baseline plus each trick over paired seeds, and report the difference."""
    _study(Options(**locals()))


def _variant(text: str, annotations: dict[str, Any], **fixed: Any) -> Callable[..., None]:
    """`ablate` under another name: with some parameters fixed and some declared otherwise."""
    signature = inspect.signature(ablate, eval_str=True)
    kept = {n: p for n, p in signature.parameters.items() if n not in fixed}
    for parameter, annotation in annotations.items():
        kept[parameter] = kept[parameter].replace(annotation=annotation, default=inspect.Parameter.empty)

    def command(**options: Any) -> None:
        _study(Options(**options, **fixed))

    parameters = sorted(kept.values(), key=lambda p: p.default is not inspect.Parameter.empty)
    command.__doc__ = text
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


app.command("plan")(_variant("Say what a study would run, how long it takes and what it could find.", {}, dry_run=True))
app.command("run")(
    _variant(
        "Run the study that an experiment file declares under study.",
        {"experiment": Annotated[str, typer.Argument(help="Experiment name or .toml path.")]},
        tricks=[],
    )
)


@app.command()
def search(
    tricks: Annotated[
        list[str] | None, typer.Argument(help="Trick names; join names with + to make one arm of them.")
    ] = None,
    experiment: Annotated[
        str, typer.Option("--experiment", "-e", help="Bundled experiment name or .toml path.")
    ] = "digits",
    trials: Annotated[int, typer.Option(min=1, help="Trials of each arm, the baseline included.")] = 30,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that each trial is trained on.")] = 5,
    fresh: Annotated[
        int | None, typer.Option(min=1, help="Further seeds, for the winners; default: as many as the experiment has.")
    ] = None,
    nuisance: Annotated[
        str | None, typer.Option(help="Numbers of the recipe to search, too: lr,weight_decay by default; or none.")
    ] = None,
    sampler: Annotated[str, typer.Option(help="tpe, gp, random, grid or halton.")] = "tpe",
    pruner: Annotated[
        str | None, typer.Option(help="wilcoxon stops a trial that loses seed by seed against the best one; or none.")
    ] = None,
    objectives: Annotated[
        str, typer.Option(help="accuracy, or several for a front: accuracy,seconds or accuracy,memory.")
    ] = "accuracy",
    storage: Annotated[
        str | None,
        typer.Option(help="journal:PATH, or an Optuna URL such as postgresql+psycopg2://...; default: a SQLite file."),
    ] = None,
    workers: Annotated[str | None, typer.Option(help="Trials at a time (default: CPU cores, or 1 on a GPU).")] = None,
    timeout: Annotated[str | None, typer.Option(help="No trial begins after this time, for example 20m.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="TRICK.PARAM=VALUE, or recipe.epochs=5; may be repeated.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write the winner (of several arms, the best on validation) as an experiment.")
    ] = None,
    device: Device = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each run; part of the fingerprint.")] = 1,
    results: Results = Path("results"),
    reports: Reports = Path("reports"),
    data_root: DataRoot = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the search; made from experiment and tricks by default.")
    ] = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be searched, and stop.")] = False,
) -> None:
    """Tune the baseline and each arm with the same number of trials, and compare the winners on fresh seeds."""
    _search(SearchOptions(**locals()))


def _study(o: Options) -> None:
    """Plan, run and report a study, or one for each condition."""
    from rich.console import Console

    from harness.experiment import load_experiment
    from harness.tricks import registry

    for path in o.plugins or []:
        registry.add_plugin(path)
    if o.tricks is None and o.design != "aa":
        raise UserError(f"name at least one trick. Known: {', '.join(registry.names())}")
    for arm in o.tricks or []:
        for trick in arm.split("+"):
            registry.check(trick.split(".")[0].split("=")[0])
    overrides = _overrides(o.settings or [])
    if o.margin is not None:
        overrides.setdefault("experiment", {})["margin"] = o.margin
    loaded = load_experiment(o.experiment, overrides)
    tricks = o.tricks or list(loaded.study.tricks)
    if not tricks and o.design != "aa":
        raise UserError(f"{o.experiment} names no tricks in [study]; add tricks = [...] or use `harness ablate TRICK`")
    if o.seeds not in (None, "auto") and not (o.seeds.isdigit() and int(o.seeds)):
        raise UserError(f"--seeds {o.seeds}: a number of seeds from 1, or auto")
    if o.until_decided and o.seeds is not None:
        raise UserError(
            f"--seeds {o.seeds} with --until-decided: the looks decide how many; limit them with --max-seeds"
        )
    if o.budget is not None and o.seeds != "auto":
        raise UserError(f"--budget {o.budget}: it limits --seeds auto, which is not asked for")
    if o.max_seeds is not None and o.seeds != "auto" and not o.until_decided:
        raise UserError(f"--max-seeds {o.max_seeds}: it limits --seeds auto and --until-decided; ask for one of them")

    # Everything below imports torch, so it comes when the input is known to be good.
    log = Console(stderr=True, highlight=False)
    place = _place(o.device, o.threads, o.data_root, o.check)
    if o.cross is None:
        done = [_one_study(o, tricks, loaded, o.name, place, log)]
    else:
        from harness.study.conditions import cross

        done = []
        for label, condition in cross(loaded, o.cross):
            done.append(_one_study(o, tricks, condition, label, place, log))
    if o.dry_run:
        shown = [facts for _, facts in done]
        if o.as_json:
            typer.echo(json.dumps(shown[0] if len(shown) == 1 else shown, indent=2))
        return
    if len(done) > 1:
        _print_comparison([name for name, _ in done], o.results, o.as_json)
    elif o.as_json:
        typer.echo(json.dumps(done[0][1], indent=2))


def _one_study(
    o: Options, tricks: list[str], loaded: Experiment, name: str | None, place: Place, log: Console
) -> tuple[str, dict[str, Any]]:
    """One study from plan to page; returns its name and, for --json, everything about it."""
    from harness.analysis.sequential import calibrate, looks_until
    from harness.report.build import write_report
    from harness.study.forecast import affordable, choose_seeds, forecast
    from harness.study.plan import make_plan, study_name

    workers = _workers(o.workers, place)
    design = o.design or loaded.study.design
    if o.cross is not None:
        name = f"{o.name or study_name(loaded.experiment.name, design, tricks)}-{name}"
    most = o.max_seeds or MAX_SEEDS
    looks = looks_until(most) if o.until_decided else ()
    if looks:
        study = loaded.study.model_copy(update={"alpha": calibrate(looks, loaded.study.alpha)})
        loaded = loaded.model_copy(update={"study": study})

    def planned(seeds: int, note: str = "") -> Plan:
        return make_plan(
            loaded, tricks, design=design, seeds=range(seeds), place=place, results=o.results,
            command=_command(o, tricks), toml=_toml(o.experiment), name=name, max_arms=o.max_arms, note=note,
        )  # fmt: skip

    seeds = int(o.seeds) if o.seeds not in (None, "auto") else loaded.study.seeds
    note = ""
    if design.replace("-", "_") == "greedy":
        if o.dry_run:
            raise UserError("design greedy: its arms depend on results, so it has no plan; plan `cumulative` instead")
        tricks, note = _greedy(o, tricks, loaded, seeds, place, log)
        design = "cumulative"
    plan = planned(looks[0] if looks else seeds, note)
    if o.seeds == "auto":
        ahead = forecast(plan, loaded, place, o.results, _slots(workers))
        seeds = choose_seeds(ahead, affordable(ahead, o.budget, most))
        plan = planned(seeds, note)
    for problem in plan.problems:
        log.print(f"warning: {problem}", style="yellow", markup=False, soft_wrap=True)
    if o.dry_run:
        ahead = forecast(plan, loaded, place, o.results, _slots(workers))
        if not o.as_json:
            _print_plan(plan, ahead)
        return plan.manifest.study, {"study": plan.manifest.study, "arms": _arms(plan), **asdict(ahead)}
    for i, n in enumerate(looks or (seeds,)):
        if looks:
            plan = planned(n, f"Sequential: looks at {', '.join(map(str, looks))} seeds, each at level "
                              f"{loaded.study.alpha:.4f}, which keep the declared level over all looks; "
                              f"this is look {i + 1}.")  # fmt: skip
        _train(plan, loaded, place, o.results, workers, o.plugins or [], log)
        page, written = write_report(o.results / plan.manifest.study, o.reports)
        analysis = written.analysis
        undecided = [e.arm for e in analysis.effects if e.verdict.kind in ("undecided", "no verdict")]
        if looks and undecided:
            log.print(f"after {n} seeds undecided: {', '.join(undecided)}", markup=False, soft_wrap=True)
        if not undecided:
            break
    findings = written.findings()
    if not o.as_json:
        for effect in analysis.effects:
            typer.echo(effect.verdict.sentence)
        if written.design is not None:
            _print_design(written.design)
        for finding, arms in findings:
            if finding.severity != "info":
                typer.echo(f"{finding.severity}: {finding.title} ({', '.join(arms)}): {finding.evidence}")
        typer.echo(f"report: {page}")
    found = [{**asdict(finding), "arms": arms} for finding, arms in findings]
    facts: dict[str, Any] = {"study": plan.manifest.study, "report": str(page), "findings": found}
    if written.design is not None:
        facts["design"] = asdict(written.design)
    return plan.manifest.study, _clean(facts | asdict(analysis))


def _print_design(design: DesignAnalysis) -> None:
    """Main effects, interactions and steps, one line each; the page has all tables."""
    for kind, estimates in (
        ("main effect", design.fit.main if design.fit else ()),
        ("interaction", design.interactions),
        ("step", design.steps),
    ):
        for e in estimates:
            typer.echo(
                f"{kind} {e.name}: {e.mean:+.2f} {design.unit} [{e.low:.2f}, {e.high:.2f}] over {e.n} seeds, "
                f"p = {e.p:.2g}, {e.p_holm:.2g} after Holm's correction"
            )
    for note in design.notes:
        typer.echo(f"note: {note}")


def _greedy(
    o: Options, tricks: list[str], loaded: Experiment, seeds: int, place: Place, log: Console
) -> tuple[list[str], str]:
    """The tricks in greedy order, from studies of their own, and the sentence that says so."""
    from harness.store.reader import read_study
    from harness.study.greedy import greedy_order
    from harness.study.plan import clashes, make_plan

    def values(arms: Sequence[str]) -> dict[str, float]:
        plan = make_plan(
            loaded, arms, design="one_at_a_time", seeds=range(seeds), place=place, results=o.results,
            command=_command(o, tricks), toml=_toml(o.experiment),
        )  # fmt: skip
        _train(plan, loaded, place, o.results, _workers(o.workers, place), o.plugins or [], log)
        rows = read_study(o.results / plan.manifest.study, predictions=False).runs.set_index("run_id")["val_accuracy"]
        by_tricks = {frozenset(a.tricks): rows.reindex(list(a.run_ids.values())).mean() for a in plan.manifest.arms}
        return {arm: float(by_tricks[frozenset(arm.split("+"))]) for arm in arms}

    order, refused = greedy_order(tricks, values, lambda arm: bool(clashes(loaded, arm)))
    note = f"The order {', '.join(order)} was chosen greedily by validation accuracy on the same seeds."
    return order, note + (f" Left out, because they clash with the stack: {', '.join(refused)}." if refused else "")


def _command(o: Options, tricks: list[str]) -> str:
    """What reproduces the study: the options that change its numbers, and no others."""
    words = ["harness", "ablate", *tricks, "--experiment", o.experiment]
    for flag, value in (
        ("--design", o.design), ("--seeds", o.seeds), ("--max-arms", o.max_arms), ("--margin", o.margin),
        ("--cross", o.cross), ("--budget", o.budget),
    ):  # fmt: skip
        words += [flag, str(value)] if value is not None else []
    if o.until_decided:
        words += ["--until-decided"]
    words += ["--max-seeds", str(o.max_seeds)] if o.max_seeds is not None else []
    words += [word for text in o.settings or [] for word in ("--set", text)]
    words += ["--threads", str(o.threads)] if o.threads != 1 else []
    words += [word for path in o.plugins or [] for word in ("--plugin", str(path))]
    return shlex.join(words)


def _search(o: SearchOptions) -> None:
    """Plan, do and report a search."""
    from rich.console import Console

    from harness.experiment import Arm, load_experiment, spec_of
    from harness.tricks import registry

    for path in o.plugins or []:
        registry.add_plugin(path)
    if not o.tricks:
        raise UserError(f"name at least one trick. Known: {', '.join(registry.names())}")
    for arm in o.tricks:
        for trick in arm.split("+"):
            registry.check(trick)
    loaded = load_experiment(o.experiment, _overrides(o.settings or []))
    if o.export is not None and not o.export.absolute().parent.is_dir():
        raise UserError(f"--export {o.export}: no such folder {o.export.parent}")

    # Everything below imports torch, so it comes when the input is known to be good.
    from harness.search.plan import plan_search
    from harness.study.forecast import parse_budget
    from harness.training.session import set_up

    log = Console(stderr=True, highlight=False)
    place = _place(o.device, o.threads, o.data_root, check=False)
    workers = _workers(o.workers, place)
    if isinstance(workers, str):
        raise UserError(
            f"--workers {o.workers}: a search trains on this machine; start the same command on others, too, with "
            "--storage and a results folder that they share"
        )
    seconds = math.inf if o.timeout is None else parse_budget(o.timeout, "--timeout")
    data = set_up(spec_of(loaded, Arm(), seed=0), place).run.data  # refuses data and models that no run could use
    plan = plan_search(
        loaded, o.tricks, data, trials=o.trials, seeds=o.seeds, fresh=o.fresh, nuisance=o.nuisance,
        objectives=o.objectives, sampler=o.sampler, pruner=o.pruner, name=o.name, command=_search_command(o),
        toml=_toml(o.experiment),
    )  # fmt: skip
    if o.dry_run:
        _print_search_plan(plan, place, workers, o)
        return
    if not _do_search(plan, place, workers, seconds, o, log):
        log.print(f"time is up after {o.timeout}; the same command goes on from here", soft_wrap=True)
    _report_search(plan, o)


def _do_search(plan: SearchPlan, place: Place, workers: int, seconds: float, o: SearchOptions, log: Console) -> bool:
    """Do the trials and, when every arm has had its budget, the comparisons; returns whether it had."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from harness.search.engine import open_engine
    from harness.search.summary import trial_line

    deadline = time.monotonic() + seconds
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with (
            open_engine(plan, place, o.results, o.storage, workers, o.plugins or []) as engine,
            Progress(*columns, console=log, transient=True) as progress,
        ):
            ended, total = engine.ended, sum(arm.trials for arm in plan.arms)
            log.print(
                f"{plan.search}: {len(plan.arms)} arms, {total} trials of {len(plan.tuning_seeds)} seeds, "
                f"{ended} ended already", soft_wrap=True,
            )  # fmt: skip
            for note in plan.notes:
                log.print(f"note: {note}", markup=False, soft_wrap=True)
            task = progress.add_task("trials", total=total, completed=ended)
            for done in engine.trials(deadline):
                progress.update(task, completed=engine.ended)
                log.print(f"  {trial_line(done.arm, done.trial)}", markup=False, soft_wrap=True)
            if not engine.complete:
                engine.leave(f"It ended after {o.timeout}, before every arm had its {plan.trials} trials.")
                return False
            log.print("every arm has had its trials; the winners go on to fresh seeds", soft_wrap=True)
            task = progress.add_task("fresh seeds", total=None)
            for _, runs in engine.compare():
                progress.update(task, total=runs, advance=1)
            return True
    except KeyboardInterrupt:
        log.print("stopped; finished runs are stored, and the same command goes on from here", soft_wrap=True)
        raise typer.Exit(130) from None


def _report_search(plan: SearchPlan, o: SearchOptions) -> None:
    """Write the page and the export of a search's record, and print what it found."""
    from harness.report.search_page import winner_command, write_search
    from harness.search.export import best_arm, export
    from harness.search.summary import analyses, fresh_runs, lines
    from harness.store.reader import read_search

    folder = o.results / plan.search
    record = read_search(folder)
    page = write_search(folder, o.reports)
    runs = fresh_runs(folder, record)
    found = analyses(record, runs)
    best = best_arm(record) if o.export is not None else None
    if o.export is not None and best is not None:
        export(plan, *best, o.export)
    if o.as_json:
        facts = {"search": record.search, "report": str(page)} | record.model_dump(mode="json")
        typer.echo(json.dumps(_clean(facts | {"comparisons": {k: asdict(a) for k, a in found.items()}}), indent=2))
        return
    for arm in record.arms:
        for line in lines(record, arm, found, runs):
            typer.echo(line)
        won = next((t for t in arm.trials if t.number == arm.winner), None)
        if won is not None:
            typer.echo(f"  use it: {winner_command(record, arm, won)}")
    for note in record.notes[len(plan.notes) :]:  # the others were said before the search
        typer.echo(f"note: {note}")
    if best is not None:
        several = " (of the arms with tricks, the best on validation)" if len(record.arms) > 2 else ""
        typer.echo(f"experiment: {o.export}, with the values of {best[0].label}{several}")
    elif o.export is not None:
        typer.echo(f"experiment: {o.export} is not written, because no arm with tricks has a winner")
    typer.echo(f"report: {page}")


def _search_command(o: SearchOptions) -> str:
    """What reproduces the search: the options that change its numbers, and no others."""
    words = ["harness", "search", *(o.tricks or []), "--experiment", o.experiment]
    for flag, value in (
        ("--trials", o.trials), ("--seeds", o.seeds), ("--fresh", o.fresh), ("--nuisance", o.nuisance),
        ("--sampler", o.sampler), ("--pruner", o.pruner), ("--objectives", o.objectives),
    ):  # fmt: skip
        words += [flag, str(value)] if value is not None else []
    words += [word for text in o.settings or [] for word in ("--set", text)]
    words += ["--threads", str(o.threads)] if o.threads != 1 else []
    words += [word for path in o.plugins or [] for word in ("--plugin", str(path))]
    return shlex.join(words)


def _print_search_plan(plan: SearchPlan, place: Place, workers: int, o: SearchOptions) -> None:
    """The space of every arm, the number of trials and runs, and how long that takes where runs are stored."""
    from harness.search.engine import expected_seconds

    seconds = expected_seconds(plan, place, o.results, workers)
    if o.as_json:
        arms = [
            {"arm": a.label, "trials": a.trials, "runs": plan.most_runs[a.label]}
            | {"space": {v.name: v.record() for v in a.space}}
            for a in plan.arms
        ]
        facts = {"search": plan.search, "arms": arms, "seconds": seconds, "notes": list(plan.notes)}
        typer.echo(json.dumps(_clean(facts), indent=2))
        return
    typer.echo(
        f"{plan.search}: {len(plan.arms)} arms, {plan.trials} trials each of {len(plan.tuning_seeds)} seeds "
        f"(sampler {plan.sampler}, pruner {plan.pruner}), winners on {len(plan.fresh_seeds)} fresh seeds"
    )
    for arm in plan.arms:
        typer.echo(f"  {arm.label}: {arm.trials} trials, at most {plan.most_runs[arm.label]} runs")
        for value in arm.space:
            typer.echo(f"    {value}")
    for note in plan.notes:
        typer.echo(f"  note: {note}")
    typer.echo(f"to train: at most {sum(plan.most_runs.values())} runs; stored ones are taken over")
    typer.echo(f"time: {'unknown, no run of this workload is stored' if seconds is None else _duration(seconds)}")


def _toml(experiment: str) -> str:
    from harness.experiment import find_experiment

    return find_experiment(experiment).read_text(encoding="utf-8")


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
            value = None if right == "null" else right  # TOML has no null; a bare word is a string
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
    from harness.training.provenance import resolve_device
    from harness.training.session import Place

    root = data_root or default_root()
    if data_root is not None and not data_root.is_dir():
        raise UserError(f"--data-root {data_root}: no such folder")
    return Place(data_root=root.absolute(), device=resolve_device(device), threads=threads, check=check)


def _workers(text: str | None, place: Place) -> int | str:
    """The number of local workers, or a Ray address ("local" or "ray://...")."""
    if text is None:
        return 1 if place.device.startswith("cuda") else max(1, (os.cpu_count() or 1) // place.threads)
    if text == "ray":
        return "local"
    if text.startswith("ray://"):
        return text
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"--workers {text}: a number of processes, ray, or ray://HOST:PORT")
    return int(text)


def _slots(workers: int | str) -> int:
    """How many runs go on at once, for estimates; a cluster's size is not known before it is reached."""
    return workers if isinstance(workers, int) else os.cpu_count() or 1


def _train(
    plan: Plan,
    loaded: Experiment,
    place: Place,
    results: Path,
    workers: int | str,
    plugins: Sequence[Path],
    log: Console,
) -> None:
    """Do the missing runs with a progress bar and a line for each."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from harness.data.sources import load_source
    from harness.experiment import Arm, spec_of
    from harness.store.writer import prepare
    from harness.study.runner import run_study
    from harness.training.session import set_up

    total, missing = len(plan.specs), len(plan.missing)
    prepare(results / plan.manifest.study)
    if missing:
        set_up(spec_of(loaded, Arm(), seed=0), place)  # data, sizes and model are refused here, not in every run
        log.print(
            f"{plan.manifest.study}: {total} runs, {total - missing} done already, {missing} to train", soft_wrap=True
        )
        for path, why in load_source(loaded.data, place.data_root).unreadable:
            log.print(f"warning: {path}: {why}, left out", style="yellow", markup=False, soft_wrap=True)
    else:
        log.print(f"{plan.manifest.study}: all {total} runs are done already", soft_wrap=True)
    for note in plan.manifest.notes:
        log.print(f"note: {note}", markup=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=log, transient=True) as progress:
        task = progress.add_task("training", total=total, completed=total - missing)
        try:
            for done in run_study(plan, place, results, workers, plugins):
                progress.advance(task)
                what = f"val {done.val_accuracy:.1%}" if done.val_accuracy is not None else done.status
                why = f": {done.reason}" if done.reason else ""
                log.print(
                    f"  {done.arm}, seed {done.seed}: {what}{why} ({done.seconds:.1f} s)", markup=False, soft_wrap=True
                )
        except KeyboardInterrupt:
            log.print("stopped; finished runs are stored, and the same command goes on from here", soft_wrap=True)
            raise typer.Exit(130) from None


def _arms(plan: Plan) -> list[dict[str, Any]]:
    return [{"arm": a.label, "tricks": a.tricks, "skipped": a.skipped} for a in plan.manifest.arms]


def _print_plan(plan: Plan, ahead: Forecast) -> None:
    """What would run, how long, how large, and what it could and could not find."""
    m = plan.manifest
    typer.echo(f"{m.study}: {len(m.arms)} arms x {ahead.seeds} seeds, {ahead.runs} runs ({m.scope})")
    for arm in m.arms:
        typer.echo(f"  {arm.label}" + (f"  skipped: {arm.skipped}" if arm.skipped else ""))
    for note in m.notes:
        typer.echo(f"  note: {note}")
    typer.echo(f"to train: {ahead.missing} runs; {ahead.runs - ahead.missing} are stored already")
    if ahead.missing:
        typer.echo(f"time: about {_duration(ahead.seconds)} ({ahead.seconds_from}); disk: {ahead.disk / 1e6:.1f} MB")
    if ahead.seeds < 5:
        typer.echo(f"verdicts: none; {ahead.seeds} seeds are fewer than the 5 that a verdict needs")
    if not ahead.sd_pairs:
        typer.echo(
            f"effects: no stored pairs of this workload say how much seeds vary; with 80 % power, {ahead.seeds} seeds "
            f"find effects from {ahead.smallest:.2f} standard deviations of the paired difference"
        )
        return
    typer.echo(
        f"effects: with 80 % power, {ahead.seeds} seeds find effects from {ahead.smallest:.2f} points and miss smaller "
        f"ones (paired deviation {ahead.sd:.2f} points, from {ahead.sd_pairs} stored pairs)"
    )
    if ahead.for_margin is None or ahead.for_margin > ahead.seeds:
        many = f"{ahead.for_margin} seeds" if ahead.for_margin else "more than 1000 seeds"
        typer.echo(f"  the margin of {ahead.margin:g} points would need {many}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _print_comparison(studies: list[str], results: Path, as_json: bool) -> None:
    """The same arms in several studies: effects side by side, heterogeneity, sign flips."""
    from rich.console import Console
    from rich.table import Table

    from harness.analysis.compare import compare, rows
    from harness.report.build import load, study_dirs

    comparison = compare({d.name: load(d).analysis for d in study_dirs(results, studies)})
    if as_json:
        typer.echo(json.dumps(_clean(asdict(comparison)), indent=2))
        return
    listed = rows(comparison)
    out = Table(box=None, pad_edge=False)
    for column in listed[0] if listed else ("no arm is in more than one study",):
        out.add_column(column, overflow="fold")
    for row in listed:
        out.add_row(*row.values())
    Console(highlight=False).print(out)


def _clean(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    return value


@app.command()
def compare(
    studies: Annotated[list[str], typer.Argument(help="Two or more studies in the results folder.")],
    results: Results = Path("results"),
    html: Annotated[
        Path | None, typer.Option(help="Write the comparison as a page, for example reports/clean-or-noisy.html.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the same arms across studies: two machines, versions, models or data sets."""
    if len(set(studies)) < 2:
        raise UserError(f"compare {' '.join(studies)}: name at least two different studies")
    if html is not None:
        from harness.report.build import load, study_dirs
        from harness.report.compare_page import write_comparison

        loaded = {d.name: load(d) for d in study_dirs(results, studies)}
        typer.echo(f"comparison: {write_comparison(loaded, html)}", err=as_json)
    if as_json or html is None:
        _print_comparison(studies, results, as_json)


@app.command()
def site(results: Results = Path("results"), reports: Reports = Path("reports"), plugin: Plugins = None) -> None:
    """Write every page again from stored rows: studies, searches, comparisons, tricks, the index and the feed."""
    from harness.report.site import write_site
    from harness.tricks import registry
    from harness.tricks.cards import cards

    for path in plugin or []:
        registry.add_plugin(path)
    done = write_site(results, reports, cards())
    typer.echo(
        f"site: {done.index} (studies {done.studies}, searches {done.searches}, comparisons {done.comparisons}, "
        f"tricks {done.tricks})"
    )


@app.command()
def report(
    studies: Annotated[
        list[str] | None, typer.Argument(help="Study names; all in the results folder by default.")
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "--format",
            help="html (a page), csv, markdown or latex (the table on stdout), svg, png or pdf (figures for papers).",
        ),
    ] = "html",
    figure: Annotated[
        str | None, typer.Option(help="Which figure: forest, curves, cost, pairs or all, which is the default.")
    ] = None,
    width: Annotated[float | None, typer.Option(help="Width of a figure in cm, 8.5 by default.")] = None,
    arms: Annotated[
        str | None, typer.Option(help="Only these arms of a table or figure: mixup,cutmix. All by default.")
    ] = None,
    results: Results = Path("results"),
    reports: Reports = Path("reports"),
    metric: Annotated[str | None, typer.Option(help="Another stored metric, for example test_nll.")] = None,
) -> None:
    """Write the report of finished studies again. Needs no torch and trains nothing."""
    from harness.report.build import FIGURES, FORMATS, PICTURES, is_search, study_dirs, table, write_report

    if output not in FORMATS:
        raise UserError(f"--format {output}: choose one of {', '.join(FORMATS)}")
    for flag, value in (("--figure", figure), ("--width", width)):
        if value is not None and output not in PICTURES:
            raise UserError(f"{flag} {value}: only figures have it; add --format {', '.join(PICTURES[:-1])} or pdf")
    if figure not in (None, "all", *FIGURES):
        raise UserError(f"--figure {figure}: choose one of {', '.join(FIGURES)} or all")
    if arms is not None and output == "html":
        raise UserError(f"--arms {arms}: the page has all arms; choose some for a table or a figure, with --format")
    # Commas inside parentheses belong to the label of one arm.
    chosen = [arm.strip() for arm in re.split(r",(?![^(]*\))", arms or "") if arm.strip()]
    for study_dir in study_dirs(results, studies or []):
        if is_search(study_dir):
            _report_stored_search(study_dir, output, bool(studies), reports)
        elif output in PICTURES:
            _draw(study_dir, output, FIGURES if figure in (None, "all") else (figure,), chosen, width, reports, metric)
        elif output == "html":
            page, _ = write_report(study_dir, reports, metric)
            typer.echo(f"report: {page}")
        else:
            typer.echo(table(study_dir, output, metric, chosen))


def _report_stored_search(folder: Path, form: str, named: bool, reports: Path) -> None:
    """Write a search's page; in other formats there is nothing of a search."""
    from harness.report.search_page import write_search

    if form == "html":
        typer.echo(f"report: {write_search(folder, reports)}")
    elif named:
        raise UserError(f"--format {form}: {folder.name} is a search, which has a page only; leave --format out")


def _draw(
    study_dir: Path, form: str, figures: Sequence[str], arms: Sequence[str], width: float | None, reports: Path,
    metric: str | None,
) -> None:  # fmt: skip
    """Write figures of one study. Where several are wanted, one that cannot be drawn is named and left out."""
    from harness.report.build import load, write_figure

    loaded = load(study_dir, metric)
    refused = []
    for figure in figures:
        path = reports / f"{study_dir.name}-{figure}.{form}"
        try:
            write_figure(loaded, figure, path, arms, 8.5 if width is None else width)
        except UserError as error:
            refused.append(error)
        else:
            typer.echo(f"figure: {path}")
    if len(refused) == len(figures):
        raise refused[0]
    for why in refused:
        typer.echo(f"left out: {why}", err=True)


@app.command()
def tricks(
    name: Annotated[str | None, typer.Argument(help="Show the card of one trick.")] = None,
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    plugin: Plugins = None,
    html: Annotated[
        Path | None, typer.Option(help="Write all cards as a page, for example reports/tricks.html.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the tricks by family, or show one trick's card."""
    from harness.tricks import registry
    from harness.tricks.cards import card, cards, others

    for path in plugin or []:
        registry.add_plugin(path)
    if name is not None and html is not None:
        raise UserError(f"tricks {name} --html: the page has all tricks; leave the name out, or --html")
    if name is not None:
        if name not in others():
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
    if html is not None:
        from harness.report.tricks_page import write_tricks

        typer.echo(f"tricks: {write_tricks(listed, html)}", err=as_json)
    if as_json:
        typer.echo(json.dumps(listed, indent=2))
    elif html is None:
        _print_cards(listed)


def _print_cards(listed: list[dict[str, Any]]) -> None:
    """One line for each trick, grouped by family, and then one for each name that is no trick here."""
    from rich.console import Console
    from rich.table import Table

    console = Console()

    def show(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        out = Table(box=None, pad_edge=False)
        for column in columns:
            out.add_column(column, overflow="fold", justify="right" if column == "cost" else "left")
        last = None
        for row in rows:
            out.add_row(row[0] if row[0] != last else "", *row[1:])
            last = row[0]
        console.print(out)

    tricks = [c for c in listed if c["kind"] == "trick"]
    others = [c for c in listed if c["kind"] != "trick"]
    if tricks:
        show(
            ("family", "trick", "cost", "what it does", "not with"),
            [(c["family"], c["name"], f"{c['cost']:.2f}x", c["summary"], ", ".join(c["excludes"])) for c in tricks],
        )
        console.print(f"{len(tricks)} tricks. `harness tricks NAME` shows a card.", highlight=False)
    if others:
        console.print(f"\n{len(others)} other known names, which are no tricks here:", highlight=False)
        show(
            ("family", "name", "kind", "what it is here"),
            [(c["family"], c["name"], c["kind"], c["command"] or c["reason"].split(". ")[0]) for c in others],
        )
        console.print("`harness tricks NAME` says why.", highlight=False)


def _print_card(c: dict[str, Any]) -> None:
    """A trick's card as text, or why a known name is no trick here."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if c["kind"] != "trick":
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
    for key in ("summary", "formula", "paper", "differs", "expect", "measured"):
        if c[key]:
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
def publish(
    studies: Annotated[list[str], typer.Argument(help="Finished studies or searches in the results folder.")],
    results: Results = Path("results"),
    to: Annotated[
        Path | None, typer.Option(help="Folder of the published ones; default: published/ in the results folder.")
    ] = None,
    preface: Annotated[
        Path | None, typer.Option(help="Text file, shown before the verdicts; an empty line ends a paragraph.")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Publish what there is of an unfinished study.")] = False,
) -> None:
    """Copy studies into small folders that can be committed and read again: rows, curves, no predictions or weights."""
    from harness.study import publish as publishing

    if preface is not None and len(studies) > 1:
        raise UserError(f"--preface {preface} with {len(studies)} studies: publish the study that it is for by itself")
    text = None if preface is None else publishing.read_preface(preface)
    for study_dir in publishing.find(results, studies):
        folder = publishing.publish(study_dir, to or results / "published", text, partial)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        sizes = ", ".join(f"{path.relative_to(folder)} {_size(path.stat().st_size)}" for path in files)
        typer.echo(f"published: {folder} ({_size(sum(path.stat().st_size for path in files))}): {sizes}")


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Two minutes instead of ten.")] = False,
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Measure the engine against hand-written loops on this machine, as ratios in one process."""
    from datetime import UTC, datetime

    from harness.bench import Row, run_bench

    def show(row: Row) -> None:
        met = {True: "ok  ", False: "MISS", None: "    "}[row.met]
        spread = f" [{row.low:.3g}, {row.high:.3g}]" if row.n > 1 else ""
        aim = f", target {row.target}" if row.target else ""
        typer.echo(f"{met}  {row.name}: {row.value:.3g} {row.unit}{spread} (n = {row.n}){aim}", err=as_json)

    path = results / "bench" / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.json"
    rows = run_bench(quick, path, show)
    typer.echo(json.dumps([asdict(r) for r in rows], indent=2) if as_json else f"stored: {path}")


@app.command()
def new_trick(
    name: Annotated[str, typer.Argument(help="Name of the trick and of its file.")],
    family: Annotated[str, typer.Argument(help="Family, which is the folder.")],
) -> None:
    """Write the skeleton of a trick and of its test into this checkout."""
    from harness.tricks.scaffold import new_trick

    for path in new_trick(name, family, Path.cwd()):
        typer.echo(f"wrote {path.relative_to(Path.cwd())}")


@app.command()
def doctor(device: Device = "auto", data_root: DataRoot = None, results: Results = Path("results")) -> None:
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
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        typer.echo(f"error: {error.strerror or error}{where}; finished runs are stored", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
