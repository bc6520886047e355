"""What is stored: arrow schemas of the four tables, a study's manifest and a search's record."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, PositiveFloat

from harness.metrics import EVALUATED, Metric, ObjectiveName

SCHEMA_VERSION = 1

Status = Literal["ok", "failed", "diverged", "skipped"]

TUNED_BASELINE = "tuned baseline"
"""The arm of a search's comparison "tuning"."""

METRICS = EVALUATED
"""Stored for the validation and the test split, as `val_*` and `test_*`."""

_string, _int, _float, _time = pa.string(), pa.int64(), pa.float64(), pa.timestamp("ms", tz="UTC")

RUNS = pa.schema(
    [
        ("schema_version", _int),
        ("run_id", _string),
        ("fingerprint", _string),  # hash of what changes bits; effects pair rows of one fingerprint only
        ("experiment", _string),
        ("arm", _string),  # sorted trick names joined by "+", or "baseline"
        ("hyperparameters", _string),  # JSON: trick -> parameter -> value
        ("spec", _string),  # canonical JSON of the RunSpec
        ("seed", _int),
        ("status", _string),
        ("reason", _string),  # empty when ok
        *((f"{split}_{metric}", _float) for split in ("val", "test") for metric in METRICS),
        # sha256 of the test logits, or of all that a foreign run logged: runs with equal digests are the same
        ("test_digest", _string),
        ("train_loss", _float),  # mean over the last epoch, of what was minimised
        ("train_accuracy", _float),  # training split without augmentation or tricks, at the end
        ("train_nll", _float),
        ("epochs_done", _int),
        ("seconds_total", _float),  # wall, set-up and evaluation included
        ("seconds_train", _float),  # wall, training steps only
        ("cpu_seconds_train", _float),  # process CPU time of the training steps
        ("seconds_other", _float),  # wall, training and set-up of the runs that this one needs, whoever did them
        ("seconds_per_step", _float),
        ("images_per_second", _float),
        ("packed", pa.bool_()),  # timed beside other runs on the same device
        ("plain_steps", _string),  # why steps were no CUDA graphs, empty when they were; null when not asked for
        ("peak_memory_bytes", _int),
        ("parameters", _int),
        ("forward_flops", _int),  # per image, multiply and add counted separately
        ("steps", _int),
        ("started", _time),
        ("finished", _time),
        ("host", _string),
        ("device", _string),
        ("fingerprint_json", _string),
        ("versions", _string),  # JSON: package -> version
        ("data_hash", _string),  # content digest of the data set
        ("git_commit", _string),
        ("git_dirty", pa.bool_()),
        ("identity", _string),  # hash of identity_json; with the run id it is the run's key
        ("identity_json", _string),  # what decides the numbers beside spec and machine (harness.identity)
        ("scores", _string),  # JSON: metric -> number, of the metrics that the study declares; null without any
        ("role", _string),  # "arm", or "stage": trained because others need it; null in earlier rows
        ("stages", _string),  # JSON: files of the runs that this one needs, and of those that they need
        ("seconds_setup", _float),  # wall, hooks that may train or predict before training: dataset, init, prepare
        ("cpu_seconds_setup", _float),
        ("cpu_seconds_other", _float),  # as seconds_other, on the clock of cpu_seconds_train; null in earlier rows
    ]
)

LATER_COLUMNS = {
    "runs": ("plain_steps", *RUNS.names[RUNS.names.index("identity") :]),
    "curves": ("identity", "finished"),
    "predictions": ("identity", "finished"),
    "outcomes": (),
}
"""Columns that files of an earlier version may lack; they are then null."""

CURVES = pa.schema(
    [
        ("schema_version", _int),
        ("run_id", _string),
        ("fingerprint", _string),
        ("epoch", _int),  # epochs completed
        ("step", _int),  # updates completed
        ("split", _string),  # train or val
        ("metric", _string),  # loss, lr, accuracy, nll, or loss/<trick>.<term>
        ("value", _float),
        ("identity", _string),
        ("finished", _time),  # of the run row that they belong to
    ]
)

