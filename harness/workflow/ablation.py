"""An ablation from its request to its page: looks, greedy orders, conditions, running, judging and writing.

`ablate` yields what happens; whoever reads the events decides what is shown. Closing the iterator early stops the runs
under way; finished runs are stored, and the same request goes on from there.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from harness import plugins
from harness.commands.kinds import AnyExperiment, is_command
from harness.data.content import content
from harness.errors import UserError
from harness.experiment import Experiment, text_of
from harness.store.asked import command_of
from harness.study.asked import recall, remember, request_of
from harness.tricks import recipes, registry
from harness.workflow.events import Compared, Event, Looked, Planned, Started, Written
from harness.workflow.options import options_of
from harness.workflow.place import data_folder, parse_workers, place_of, slots
from harness.workflow.request import Request
from harness.workflow.settings import Typed, add_parts, asked_seeds, load, parse_settings, parse_time
from harness.workflow.training import Trainer, hold, write

if TYPE_CHECKING:
    from harness.study.places import AnyPlace
    from harness.study.plan import Plan

MAX_SEEDS = 20


def ablate(request: Request, plan_only: bool = False) -> Iterator[Event]:
    """Do what is asked: each study ends with `Written`, and studies of several conditions with `Compared`.

    Args:
        request: what is asked.
        plan_only: say what would be done, in `Planned` events, and stop.

    Raises:
        UserError: something of the request is not possible.
        OSError: the results folder cannot be written any more.
    """
    request, loaded, asked, budget = _checked(request)
    digest = None if plan_only else _digest(request, loaded)
    if digest is not None and (yield from _answer(request, digest)):
        return
    # Everything below imports torch, so it comes when the input is known to be good and something is to be done.
    place = place_of(request, loaded, request.verify)
    if request.cross is None:
        study = _Study(request, asked, loaded, request.name, place, budget)
        written = yield from study.events(plan_only)
        if written is not None:
            if digest is not None:
                remember(request.results, digest, written.folder)
            yield written
        return
    from harness.study.conditions import cross

    if not isinstance(loaded, Experiment):
        raise UserError(
            f"--cross {request.cross}: conditions are of data, model and recipe; {request.experiment} has none"
        )
    done = []
    for label, condition in cross(loaded, request.cross):
        written = yield from _Study(request, asked, condition, label, place, budget).events(plan_only)
        if written is not None:
            done.append(written)
            yield written
    if not plan_only:
        from harness.analysis.compare import compare

        yield Compared(compare({w.study: w.loaded.analysis for w in done}))


def facts_of(written: Written) -> dict[str, Any]:
    """All that a study found, as values that JSON can hold."""
    found = [{**asdict(finding), "arms": arms} for finding, arms in written.loaded.findings()]
    facts: dict[str, Any] = {"study": written.study, "report": str(written.page), "findings": found}
    facts["notes"] = [*written.loaded.manifest.sentences, *filter(None, [written.loaded.looked])]
    facts["looks"] = list(written.loaded.manifest.looks)
    again = written.loaded.replication
    if again is not None:
        facts["replication"] = asdict(again) | {"summary": again.summary}
    facts["probes"] = [asdict(probe) for probe in written.loaded.probes]
    if written.loaded.design is not None:
        facts["design"] = asdict(written.loaded.design)
    if written.loaded.sweep is not None:
        facts["sweep"] = asdict(written.loaded.sweep)
    return facts | asdict(written.loaded.analysis)


def _checked(r: Request) -> tuple[Request, AnyExperiment, Asked, float]:
    """The request with all plug-ins, the experiment with its overrides, what is asked for, seconds of the budget."""
    for path in r.plugins:
        registry.add_plugin(path)
    if not is_command(r.experiment):
        recipes.check(r.tricks or ())
        for arm in (word for word in r.tricks or () if not recipes.is_preset(word)):
            for trick in arm.partition("=")[0].split("+"):
                registry.check(trick.partition(".")[0])
    typed = parse_settings(r.settings, r.experiment)
    if r.margin is not None:
        typed["experiment", "margin"] = r.margin, f"--margin {r.margin}"
    loaded = load(r.experiment, typed)
    if not r.tricks and not r.declared and r.design != "aa":
        own = f"; `harness run {r.experiment}` is the study that it declares" if loaded.study.tricks else ""
        raise UserError(f"name at least one trick; `harness tricks` lists them{own}")
    words = list(r.tricks or loaded.study.tricks or ([] if isinstance(loaded, Experiment) else loaded.tricks))
    if r.plugins and not isinstance(loaded, Experiment):
        raise UserError(f"--plugin {r.plugins[0]}: {r.experiment} runs commands, whose tricks are its own tables")
    if not words and r.design != "aa":
        raise UserError(f"{r.experiment} names no tricks in [study]; add tricks = [...] or use `harness ablate TRICK`")
    if r.seeds not in (None, "auto"):
        asked_seeds(r.seeds, ", or auto")
    if r.until_decided and r.seeds is not None:
        raise UserError(
            f"--seeds {r.seeds} with --until-decided: the looks decide how many; limit them with --max-seeds"
        )
    if r.budget is not None and r.seeds != "auto":
        raise UserError(f"--budget {r.budget}: it limits --seeds auto, which is not asked for")
    budget = math.inf if r.budget is None else parse_time(r.budget, "--budget")
    if r.max_seeds is not None and r.seeds != "auto" and not r.until_decided:
        raise UserError(f"--max-seeds {r.max_seeds}: it limits --seeds auto and --until-decided; ask for one of them")
    loaded, asked = _expanded(loaded, words, r.experiment, typed)
    return replace(r, plugins=add_parts(loaded, r.plugins)), loaded, asked, budget


def _expanded(loaded: AnyExperiment, words: list[str], experiment: str, typed: Typed) -> tuple[AnyExperiment, Asked]:
    """The tricks that words and presets stand for, and the experiment with the presets' values; typed ones win.

    Presets in `[study] base` are expanded, too.
    """
    if not isinstance(loaded, Experiment) or not any(map(recipes.is_preset, (*words, *loaded.study.base))):
        return loaded, Asked(words, words)
    given: dict[str, dict[str, Any]] = {}
    for (section, *keys), (value, _) in typed.items():
        if section == "tricks" and len(keys) == 2:
            given.setdefault(keys[0], {})[keys[1]] = value
    found = recipes.expand([*words, *loaded.study.base], loaded.recipe, loaded.data, given)
    called = ", ".join(recipes.PREFIX + name for name in found.presets)
    for trick, values in found.values.items():
        for key, value in values.items():
            typed["tricks", trick, key] = value, f"{called}: {trick}.{key}"
    asked, base = (recipes.expand(w, loaded.recipe, loaded.data, given).tricks for w in (words, loaded.study.base))
    loaded = load(experiment, typed)
    assert isinstance(loaded, Experiment)
    names = tuple(dict.fromkeys(name for arm in base for name in arm.split("+")))
    study = loaded.study.model_copy(update={"base": names})
    return loaded.model_copy(update={"study": study}), Asked(words, asked, tuple(found.presets))


def _digest(r: Request, loaded: AnyExperiment) -> str | None:
    """What identifies the request where its plan depends on nothing but the request, the images and the code."""
    if not isinstance(loaded, Experiment):  # its code and its data are looked at in any case
        return None
    asked = {name for arm in (*(r.tricks or ()), *loaded.study.tricks) for name in arm.partition("=")[0].split("+")}
    foreign = any(registry.is_plugin(name.partition(".")[0]) for name in asked)
    own_network = loaded.model.pretrained or plugins.installed(plugins.NETWORKS, loaded.model.name) is not None
    if r.verify or r.plugins or foreign or own_network or r.cross is not None or r.seeds == "auto":
        return None
    options = {o.field: getattr(r, o.field) for o in options_of(Request) if o.flag.reproduces} | {
        "declared": r.declared
    }
    words = r.tricks or loaded.study.tricks
    texts = [recipes.text_of(recipes.preset(word).name) for word in words if recipes.is_preset(word)]
    return request_of(
        options, "".join([text_of(r.experiment), *texts]), content(loaded.data, data_folder(r.data_root)).digest
    )


def _answer(r: Request, digest: str) -> Generator[Event, None, bool]:
    """What is to be told of the study that answers the request; returns whether there is one."""
    answer = recall(r.results, digest)
    if answer is None:
        return False
    with ExitStack() as held:
        yield from hold(held, answer[0])
        if recall(r.results, digest) != answer:  # another command has changed it meanwhile
            return False
        folder, manifest = answer
        yield Started(manifest.study, len(manifest.runs), 0, manifest.sentences)
        yield write(folder, r.reports)
    return True


@dataclass(frozen=True)
class Asked:
    """What is asked for: the words as they were typed, the tricks that they stand for, and the presets among them."""

    words: Sequence[str]
    tricks: Sequence[str]
    presets: tuple[str, ...] = ()


@dataclass
class _Study:
    """One study of a request, in one condition; `name` is the study's, or the condition's label."""

    r: Request
    asked: Asked
    loaded: AnyExperiment
    name: str | None
    place: AnyPlace
    budget: float

    def __post_init__(self) -> None:
        from harness.names import checked_name
        from harness.study.plan import study_name

        r = self.r
        self.tricks = self.asked.tricks
        self.workers = parse_workers(r.workers, self.place)
        self.design = self.loaded.study.design if r.design is None else r.design
        self.seeds = self.loaded.study.blocks if r.seeds in (None, "auto") else asked_seeds(str(r.seeds))
        self.level: float | None = None
        if r.cross is not None:
            own = study_name(self.loaded.experiment.name, self.design, self.asked.words, self.seeds.start)
            self.name = f"{own if r.name is None else checked_name(r.name)}-{self.name}"

    def events(self, plan_only: bool) -> Generator[Event, None, Written | None]:
        """From plan to page; returns the last look, or None when only the plan was asked for."""
        from harness.analysis.sequential import calibrate, looks_until
        from harness.names import check_free

        r, most = self.r, self.r.max_seeds or MAX_SEEDS
        looks = looks_until(most) if r.until_decided else ()
        if looks:
            self.level = self.loaded.study.alpha
            alpha = calibrate(looks, self.level)
            study = self.loaded.study.model_copy(update={"alpha": alpha})
            self.loaded = self.loaded.model_copy(update={"study": study})
        warnings: list[str] = []
        self.images = self._images(plan_only, warnings)
        seeds, first, note = self.seeds, self.seeds.start, self._without_idle()
        if self.design.replace("-", "_") == "greedy":
            if plan_only:
                raise UserError("design greedy: its arms depend on results, so it has no plan; plan `cumulative`")
            note = f"{note} {(yield from self._greedy(seeds))}".strip()
        plan = self._plan(range(first, first + looks[0]) if looks else seeds, note)
        check_free(r.results, plan.manifest.study, "study")
        warnings += plan.problems
        if r.seeds == "auto":
            seeds = range(first, first + self._enough(note, range(first, first + most), warnings))
            plan = self._plan(seeds, note)
        yield Planned(plan, tuple(warnings), self._ahead(plan) if plan_only else None)
        if plan_only:
            return None
        written = None
        for i, n in enumerate(looks or (len(seeds),)):
            if looks:
                level = f"{self.loaded.study.alpha:.4f}, which keep the declared level over all looks"
                planned = f"Sequential: looks at {', '.join(map(str, looks))} seeds, each at level {level}"
                plan = self._plan(range(first, first + n), f"{note} {planned}; this is look {i + 1}.".strip())
            written = yield from self._do(plan, r.name is not None, n == (looks or (n,))[-1])
            if looks:
                yield Looked(n, written.undecided)
            if not written.undecided:
                break
        return written

    def _plan(self, seeds: range, note: str = "", arms: Sequence[str] | None = None) -> Plan:
        from harness.study.plan import make_plan, study_name

        presets = self.asked.presets
        r, asked = self.r, self.r.asked | {"tricks": list(self.asked.words if presets else self.tricks)}
        name = self.name
        if presets and name is None:
            name = study_name(self.loaded.experiment.name, self.design, self.asked.words, seeds.start)
        return make_plan(
            self.loaded, self.tricks if arms is None else arms,
            design=self.design if arms is None else "one_at_a_time", seeds=seeds, place=self.place,
            results=r.results, images=self.images, request=asked, command=command_of(asked), toml=text_of(r.experiment),
            name=name if arms is None else None, max_arms=r.max_arms, note=note,
            level=self.level,
        )  # fmt: skip

    def _without_idle(self) -> str:
        """Leave out the ingredients of presets that cannot act here; returns the sentence that says so."""
        if not (self.asked.presets and self.images and isinstance(self.loaded, Experiment)):
            return ""
        from harness.study.acting import refused
        from harness.training.place import Place

        assert isinstance(self.place, Place)
        study = self.loaded.study
        unfit = refused(self.loaded, study.base, True, self.place, self.r.plugins)
        kept = tuple(name for name in study.base if name not in unfit)
        self.loaded = self.loaded.model_copy(update={"study": study.model_copy(update={"base": kept})})
        stacked = self.design.replace("-", "_") != "one_at_a_time"
        idle = {**unfit, **refused(self.loaded, self.tricks, stacked, self.place, self.r.plugins)}
        self.tricks = [arm for arm in self.tricks if arm not in idle]
        why = "; ".join(f"{arm}: {reason}" for arm, reason in idle.items())
        return f"Ingredients that cannot act here are left out ({why})." if idle else ""

    def _images(self, plan_only: bool, warnings: list[str]) -> str:
        """The content digest of the data set; a plan may do without."""
        from harness.study.places import images_at

        try:
            return images_at(self.place, self.loaded)
        except UserError as error:
            if not plan_only:
                raise
            warnings.append(f"planned without the images: {error}")
            return ""

    def _ahead(self, plan: Plan) -> Any:
        from harness.study.forecast import forecast

        return forecast(plan, self.loaded, self.place, self.r.results, slots(self.workers))

    def _enough(self, note: str, most: range, warnings: list[str]) -> int:
        """How many seeds find the margin within the budget."""
        from harness.study.forecast import affordable, choose_seeds

        longest = self._plan(most, note)
        ahead = self._ahead(longest)
        fitting = affordable(longest, ahead, self.budget)
        seeds = choose_seeds(ahead, fitting)
        if seeds > fitting:
            warnings.append(
                f"--budget {self.r.budget}: it holds {fitting} seeds, and a verdict needs the {seeds} planned here"
            )
        return seeds

    def _greedy(self, seeds: range) -> Generator[Event, None, str]:
        """Put the tricks into greedy order, from studies of their own; returns the sentence that says so."""
        import pandas as pd

        from harness.analysis.interactions import GREEDILY
        from harness.store.reader import read_study
        from harness.study.designs import arms_of
        from harness.study.greedy import greedy_order
        from harness.study.kinds import validated
        from harness.study.plan import clashes

        arms_of("cumulative", self.tricks, self.r.max_arms)  # what could not be stacked is refused before it is trained
        steps = greedy_order(self.tricks, lambda arm: bool(clashes(self.loaded, arm)))
        arms = next(steps)
        while True:
            plan = self._plan(seeds, arms=arms)
            written = yield from self._do(plan, named=False)
            manifest = written.loaded.manifest
            rows = read_study(written.folder, manifest.runs, predictions=False).runs
            rows = rows[rows["fingerprint"] == manifest.fingerprint]
            values = pd.Series(validated(rows, manifest, self.loaded), index=rows["run_id"])
            found = {frozenset(a.tricks): values.reindex(list(a.run_ids.values())) for a in manifest.arms}
            whole = {tricks: float(v.mean()) for tricks, v in found.items() if len(v) and v.notna().all()}
            try:
                arms = steps.send({a: whole[key] for a in arms if (key := frozenset(a.split("+"))) in whole})
            except StopIteration as end:
                order, refused = end.value
                break
        self.tricks, self.design = order, "cumulative"
        note = f"The order {', '.join(order)} {GREEDILY}."
        left = f" Left out, because they clash with the stack or a run of theirs did not finish: {', '.join(refused)}."
        return note + (left if refused else "")

    def _do(self, plan: Plan, named: bool, last: bool | None = None) -> Generator[Event, None, Written]:
        """Train what is missing of a plan and write its page; see `Trainer.do`."""
        return Trainer(self.r, self.loaded, self.place, self.workers).do(plan, named, None if self.r.no_probe else last)
