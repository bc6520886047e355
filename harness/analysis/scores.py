"""Metrics of stored predictions and curves that no run computed: worked out afterwards, from what is stored of runs.

The numbers are scikit-learn's. What the classes by themselves say needs only how many images of each class a run got
right, which published studies keep, too; what a run answered instead needs its counts by label and answer; the others
need its probabilities, thus the logits, which a study has as long as it is not published.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from harness.errors import UserError
from harness.store.reader import StudyData
from harness.store.schema import ANSWER, ANSWERS_APART, Manifest, MetricSpec

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
RunKey = tuple[str, str]
"""Run id and fingerprint."""

ANOTHER = -1
"""The answer to an image of which only is known that it was wrong."""

COVERAGE = 0.8
"""Share of the test images, the surest ones, that `accuracy_at_coverage_80` counts."""

COLUMNS = {"ece": "test_ece", "nll": "test_nll", "brier": "test_brier", "accuracy": "test_accuracy"}
"""Metrics that are columns of the runs table, by the names that people type."""


@dataclass(frozen=True)
class Score:
    """A metric of predictions.

    `needs` says what of a run it takes: which images it got right (`classes`), what it answered (`answers`), how sure
    it was of each class (`probabilities`), or its validation accuracy by epoch (`curves`). `of` gets labels (N,) and,
    for the first two, answers (N,), or probabilities (N, K); of curves, epochs (E,) and accuracies (E,).
    """

    spec: MetricSpec
    needs: Literal["classes", "answers", "probabilities", "curves"]
    of: Callable[[Integers, Any], float]


def balanced_accuracy(label: Integers, answer: Integers) -> float:
    """The mean over classes of the share of its images that are right (Brodersen et al. 2010)."""
    return float(_recalls(label, answer).mean())


def worst_class_recall(label: Integers, answer: Integers) -> float:
    """The share of right images of the class that has the smallest."""
    return float(_recalls(label, answer).min())


def _recalls(label: Integers, answer: Integers) -> Floats:
    from sklearn.metrics import recall_score

    recalls: Floats = recall_score(label, answer, labels=np.unique(label), average=None)
    return recalls


def macro_f1(label: Integers, answer: Integers) -> float:
    """The mean over classes of the F1 score, which is 0 for a class that was never answered."""
    from sklearn.metrics import f1_score

    return float(f1_score(label, answer, average="macro", zero_division=0.0))


def mcc(label: Integers, answer: Integers) -> float:
    """Matthews' correlation of labels and answers, for any number of classes (Gorodkin 2004); 0 for one answer."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(label, answer))