OUTCOMES = pa.schema(
    [
        ("schema_version", _int),
        ("run_id", _string),
        ("fingerprint", _string),
        ("against", _string),  # run id of the baseline with the same seed; empty for classes and bins
        ("group", _string),  # which of the run's test images the row counts, see below
        ("key", pa.int32()),  # class, or bin of confidence from 0; 0 for the others
        ("n", pa.int32()),  # how many images these are
        ("correct", pa.int32()),  # how many of them the run got right
        ("confidence", pa.float32()),  # sum over them of the run's largest softmax probability, in [0, n]
    ]
)
"""What a run's predictions say, in a few rows: the test images are counted three times over.

By `class`, which is their label; by `bin`, which is the run's confidence in `CONFIDENCE_BINS` bins of equal width; and
by how the run compares with its baseline: `fixed` images, which the baseline had wrong and the run has right; `broken`
ones, the reverse; `changed` ones, which both have wrong with different answers; and `same`, all others. A published
study has these rows in place of its predictions, which are a hundred times as large. A fourth time by `answer`, label
and answer together: the key is `ANSWERS_APART` times the label plus the answer, and pairs without images have no row.
Studies of earlier versions have none of these rows.
"""

ANSWER, ANSWERS_APART = "answer", 1 << 15
CONFIDENCE_BINS = 15
"""The bins of the stored ECE: bin k holds the confidences in [k/15, (k+1)/15), and the last one also holds 1."""


def predictions_schema(classes: int) -> pa.Schema:
    """Schema of one run's test predictions: dataset index, label and float16 logits of each image."""
    return pa.schema(
        [
            ("schema_version", _int),
            ("run_id", _string),
            ("fingerprint", _string),
            ("index", _int),
            ("label", pa.int32()),
            ("logits", pa.list_(pa.float16(), classes)),
            ("identity", _string),
            ("finished", _time),
        ]
    )


SCHEMAS = {"runs": RUNS, "curves": CURVES, "outcomes": OUTCOMES, "predictions": predictions_schema(1)}
"""By kind; how many logits a row of predictions has is the data set's affair."""


def _request(asked: dict[str, Any]) -> dict[str, Any]:
    tricks, options = asked.get("tricks", []), asked.get("options", {})
    words = isinstance(asked.get("verb", ""), str) and isinstance(tricks, list | tuple) and isinstance(options, dict)
    if not words or (asked and "verb" not in asked) or not all(isinstance(t, str) for t in tricks):
        raise ValueError("a request has a verb, and may have tricks, which are names, and options by name")
    return asked


