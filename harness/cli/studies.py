"""Studies: `ablate`, its variants `plan` and `run`, and `compare`."""

from __future__ import annotations

import inspect
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    AsJson,
    CudaGraphs,
    DataRoot,
    Device,
    Options,
    Plugins,
    Reports,
    Results,
    Settings,
    Source,
    Threads,
    load,
    make_place,
    parse_settings,
    parse_time,
    parse_workers,
    print_json,
    read_toml,
    slots,
    whole,
)
from harness.cli.printing import print_comparison, print_findings, print_plan
from harness.errors import UserError
from harness.experiment import MOST_SEEDS

if TYPE_CHECKING:
    from rich.console import Console

    from harness.analysis.compare import Comparison
    from harness.experiment import Experiment
    from harness.study.plan import Plan
    from harness.training.session import Place

MAX_SEEDS = 20


def ablate(
    tricks: Annotated[
        list[str] | None, typer.Argument(help="Trick names; join names with + to make one arm of them.")
    ] = None,
    experiment: Source = "digits",
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
        int | None,
        typer.Option(min=5, max=MOST_SEEDS, help="Most seeds of --until-decided and --seeds auto; 20 by default."),
    ] = None,
    max_arms: Annotated[
        int | None, typer.Option(min=2, max=10_000, help="Most arms of a factorial or fractional design.")
    ] = None,
    cross: Annotated[
        str | None, typer.Option(help="Repeat the study under conditions: data.label_noise=0,0.2,0.5.")
    ] = None,
    margin: Annotated[float | None, typer.Option(help="Smallest effect that matters, in points.")] = None,
    budget: Annotated[str | None, typer.Option(help="Most time for --seeds auto, for example 20m.")] = None,
    settings: Settings = None,
    device: Device = "auto",
    cuda_graphs: CudaGraphs = False,
    workers: Annotated[
        str | None,
        typer.Option(
            help="Runs at a time (default: CPU cores, or what a GPU's memory holds; 1 for timings that compare), ray, "
            "or ray://HOST:PORT."
        ),
    ] = None,
    threads: Threads = 1,
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


plan = _variant("Say what a study would run, how long it takes and what it could find.", {}, dry_run=True)
run = _variant(
    "Run the study that an experiment file declares under study.",
    {"experiment": Annotated[str, typer.Argument(help="Experiment name or .toml path.")]},
    tricks=[],
)


def _study(o: Options) -> None:
    """Plan, run and report a study, or one for each condition."""
    from rich.console import Console

    from harness.tricks import registry

    for path in o.plugins or []:
        registry.add_plugin(path)
    for arm in o.tricks or []:
        for trick in arm.partition("=")[0].split("+"):
            registry.check(trick.partition(".")[0])
    typed = parse_settings(o.settings or [])
    if o.margin is not None:
        typed["experiment", "margin"] = o.margin, f"--margin {o.margin}"
    loaded = load(o.experiment, typed)
    if o.tricks is None and o.design != "aa":
        own = f"; `harness run {o.experiment}` is the study that it declares" if loaded.study.tricks else ""
        raise UserError(f"name at least one trick; `harness tricks` lists them{own}")
    tricks = o.tricks or list(loaded.study.tricks)
    if not tricks and o.design != "aa":
        raise UserError(f"{o.experiment} names no tricks in [study]; add tricks = [...] or use `harness ablate TRICK`")
    if o.seeds not in (None, "auto") and not 1 <= (whole(o.seeds) or 0) <= MOST_SEEDS:
        raise UserError(f"--seeds {o.seeds}: a number of seeds from 1 to {MOST_SEEDS}, or auto")
    if o.until_decided and o.seeds is not None:
        raise UserError(
            f"--seeds {o.seeds} with --until-decided: the looks decide how many; limit them with --max-seeds"
        )
    if o.budget is not None and o.seeds != "auto":
        raise UserError(f"--budget {o.budget}: it limits --seeds auto, which is not asked for")
    budget = math.inf if o.budget is None else parse_time(o.budget, "--budget")
    if o.max_seeds is not None and o.seeds != "auto" and not o.until_decided:
        raise UserError(f"--max-seeds {o.max_seeds}: it limits --seeds auto and --until-decided; ask for one of them")

    # Everything below imports torch, so it comes when the input is known to be good.
    log = Console(stderr=True, highlight=False)
    place = make_place(o.device, o.threads, o.data_root, o.cuda_graphs, o.check)
    if o.cross is None:
        done = [_one_study(o, tricks, loaded, o.name, place, budget, log)]
    else:
        from harness.study.conditions import cross

        conditions = cross(loaded, o.cross)
        done = [_one_study(o, tricks, condition, label, place, budget, log) for label, condition in conditions]
    if o.dry_run:
        if o.as_json:
            print_json(done[0] if o.cross is None else done)
        return
    if o.cross is not None:
        comparison = _comparison([facts["study"] for facts in done], o.results)
        if o.as_json:
            print_json(asdict(comparison) | {"conditions": done})
        else:
            print_comparison(comparison)
    elif o.as_json:
        print_json(done[0])
    if not any(effect["n"] for facts in done for effect in facts["effects"]):
        raise typer.Exit(1)