def quadratic_kappa(label: Integers, answer: Integers) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968), for classes whose numbers are an order."""
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(label, answer, weights="quadratic"))


def auroc(label: Integers, probability: Floats) -> float:
    """Area under the ROC curve: of class 1 where there are two classes, else the mean over one class against the rest.

    NaN where a class has no test image.
    """
    from sklearn.metrics import roc_auc_score

    return _one_against_rest(roc_auc_score, label, probability)


def pr_auc(label: Integers, probability: Floats) -> float:
    """Average precision, of the same classes as `auroc`."""
    from sklearn.metrics import average_precision_score

    return _one_against_rest(average_precision_score, label, probability)


def _one_against_rest(area: Callable[[Any, Any], float], label: Integers, probability: Floats) -> float:
    classes = probability.shape[1]
    if len(np.unique(label)) < classes:
        return math.nan
    chosen = (1,) if classes == 2 else range(classes)
    return float(np.mean([area(label == k, probability[:, k]) for k in chosen]))


def accuracy_at_coverage(label: Integers, probability: Floats) -> float:
    """Accuracy on the `COVERAGE` of images with the largest confidence (El-Yaniv and Wiener 2010); ties by position."""
    kept = np.argsort(-probability.max(1), kind="stable")[: math.ceil(COVERAGE * len(label))]
    return float((probability.argmax(1) == label)[kept].mean())


def best_minus_last(epoch: Integers, accuracy: Floats) -> float:
    """The largest validation accuracy of a run minus its last: what a stop at the best epoch would have gained there.

    It is never negative, and above 0 by the noise of the split alone.
    """
    return float(accuracy.max() - accuracy[epoch.argmax()])


_SHARE, _NUMBER = MetricSpec(unit="fraction"), MetricSpec()

SCORES: Mapping[str, Score] = {
    "balanced_accuracy": Score(_SHARE, "classes", balanced_accuracy),
    "worst_class_recall": Score(_SHARE, "classes", worst_class_recall),
    "macro_f1": Score(_SHARE, "answers", macro_f1),
    "mcc": Score(_NUMBER, "answers", mcc),
    "quadratic_kappa": Score(_NUMBER, "answers", quadratic_kappa),
    "auroc": Score(_NUMBER, "probabilities", auroc),
    "pr_auc": Score(_NUMBER, "probabilities", pr_auc),
    "val_best_minus_last": Score(MetricSpec(unit="fraction", better="lower", split="val"), "curves", best_minus_last),
    "accuracy_at_coverage_80": Score(_SHARE, "probabilities", accuracy_at_coverage),
}
"""By the name that `--metric` takes."""


def own_score(name: str, function: Callable[[Integers, Floats], float]) -> Score:
    """Somebody's own metric of labels (N,) and probabilities (N, K).

    What else is known of it are attributes of the function, each as in `MetricSpec`: `better`, "higher" by default,
    `unit`, "none" by default, and `margin`.

    Raises:
        UserError: it is no function, or an attribute has another value.
    """
    if not callable(function):
        raise UserError(f"metric '{name}' is no function; write one of labels (N,) and probabilities (N, K)")
    said = {key: getattr(function, key) for key in ("better", "unit", "margin") if hasattr(function, key)}
    try:
        spec = MetricSpec(**said)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"metric '{name}': its {first['loc'][0]} is {first['input']!r}; {first['msg'][0].lower()}{first['msg'][1:]}"
        ) from None

    def of(label: Integers, probability: Floats) -> float:
        try:
            return float(function(label, probability))
        except Exception as error:
            raise UserError(
                f"metric '{name}' of {len(label)} labels and probabilities {probability.shape} raises "
                f"{type(error).__name__}: {error}; it must return a number"
            ) from error

    return Score(spec, "probabilities", of)


def with_score(
    manifest: Manifest, data: StudyData, name: str | None, own: Score | None = None
) -> tuple[Manifest, StudyData, str | None]:
    """A study with a metric among its scores, worked out for each run of which enough is stored.

    Returns what it was given where the metric is a column, or a score that the study declares, and the name of the
    column where `COLUMNS` knows it. `own` is the metric of this name where somebody else wrote it.

    Raises:
        UserError: no run has what the metric needs.
    """
    name = name or manifest.metric
    score = own or SCORES.get(name)
    if name in manifest.metrics or score is None:
        return manifest, data, name if name in manifest.metrics else COLUMNS.get(name, name)
    found = _values(score, data)
    if not found:
        raise UserError(
            f"metric '{name}' needs {_NEEDED[score.needs]} of each run, and study {manifest.study} does not have them; "
            "train it again and read it before it is published, or choose "
            f"{' or '.join(n for n, s in SCORES.items() if s.needs == 'classes')}"
        )
    keys = zip(data.runs["run_id"], data.runs["fingerprint"], strict=True)
    texts = [_added(text, name, found.get(key)) for text, key in zip(data.runs["scores"], keys, strict=True)]
    runs = data.runs.assign(scores=pd.Series(texts, index=data.runs.index, dtype=object))
    declared = manifest.model_copy(update={"metrics": {**manifest.metrics, name: score.spec}})
    return declared, replace(data, runs=runs), name


_NEEDED = {
    "classes": "the counts of right images by class",
    "answers": "the counts by label and answer",
    "probabilities": "the probabilities of all classes",
    "curves": "the validation accuracy by epoch",
}


def _added(text: Any, name: str, value: float | None) -> str | None:
    scores = json.loads(text) if isinstance(text, str) else {}
    return json.dumps(scores if value is None else scores | {name: value}) if scores or value is not None else None


def _values(score: Score, data: StudyData) -> dict[RunKey, float]:
    """The metric of each run that has what it needs; from logits where these are stored."""
    if score.needs == "probabilities":
        return {key: score.of(label, p) for key, label, p in data.probabilities()}
    if score.needs == "curves":
        points = data.curves[(data.curves["split"] == "val") & (data.curves["metric"] == "accuracy")]
        by_run = points.groupby(["run_id", "fingerprint"])
        return {
            (str(i), str(mark)): score.of(own["epoch"].to_numpy(np.int64), own["value"].to_numpy(float))
            for (i, mark), own in by_run
        }
    if data.answers:
        return {key: score.of(a.label.astype(np.int64), a.predicted) for key, a in data.answers.items()}
    group = {"classes": "class", "answers": ANSWER}[score.needs]
    rows = data.outcomes[data.outcomes["group"] == group]
    told = _of_classes if score.needs == "classes" else _of_answers
    return {(str(i), str(mark)): score.of(*told(own)) for (i, mark), own in rows.groupby(["run_id", "fingerprint"])}


def _of_classes(rows: pd.DataFrame) -> tuple[Integers, Integers]:
    """Labels and answers with these counts by class."""
    key, n, correct = (rows[name].to_numpy(np.int64) for name in ("key", "n", "correct"))
    counts = np.stack([correct, n - correct], 1).ravel()
    return np.repeat(np.repeat(key, 2), counts), np.repeat(
        np.stack([key, np.full_like(key, ANOTHER)], 1).ravel(), counts
    )


def _of_answers(rows: pd.DataFrame) -> tuple[Integers, Integers]:
    """Labels and answers with these counts by label and answer."""
    label, answer = np.divmod(rows["key"].to_numpy(np.int64), ANSWERS_APART)
    n = rows["n"].to_numpy(np.int64)
    return np.repeat(label, n), np.repeat(answer, n)
