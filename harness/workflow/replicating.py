"""A replication from its request to its page: what a stored study judged, trained again on seeds that no look has used.

Whatever version stored the study, its rows say what was trained, so nothing else is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.analysis.rows import own_rows
from harness.analysis.types import GAINS, LOSSES
from harness.commands.experiment import CommandExperiment
from harness.commands.kinds import load_any
from harness.commands.place import CommandPlace
from harness.errors import UserError
from harness.experiment import BASELINE, Arm, Experiment, Question, RunSpec, Study, text_of
from harness.identity import difference, differences
from harness.store.asked import command_of
from harness.store.folders import study_folders
from harness.store.reader import read_manifest, replicated
from harness.store.schema import ArmPlan, Manifest
from harness.tricks import registry
from harness.values import Origins, parted
from harness.workflow.events import Event, Planned
from harness.workflow.place import parse_workers, place_of, slots
from harness.workflow.request import ReplicationRequest
from harness.workflow.settings import add_parts, asked_seeds
from harness.workflow.training import Trainer

if TYPE_CHECKING:
    from harness.report.load import Loaded


def replicate(r: ReplicationRequest, plan_only: bool = False) -> Iterator[Event]:
    """Do what is asked; the last event is `Written`, whose study has the comparison.

    Args:
        r: what is asked.
        plan_only: say what would be done, in a `Planned` event, and stop.

    Raises:
        UserError: something of the request is not possible.
        OSError: the results folder cannot be written any more.
    """
    from harness.report.load import is_search, load, study_dirs

    for path in r.plugins:
        registry.add_plugin(path)
    (folder,) = study_dirs(r.results, [r.study])
    if is_search(folder):
        raise UserError(f"{r.study} is a search, whose winners were judged on fresh seeds; name a study")
    loaded = load(folder)
    arms = _chosen(loaded, r)
    name = r.name or f"{r.study}-replication"
    seeds = fresh_seeds(folder, loaded.manifest, r.seeds, arms, name)
    source = _CommandSource.of(loaded, arms, r) if _is_command(loaded, r) else _Source.of(loaded, arms)
    r = replace(r, plugins=add_parts(source.experiment, r.plugins))

    # Everything below imports torch, so it comes when the input is known to be good.
    from harness.names import check_free
    from harness.study.designs import Design, PlannedArm
    from harness.study.forecast import forecast
    from harness.study.places import images_at
    from harness.study.plan import make_plan

    experiment = source.experiment
    place = source.place if isinstance(source, _CommandSource) else place_of(r, experiment)
    workers = parse_workers(r.workers, place)
    images = images_at(place, experiment)
    made = (PlannedArm(tuple(sorted(a.tricks)), params=a.tricks, called=a.label) for a in arms)
    plan = make_plan(
        experiment, [arm.label for arm in arms], design=Design("one_at_a_time", (PlannedArm(()), *made)), seeds=seeds,
        place=place, results=r.results, images=images, request=r.asked, command=command_of(r.asked),
        toml=source.toml, name=name, note=" ".join(source.changes(images)),
        replicates=r.study,
    )  # fmt: skip
    check_free(r.results, plan.manifest.study, "study")
    ahead = forecast(plan, experiment, place, r.results, slots(workers)) if plan_only else None
    yield Planned(plan, plan.problems, ahead)
    if not plan_only:
        yield (yield from Trainer(r, experiment, place, workers).do(plan, r.name is not None))


def _chosen(loaded: Loaded, r: ReplicationRequest) -> list[ArmPlan]:
    """The arms to be replicated: those that were named, or those whose verdict claims a direction."""
    from harness.report.text.tables import choose

    names = parted(r.arms or "")
    if r.arms is not None and not names:
        raise UserError(f"--arms '{r.arms}': it names no arm; leave it out for all that help or hurt")
    found = [e for e in choose(loaded.analysis, names) if names or e.verdict.kind in (*GAINS, *LOSSES)]
    if not found:
        raise UserError(f"{r.study} has no arm that helps or hurts; name the arms to replicate with --arms")
    plans = {arm.label: arm for arm in loaded.manifest.arms}
    for effect in found:
        if not effect.n:
            raise UserError(f"--arms {effect.arm}: {effect.verdict.sentence} There is no effect to replicate")
    return [plans[effect.arm] for effect in found]


def fresh_seeds(
    folder: Path, manifest: Manifest, asked: int | str | None, arms: Sequence[ArmPlan] = (), name: str = ""
) -> range:
    """Seeds that no look has used: at a study, at the same arms in others beside it, or at what it replicates itself.

    Args:
        folder: of the study.
        manifest: its declaration.
        asked: a number of seeds after the largest one used, a range of them, or None for as many as the study has.
        arms: those to be replicated.
        name: of the replication, which is not in its own way when it is asked for again.

    Raises:
        UserError: it is neither, or a seed of the range has been used; names those.
    """
    used = _used(folder, arms, name)
    start = max(seed for seeds in used.values() for seed in seeds) + 1
    if not isinstance(asked, str):
        count = len(manifest.seeds) if asked is None else len(asked_seeds(asked))
        return range(start, start + count)
    seeds = asked_seeds(asked)
    for study, taken in used.items():
        again = [str(seed) for seed in seeds if seed in taken]
        if again:
            raise UserError(
                f"--seeds {asked}: {study} was looked at with seed{'s' * (len(again) > 1)} {', '.join(again)}, which "
                f"are not fresh; take {start}:{start + len(seeds)}"
            )
    return seeds


def _used(folder: Path, arms: Sequence[ArmPlan], name: str) -> dict[str, set[int]]:
    """The seeds of all looks by study: at these arms in studies of the workload, and what this one goes back to."""
    used: dict[str, set[int]] = {}
    asked = read_manifest(folder)
    for other in study_folders(folder.parent):
        with suppress(UserError):
            manifest = read_manifest(other)
            same = (manifest.experiment, manifest.scope) == (asked.experiment, asked.scope)
            if same and manifest.study != name and any(a.tricks == b.tricks for a in arms for b in manifest.arms):
                used[manifest.study] = _looked_at(manifest)
    before: Path | None = folder
    seen: set[str] = set()
    while before is not None and before.name not in seen:
        manifest = read_manifest(before)
        seen.add(before.name)
        used[before.name] = _looked_at(manifest)
        before = replicated(before, manifest)
    return used


def _looked_at(manifest: Manifest) -> set[int]:
    first = min(manifest.seeds)
    return {*manifest.seeds, *range(first, first + max(manifest.looks, default=0))}


def _rows_of(loaded: Loaded, arms: Sequence[ArmPlan]) -> list[dict[str, str]]:
    """Spec and identity of a stored run of each arm, the baseline first.

    Raises:
        UserError: an arm has none.
    """
    m, rows = loaded.manifest, []
    runs = own_rows(loaded.data.runs, m)
    for arm in (m.baseline, *arms):
        stored = runs[runs["label"] == arm.label] if arm is not None else runs.head(0)
        if stored.empty:
            raise UserError(f"{m.study}: no run of {arm.label if arm else 'a baseline'} is stored to be repeated")
        rows.append({name: stored[name].astype(object).fillna("").iloc[0] for name in ("spec", "identity_json")})
    return rows


def _is_command(loaded: Loaded, r: ReplicationRequest) -> bool:
    """Whether the runs of a study are commands, which come from a file that is named and never from the study.

    Raises:
        UserError: they are and no file is named, or they are not and one is.
    """
    command = not loaded.manifest.in_loop
    if loaded.manifest.source:
        raise UserError(f"{r.study} has scores of {loaded.manifest.source}, whose runs cannot be repeated from here")
    if command and r.experiment is None:
        raise UserError(
            f"the runs of {r.study} are commands, and no command is taken from a stored study: name the experiment "
            "file with --experiment"
        )
    if not command and r.experiment is not None:
        raise UserError(f"--experiment {r.experiment}: {r.study} says itself what was trained; leave it out")
    return command


@dataclass(frozen=True)
class _CommandSource:
    """The same of a study whose runs are commands: they come from the file, and the study has arms and values."""

    study: str
    experiment: CommandExperiment
    place: CommandPlace
    arms: Sequence[ArmPlan]
    rows: Sequence[dict[str, str]]
    toml: str

    @staticmethod
    def of(loaded: Loaded, arms: Sequence[ArmPlan], r: ReplicationRequest) -> _CommandSource:
        """Of some arms of a study and the file that the request names.

        Raises:
            UserError: rows are missing, the file is no such experiment, or it has none of these tricks or metrics.
        """
        m = loaded.manifest
        experiment = load_any(str(r.experiment))
        if not isinstance(experiment, CommandExperiment):
            raise UserError(f"--experiment {r.experiment}: its runs are no commands, and those of {m.study} are")
        asked = {"name": m.experiment, "question": f"Does {m.study} hold on fresh seeds?", "margin": m.margin}
        question = experiment.experiment.model_copy(update=asked | {"metric": m.metric})
        study = experiment.study.model_copy(update={"alpha": m.alpha if m.level is None else m.level})
        experiment = experiment.model_copy(update={"experiment": question, "study": study})
        _ = experiment.metric_name
        place = place_of(r, experiment)
        assert isinstance(place, CommandPlace)
        return _CommandSource(m.study, experiment, place, arms, _rows_of(loaded, arms), text_of(str(r.experiment)))

    def changes(self, images: str) -> list[str]:
        """What is other now than in the stored runs, in sentences: words, variables, data and code."""
        from harness.study.kinds import with_base

        said = []
        for arm, row in zip((None, *self.arms), self.rows, strict=True):
            tricks = () if arm is None else tuple(self.experiment.switch(n, p).spec() for n, p in arm.tricks.items())
            was = json.loads(row["spec"])
            now = self.experiment.spec(with_base(self.experiment, Arm(tricks=tricks)), was["seed"])
            changed = differences(was, json.loads(now.canonical_json))
            said += [f"{arm.label if arm else BASELINE}: {change}." for change in changed]
            why = difference(row["identity_json"], self.place.identity(now, images))
            if why:
                said.append(f"The runs of {self.study} are {why}.")
        return list(dict.fromkeys(said))


@dataclass(frozen=True)
class _Source:
    """What the rows of a study say of its training: the workload, and spec and identity by arm, the baseline first."""

    study: str
    experiment: Experiment
    rows: Sequence[dict[str, str]]
    toml: str

    @staticmethod
    def of(loaded: Loaded, arms: Sequence[ArmPlan]) -> _Source:
        """Of some arms of a study.

        Raises:
            UserError: rows are missing, are of settings that this version does not know, or a trick is unknown.
        """
        m, rows = loaded.manifest, _rows_of(loaded, arms)
        for name in sorted({name for arm in arms for name in arm.tricks}):
            if name not in registry.names():
                raise UserError(f"{m.study} has the trick {name}, which is not known here; give its file with --plugin")
        tricks: dict[str, dict[str, Any]] = {}
        for arm in arms:
            tricks = {**arm.tricks, **tricks}
        try:
            spec = RunSpec.model_validate_json(rows[0]["spec"])
            question = Question(
                name=m.experiment, question=f"Does {m.study} hold on fresh seeds?", margin=m.margin, metric=m.metric  # type: ignore[arg-type]
            )  # fmt: skip
            base = {trick.name: trick.params for trick in spec.arm.tricks}
            study = Study(alpha=m.alpha if m.level is None else m.level, base=tuple(base))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UserError(f"{m.study} cannot be trained by this version: {where}: {first['msg']}") from None
        experiment = Experiment(
            experiment=question,
            data=spec.data,
            model=spec.model,
            recipe=spec.recipe,
            study=study,
            tricks={**base, **tricks},
        )
        return _Source(m.study, experiment, rows, m.toml)

    def changes(self, images: str) -> list[str]:
        """What is other now than in the stored runs, in sentences: versions and settings of tricks, images, code.

        Args:
            images: content digest of the data set.
        """
        said = []
        for row in self.rows:
            spec = json.loads(row["spec"])
            tricks = spec["arm"]["tricks"]
            for was in tricks:
                now = registry.make(was["name"], was["params"], Origins(self.study)).spec()
                if now.version != was["version"]:
                    versions = f"is of version {now.version} now, and was of version {was['version']} in {self.study}"
                    said.append(f"{now.name} {versions}.")
                changed = differences(was["params"], now.model_dump(mode="json")["params"], f"{now.name}.")
                said += [f"{change}." for change in changed]
            identity = registry.identity_of((was["name"] for was in tricks), self.experiment.model, images)
            why = difference(row["identity_json"], identity)
            if why:
                said.append(f"The runs of {self.study} are {why}.")
        return list(dict.fromkeys(said))
