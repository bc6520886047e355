import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from harness.analysis.effects import analyse
from harness.analysis.outcomes import summarise, tabulate
from harness.store.reader import Answers, StudyData, read_study
from harness.store.schema import CONFIDENCE_BINS, OUTCOMES, RUNS
from harness.store.writer import prepare, write_run
from harness.testing import FINGERPRINT, make_manifest, make_row
from harness.training.evaluate import ECE_BINS, metrics

SURE = math.e / (math.e + 2)
"""Softmax probability of a logit of 1 against two of 0."""


def store(folder, run_id, label, predicted, index=None, scale=1.0, fingerprint=FINGERPRINT):
    """A run of three classes that gives the predicted class a logit of `scale` and the others 0."""
    prepare(folder)
    logits = np.eye(3, dtype=np.float32)[predicted] * scale
    index = np.arange(len(label)) if index is None else np.array(index)
    row = {"run_id": run_id, "fingerprint": fingerprint, "status": "ok"}
    write_run(folder, row, [], (index, np.array(label), logits))


def rows_of(folder, manifest):
    return tabulate(read_study(folder), [manifest]).to_pandas()


def answers(label, predicted, confidence):
    return Answers(np.arange(len(label)), np.array(label), np.array(predicted), np.array(confidence, np.float32))


def given(counts, ece=()):
    """Rows and runs of `summarise` from {(arm, seed): {(group, key): (n, correct, confidence)}}."""
    rows = [
        (1, f"{arm}-{s}", FINGERPRINT, "" if group in ("class", "bin") else f"baseline-{s}", group, key, n, right, conf)
        for (arm, s), groups in counts.items()
        for (group, key), (n, right, conf) in groups.items()
    ]
    runs = [make_row(arm, s, test_ece=value) for (arm, s), value in dict(ece).items()]
    return pd.DataFrame(rows, columns=OUTCOMES.names), pd.DataFrame(runs, columns=RUNS.names)


# From predictions to rows


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """Six images: right in both, fixed, right in both, broken, wrong alike, wrong differently."""
    folder = tmp_path_factory.mktemp("six")
    label = np.array([0, 0, 1, 1, 2, 2])
    store(folder, "baseline-0", label, [0, 1, 1, 1, 0, 1])
    order = [5, 2, 0, 1, 4, 3]
    store(folder, "mixup-0", label[order], np.array([0, 0, 1, 0, 0, 0])[order], index=order)
    rows = rows_of(folder, make_manifest(["baseline", "mixup"], seeds=(0,)))
    return rows.set_index(["run_id", "group", "key"])[["n", "correct", "confidence", "against"]].sort_index()


def test_images_are_counted_by_class(six):
    rows = six.loc[("mixup-0", "class")]

    assert rows["n"].tolist() == [2, 2, 2]
    assert rows["correct"].tolist() == [2, 1, 0]
    assert rows["confidence"].tolist() == pytest.approx([2 * SURE] * 3)
    assert six.loc[("baseline-0", "class"), "correct"].tolist() == [1, 2, 0]


def test_images_are_counted_by_bin_of_confidence(six):
    rows = six.loc[("mixup-0", "bin")]

    assert len(rows) == CONFIDENCE_BINS
    filled = rows[rows["n"] > 0]
    assert filled.index.tolist() == [int(15 * SURE)] == [8]
    assert filled[["n", "correct"]].to_numpy().tolist() == [[6, 3]]
    assert filled["confidence"].tolist() == pytest.approx([6 * SURE])


def test_images_are_matched_with_the_baselines_by_their_position_in_the_data_set(six):
    found = {group: six.loc[("mixup-0", group, 0)] for group in ("same", "fixed", "broken", "changed")}

    assert {g: int(r["n"]) for g, r in found.items()} == {"same": 3, "fixed": 1, "broken": 1, "changed": 1}
    assert {g: int(r["correct"]) for g, r in found.items()} == {"same": 2, "fixed": 1, "broken": 0, "changed": 0}
    assert {r["against"] for r in found.values()} == {"baseline-0"}
    assert "same" not in six.loc["baseline-0"].index


