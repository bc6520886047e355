"""What happens while a study is made, in the order of happening."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from harness.analysis.compare import Comparison
    from harness.analysis.types import Analysis
    from harness.report.load import Loaded
    from harness.store.schema import SearchRecord
    from harness.study.forecast import Forecast
    from harness.study.plan import Plan
    from harness.tuning.plan import SearchPlan


@dataclass(frozen=True)
class Planned:
    """A study is planned, and what that found to warn of. `ahead` is there when only the plan was asked for."""

    plan: Plan
    warnings: tuple[str, ...]
    ahead: Forecast | None = None


@dataclass(frozen=True)
class Waiting:
    """Another command works on the study."""

    study: str


@dataclass(frozen=True)
class Started:
    """The missing runs of a study begin; with none missing, everything is stored already."""

    study: str
    total: int
    missing: int
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Epoch:
    """How far a run is: `points` of its curves since it was last told, each (epoch, step, split, metric, value)."""

    arm: str
    seed: int
    epoch: int
    epochs: int
    points: tuple[tuple[int, int, str, str, float], ...]


@dataclass(frozen=True)
class Finished:
    """A run has ended. `told` says whether its failure was said before."""

    arm: str
    seed: int
    status: str
    reason: str
    seconds: float
    val_accuracy: float | None
    told: bool = False


@dataclass(frozen=True)
class Looked:
    """A study that stops when every arm is decided was judged; `undecided` are the arms that are not."""

    seeds: int
    undecided: tuple[str, ...]


@dataclass(frozen=True)
class Written:
    """A study is judged and its page is written."""

    study: str
    folder: Path
    page: Path
    loaded: Loaded

    @property
    def undecided(self) -> tuple[str, ...]:
        """Labels of the arms on which more seeds may decide."""
        effects = self.loaded.analysis.effects
        return tuple(e.arm for e in effects if e.verdict.kind in ("undecided", "suggestive", "no verdict"))


@dataclass(frozen=True)
class Compared:
    """Studies of several conditions are compared."""

    comparison: Comparison


@dataclass(frozen=True)
class SearchPlanned:
    """A search is planned. `seconds` it may take, where only the plan was asked for and stored runs tell."""

    plan: SearchPlan
    seconds: float | None = None
    absent: str = ""
    """Why the images are not here, where a plan does without them."""


@dataclass(frozen=True)
class SearchStarted:
    """The trials of a search begin, or what is left of them."""

    plan: SearchPlan
    ended: int
    total: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class TrialEnded:
    """A trial has ended; `line` says how, and `ended` how many have."""

    line: str
    ended: int


@dataclass(frozen=True)
class FreshRun:
    """A run of the winners on fresh seeds is there, one of `total`."""

    total: int


@dataclass(frozen=True)
class OutOfTime:
    """The time of a search is up before every arm had its trials."""

    timeout: str


@dataclass(frozen=True)
class SearchWritten:
    """A search is recorded and its page is written. `exported` is the arm of the experiment that was written."""

    folder: Path
    page: Path
    record: SearchRecord
    runs: pd.DataFrame
    analyses: Mapping[str, Analysis]
    exported: str = ""


Event = Planned | Waiting | Started | Epoch | Finished | Looked | Written | Compared
SearchEvent = SearchPlanned | SearchStarted | TrialEnded | FreshRun | OutOfTime | SearchWritten
