"""Studies: `ablate` and its variants `plan` and `run`."""

from __future__ import annotations

import inspect
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.comparing import compared
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
    data_folder,
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
from harness.cli.progress import say_done, say_waiting, train
from harness.errors import UserError
from harness.experiment import MOST_SEEDS

if TYPE_CHECKING:
    from rich.console import Console

    from harness.experiment import Experiment
    from harness.report.load import Loaded
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

    log = Console(stderr=True, highlight=False)
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

    request = _request(o, loaded)
    if request is not None and (facts := _answered(o, request, log)) is not None:
        _end(o, facts, [facts])
        return
    # Everything below imports torch, so it comes when the input is known to be good.
    place = make_place(o.device, o.threads, o.data_root, o.cuda_graphs, o.check)
    if o.cross is None:
        done = [_one_study(o, tricks, loaded, o.name, place, budget, log)]
        if request is not None:
            from harness.study.asked import remember

            remember(o.results, request, o.results / done[0]["study"])
    else:
        from harness.study.conditions import cross

        conditions = cross(loaded, o.cross)
        done = [_one_study(o, tricks, condition, label, place, budget, log) for label, condition in conditions]
    if o.dry_run:
        if o.as_json:
            print_json(done[0] if o.cross is None else done)
        return
    document = done[0]
    if o.cross is not None:
        comparison = compared([facts["study"] for facts in done], o.results)
        document = asdict(comparison) | {"conditions": done}
        if not o.as_json:
            print_comparison(comparison)
    _end(o, document, done)


def _end(o: Options, document: dict[str, Any], studies: list[dict[str, Any]]) -> None:
    """Print the JSON document where it is wanted, and fail if no arm of any study could be judged."""
    if o.as_json:
        print_json(document)
    if not any(effect["n"] for facts in studies for effect in facts["effects"]):
        raise typer.Exit(1)


def _request(o: Options, loaded: Experiment) -> str | None:
    """What identifies the command where its plan depends on nothing but the command, the images and the code."""
    from harness.data.content import content
    from harness.study.asked import request_of

    if o.dry_run or o.check or o.plugins or o.cross is not None or o.seeds == "auto":
        return None
    told = ("results", "reports", "workers", "as_json", "dry_run", "check", "plugins")
    options = {name: value for name, value in asdict(o).items() if name not in told}
    return request_of(options, read_toml(o.experiment), content(loaded.data, data_folder(o.data_root)).digest)


def _answered(o: Options, request: str, log: Console) -> dict[str, Any] | None:
    """What is to be told of a study that has all its runs; None where there is none."""
    from harness.store.locks import study_lock
    from harness.study.asked import recall

    answer = recall(o.results, request)
    if answer is None:
        return None
    study_dir, manifest = answer
    with study_lock(study_dir, partial(say_waiting, log, study_dir.name)):
        say_done(manifest, len(manifest.runs), log)
        return _report(o, study_dir)


def _report(o: Options, study_dir: Path, written: tuple[Path, Loaded] | None = None) -> dict[str, Any]:
    """Print what a study found; returns everything about it, for --json."""
    from harness.report.pages.study import write_report

    page, loaded = written or write_report(study_dir, o.reports)
    findings = loaded.findings()
    if not o.as_json:
        print_findings(loaded, findings)
        typer.echo(f"report: {page}")
    found = [{**asdict(finding), "arms": arms} for finding, arms in findings]
    facts: dict[str, Any] = {"study": study_dir.name, "report": str(page), "findings": found}
    if loaded.design is not None:
        facts["design"] = asdict(loaded.design)
    return facts | asdict(loaded.analysis)


def _one_study(
    o: Options, tricks: list[str], loaded: Experiment, name: str | None, place: Place, budget: float, log: Console
) -> dict[str, Any]:
    """One study from plan to page; returns everything about it, for --json."""
    from harness.analysis.sequential import calibrate, looks_until
    from harness.report.pages.study import write_report
    from harness.study.forecast import affordable, choose_seeds, forecast
    from harness.study.plan import check_free, checked_name, make_plan, study_name
    from harness.study.runner import open_study

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

    images = _images(o, loaded, place, log)

    def planned(seeds: int, note: str = "") -> Plan:
        return make_plan(
            loaded, tricks, design=design, seeds=range(seeds), place=place, results=o.results, images=images,
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
        with open_study(plan, o.results, o.name is not None, partial(say_waiting, log)) as plan:
            train(plan, loaded, place, o.results, workers, o.plugins or [], log)
            page, written = write_report(o.results / plan.manifest.study, o.reports)
        analysis = written.analysis
        undecided = [e.arm for e in analysis.effects if e.verdict.kind in ("undecided", "no verdict")]
        if looks and undecided:
            log.print(f"after {n} seeds undecided: {', '.join(undecided)}", markup=False, soft_wrap=True)
        if not undecided:
            break
    return _report(o, o.results / plan.manifest.study, (page, written))


def _greedy(
    o: Options, tricks: list[str], loaded: Experiment, seeds: int, place: Place, log: Console
) -> tuple[list[str], str]:
    """The tricks in greedy order, from studies of their own, and the sentence that says so."""
    from harness.store.reader import read_study
    from harness.study.greedy import greedy_order
    from harness.study.plan import clashes, make_plan
    from harness.study.runner import open_study

    images = _images(o, loaded, place, log)

    def values(arms: Sequence[str]) -> dict[str, float]:
        plan = make_plan(
            loaded, arms, design="one_at_a_time", seeds=range(seeds), place=place, results=o.results, images=images,
            command=_command(o, tricks), toml=read_toml(o.experiment),
        )  # fmt: skip
        with open_study(plan, o.results, False, partial(say_waiting, log)) as plan:
            train(plan, loaded, place, o.results, parse_workers(o.workers, place), o.plugins or [], log)
        stored = read_study(o.results / plan.manifest.study, plan.manifest.runs, predictions=False).runs
        rows = stored[stored["fingerprint"] == plan.manifest.fingerprint].set_index("run_id")["val_accuracy"]
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


def _images(o: Options, loaded: Experiment, place: Place, log: Console) -> str:
    """The content digest of the data set; a plan may do without."""
    from harness.data.content import content

    try:
        return content(loaded.data, place.data_root).digest
    except UserError as error:
        if not o.dry_run:
            raise
        log.print(f"note: planned without the images: {error}", markup=False, soft_wrap=True)
        return ""
