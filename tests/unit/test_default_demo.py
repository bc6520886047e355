"""What README, tutorial and experiment file promise of the embedded default, held against the committed rows."""

import math
import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from harness import testing
from harness.analysis.effects import analyse
from harness.analysis.power import achieved_power
from harness.experiment import Arm, load_experiment, spec_of
from harness.store.reader import read_manifest, read_study
from harness.values import canonical
from harness.workflow.request import DEFAULT

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "results" / "published" / "mixup-on-noisy-digits"
SEEDS = len(load_experiment(DEFAULT).study.blocks)
DRAWS = 300


@cache
def accuracies() -> tuple[np.ndarray, np.ndarray]:
    """Baseline and mixup by seed."""
    manifest = read_manifest(STUDY)
    runs = read_study(STUDY, manifest.runs, predictions=False).runs.set_index("run_id")["test_accuracy"]
    base, mixup = manifest.arms
    assert manifest.seeds == tuple(range(len(manifest.seeds)))
    return tuple(np.array([runs[arm.run_ids[s]] for s in manifest.seeds]) for arm in (base, mixup))


def judged(seeds: np.ndarray):
    """The effect of mixup in a study of these seeds."""
    made = read_manifest(STUDY)
    manifest = testing.make_manifest(("baseline", "mixup"), len(seeds), margin=made.margin, scope=made.scope)
    rows = pd.DataFrame([testing.make_row(arm, s) for arm in ("baseline", "mixup") for s in range(len(seeds))])
    rows["test_accuracy"] = np.concatenate([values[seeds] for values in accuracies()])
    (effect,) = analyse(rows, manifest).effects
    return effect


def test_the_study_trained_what_the_experiment_says():
    asked = read_manifest(STUDY)
    assert asked.asked["options"]["experiment"] == DEFAULT
    experiment = load_experiment(DEFAULT)
    baseline = canonical(spec_of(experiment, Arm(), 0))
    assert asked.settings == {name: baseline[name] for name in asked.settings}
    assert asked.arms[1].tricks["mixup"].items() >= experiment.tricks["mixup"].items()


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_documents_show_the_sentence_of_the_first_seeds(page):
    sentence = judged(np.arange(SEEDS)).verdict.sentence
    assert sentence in re.sub(r"\s+", " ", (ROOT / page).read_text())


def test_the_verdict_is_the_same_on_fresh_seeds_in_99_of_100_studies():
    fresh = np.arange(SEEDS, len(accuracies()[0]))
    assert len(fresh) >= 100
    draw = np.random.default_rng(0)
    kinds = [judged(draw.choice(fresh, SEEDS, replace=False)).verdict.kind for _ in range(DRAWS)]
    assert kinds.count("helps") >= 0.99 * DRAWS
    said = (ROOT / "experiments" / f"{DEFAULT}.toml").read_text()
    told = {DRAWS: "all"}.get(kinds.count("helps"), str(kinds.count("helps")))
    assert f'of {DRAWS} studies of {SEEDS} of these seeds, {told} said "helps"' in said


def test_the_experiment_file_says_what_the_fresh_seeds_show():
    base, mixup = accuracies()
    d = 100 * (mixup - base)[SEEDS:]
    ratio = d.mean() / d.std(ddof=1)
    t = math.sqrt(d.size) * ratio
    least = optimize.brentq(lambda x: stats.nct.sf(t, d.size - 1, x) - 0.025, 0, t) / math.sqrt(d.size)
    said = re.sub(r"\s*\n# ?", " ", (ROOT / "experiments" / f"{DEFAULT}.toml").read_text())
    assert (
        f"On {d.size} seeds that no such study uses ({SEEDS} to {len(base) - 1}) mixup gains {d.mean():.2f} points"
        in said
    )
    assert f"{ratio:.2f} standard deviations of a difference (95 % interval from {least:.2f})" in said
    assert f"finds even the least of these in {100 * achieved_power(least, 1.0, SEEDS):.1f} %" in said
