"""What the fresh seeds are for: studies of default values and of winners; declares them, trains and judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from harness.commands.kinds import AnySpec
from harness.experiment import BASELINE
from harness.store.schema import TUNED_BASELINE, ArmPlan, Manifest
from harness.study.kinds import metrics_of, scope_of, settings_of
from harness.tuning.plan import SearchedArm, SearchPlan
from harness.tuning.space import settle
from harness.tuning.values import Params
from harness.version import __version__


@dataclass(frozen=True)
class Comparisons:
    """Studies over the fresh seeds by name, and their runs without repetitions."""

    manifests: Mapping[str, Manifest]
    specs: tuple[AnySpec, ...]


def compare(plan: SearchPlan, winners: Mapping[str, Params | None], fingerprint: str) -> Comparisons:
    """What the fresh seeds are for.

    "default": every arm with its default values against the untuned baseline. "tuned": every arm's winner, with
    its own recipe, against the tuned baseline. "tuning": the tuned baseline against the untuned one. The last two
    need a winner of the baseline.

    Intervals of these effects are over seeds. They do not cover the luck of the search, which happened once: another
    one may find a better or worse setting.

    Args:
        plan: of the search.
        winners: the winning values of each arm by label, or None where there are none.
        fingerprint: of the machine that trains the runs.
    """
    made = _Maker(plan, fingerprint)
    baseline = plan.arms[0]
    manifests = {"default": made.manifest("default", [made.arm(arm, {}) for arm in plan.arms])}
    best = winners[BASELINE]
    if best is not None:
        tuned = [made.arm(arm, winners[arm.label]) for arm in plan.arms]
        again = made.arm(baseline, best).model_copy(update={"label": TUNED_BASELINE, "kind": "value"})
        both = [made.arm(baseline, {}), again]
        manifests |= {"tuned": made.manifest("tuned", tuned), "tuning": made.manifest("tuning", both)}
    return Comparisons(manifests, tuple(made.specs.values()))


class _Maker:
    """Makes the manifests of a search's comparisons, and keeps the runs that they need."""

    def __init__(self, plan: SearchPlan, fingerprint: str) -> None:
        self.plan, self.fingerprint = plan, fingerprint
        self.specs: dict[str, AnySpec] = {}

    def arm(self, arm: SearchedArm, params: Params | None) -> ArmPlan:
        """An arm with some values, or one that is left out because no trial of it was completed."""
        if params is None:
            return ArmPlan(
                label=arm.label,
                tricks={t: {} for t in arm.tricks},
                skipped="no trial of the search was completed",
                kind=arm.kind,
            )
        experiment, resolved = settle(self.plan.experiment, arm.tricks, params)
        specs = [experiment.spec(resolved, seed) for seed in self.plan.fresh_seeds]
        self.specs |= {s.run_id: s for s in specs}
        values = ", ".join(f"{name} = {value}" for name, value in params.items())
        return ArmPlan(
            label=arm.label,
            tricks={t.name: t.params for t in resolved.tricks},
            run_ids={s.seed: s.run_id for s in specs},
            summary="; ".join(filter(None, [arm.summary, values])),
            cost=arm.cost,
            identity=self.plan.identity(arm).short,
            kind=arm.kind,
        )

    def manifest(self, name: str, arms: Sequence[ArmPlan]) -> Manifest:
        plan, q = self.plan, self.plan.experiment.experiment
        metric, metrics = metrics_of(plan.experiment)
        return Manifest(
            study=f"{plan.search}-{name}",
            experiment=q.name,
            question=q.question,
            metric=metric,
            metrics=metrics,
            settings=settings_of(plan.experiment),
            margin=q.margin,
            alpha=plan.experiment.study.alpha,
            design="one_at_a_time",
            seeds=plan.fresh_seeds,
            arms=tuple(arms),
            fingerprint=self.fingerprint,
            scope=scope_of(plan.experiment),
            command=plan.command,
            asked=dict(plan.asked),
            toml=plan.toml,
            harness_version=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            data=plan.images,
        )