def test_runs_on_other_images_are_not_compared(tmp_path):
    store(tmp_path, "baseline-0", [0, 1], [0, 1], index=[3, 4])
    store(tmp_path, "mixup-0", [0, 1], [0, 0], index=[3, 5])
    rows = rows_of(tmp_path, make_manifest(["baseline", "mixup"], seeds=(0,)))

    assert set(rows["group"]) == {"class", "bin", "answer"}
    assert set(rows["run_id"]) == {"baseline-0", "mixup-0"}


def test_only_runs_of_the_studys_fingerprint_count(tmp_path):
    store(tmp_path, "baseline-0", [0, 1], [0, 1])
    store(tmp_path, "baseline-0", [0, 1], [1, 0], fingerprint="other")
    store(tmp_path, "mixup-0", [0, 1], [0, 0], fingerprint="other")
    data = read_study(tmp_path)
    rows = tabulate(data, [make_manifest(["baseline", "mixup"], seeds=(0,))]).to_pandas()

    assert set(zip(rows["run_id"], rows["fingerprint"], strict=True)) == {("baseline-0", FINGERPRINT)}
    assert data.correct(FINGERPRINT)["baseline-0"].tolist() == [True, True]
    assert data.correct("other")["baseline-0"].tolist() == [False, False]


def test_logits_beyond_half_precision_are_certain_and_not_nan(tmp_path):
    with np.errstate(over="ignore"):
        store(tmp_path, "baseline-0", [0, 1], [0, 1], scale=1e6)
    found = read_study(tmp_path).answers["baseline-0", FINGERPRINT]

    assert found.confidence.tolist() == [1.0, 1.0]
    assert found.right.all()
    rows = rows_of(tmp_path, make_manifest(["baseline"], seeds=(0,)))
    assert rows.query("group == 'bin' and key == 14")["n"].tolist() == [2], "the last bin holds 1"


@pytest.mark.parametrize("stored_exactly", [True, False])
def test_the_bins_give_the_stored_ece(tmp_path, stored_exactly):
    assert CONFIDENCE_BINS == ECE_BINS
    draw = np.random.default_rng(1)
    label = draw.integers(0, 5, 700)
    logits = (np.eye(5)[label] + draw.normal(size=(700, 5))).astype(np.float32)
    if stored_exactly:
        logits = logits.astype(np.float16).astype(np.float32)
    prepare(tmp_path)
    write_run(tmp_path, {"run_id": "baseline-0", "fingerprint": FINGERPRINT}, [], (np.arange(700), label, logits))
    bins = rows_of(tmp_path, make_manifest(["baseline"], seeds=(0,))).query("group == 'bin'")
    ece = (bins["confidence"] - bins["correct"]).abs().sum() / bins["n"].sum()

    # An image whose confidence crosses the edge of a bin by rounding moves the ECE by at most 2/700.
    expected = metrics(torch.from_numpy(logits), torch.from_numpy(label))["ece"]
    assert ece == pytest.approx(expected, abs=1e-6 if stored_exactly else 2e-3)


def test_nothing_is_tabulated_without_predictions(tmp_path):
    prepare(tmp_path)

    assert tabulate(read_study(tmp_path), [make_manifest(["baseline"], seeds=(0,))]).equals(OUTCOMES.empty_table())


def test_a_thousand_runs_of_a_thousand_images_take_no_call_for_each_image(counted):
    draw = np.random.default_rng(0)
    arms, seeds = [f"t{i}" for i in range(99)], tuple(range(10))
    manifest = make_manifest(["baseline", *arms], seeds=seeds)
    label = draw.integers(0, 10, 1300)
    data = StudyData(pd.DataFrame(columns=RUNS.names), pd.DataFrame(), None)
    data.answers = {
        (run_id, FINGERPRINT): answers(label, draw.integers(0, 10, 1300), draw.random(1300))
        for arm in manifest.arms
        for run_id in arm.run_ids.values()
    }
    data.outcomes = pd.DataFrame({"group": ["class"] * 10, "key": range(10)})  # says that there are ten classes
    found, calls = counted(lambda: summarise(tabulate(data, [manifest]).to_pandas(), data.runs, manifest))

    assert calls < 2_000_000, "1.0 million; one for each image would be 1.3 million more"
    assert len(found.arms) == 99


# From rows to effects


CLASSES = {
    # seed: accuracy of two classes of 10 and 20 images, baseline and arm
    0: ((5, 10), (6, 10)),
    1: ((5, 12), (7, 12)),
    2: ((6, 14), (9, 15)),
}


