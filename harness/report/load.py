"""What a study's folder says: its declaration, its rows and its effects, read and analysed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.diagnosis import context_of, diagnose_arms
from harness.analysis.effects import analyse
from harness.analysis.interactions import analyse_design
from harness.analysis.outcomes import Outcomes, summarise, tabulate
from harness.analysis.probe import Probed, at_this_rate, collapsed_arms, probes_of
from harness.analysis.replication import Replication, replication
from harness.analysis.rows import own_rows
from harness.analysis.sequential import looked
from harness.analysis.types import Analysis, DesignAnalysis, Finding
from harness.errors import UserError, did_you_mean
from harness.store.reader import StudyData, read_manifest, read_study
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
    """A study's declaration, its rows, its effects, and what arms that collapsed did at lower learning rates."""

    manifest: Manifest
    data: StudyData
    analysis: Analysis
    design: DesignAnalysis | None
    replication: Replication | None = None
    """Of a study that replicates another one whose rows are here."""
    collapsed: tuple[str, ...] = ()
    probes: tuple[Probed, ...] = ()

    def findings(self) -> list[tuple[Finding, list[str]]]:
        """What the curves of the arms show; one entry for all arms that show the same with the same words."""
        data, context = self.data, context_of(self.data, self.manifest)
        own = own_rows(data.runs, self.manifest)
        runs = own.assign(arm=own["label"])
        stored = set(runs["arm"])
        arms = [arm.label for arm in self.manifest.arms if arm.label in stored]
        found: dict[Finding, list[str]] = {}
        for arm, findings in diagnose_arms(runs, data.curves, arms, context).items():
            for finding in findings:
                found.setdefault(finding, []).append(arm)
        return sorted(found.items(), key=lambda item: SEVERITIES.index(item[0].severity))

    @property
    def looked(self) -> str:
        """How often the study was looked at, in a sentence; empty where it was once, or nothing is known of it."""
        m = self.manifest
        return looked(m.looks, m.alpha, m.level, m.study)

    def outcomes(self) -> Outcomes | None:
        """What the predictions show, or what they showed where the study was published without them."""
        made = tabulate(self.data, [self.manifest])
        return summarise(made.to_pandas() if made.num_rows else self.data.outcomes, self.data.runs, self.manifest)


def load(study_dir: Path, metric: str | None = None) -> Loaded:
    """Read and analyse a study."""
    manifest = read_manifest(study_dir)
    data = read_study(study_dir, manifest.runs)
    effects = analyse(data.runs, manifest, metric=metric, correct=data.correct(manifest.fingerprint))
    collapsed = collapsed_arms(data.runs, manifest, data.classes)
    probes = probes_of(data.runs, manifest, data.classes)
    effects = at_this_rate(effects, collapsed, probes)
    again = _replication(study_dir, manifest, effects)
    return Loaded(manifest, data, effects, analyse_design(data.runs, manifest, metric), again, collapsed, probes)


def replicated(study_dir: Path, manifest: Manifest) -> Path | None:
    """The folder of the study that this one replicates, beside it or published; None where there is none."""
    name = manifest.replicates
    if not name or Path(name).name != name:  # a foreign file could lead elsewhere
        return None
    beside = study_dir.absolute().parent
    homes = [beside, beside / "published", *([beside.parent] if beside.name == "published" else [])]
    return next((home / name for home in homes if (home / name / "study.json").is_file()), None)


def _replication(study_dir: Path, manifest: Manifest, analysis: Analysis) -> Replication | None:
    """The comparison with the study that this one replicates; None where that is not here or cannot be read."""
    folder = replicated(study_dir, manifest)
    if folder is None:
        return None
    try:
        before = read_manifest(folder)
        runs = read_study(folder, before.runs, predictions=False).runs
        old = analyse(runs, before, metric=analysis.metric)
    except UserError:
        return None
    return replication(old, analysis, manifest.seeds, (before.fingerprint, manifest.fingerprint))


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
