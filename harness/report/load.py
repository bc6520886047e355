"""What a study's folder says: its declaration, its rows and its effects, read and analysed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness import plugins
from harness.analysis.diagnosis import context_of, diagnose_arms
from harness.analysis.effects import analyse
from harness.analysis.interactions import analyse_design
from harness.analysis.outcomes import Outcomes, summarise, tabulate
from harness.analysis.probe import Probed, at_this_rate, collapsed_arms, probes_of
from harness.analysis.replication import Replication, replication
from harness.analysis.rows import metric_of, own_rows, points_of
from harness.analysis.scores import SCORES, Score, own_score, with_score
from harness.analysis.sequential import looked
from harness.analysis.stages import TrainedBefore, trained_before
from harness.analysis.sweep import Sweep, sweep_of
from harness.analysis.types import Analysis, DesignAnalysis, Finding
from harness.errors import UserError, did_you_mean
from harness.metrics import COLUMNS
from harness.report.text.kinds import headline, kinds_of
from harness.store.reader import StudyData, read_manifest, read_replicated, read_study
from harness.store.schema import Manifest

SEARCH = "search.json"
SEVERITIES = ("problem", "warning", "info")


def study_dirs(results: Path, names: Sequence[str]) -> list[Path]:
    """The folders of the named studies and searches (see `is_search`), or of all.

    Raises:
        UserError: a name is unknown, or there is nothing at all.
    """
    patterns = [f"{place}*/{record}" for place in ("published/", "") for record in ("study.json", SEARCH)]
    known = {p.parent.name: p.parent for pattern in patterns for p in sorted(results.glob(pattern))}
    if not known:
        raise UserError(f"no study in {results}; run `harness ablate TRICK` first or name its folder with --results")
    for name in names:
        if name not in known:
            raise UserError(f"unknown study '{name}'{did_you_mean(name, known)} Known: {', '.join(known)}")
    return [known[n] for n in names] if names else list(known.values())


def is_search(folder: Path) -> bool:
    """Whether a folder holds a search, which has a page of its own kind and neither tables nor figures."""
    return (folder / SEARCH).exists()


@dataclass(frozen=True)
class Loaded:
    """A study's declaration, its rows, its effects, and what arms that collapsed did at lower learning rates.

    `runs` are its own, one row each, as of `harness.analysis.rows.own_rows`, and `points` those of the learning curves
    of the runs that finished, with the arm's `label`.
    """

    manifest: Manifest
    data: StudyData
    analysis: Analysis
    design: DesignAnalysis | None
    runs: pd.DataFrame
    points: pd.DataFrame
    sweep: Sweep | None = None
    """What the arms of a large study share."""
    trained_before: TrainedBefore | None = None
    """The runs that those of the arms need, and their part of what an arm costs."""
    replication: Replication | None = None
    """Of a study that replicates another one whose rows are here."""
    collapsed: tuple[str, ...] = ()
    probes: tuple[Probed, ...] = ()

    def findings(self) -> list[tuple[Finding, list[str]]]:
        """What the curves of the arms show; one entry for all arms that show the same with the same words."""
        if not self.manifest.in_loop:  # they look at curves and at a recipe that only runs of this program have
            return []
        context, runs = context_of(self.data, self.manifest), self.runs.assign(arm=self.runs["label"])
        stored = set(runs["arm"])
        arms = [arm.label for arm in self.manifest.arms if arm.label in stored]
        found: dict[Finding, list[str]] = {}
        for arm, findings in diagnose_arms(runs, self.data.curves, arms, context).items():
            for finding in findings:
                found.setdefault(finding, []).append(arm)
        return sorted(found.items(), key=lambda item: SEVERITIES.index(item[0].severity))

    @property
    def looked(self) -> str:
        """How often the study was looked at, in a sentence; empty where it was once, or nothing is known of it."""
        m = self.manifest
        return looked(m.looks, m.alpha, m.level, m.study)

    @property
    def counts(self) -> str:
        """How many arms help and hurt, additions first, in a sentence or two."""
        told = headline(self.analysis.effects, kinds_of(self.manifest))
        return f"{told.first} {told.rest}".strip()

    def outcomes(self) -> Outcomes | None:
        """What the predictions show, or what they showed where the study was published without them."""
        made = tabulate(self.data, [self.manifest])
        return summarise(made.to_pandas() if made.num_rows else self.data.outcomes, self.data.runs, self.manifest)


def load(study_dir: Path, metric: str | None = None) -> Loaded:
    """Read and analyse a study."""
    manifest = read_manifest(study_dir)
    data = read_study(study_dir, manifest.runs | manifest.stage_runs)
    before, correct = read_replicated(study_dir, manifest), data.correct(manifest.fingerprint)
    return analysed(manifest, data, metric, correct, before)


def analysed(
    manifest: Manifest,
    data: StudyData,
    metric: str | None = None,
    correct: Mapping[str, NDArray[np.bool_]] | None = None,
    before: tuple[Manifest, pd.DataFrame] | None = None,
) -> Loaded:
    """Analyse what was read of a study, and `before`, of the one that it replicates.

    The other arguments are those of `harness.analysis.effects.analyse`; the metric may be one of
    `harness.analysis.scores.SCORES`, too.
    """
    manifest, data, metric = with_score(manifest, data, metric, _own(metric))
    effects = analyse(data.runs, manifest, metric=metric, correct=correct)
    collapsed = () if not manifest.in_loop else collapsed_arms(data.runs, manifest, data.classes)
    probes = probes_of(data.runs, manifest, data.classes)
    own, what = own_rows(data.runs, manifest), metric_of(manifest, metric)
    # Stacks share tricks, and costs no luck of a baseline.
    alike = manifest.design == "one_at_a_time" and what.split in ("train", "val", "test")
    kinds = kinds_of(manifest)
    effects = replace(effects, effects=tuple(replace(e, does=kinds[e.arm]) for e in effects.effects))
    return Loaded(
        manifest=manifest,
        data=data,
        analysis=at_this_rate(effects, collapsed, probes),
        design=analyse_design(data.runs, manifest, metric),
        sweep=sweep_of(effects) if alike else None,
        trained_before=trained_before(data.runs, manifest),
        replication=replication(*before, manifest, effects) if before else None,
        runs=own,
        points=points_of(data.curves, own.loc[own["ok"], ["run_id", "fingerprint", "label"]]),
        collapsed=collapsed,
        probes=probes,
    )


def _own(metric: str | None) -> Score | None:
    """The metric "FILE.py:NAME", or that of an installed package; None for what is the harness's own."""
    if metric is None or metric in SCORES or metric in COLUMNS:
        return None
    part = plugins.part(plugins.METRICS, metric, "--metric")
    return own_score(metric, part.value) if part else None


def preface(study_dir: Path) -> str:
    """What the author of a study says of it in `preface.txt`: plain text, paragraphs apart; empty if there is none."""
    try:
        return (study_dir / "preface.txt").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UserError(
            f"{study_dir / 'preface.txt'} cannot be read: {error.strerror}; it must be a text file"
        ) from None