def by_class(right):
    return {("class", 0): (10, right[0], 8.0), ("class", 1): (20, right[1], 15.0), ("bin", 0): (30, sum(right), 23.0)}


def test_effects_by_class_are_paired_and_corrected_within_the_arm():
    counts = {}
    for seed, (base, arm) in CLASSES.items():
        counts["baseline", seed], counts["mixup", seed] = by_class(base), by_class(arm)
    found = summarise(*given(counts), make_manifest(["baseline", "mixup"], seeds=(0, 1, 2)))
    first, second = found.arms[0].classes

    # Differences of 10, 20, 30 points: mean 20, standard deviation 10.
    half = stats.t.ppf(0.975, 2) * 10 / math.sqrt(3)
    assert (first.value, first.low, first.high) == pytest.approx((20, 20 - half, 20 + half))
    assert (second.value, second.n) == (pytest.approx(5 / 3), 3)
    assert first.p == pytest.approx(stats.ttest_1samp([10, 20, 30], 0).pvalue)
    assert first.p_holm == pytest.approx(2 * first.p), "the smaller of two"
    assert second.p_holm == pytest.approx(max(second.p, first.p_holm))
    assert [m.value for m in found.accuracy] == pytest.approx([100 * 16 / 30, 100 * 36 / 60])
    assert [m.value for m in found.confidence] == pytest.approx([80, 75])
    assert found.calibration.gap.value == pytest.approx(100 * np.mean([(23 - r) / 30 for r in (15, 17, 20)]))
    assert found.images == 30


def test_a_class_without_images_or_a_seed_without_a_run_leaves_only_its_pair_out():
    empty = {("class", 0): (0, 0, 0.0), ("class", 1): (30, 20, 15.0), ("bin", 0): (30, 20, 15.0)}
    full = {("class", 0): (10, 5, 5.0), ("class", 1): (20, 15, 10.0), ("bin", 0): (30, 20, 15.0)}
    counts = {("baseline", s): full for s in range(3)} | {("mixup", 0): full, ("mixup", 1): empty}
    first, second = summarise(*given(counts), make_manifest(["baseline", "mixup"], seeds=(0, 1, 2))).arms[0].classes

    assert (first.n, second.n) == (1, 2)
    assert (first.value, second.value) == (0.0, pytest.approx((100 * 20 / 30 - 75) / 2))
    assert math.isnan(first.low)
    assert math.isnan(first.p_holm)


def test_churn_is_the_share_of_changed_answers_and_the_placebos_is_taken_off():
    def pair(fixed, broken, changed):
        rest = {"same": (100 - fixed - broken - changed, 50, 50.0), "changed": (changed, 0, 1.0)}
        rest |= {"fixed": (fixed, fixed, 1.0), "broken": (broken, 0, 1.0)}
        return {("class", 0): (100, 50, 50.0), ("bin", 7): (100, 50, 50.0)} | {(g, 0): v for g, v in rest.items()}

    base = {("class", 0): (100, 50, 50.0), ("bin", 7): (100, 50, 50.0)}
    counts = {("baseline", s): base for s in (0, 1)}
    counts |= {("mixup", 0): pair(6, 2, 1), ("mixup", 1): pair(8, 2, 3)}
    counts |= {("placebo", 0): pair(3, 3, 1), ("placebo", 1): pair(4, 3, 1)}
    mixup, placebo = summarise(*given(counts), make_manifest(["baseline", "mixup", "placebo"], seeds=(0, 1))).arms

    assert (mixup.churn.fixed.value, mixup.churn.broken.value, mixup.churn.changed.value) == (7, 2, 2)
    half = stats.t.ppf(0.975, 1) * math.sqrt(8) / math.sqrt(2)
    assert mixup.churn.total.value == 11, "totals of 9 and 13"
    assert mixup.churn.total.high == pytest.approx(11 + half)
    assert mixup.churn.beyond.value == 3.5, "9 - 7 and 13 - 8"
    assert placebo.churn.beyond is None


def test_fixed_minus_broken_is_the_effect_on_accuracy(tmp_path, stored_study):
    manifest = stored_study(tmp_path / "s", tricks=("mixup", "erm_baseline"))
    data = read_study(tmp_path / "s")
    found = summarise(tabulate(data, [manifest]).to_pandas(), data.runs, manifest)
    effects = analyse(data.runs, manifest).effects

    for arm, effect in zip(found.arms, effects, strict=True):
        assert arm.churn.fixed.value - arm.churn.broken.value == pytest.approx(effect.mean, abs=1e-6)
    assert found.arms[0].churn.total.value > 0
    assert found.arms[1].churn.total == found.arms[1].churn.fixed, "an arm that changes nothing changes no answer"
    assert found.arms[1].churn.total.value == 0
    assert found.arms[0].churn.beyond is None, "there is no placebo"


