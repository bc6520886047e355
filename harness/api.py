"""The same as the command line, for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import UserError
from harness.workflow.events import Event, SearchEvent, SearchWritten, Written
from harness.workflow.options import make_request
from harness.workflow.request import ReplicationRequest, Request, SearchRequest

if TYPE_CHECKING:
    import pandas as pd

    from harness.analysis.types import Check
    from harness.report.load import Loaded
    from harness.store.schema import Manifest


def ablate(
    *tricks: str, on_event: Callable[[Event], None] | None = None, progress: bool = True, **options: Any
) -> Study:
    """Train the baseline and the baseline plus each trick over paired seeds; `harness ablate` in Python.

    Args:
        tricks: names, or combinations joined by "+".
        on_event: gets each event as it happens (`harness.workflow.events`), for trackers.
        progress: whether to tell of it on stderr, or below the cell of a notebook.
        options: as `harness ablate --help` lists them, with underscores: `seeds=5, experiment="digits-noisy",
            settings=["recipe.epochs=5"], data_root=Path("~/data")`. With `cross`, use `conditions`.

    Returns:
        The study, judged and written.

    Raises:
        UserError: an option is unknown or impossible; one line for each reason.
    """
    if options.get("cross") is not None:
        raise UserError(f"cross = {options['cross']!r} makes several studies; harness.conditions returns them all")
    return conditions(*tricks, on_event=on_event, progress=progress, **options)[0]


def conditions(
    *tricks: str, on_event: Callable[[Event], None] | None = None, progress: bool = True, **options: Any
) -> list[Study]:
    """As `ablate`, for `cross`: the study of each condition."""
    from harness.workflow.ablation import ablate

    return _studies(ablate(make_request(Request, {**options, "tricks": tricks})), on_event, progress)


def replicate(
    study: str, on_event: Callable[[Event], None] | None = None, progress: bool = True, **options: Any
) -> Study:
    """Train what a study found again, on seeds that no look has used; `harness replicate` in Python.

    Args:
        study: its name in the results folder.
        on_event: gets each event as it happens.
        progress: whether to tell of it on stderr, or below the cell of a notebook.
        options: as `harness replicate --help` lists them, with underscores: `arms="mixup,ema", seeds="10:20"`.

    Returns:
        The replication, whose `replication` has old and fresh effects side by side.

    Raises:
        UserError: an option is unknown or impossible, or nothing of the study can be replicated.
    """
    from harness.workflow.replicating import replicate

    return _studies(replicate(make_request(ReplicationRequest, {**options, "study": study})), on_event, progress)[0]


def _studies(events: Iterator[Event], on_event: Callable[[Event], None] | None, progress: bool) -> list[Study]:
    """The studies that events write, while they are told."""
    from rich.console import Console

    from harness.workflow.telling import telling

    studies = []
    for event in telling(events, Console(stderr=True, highlight=False, quiet=not progress)):
        if on_event is not None:
            on_event(event)
        if isinstance(event, Written):
            studies.append(Study(event.folder, event.loaded))
    return studies


def search(
    *tricks: str, on_event: Callable[[SearchEvent], None] | None = None, progress: bool = True, **options: Any
) -> SearchWritten:
    """Tune the baseline and each arm with the same number of trials; `harness search` in Python.

    Args:
        tricks: names, or combinations joined by "+".
        on_event: gets each event as it happens.
        progress: whether to tell of it on stderr, or below the cell of a notebook.
        options: as `harness search --help` lists them, with underscores.

    Returns:
        The last event: record, page, and the analyses of the comparisons on fresh seeds by name.

    Raises:
        UserError: an option is unknown or impossible; one line for each reason.
    """
    from rich.console import Console

    from harness.workflow import searching
    from harness.workflow.telling import telling

    events = searching.search(make_request(SearchRequest, {**options, "tricks": tricks}))
    for event in telling(events, Console(stderr=True, highlight=False, quiet=not progress)):
        if on_event is not None:
            on_event(event)
    assert isinstance(event, SearchWritten)
    return event


def judge(
    runs: pd.DataFrame | str | Path,
    *,
    name: str | None = None,
    results: str | Path = "results",
    reports: str | Path = "reports",
    **options: Any,
) -> list[Study]:
    """Judge runs that were made elsewhere; `harness judge` in Python. Needs no torch.

    Args:
        runs: a data frame with a row for each run, or the path of a table or of logs.
        name: of the study.
        results: the folder of studies.
        reports: the folder of pages.
        options: those of `harness.judging.options.Options`: `metric="acc", baseline="base", unit="percent"`.

    Returns:
        A study for each value of the column `by`; one without it.

    Raises:
        UserError: the runs cannot be judged; says what to do.
        TypeError: an option is unknown.
    """
    from harness.judging.judge import judge, source_of, source_of_frame
    from harness.judging.options import Options

    source = source_of([Path(runs)]) if isinstance(runs, str | Path) else source_of_frame(runs)
    found = judge(source, Options(**options), name, Path(results), Path(reports))
    return [Study(each.folder, each.loaded) for each in found]


def load(study: str | Path, results: str | Path = "results", metric: str | None = None) -> Study:
    """A stored study.

    Args:
        study: its name, or its folder.
        results: the folder of all studies.
        metric: another stored one, for example "test_nll", or one of predictions, such as "macro_f1".

    Raises:
        UserError: there is no such study, or it cannot be read.
    """
    from harness.report.load import is_search, study_dirs
    from harness.report.load import load as load_folder

    folder = Path(study)
    if not (folder / "study.json").is_file():
        (folder,) = study_dirs(Path(results), [str(study)])
    if is_search(folder):
        raise UserError(f"{folder} is a search; its page is written by `harness report {folder.name}`")
    return Study(folder, load_folder(folder, metric))


@dataclass(frozen=True)
class Study:
    """A study with its effects, rows and curves. In a notebook it shows its table."""

    folder: Path
    _loaded: Loaded

    @property
    def name(self) -> str:
        """The study's name, which is its folder's."""
        return self.folder.name

    @property
    def manifest(self) -> Manifest:
        """What was declared before it ran."""
        return self._loaded.manifest

    @cached_property
    def effects(self) -> pd.DataFrame:
        """One row for each arm but the baseline, indexed by arm.

        Columns are those of `harness.analysis.types.Effect`, with the verdict's kind and sentence in place of the
        verdict. `mean`, `low` and `high` are in the study's unit, points for accuracies.
        """
        import pandas as pd

        rows = []
        for effect in self._loaded.analysis.effects:
            values = asdict(effect)
            verdict = values.pop("verdict")
            rows.append(values | {"verdict": verdict["kind"], "sentence": verdict["sentence"]})
        return pd.DataFrame(rows).set_index("arm") if rows else pd.DataFrame()

    @property
    def replication(self) -> pd.DataFrame | None:
        """Of a study that replicates another one: old and fresh effects of each arm, indexed by arm; else None.

        `old`, `new` and `both` each have `_mean`, `_low`, `_high` and `_n`; `ratio`, `p` and `outcome` are as in
        `harness.analysis.replication.Replicated`.
        """
        import pandas as pd

        found = self._loaded.replication
        if found is None:
            return None
        return pd.json_normalize([asdict(arm) for arm in found.arms], sep="_").set_index("arm")

    @property
    def runs(self) -> pd.DataFrame:
        """The rows of the arms' runs that count; columns as in `harness.store.schema.RUNS`."""
        runs = self._loaded.data.runs
        return runs[runs["run_id"].isin(self.manifest.arm_runs)]

    @property
    def probes(self) -> pd.DataFrame:
        """What arms that collapsed did at lower learning rates; columns as in `harness.analysis.probe.Probed`."""
        import pandas as pd

        from harness.analysis.probe import Probed

        return pd.DataFrame(map(asdict, self._loaded.probes), columns=[f.name for f in fields(Probed)])

    @property
    def curves(self) -> pd.DataFrame:
        """Learning curves in long form; columns as in `harness.store.schema.CURVES`."""
        return self._loaded.data.curves

    @property
    def sentences(self) -> list[str]:
        """The verdicts in words."""
        return [effect.verdict.sentence for effect in self._loaded.analysis.effects]

    @property
    def checks(self) -> list[Check]:
        """What makes the comparison valid: (what, "holds", "fails" or "not known", detail)."""
        return list(self._loaded.analysis.checks)

    def html(self, reports: str | Path = "reports") -> Path:
        """Write the page; returns its path."""
        from harness.report.pages.study import write_report

        return write_report(self.folder, Path(reports), self._loaded.analysis.metric)[0]

    def table(self, form: Literal["csv", "markdown", "latex"] = "markdown") -> str:
        """The ablation table as text."""
        from harness.report.export import TABLES

        return TABLES[form](self._loaded.analysis, ())

    def latex(self) -> str:
        """The ablation table for a paper."""
        return self.table("latex")

    def __str__(self) -> str:
        again = self._loaded.replication
        return "\n".join([*self.sentences, *([again.summary] if again else [])])

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdicts and the table."""
        from html import escape

        from harness.report.text.numbers import decimals
        from harness.report.text.replications import rows
        from harness.report.text.tables import columns, effect_rows

        analysis, again = self._loaded.analysis, self._loaded.replication
        shown = [column for column in columns(analysis) if column.brief]
        tables = [[{column.title: column.show(row) for column in shown} for row in effect_rows(analysis)]]
        if again is not None:
            tables.append(rows(again, decimals(analysis)))
        said = [*self.sentences, *([again.summary] if again else [])]
        return "".join([f"<p>{escape(sentence)}</p>" for sentence in said] + [_table(listed) for listed in tables])


def _table(listed: list[dict[str, str]]) -> str:
    """Rows with a text by heading, in HTML."""
    from html import escape

    head = "".join(f"<th>{escape(title)}</th>" for title in (listed[0] if listed else ()))
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row.values()) for row in listed)
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table>"
    )