Asked = Annotated[dict[str, Any], AfterValidator(_request)]
"""A request as data, see `harness.store.asked`; empty where nothing is known of it."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class ArmPlan(_Record):
    """One arm of a study: its label, tricks with hyperparameters, and the run of each seed.

    `skipped` is the reason why the arm cannot run, or None. `cost` is the expected step time from the cards.
    `identity` is that of the arm's runs; empty in studies of earlier versions, whose rows have none. `kind` is what its
    tricks do to the baseline (`harness.tricks.kinds`); empty in studies of earlier versions.
    """

    label: str
    tricks: dict[str, dict[str, Any]] = {}
    run_ids: dict[int, str] = {}
    skipped: str | None = None
    summary: str = ""
    cost: float = 1.0
    identity: str = ""
    kind: str = ""


class Probe(_Record):
    """An arm that collapsed, trained again at `factor` times its learning rate: label, and the run of each seed."""

    arm: str
    factor: PositiveFloat
    run_ids: dict[int, str] = {}
    identity: str = ""


class StagePlan(_Record):
    """Runs that runs of a study need, alike but for their seeds: trained first, and no arm of the study.

    `runs` holds the identity of each by run id. `arms` are the labels of those that need them, themselves or through
    other stages.
    """

    label: str
    arms: tuple[str, ...]
    runs: dict[str, str]
    fingerprint: str


class MetricSpec(_Record):
    """A metric of a study that is no column of the runs table: the runs have it among their `scores`.

    `unit` says how it is given: in percent, as a fraction in [0, 1], which is shown in percent, or as a number without
    unit. `split` is what it was measured on. `margin` is the smallest difference that matters, in points of percent or
    without unit; None where none was declared.
    """

    unit: Literal["percent", "fraction", "none"] = "none"
    better: Literal["higher", "lower"] = "higher"
    split: Literal["test", "val", "train", "unknown"] = "test"
    margin: PositiveFloat | None = None

    def metric(self, name: str) -> Metric:
        """The record of the metric under this name."""
        return Metric(
            name=name,
            split="" if self.split == "unknown" else self.split,
            unit="" if self.unit == "none" else "%",
            factor=100.0 if self.unit == "fraction" else 1.0,
            higher_is_better=self.better == "higher",
            needs="scores",
            margin=self.margin,
        )


class Manifest(_Record):
    """A study as declared before it ran: `study.json` in the study's folder.

    `factors` are what the arms are sets of, each a trick or tricks joined by "+"; empty where they are no such sets.
    `notes` are sentences that a reader must know; `leak` says which splits of the data share images. `overlap` is test
    / training size where seeds are folds of one cross-validation, and else 0.
    """

    schema_version: int = SCHEMA_VERSION
    study: str
    experiment: str
    question: str
    metric: str
    margin: float
    alpha: float
    design: str
    seeds: tuple[int, ...]
    arms: tuple[ArmPlan, ...]
    fingerprint: str
    scope: str
    """For example "digits, 100 training images, digits_resnet (19,610 parameters), 80 epochs"."""
    command: str
    toml: str
    harness_version: str
    created: str
    factors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    network: str = ""
    """What the network's library has built into it and what was made of it, a sentence; empty without any."""
    data: str = ""
    """Content digest of the data set; empty in studies of earlier versions."""
    asked: Asked = {}
    """The request as plain values, of which `command` is rendered; empty in studies of earlier versions."""
    settings: dict[str, Any] = {}
    """Data, model and recipe of the baseline; empty in studies of earlier versions."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds at which the study was judged, rising; empty in studies of earlier versions."""
    level: float | None = None
    """Chance of a false alarm over all looks of a study that planned them, of which each is at `alpha`; else None."""
    replicates: str = ""
    """The study whose arms this one trains again on fresh seeds; empty for others."""
    metrics: dict[str, MetricSpec] = {}
    """By name: what its runs have among their `scores`. A name that is a column of the runs table means that column."""
    source: str = ""
    """Where the scores come from, if not from runs of this program: then its claims about its own runs do not hold."""
    stages: tuple[StagePlan, ...] = ()
    """Runs that those of the arms need, but for those that are arms themselves."""
    leak: str = ""
    overlap: float = 0.0
    probes: tuple[Probe, ...] = ()
    """Further runs of arms that collapsed, at lower rates. They are of no arm, and no effect or p value is of them."""

    @property
    def in_loop(self) -> bool:
        """Whether the runs are of this program's own training loop: not commands, and not made elsewhere."""
        return not self.source and self.settings.get("kind") != "command"

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a reader of the results must know: the notes, what the network's library has built in, and leaks."""
        return (*self.notes, *filter(None, [self.network, self.leak]))

    @property
    def baseline(self) -> ArmPlan | None:
        """The first arm without tricks; a second one is a baseline of another recipe."""
        return next((arm for arm in self.arms if not arm.tricks), None)

    def planned(self, arm: ArmPlan) -> tuple[int, ...]:
        """The seeds that an arm is judged on; rows that a foreign table lacks were never planned."""
        if not self.source or (base := self.baseline) is None:
            return self.seeds
        return tuple(s for s in self.seeds if s in arm.run_ids and s in base.run_ids)

    @property
    def family(self) -> tuple[str, ...]:
        """Labels of the arms whose p values are corrected together: all but the baseline and skipped ones."""
        baseline = self.baseline
        return tuple(a.label for a in self.arms if a is not baseline and a.skipped is None)

    @property
    def arm_runs(self) -> dict[str, str]:
        """The identity of each run of the arms, by run id: those that effects are of."""
        return {run_id: arm.identity for arm in self.arms for run_id in arm.run_ids.values()}

    @property
    def runs(self) -> dict[str, str]:
        """The identity of each run of the study, by run id: those of the arms, and of their probes."""
        return self.arm_runs | {run_id: probe.identity for probe in self.probes for run_id in probe.run_ids.values()}

    @property
    def stage_runs(self) -> dict[str, str]:
        """The identity of each stage, by run id."""
        return {run_id: identity for stage in self.stages for run_id, identity in stage.runs.items()}

    @property
    def arm_of(self) -> dict[str, ArmPlan]:
        """The arm of each run of the study, by run id; of a probe, the arm that it is of."""
        arms = {arm.label: arm for arm in self.arms}
        own = {run_id: arm for arm in self.arms for run_id in arm.run_ids.values()}
        return own | {i: arms[p.arm] for p in self.probes if p.arm in arms for i in p.run_ids.values()}


