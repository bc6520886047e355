"""What a study and a search are asked for. Each option stands here once (`harness.workflow.options`)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from harness.values import MOST_SEEDS, read_seeds, seeds_word, whole
from harness.workflow.options import Flag, asked_of, expand_paths

MOST_WORKERS = 1024
DEFAULT = "digits-noisy"
"""The embedded experiment: its answer about mixup is the same on other seeds and on machines that round otherwise."""

TOLD = Flag(reproduces=False)
"""An option that changes no number."""

Tricks = Annotated[tuple[str, ...] | None, Field(description="Trick names; join names with + to make one arm of them.")]
ExperimentName = Annotated[
    str, Field(description="Bundled experiment name or .toml path."), Flag(("--experiment", "-e"), always=True)
]
Settings = Annotated[
    tuple[str, ...], Field(description="TRICK.PARAM=VALUE, or recipe.epochs=5; may be repeated."), Flag(("--set",))
]
Device = Annotated[str, Field(description="auto, cpu or cuda.")]
CudaGraphs = Annotated[
    bool, Field(description="On a GPU, capture training steps and replay them, where the tricks allow it.")
]
Devices = Annotated[
    str | None,
    Field(description="Cards that runs which are commands may have, as 0,1,2; all visible ones by default."),
    TOLD,
]
Threads = Annotated[int, Field(ge=1, le=1024, description="CPU threads of each run; part of the fingerprint.")]
Workers = Annotated[
    str | int | None,
    Field(
        description="Runs at a time (default: CPU cores, or what a GPU's memory holds; 1 for timings that "
        "compare), ray, or ray://HOST:PORT."
    ),
    TOLD,
]
Results = Annotated[Path, Field(description="Folder of all studies' rows."), TOLD]
Reports = Annotated[Path, Field(description="Folder of the HTML reports."), TOLD]
DataRoot = Annotated[
    Path | None, Field(description="Folder of the data sets; default $HARNESS_DATA or ~/.cache/harness.")
]
Plugins = Annotated[
    tuple[Path, ...],
    Field(description="Python file with tricks of your own. Runs its code: use files you trust."),
    Flag(("--plugin",)),
]


def shorten_seeds(request: Any) -> None:
    """Give the seeds of a request in their only form, so that equal requests are equal: "010" and "0:10" are 10."""
    with suppress(ValueError):  # auto, or what is refused later
        object.__setattr__(request, "seeds", seeds_word(read_seeds(request.seeds)))


@dataclass(frozen=True, kw_only=True)
class Request:
    """A study that is asked for; the fields are the options of `harness ablate`, with its words and limits."""

    tricks: Tricks = None
    experiment: ExperimentName = DEFAULT
    design: Annotated[
        str | None,
        Field(
            description="Which arms to make: one_at_a_time, leave_one_out, cumulative, greedy, pairs, factorial, "
            "fractional, sweep (mixup.alpha=0.2,1) or aa (the baseline against itself)."
        ),
    ] = None
    seeds: Annotated[
        str | int | None,
        Field(
            description="Number of seeds (blocks), a range of them (10:20 is seeds 10 to 19), or auto: enough to find "
            "the margin."
        ),
    ] = None
    until_decided: Annotated[
        bool, Field(description="Look at 5, 10, 20, ... seeds and stop when every arm is decided.")
    ] = False
    max_seeds: Annotated[
        int | None,
        Field(ge=5, le=MOST_SEEDS, description="Most seeds of --until-decided and --seeds auto; 20 by default."),
    ] = None
    max_arms: Annotated[
        int | None, Field(ge=2, le=10_000, description="Most arms of a factorial or fractional design.")
    ] = None
    cross: Annotated[
        str | None, Field(description="Repeat the study under conditions: data.label_noise=0,0.2,0.5.")
    ] = None
    margin: Annotated[float | None, Field(description="Smallest effect that matters, in points.")] = None
    budget: Annotated[str | None, Field(description="Most time for --seeds auto, for example 20m.")] = None
    settings: Settings = ()
    device: Device = "auto"
    devices: Devices = None
    cuda_graphs: CudaGraphs = False
    workers: Workers = None
    threads: Threads = 1
    results: Results = Path("results")
    reports: Reports = Path("reports")
    data_root: DataRoot = None
    name: Annotated[str | None, Field(description="Name of the study; made from experiment and tricks by default.")] = (
        None
    )
    plugins: Plugins = ()
    no_probe: Annotated[bool, Field(description="Train no arm that collapses again at lower learning rates.")] = False
    verify: Annotated[bool, Field(description="Verify the tricks' contract at every step (slower)."), TOLD] = False
    declared: bool = False
    """The tricks are those that the experiment file declares (`harness run`)."""

    def __post_init__(self) -> None:
        expand_paths(self)
        shorten_seeds(self)

    @property
    def asked(self) -> dict[str, Any]:
        """The request as plain values, for the declaration of a study."""
        return asked_of("ablate", self, self.tricks)


@dataclass(frozen=True, kw_only=True)
class ReplicationRequest:
    """A replication that is asked for; the fields are the options of `harness replicate`, with its words and limits."""

    study: Annotated[str, Field(description="Name of the study in the results folder."), TOLD]
    experiment: Annotated[
        str | None,
        Field(description="The file of an experiment whose runs are commands: they come from no stored study."),
        Flag(("--experiment", "-e")),
    ] = None
    arms: Annotated[
        str | None, Field(description="Only these arms: mixup,cutmix. Those that help or hurt by default.")
    ] = None
    seeds: Annotated[
        str | int | None,
        Field(
            description="Number of fresh seeds, or a range of them (10:20 is seeds 10 to 19); as many as the study has "
            "by default."
        ),
    ] = None
    device: Device = "auto"
    devices: Devices = None
    cuda_graphs: CudaGraphs = False
    workers: Workers = None
    threads: Threads = 1
    results: Results = Path("results")
    reports: Reports = Path("reports")
    data_root: DataRoot = None
    name: Annotated[str | None, Field(description="Name of the replication; STUDY-replication by default.")] = None
    plugins: Plugins = ()

    def __post_init__(self) -> None:
        expand_paths(self)
        if isinstance(self.seeds, str) and whole(self.seeds) is not None:  # a number of them, and no range
            object.__setattr__(self, "seeds", int(self.seeds))

    @property
    def asked(self) -> dict[str, Any]:
        """The request as plain values, for the declaration of the replication."""
        return asked_of("replicate", self, [self.study])


@dataclass(frozen=True, kw_only=True)
class CheckRequest:
    """A check that is asked for; the fields are the options of `harness check`, with its words and limits."""

    experiment: ExperimentName = DEFAULT
    seeds: Annotated[int, Field(ge=2, le=20, description="Seeds of the baseline; the first one is run twice.")] = 2
    settings: Settings = ()
    device: Device = "auto"
    devices: Devices = None
    cuda_graphs: CudaGraphs = False
    workers: Workers = None
    threads: Threads = 1
    results: Results = Path("results")
    reports: Reports = Path("reports")
    data_root: DataRoot = None
    plugins: Plugins = ()

    def __post_init__(self) -> None:
        expand_paths(self)


@dataclass(frozen=True, kw_only=True)
class GateRequest:
    """A decision that is asked for; the fields are the options of `harness gate`, with its words and limits."""

    experiment: ExperimentName = DEFAULT
    candidate: Annotated[str, Field(description="Trick, or tricks joined by +; with --from a method of the table.")] = (
        ""
    )
    state: Annotated[Path, Field(description="JSON file that all candidates of the stream share.")] = Path("gate.json")
    alpha: Annotated[
        float, Field(gt=0, lt=0.5, description="Most chance that the stream ever accepts one that does not help.")
    ] = 0.05
    candidates: Annotated[
        int, Field(ge=1, le=100_000, description="How many the stream may try; those accepted or inactive count none.")
    ] = 20
    reader: Annotated[
        str | None,
        Field(description="The file holds runs that were made elsewhere: judge those, with this reader (table, ...)."),
        Flag(("--from",)),
    ] = None
    metric: Annotated[str | None, Field(description="With --from: column of the score.")] = None
    method: Annotated[str | None, Field(description="With --from: column of the method.")] = None
    baseline: Annotated[str | None, Field(description="With --from: method that is the baseline.")] = None
    margin: Annotated[float | None, Field(description="Smallest gain that matters, in points.")] = None
    settings: Settings = ()
    device: Device = "auto"
    devices: Devices = None
    workers: Workers = None
    threads: Threads = 1
    results: Results = Path("results")
    reports: Reports = Path("reports")
    data_root: DataRoot = None
    plugins: Plugins = ()

    def __post_init__(self) -> None:
        expand_paths(self)

    @property
    def rows(self) -> Path | None:
        """The file of runs that were made elsewhere; None where runs are made here."""
        return Path(self.experiment) if self.reader is not None else None


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """A search that is asked for; the fields are the options of `harness search`, with its words and limits."""

    tricks: Tricks = None
    experiment: ExperimentName = DEFAULT
    trials: Annotated[
        int,
        Field(ge=1, le=100_000, description="Trials of each arm, the baseline included."),
        Flag(always=True),
    ] = 30
    seeds: Annotated[
        int, Field(ge=1, le=MOST_SEEDS, description="Seeds that each trial is trained on."), Flag(always=True)
    ] = 5
    fresh: Annotated[
        int | None,
        Field(
            ge=1, le=MOST_SEEDS, description="Further seeds, for the winners; default: as many as the experiment has."
        ),
    ] = None
    nuisance: Annotated[
        str | None, Field(description="Numbers of the recipe to search, too: lr,weight_decay by default; or none.")
    ] = None
    sampler: Annotated[str, Field(description="tpe, gp, random, grid or halton."), Flag(always=True)] = "tpe"
    pruner: Annotated[
        str | None,
        Field(description="wilcoxon stops a trial that loses seed by seed against the best one; or none."),
    ] = None
    objectives: Annotated[
        str,
        Field(description="accuracy, or several for a front: accuracy,seconds or accuracy,memory."),
        Flag(always=True),
    ] = "accuracy"
    storage: Annotated[
        str | None,
        Field(description="journal:PATH, or an Optuna URL such as postgresql+psycopg2://...; default: a SQLite file."),
        TOLD,
    ] = None
    workers: Annotated[
        str | int | None, Field(description="Trials at a time (default: CPU cores, or 1 on a GPU)."), TOLD
    ] = None
    timeout: Annotated[str | None, Field(description="No trial begins after this time, for example 20m."), TOLD] = None
    settings: Settings = ()
    export: Annotated[
        Path | None,
        Field(description="Write the winner (of several arms, the best on validation) as an experiment."),
        TOLD,
    ] = None
    device: Device = "auto"
    devices: Devices = None
    cuda_graphs: CudaGraphs = False
    threads: Threads = 1
    results: Results = Path("results")
    reports: Reports = Path("reports")
    data_root: DataRoot = None
    name: Annotated[
        str | None, Field(description="Name of the search; made from experiment and tricks by default.")
    ] = None
    plugins: Plugins = ()

    def __post_init__(self) -> None:
        expand_paths(self)

    @property
    def asked(self) -> dict[str, Any]:
        """The request as plain values, for the record of a search."""
        return asked_of("search", self, self.tricks)
