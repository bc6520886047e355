import json
import math
from dataclasses import replace

import numpy as np
import pytest

from harness.analysis.outcomes import tabulate
from harness.analysis.scores import (
    SCORES,
    accuracy_at_coverage,
    auroc,
    balanced_accuracy,
    best_minus_last,
    macro_f1,
    mcc,
    pr_auc,
    quadratic_kappa,
    with_score,
    worst_class_recall,
)
from harness.errors import UserError
from harness.report.load import analysed
from harness.store.reader import read_study
from harness.testing import make_curve, make_manifest, make_row, make_study
from harness.testing.records import StoredRun

LABEL, ANSWER = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2])


@pytest.mark.parametrize(
    ("score", "value"),
    [
        (balanced_accuracy, (2 / 3 + 1 / 2 + 1) / 3),
        (worst_class_recall, 1 / 2),
        (macro_f1, (2 / 3 + 1 / 2 + 1) / 3),
        (mcc, (4 * 6 - 14) / (36 - 14)),
        (quadratic_kappa, 1 - 2 / (40 / 6)),
    ],
)
def test_answers_are_scored_as_by_hand(score, value):
    assert score(LABEL, ANSWER) == pytest.approx(value)


def two_classes(*positive):
    return np.array([[1 - p, p] for p in positive])


def test_areas_of_two_classes_are_those_of_the_second():
    label, p = np.array([0, 0, 1, 1]), two_classes(0.1, 0.4, 0.35, 0.8)
    assert auroc(label, p) == pytest.approx(3 / 4)
    assert pr_auc(label, p) == pytest.approx((1 + 2 / 3) / 2)


def test_areas_of_more_classes_are_the_mean_of_each_against_the_rest():
    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.5, 0.1, 0.4]])  # the last is of class 2, and 0 comes first
    assert auroc(np.array([0, 1, 2]), p) == pytest.approx(1)
    assert auroc(np.array([2, 1, 0]), p) == pytest.approx((1 / 2 + 1 + 0) / 3)


def test_a_class_without_images_leaves_no_area():
    assert math.isnan(auroc(np.array([0, 0]), two_classes(0.1, 0.2)))


def test_coverage_counts_the_surest_four_of_five():
    label, p = np.array([1, 1, 1, 0, 1]), two_classes(0.9, 0.8, 0.7, 0.9, 0.4)
    assert accuracy_at_coverage(label, p) == pytest.approx(3 / 4)


def test_the_best_epoch_is_compared_with_the_last_one():
    assert best_minus_last(np.array([2, 1, 3]), np.array([0.9, 0.5, 0.7])) == pytest.approx(0.2)


def test_the_best_epoch_is_read_from_stored_curves(tmp_path):
    def run(arm, seed):
        row = make_row(arm, seed)
        return StoredRun(row, make_curve(row, {"val.accuracy": [0.5, 0.9, 0.8], "train.accuracy": [0.1, 1.0, 0.2]}))

    manifest = make_study(tmp_path / "s", make_manifest(["baseline", "mixup"], seeds=2), run)
    values = scores_of(manifest, read_study(tmp_path / "s"), "val_best_minus_last")
    assert list(values.values()) == pytest.approx([0.1] * 4)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A study of two arms and three seeds with random logits of three classes, and its manifest."""
    folder = tmp_path_factory.mktemp("scores") / "s"
    rng = np.random.default_rng(0)

    def run(arm, seed):
        label = rng.integers(0, 3, 40)
        return StoredRun(make_row(arm, seed), (), (np.arange(40), label, rng.normal(size=(40, 3)).astype(np.float16)))

    manifest = make_study(folder, make_manifest(["baseline", "mixup"], seeds=3), run)
    return manifest, read_study(folder)


def without_predictions(manifest, data):
    return replace(data, predictions=None, outcomes=tabulate(data, [manifest]).to_pandas())


def scores_of(manifest, data, name):
    _, scored, _ = with_score(manifest, data, name)
    return {row.run_id: json.loads(row.scores)[name] for row in scored.runs.itertuples()}


@pytest.mark.parametrize("name", [n for n, s in SCORES.items() if s.needs in ("classes", "answers")])
def test_counts_say_what_the_predictions_say(stored, name):
    manifest, data = stored
    assert scores_of(manifest, without_predictions(manifest, data), name) == pytest.approx(
        scores_of(manifest, data, name)
    )


def test_a_report_judges_a_score_in_its_unit(stored):
    manifest, data = stored
    values = scores_of(manifest, data, "macro_f1")
    effect = analysed(manifest, data, "macro_f1").analysis.effects[0]
    assert effect.base == pytest.approx([100 * values[manifest.baseline.run_ids[s]] for s in manifest.seeds])


def test_what_needs_probabilities_is_refused_where_only_counts_are_stored(stored):
    with pytest.raises(UserError, match="'auroc' needs the probabilities of all classes"):
        with_score(stored[0], without_predictions(*stored), "auroc")


def test_counts_of_earlier_versions_lack_the_answers_and_have_the_classes(stored):
    manifest, data = stored
    data = without_predictions(manifest, data)
    data = replace(data, outcomes=data.outcomes[data.outcomes["group"] != "answer"])
    assert len(scores_of(manifest, data, "balanced_accuracy")) == 6
    with pytest.raises(UserError, match="choose balanced_accuracy or worst_class_recall"):
        with_score(manifest, data, "macro_f1")


def test_short_names_mean_the_columns_and_unknown_ones_are_told_all(stored):
    assert with_score(*stored, "ece")[2] == "test_ece"
    with pytest.raises(UserError, match="did you mean 'macro_f1'"):
        analysed(*stored, "macrof1")


COST = """
import numpy as np

def cost(label, probability):
    return float(np.where(label == 0, 5.0, 1.0)[probability.argmax(1) != label].sum())

cost.better = "lower"

def broken(label, probability):
    return "much"

def odd(label, probability):
    return 0.0

odd.better = "faster"
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "scores_of_mine.py").write_text(COST)
    return str(tmp_path / "scores_of_mine.py")


def test_a_metric_of_ones_own_is_judged_in_the_direction_that_it_says(stored, mine):
    manifest, data = stored
    analysis = analysed(manifest, data, f"{mine}:cost").analysis
    answers = data.answers[manifest.baseline.run_ids[0], manifest.fingerprint]
    assert analysis.effects[0].base[0] == np.where(answers.label == 0, 5, 1)[~answers.right].sum()
    assert analysis.higher_is_better is False


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("broken", "'much'; it must return a number"),
        ("odd", "its better is 'faster'"),
        ("costs", "did you mean 'cost'"),
    ],
)
def test_a_metric_of_ones_own_that_does_not_work_is_refused(stored, mine, name, why):
    with pytest.raises(UserError, match=why):
        analysed(*stored, f"{mine}:{name}")