def _one_study(
    o: Options, tricks: list[str], loaded: Experiment, name: str | None, place: Place, budget: float, log: Console
) -> dict[str, Any]:
    """One study from plan to page; returns everything about it, for --json."""
    from harness.analysis.sequential import calibrate, looks_until
    from harness.report.build import write_report
    from harness.study.forecast import affordable, choose_seeds, forecast
    from harness.study.plan import check_free, checked_name, make_plan, study_name

    workers = parse_workers(o.workers, place)
    design = loaded.study.design if o.design is None else o.design
    if o.cross is not None:
        own = study_name(loaded.experiment.name, design, tricks) if o.name is None else checked_name(o.name)
        name = f"{own}-{name}"
    most = o.max_seeds or MAX_SEEDS
    looks = looks_until(most) if o.until_decided else ()
    if looks:
        study = loaded.study.model_copy(update={"alpha": calibrate(looks, loaded.study.alpha)})
        loaded = loaded.model_copy(update={"study": study})

    def planned(seeds: int, note: str = "") -> Plan:
        return make_plan(
            loaded, tricks, design=design, seeds=range(seeds), place=place, results=o.results,
            command=_command(o, tricks), toml=read_toml(o.experiment), name=name, max_arms=o.max_arms, note=note,
        )  # fmt: skip

    seeds = int(o.seeds) if o.seeds not in (None, "auto") else loaded.study.seeds
    note = ""
    if design.replace("-", "_") == "greedy":
        if o.dry_run:
            raise UserError("design greedy: its arms depend on results, so it has no plan; plan `cumulative` instead")
        tricks, note = _greedy(o, tricks, loaded, seeds, place, log)
        design = "cumulative"
    plan = planned(looks[0] if looks else seeds, note)
    check_free(o.results, plan.manifest.study, "study")
    warnings = list(plan.problems)
    if o.seeds == "auto":
        longest = planned(most, note)
        ahead = forecast(longest, loaded, place, o.results, slots(workers))
        fitting = affordable(longest, ahead, budget)
        seeds = choose_seeds(ahead, fitting)
        if seeds > fitting:
            warnings.append(
                f"--budget {o.budget}: it holds {fitting} seeds, and a verdict needs the {seeds} planned here"
            )
        plan = planned(seeds, note)
    for warning in warnings:
        log.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    if o.dry_run:
        ahead = forecast(plan, loaded, place, o.results, slots(workers))
        if not o.as_json:
            print_plan(plan, ahead)
        planned_arms = [{"arm": a.label, "tricks": a.tricks, "skipped": a.skipped} for a in plan.manifest.arms]
        return {"study": plan.manifest.study, "arms": planned_arms, "warnings": warnings, **asdict(ahead)}
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
        print_findings(written, findings)
        typer.echo(f"report: {page}")
    found = [{**asdict(finding), "arms": arms} for finding, arms in findings]
    facts: dict[str, Any] = {"study": plan.manifest.study, "report": str(page), "findings": found}
    if written.design is not None:
        facts["design"] = asdict(written.design)
    return facts | asdict(analysis)


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
            command=_command(o, tricks), toml=read_toml(o.experiment),
        )  # fmt: skip
        _train(plan, loaded, place, o.results, parse_workers(o.workers, place), o.plugins or [], log)
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
        ("--cross", o.cross), ("--budget", o.budget), ("--data-root", o.data_root), ("--name", o.name),
        ("--device", None if o.device == "auto" else o.device),
    ):  # fmt: skip
        words += [flag, str(value)] if value is not None else []
    words += ["--until-decided"] if o.until_decided else []
    words += ["--cuda-graphs"] if o.cuda_graphs else []
    words += ["--max-seeds", str(o.max_seeds)] if o.max_seeds is not None else []
    words += [word for text in o.settings or [] for word in ("--set", text)]
    words += ["--threads", str(o.threads)] if o.threads != 1 else []
    words += [word for path in o.plugins or [] for word in ("--plugin", str(path))]
    return shlex.join(words)


def _train(
    plan: Plan,
    loaded: Experiment,
    place: Place,
    results: Path,
    workers: int | str | None,
    plugins: Sequence[Path],
    log: Console,
) -> None:
    """Do the missing runs with a progress bar and a line for each."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from harness.data.sources import load_source
    from harness.experiment import Arm, spec_of
    from harness.store.writer import prepare
    from harness.study.runner import other_settings, run_study
    from harness.training.session import try_out

    total, missing = len(plan.specs), len(plan.missing)
    study_dir = results / plan.manifest.study
    prepare(study_dir)
    replaced = other_settings(study_dir, plan.manifest)
    if replaced:
        log.print(
            f"note: {plan.manifest.study} was a study of other settings ({replaced}); its runs stay, its page goes. "
            "Give one of them a --name to keep both.",
            markup=False,
            soft_wrap=True,
        )
    if missing:
        try_out(spec_of(loaded, Arm(), seed=0), place)
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
    if as_json:
        print_json(asdict(_comparison(studies, results)))
    elif html is None:
        print_comparison(_comparison(studies, results))


def _comparison(studies: list[str], results: Path) -> Comparison:
    """The same arms in several studies of a results folder."""
    from harness.analysis.compare import compare
    from harness.report.build import load, study_dirs

    return compare({d.name: load(d).analysis for d in study_dirs(results, studies)})