class Trial(_Record):
    """One setting that a search tried: its values, and what the validation split said of them.

    `params` are values by name, "recipe.lr" or "mixup.alpha". `run_ids` are the runs by seed. `values` holds, for each
    objective of the search, the value at each seed in the order of `run_ids` (accuracies as fractions); the trial's
    value is their mean. A pruned trial stopped after its first seeds and never wins.
    """

    number: int
    state: Literal["complete", "pruned", "failed"]
    params: dict[str, Any]
    run_ids: dict[int, str] = {}
    values: dict[str, tuple[float, ...]] = {}
    reason: str = ""


class SearchArm(_Record):
    """One arm of a search: the baseline (no tricks) or a stack, with its space and its trials.

    `space` has, for each searched value, {"low", "high", "log", "integer"} or {"choices"}, and "default". `winner` is
    the number of the best complete trial, None when there is none. `front` are the numbers of the trials that no other
    beats on every objective; empty with one objective. `importance` is each searched value's share of the variance of
    the trials' values (fANOVA), None with too few complete trials to say.
    """

    label: str
    tricks: tuple[str, ...] = ()
    space: dict[str, dict[str, Any]] = {}
    trials: tuple[Trial, ...] = ()
    winner: int | None = None
    front: tuple[int, ...] = ()
    importance: dict[str, float] | None = None
    identity: str = ""


class SearchRecord(_Record):
    """A search as it ended: `search.json` in its folder, beside the runs of its trials.

    `comparisons` are ordinary studies over `fresh_seeds`, which no trial has seen, with their rows in the same folder:
    "default" (every arm with default values against the untuned baseline), "tuned" (every arm's winner against
    the tuned baseline) and "tuning" (the tuned baseline, as the arm "tuned baseline", against the untuned one).
    The first of `objectives` decides the winner.
    """

    schema_version: int = SCHEMA_VERSION
    search: str
    experiment: str
    question: str
    scope: str
    objectives: tuple[ObjectiveName, ...]
    trials: int
    tuning_seeds: tuple[int, ...]
    fresh_seeds: tuple[int, ...]
    sampler: str
    pruner: str
    arms: tuple[SearchArm, ...]
    comparisons: dict[str, Manifest]
    fingerprint: str
    command: str
    toml: str
    harness_version: str
    created: str
    notes: tuple[str, ...] = ()
    asked: Asked = {}
    """What was asked for; empty in searches of earlier versions, which have `command` alone."""

    @property
    def runs(self) -> dict[str, str]:
        """The identity of each run of the trials and of the comparisons, by run id."""
        tried = {i: arm.identity for arm in self.arms for trial in arm.trials for i in trial.run_ids.values()}
        return tried | {i: identity for m in self.comparisons.values() for i, identity in m.runs.items()}