def test_a_bin_is_pooled_over_seeds_with_the_interval_of_a_ratio():
    """10 images with 5 right and 30 with 27: 0.8, residuals of 3 both, error sqrt(2 * 18) / 40 = 0.15."""
    parts = {0: (10, 5, 8.0), 1: (30, 27, 26.0), 2: (0, 0, 0.0)}
    counts = {
        (arm, s): {("class", 0): (40, 30, 30.0), ("bin", 12): part, ("bin", 3): (s == 1, 1, 0.25)}
        for arm in ("baseline", "mixup")
        for s, part in parts.items()
    }
    few, bin_ = summarise(*given(counts), make_manifest(["baseline", "mixup"], seeds=(0, 1, 2))).calibration.bins

    assert (bin_.images, bin_.seeds) == (40, 2)
    assert (bin_.accuracy, bin_.confidence) == pytest.approx((80, 85))
    half = 100 * 0.15 * stats.t.ppf(0.975, 1)
    assert (bin_.low, bin_.high) == pytest.approx((max(80 - half, 0), min(80 + half, 100)))
    assert (few.images, few.seeds) == (1, 1)
    assert math.isnan(few.low), "one run says nothing about its spread"


def test_the_interval_of_a_bin_covers_at_its_level():
    """600 bins over 12 seeds, each seed with its own accuracy and number of images: 95 % of the intervals hold."""
    draw = np.random.default_rng(3)
    seeds, found = tuple(range(12)), []
    manifest = make_manifest(["baseline", "mixup"], seeds=seeds)
    for _ in range(40):
        n = draw.integers(40, 120, (12, 15))
        right = draw.binomial(n, np.clip(draw.normal(0.6, 0.05, (12, 15)), 0, 1))
        one = {
            s: {("bin", k): (n[s, k], right[s, k], 1.0) for k in range(15)} | {("class", 0): (1, 1, 1)} for s in seeds
        }
        rows, runs = given({("baseline", s): one[s] for s in seeds} | {("mixup", 0): one[0]})
        found += summarise(rows, runs, manifest).calibration.bins
    covered = np.mean([b.low <= 60 <= b.high for b in found])

    assert len(found) == 600
    assert 0.93 < covered < 0.97


def test_the_stored_ece_is_compared_seed_by_seed_and_corrected_over_arms():
    one = {("class", 0): (10, 5, 5.0), ("bin", 7): (10, 5, 5.0)}
    counts = {(arm, s): one for arm in ("baseline", "mixup", "ema") for s in (0, 1, 2)}
    stored = {"baseline": (0.02, 0.03, 0.04), "mixup": (0.12, 0.14, 0.16), "ema": (0.02, 0.03, 0.05)}
    ece = {(arm, s): v for arm, values in stored.items() for s, v in enumerate(values)}
    found = summarise(*given(counts, ece), make_manifest(["baseline", "mixup", "ema"], seeds=(0, 1, 2)))
    mixup, ema = found.arms

    assert found.calibration.ece.value == pytest.approx(3)
    assert (mixup.calibration.ece.value, mixup.ece_change.value) == pytest.approx((14, 11))
    assert mixup.ece_change.p_holm == pytest.approx(2 * stats.ttest_1samp([10, 11, 12], 0).pvalue)
    assert ema.ece_change.p_holm == pytest.approx(stats.ttest_1samp([0, 0, 1], 0).pvalue)


def test_nothing_is_summarised_without_rows_of_baseline_and_arm():
    one = {("class", 0): (10, 5, 5.0), ("bin", 7): (10, 5, 5.0)}
    manifest = make_manifest(["baseline", "mixup"], seeds=(0, 1))

    assert summarise(*given({}), manifest) is None
    assert summarise(*given({("baseline", 0): one}), manifest) is None
    assert summarise(*given({("mixup", 0): one}), manifest) is None
    assert summarise(*given({("baseline", 0): one, ("mixup", 0): one}), manifest) is not None
