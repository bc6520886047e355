import math
import re
import shlex
import subprocess
import sys
import time
import tomllib
from itertools import pairwise, product

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from harness.errors import UserError
from harness.report.drawings import landscape, svg
from harness.report.drawings import search as figures
from harness.report.pages.search import render_search, write_search
from harness.report.pages.trials import budget_of, expected_best, map_pair, value_of, value_rows
from harness.report.text.commands import winner_command
from harness.report.text.numbers import shown, typed
from harness.store.schema import RUNS, SearchArm, SearchRecord, Trial
from harness.store.writer import write_table
from harness.testing import make_arm, make_manifest, make_row
from webpage import Page

EVIL = "<script>alert(1)</script>"

LR = {"low": 0.02, "high": 2.0, "log": True, "integer": False, "default": 0.2}
DECAY = {"low": 1e-4, "high": 0.1, "log": True, "integer": False, "default": 5e-3}
SPACES = {
    "baseline": {},
    "mixup": {"mixup.alpha": {"low": 0.05, "high": 8.0, "log": True, "integer": False, "default": 1.0}},
    "cutmix": {
        "cutmix.alpha": {"low": 0.1, "high": 4.0, "log": True, "integer": False, "default": 1.0},
        "cutmix.prob": {"low": 0.1, "high": 1.0, "log": False, "integer": False, "default": 0.5},
    },
    "gradient_clipping": {
        "gradient_clipping.limit": {"low": 0.1, "high": 10.0, "log": True, "integer": False, "default": 1.0},
        "gradient_clipping.kind": {"choices": ["norm", "value"], "default": "norm"},
    },
    "ema+label_smoothing": {
        "ema.decay": {"low": 0.9, "high": 0.999, "log": False, "integer": False, "default": 0.98},
        "label_smoothing.eps": {"low": 0.01, "high": 0.3, "log": False, "integer": False, "default": 0.1},
    },
}
GAINS = {"baseline": 0.0, "mixup": 1.2, "cutmix": 1.6, "gradient_clipping": -0.2, "ema+label_smoothing": 0.4}
TUNING, FRESH = (0, 1, 2, 3, 4), tuple(range(5, 15))


def row(run_id, seed, val, test, arm="baseline", status="ok"):
    reason = "" if status == "ok" else "loss is not finite"
    return make_row(
        arm, seed, run_id=run_id, status=status, reason=reason, val_accuracy=val, test_accuracy=test,
        git_commit="0123456789ab",
    )  # fmt: skip


def quality(params, arm):
    """Percent right of a setting: a smooth peak near, but not at, the default values."""
    loss = 3.5 * (math.log10(params["recipe.lr"]) + 0.3) ** 2
    loss += 0.9 * (math.log10(params["recipe.weight_decay"]) + 2.0) ** 2
    for name, space in (SPACES[arm]).items():
        if "choices" in space:
            loss += 0.5 * (params[name] == "value")
        else:
            loss += 1.5 * (figures.Axis.of(space).share(params[name]) - 0.35) ** 2
    return 93.0 + GAINS[arm] - loss


def draw(space, rng):
    if "choices" in space:
        return str(rng.choice(space["choices"]))
    if space["log"]:
        return float(np.exp(rng.uniform(math.log(space["low"]), math.log(space["high"]))))
    return float(rng.uniform(space["low"], space["high"]))


def beats(one, other):
    """Whether a trial is better in accuracy and in seconds."""
    (a, b), (c, d) = ([np.mean(t.values[o]) for o in ("accuracy", "seconds")] for t in (one, other))
    return a > c and b < d


class Invented:
    """A search that nobody ran: five arms over two recipe values and their own, with a plausible surface."""

    def __init__(
        self, trials=30, objectives=("accuracy",), compared=True, question="Which of these tricks survives tuning?"
    ):
        self.rng, self.rows, self.objectives, self.runs_made = np.random.default_rng(7), [], objectives, 0
        self.block = self.rng.normal(0, 1.0, 20)
        arms = [self.arm(label, trials) for label in SPACES]
        self.record = SearchRecord(
            search="digits-search",
            experiment="digits",
            question="Which of these tricks survives tuning?",
            scope="digits, 100 training images, digits_resnet width 16, 80 epochs",
            objectives=objectives,
            trials=trials,
            tuning_seeds=TUNING,
            fresh_seeds=FRESH,
            sampler="tpe",
            pruner="wilcoxon" if len(objectives) == 1 else "none",
            arms=tuple(arms),
            comparisons=self.comparisons(arms) if compared else {},
            fingerprint="f00d",
            command="harness search mixup cutmix gradient_clipping ema+label_smoothing --experiment digits --trials 30",
            toml='[experiment]\nname = "digits"\nmargin = 0.5\n',
            harness_version="0.1.0",
            created="2025-01-01T12:00:00+00:00",
            notes=("Seeds 0 to 4 tuned, seeds 5 to 14 report.",),
        )
        self.runs = pd.DataFrame(self.rows, columns=RUNS.names)

    def train(self, label, params, seed, wobble=0.7):
        """One run's row; returns its id and validation accuracy, both as fractions."""
        right = quality(params, label) + self.block[seed]
        val, test = (min(right + self.rng.normal(0, wobble), 100) / 100 for _ in range(2))
        self.runs_made += 1
        run_id = f"{self.runs_made:016x}"
        self.rows.append(row(run_id, seed, round(val, 4), round(test, 4), label))
        return run_id, round(val, 4)

    def arm(self, label, trials):
        space = {**SPACES[label], "recipe.lr": LR, "recipe.weight_decay": DECAY}
        made, best = [], 0.0
        for number in range(trials):
            params = {k: s["default"] if number == 0 else draw(s, self.rng) for k, s in space.items()}
            if number % 13 == 9:
                made.append(Trial(number=number, state="failed", params=params, reason="alpha must exceed prob"))
                continue
            pruned = number > 3 and quality(params, label) < best - 3
            runs = {seed: self.train(label, params, seed) for seed in (TUNING[:2] if pruned else TUNING)}
            values = {"accuracy": tuple(v for _, v in runs.values())}
            if "seconds" in self.objectives:
                values["seconds"] = tuple(1 + params["recipe.lr"] + 0.01 * s for s in runs)
            made.append(
                Trial(
                    number=number,
                    state="pruned" if pruned else "complete",
                    params=params,
                    run_ids={seed: i for seed, (i, _) in runs.items()},
                    values=values,
                )
            )
            best = max(best, quality(params, label))
        complete = [t for t in made if t.state == "complete"]
        winner = max(complete, key=lambda t: np.mean(t.values["accuracy"])).number if complete else None
        front = ()
        if len(self.objectives) > 1:
            front = tuple(t.number for t in complete if not any(beats(other, t) for other in complete))
        shares = self.rng.dirichlet([4, 2, *[1] * (len(space) - 2)])
        return SearchArm(
            label=label,
            tricks=() if label == "baseline" else tuple(label.split("+")),
            space=space,
            trials=tuple(made),
            winner=winner,
            front=front,
            importance=dict(zip(["recipe.lr", *[k for k in space if k != "recipe.lr"]], shares.tolist(), strict=True))
            if len(complete) >= 10
            else None,
        )

    def plan(self, arm, params):
        return make_arm(arm.label, run_ids={seed: self.train(arm.label, params, seed)[0] for seed in FRESH})

    def comparisons(self, arms):
        defaults = {a.label: self.plan(a, {k: s["default"] for k, s in a.space.items()}) for a in arms}
        winners = {a.label: self.plan(a, next(t for t in a.trials if t.number == a.winner).params) for a in arms}
        alone = winners["baseline"].model_copy(update={"label": "tuned baseline"})
        return {
            "default": self.manifest("default", tuple(defaults.values())),
            "tuned": self.manifest("tuned", tuple(winners.values())),
            "tuning": self.manifest("tuning", (defaults["baseline"], alone)),
        }

    def manifest(self, name, arms):
        return make_manifest(
            arms, FRESH, study=f"digits-search-{name}", question="", command="harness search mixup",
            scope="digits, 100 training images, digits_resnet width 16, 80 epochs",
        )  # fmt: skip

    def write(self, folder):
        (folder / "runs").mkdir(parents=True)
        (folder / "search.json").write_text(self.record.model_dump_json())
        write_table(pa.Table.from_pandas(self.runs, schema=RUNS), folder / "runs" / "all.parquet")


@pytest.fixture(scope="module")
def search():
    return Invented()


@pytest.fixture(scope="module")
def html(search):
    return render_search(search.record, search.runs)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def arm_of(search, label):
    return next(a for a in search.record.arms if a.label == label)


def with_arm(record, arm, **changes):
    arms = tuple(a.model_copy(update=changes) if a.label == arm else a for a in record.arms)
    return record.model_copy(update={"arms": arms})


def fresh(search, comparison, label, column):
    plan = next(a for a in search.record.comparisons[comparison].arms if a.label == label)
    return 100 * search.runs.set_index("run_id").loc[list(plan.run_ids.values()), column].to_numpy(float)


def signed(value):
    return f"{value:+.2f}".replace("-", "−")


def ends(low, high):
    return f"[{low:.2f}, {high:.2f}]".replace("-", "−")


def test_the_best_of_k_values_drawn_with_replacement():
    mean, sd = expected_best([3.0, 1.0])

    # Of two draws, both are 1 in one case of four: 1 / 4 + 3 * 3 / 4 = 2.5, and the variance is 7 - 2.5 ** 2.
    assert mean == pytest.approx([2.0, 2.5])
    assert sd == pytest.approx([1.0, math.sqrt(0.75)])


def test_the_best_of_k_values_is_what_enumeration_gives():
    values = [90.0, 91.5, 91.5, 94.0]
    mean, sd = expected_best(values)

    for k in (1, 2, 3, 4):
        best = [max(drawn) for drawn in product(values, repeat=k)]
        assert mean[k - 1] == pytest.approx(np.mean(best))
        assert sd[k - 1] == pytest.approx(np.std(best))


def test_trials_that_could_not_win_count_as_the_worst_complete_one():
    trials = (
        Trial(number=0, state="complete", params={}, values={"accuracy": (0.01, 0.01)}),
        Trial(number=1, state="pruned", params={}, values={"accuracy": (0.09,)}),
        Trial(number=2, state="failed", params={}, values={"accuracy": (0.09,)}, reason="diverged"),
        Trial(number=3, state="complete", params={}, values={"accuracy": (0.02, 0.04)}),
    )
    budget = budget_of(SearchArm(label="x", trials=trials), 1)

    # The values are 1, 1, 1 and 3 percent: of two draws the better is 3 in 7 cases of 16.
    assert budget.mean[:2] == pytest.approx([1.5, 1 + 2 * 7 / 16])
    assert len(budget.mean) == 4
    assert min(budget.low) >= 1
    assert max(budget.high) <= 3
    assert budget.high[0] == pytest.approx(1.5 + math.sqrt(0.75))
    assert budget_of(SearchArm(label="x", trials=trials[1:3]), 1) is None


def test_a_trial_is_worth_its_mean_over_seeds_in_the_unit_of_the_objective():
    trial = Trial(
        number=0, state="complete", params={}, values={"accuracy": (0.9, 0.92), "seconds": (2, 4), "memory": (5e6, 7e6)}
    )

    assert value_of(trial, "accuracy") == pytest.approx(91)
    assert value_of(trial, "seconds") == pytest.approx(3)
    assert value_of(trial, "memory") == pytest.approx(6)
    assert value_of(trial.model_copy(update={"state": "failed"}), "accuracy") is None


def effects_by_hand(search, comparison):
    """Effect with interval in words, and Holm's p, of every arm of a comparison."""
    base = fresh(search, comparison, "baseline", "test_accuracy")
    arms = {a: fresh(search, comparison, a, "test_accuracy") for a in SPACES if a != "baseline"}
    tests = {a: stats.ttest_rel(values, base) for a, values in arms.items()}
    holm = multipletests([t.pvalue for t in tests.values()], method="holm")[1]
    return {
        a: (f"{signed((arms[a] - base).mean())} points {ends(*t.confidence_interval())}", p)
        for (a, t), p in zip(tests.items(), holm, strict=True)
    }


def p_of(p):
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


@pytest.mark.parametrize("label", ["mixup", "cutmix", "ema+label_smoothing"])
def test_the_answer_tells_both_effects_with_interval_n_and_p(search, page, label):
    (default, p_default), (tuned, p_tuned) = (effects_by_hand(search, c)[label] for c in ("default", "tuned"))

    assert (
        f"{label}: {default} at its default values (10 fresh seeds, Holm {p_of(p_default)}); {tuned} tuned, against an "
        f"equally tuned baseline (10 fresh seeds, Holm {p_of(p_tuned)})."
    ) in page.text


def test_what_tuning_was_worth_for_the_baseline_is_told(search, page):
    before, after = (fresh(search, "tuning", name, "test_accuracy") for name in ("baseline", "tuned baseline"))
    test = stats.ttest_rel(after, before)

    size = f"{signed((after - before).mean())} points {ends(*test.confidence_interval())}"
    worth = f"{size} (10 fresh seeds, {p_of(test.pvalue)})."
    assert page.text.count(f"tuning it alone was worth {worth}") == 2


def test_the_table_sets_selection_beside_fresh_seeds(search, page):
    arm = arm_of(search, "cutmix")
    chosen = 100 * np.array(next(t for t in arm.trials if t.number == arm.winner).values["accuracy"])
    now = fresh(search, "tuned", "cutmix", "val_accuracy")
    low, high = stats.t.interval(0.95, 9, now.mean(), stats.sem(now))
    cells = page.row("cutmix")

    assert cells[3] == f"{chosen.mean():.2f} ± {chosen.std(ddof=1):.2f} 5 tuning seeds"
    assert cells[4] == f"{now.mean():.2f} {ends(low, high)} 10 fresh seeds"


def test_optimism_is_net_of_what_the_default_values_do_on_the_same_seeds(search, page):
    arm = arm_of(search, "cutmix")
    best, first = (next(t for t in arm.trials if t.number == n) for n in (arm.winner, 0))
    chosen, before = (100 * np.array(t.values["accuracy"]) for t in (best, first))
    now, default = (fresh(search, c, "cutmix", "val_accuracy") for c in ("tuned", "default"))
    test = stats.ttest_ind(chosen - before, now - default, equal_var=False)
    moved = [signed(then.mean() - later.mean()) for then, later in ((chosen, now), (before, default))]
    net = signed(np.round(chosen - before, 10).mean() - np.round(now - default, 10).mean())

    assert first.params == {name: space["default"] for name, space in arm.space.items()}
    assert page.row("cutmix")[5] == (f"{net} {ends(*test.confidence_interval())} winner {moved[0]}, default {moved[1]}")


def test_optimism_is_not_known_without_a_trial_of_the_default_values(search):
    arms = [
        a.model_copy(update={"trials": tuple(t for t in a.trials if t.number)}) if a.label == "cutmix" else a
        for a in search.record.arms
    ]
    record = search.record.model_copy(update={"arms": tuple(arms)})
    cell = Page(render_search(record, search.runs)).row("cutmix")[5]

    assert cell.startswith("not known the winner moves +")
    assert "no completed trial of the default values" in cell


def test_the_table_counts_trials_and_shows_winning_values_beside_their_defaults(search, page):
    arm = arm_of(search, "gradient_clipping")
    states = [t.state for t in arm.trials]
    winner = next(t for t in arm.trials if t.number == arm.winner)
    cells = page.row("gradient_clipping")

    assert cells[1] == "30 " + ", ".join(f"{states.count(s)} {s}" for s in ("complete", "pruned", "failed"))
    assert f"recipe.lr {winner.params['recipe.lr']:.3g} (0.2)" in cells[2]
    assert "gradient_clipping.kind norm (norm)" in cells[2]
    assert page.row("baseline")[6:] == ["reference", "reference"]


def test_the_forest_plot_has_both_effects_of_every_arm_hollow_and_filled(html):
    drawn = html[html.index('class="effects"') : html.index("<figcaption>Mean paired")]

    kinds = re.findall(r'<td class="kind">([a-z ]+)</td>', drawn)
    assert kinds == ["tuning alone", *["default", "tuned"] * 4]
    assert drawn.count('class="dot default"') == 4
    assert drawn.count('class="dot tuned"') == 5
    assert drawn.count("<td>10</td>") + drawn.count("</span>10</td>") == 9


def test_numbers_of_the_trials_never_come_from_the_test_split(search, html):
    of_trials = {i for arm in search.record.arms for t in arm.trials for i in t.run_ids.values()}
    poisoned = search.runs["test_accuracy"].where(~search.runs["run_id"].isin(of_trials), 0.424242)

    assert render_search(search.record, search.runs.assign(test_accuracy=poisoned)) == html


def test_rows_of_other_fingerprints_and_older_repeats_are_left_out(search, html):
    foreign = search.runs.assign(fingerprint="beef", val_accuracy=0.1, test_accuracy=0.1)
    older = search.runs.assign(status="failed", val_accuracy=0.1, finished=pd.Timestamp("2024-01-01", tz="UTC"))

    assert render_search(search.record, pd.concat([search.runs, older, foreign])) == html


def test_states_differ_in_shape_and_failed_trials_stand_under_the_axis(search):
    arm = arm_of(search, "mixup")
    drawing = figures.history(
        figures.Trials(
            [figures.TrialPoint(t.number, t.state, t.params, value_of(t, "accuracy"), "") for t in arm.trials],
            arm.winner,
            0,
            1,
        )
    )
    states = [t.state for t in arm.trials]

    assert len(re.findall(r'<circle [^>]*class="trial"', drawing)) == states.count("complete")
    assert drawing.count('class="trial pruned"') == states.count("pruned")
    crosses = re.findall(r'd="M[\d.]+ ([\d.]+)l6 6m0-6l-6 6" class="trial failed"', drawing)
    assert len(crosses) == states.count("failed")
    assert all(float(y) > figures.BOTTOM for y in crosses)
    assert ">winner<" in drawing
    assert ">default<" in drawing


def points(*values):
    return [figures.TrialPoint(i, "complete", {"lr": 0.1}, v, f"trial {i}") for i, v in enumerate(values)]


def test_the_line_of_the_history_is_the_best_complete_trial_so_far():
    found = [*points(90.0, 89.0, 92.0), figures.TrialPoint(3, "pruned", {}, 95.0, "")]
    drawing = figures.history(figures.Trials(found, 2, None, 0))
    y = svg.Scale(figures.Trials(found, 2, None, 0).span, (figures.BOTTOM, figures.TOP))
    steps = re.search(r'd="M[\d.]+ ([\d.]+)H[\d.]+V([\d.]+)H[\d.]+" class="mean best', drawing)

    assert [float(v) for v in steps.groups()] == pytest.approx([y(90.0), y(92.0)], abs=0.06)


def test_a_setting_that_hardly_trains_does_not_squeeze_the_others():
    low, high = figures.Trials(points(10.0, *np.linspace(90, 92, 20)), None, None, 0).span

    assert 89 < low < 90
    assert 92 < high < 93
    drawing = figures.history(figures.Trials(points(10.0, *np.linspace(90, 92, 20)), None, None, 0))
    assert f'cy="{figures.BOTTOM:g}"' in drawing


def test_axes_are_logarithmic_where_the_space_is():
    rate = figures.Axis.of({"low": 0.01, "high": 1.0, "log": True})

    assert rate.share(0.1) == pytest.approx(0.5)
    assert rate.share(0.0) is None
    assert rate.share("big") is None
    assert rate.ticks(300) == [(pytest.approx(s), label) for s, label in RATE_TICKS]
    decay = figures.Axis.of({"low": 0.9, "high": 0.9999, "log": False, "log1m": True})
    assert [decay.share(v) for v in (0.9, 0.99, 0.9999)] == pytest.approx([0, 1 / 3, 1])
    assert decay.share(1.0) is None
    assert {label for _, label in decay.ticks(300)} == {"0.9", "0.99", "0.999", "0.9999"}
    assert figures.Axis.of({"low": 0, "high": 4, "log": False}).share(1) == 0.25


RATE_TICKS = [(0.0, "0.01"), (0.349485, "0.05"), (0.650515, "0.2"), (1.0, "1")]


def test_choices_have_a_place_each():
    kind = figures.Axis.of({"choices": ["norm", "value", [1, 2]], "default": "norm"})

    assert [kind.share(v) for v in ("norm", "value", [1, 2])] == pytest.approx([1 / 6, 1 / 2, 5 / 6])
    assert kind.share("other") is None
    assert [label for _, label in kind.ticks(300)] == ["norm", "value", "1, 2"]


def test_values_read_as_people_write_them():
    assert [shown(v) for v in (0.1234567, 1e-05, -0.5, True, 3, "norm", [1, 0.5])] == [
        *("0.123", "1e−5", "−0.5", "true", "3", "norm", "1, 0.5"),
    ]


def test_the_field_is_a_weighted_mean_and_ends_where_no_trial_is_near():
    columns, rows = landscape.CELLS
    left, right = (10 + 0.5) / columns, (12 + 0.5) / columns
    height = (5 + 0.5) / rows
    field = landscape.field(np.array([(left, height, 90.0), (right, height, 92.0)]))

    assert field.shape == (rows, columns)
    assert field[5, 11] == pytest.approx(91.0)
    pull = math.exp(-((right - left) ** 2) / (2 * landscape.BANDWIDTH**2))
    assert field[5, 10] == pytest.approx((90 + 92 * pull) / (1 + pull))
    assert math.isnan(field[20, 11])
    assert math.isnan(field[5, 29])


def test_shades_hold_equally_many_trials():
    values = np.array([80.0, 90, 91, 91.5, 91.6, 91.7])
    bounds = np.quantile(values, np.linspace(0, 1, landscape.LEVELS + 1))

    assert landscape.levels(values, bounds).tolist() == [0, 1, 2, 3, 4, 5]
    assert landscape.levels(np.array([math.nan, 10.0, 99.0]), bounds).tolist() == [-1, 0, 5]


def test_the_map_shows_the_two_most_important_ranges(search):
    arm = arm_of(search, "gradient_clipping").model_copy(
        update={
            "importance": {
                "gradient_clipping.kind": 0.6,
                "recipe.weight_decay": 0.25,
                "gradient_clipping.limit": 0.1,
                "recipe.lr": 0.05,
            }
        }
    )

    assert map_pair(arm) == ("recipe.weight_decay", "gradient_clipping.limit")
    assert map_pair(arm.model_copy(update={"importance": None})) == ("gradient_clipping.limit", "recipe.lr")
    assert map_pair(SearchArm(label="x", space={"x.a": LR})) == ()


def test_a_winner_at_the_end_of_its_range_is_pointed_out(search):
    arm = SearchArm(label="x", space={"recipe.lr": LR, "x.kind": {"choices": ["a"], "default": "a"}})
    rows = [
        value_rows(arm, Trial(number=0, state="complete", params={"recipe.lr": lr, "x.kind": "a"}))
        for lr in (0.021, 0.2, 1.9)
    ]

    assert [r[0].edge for r in rows] == ["lower end", "", "upper end"]
    assert [r[0].changed for r in rows] == [True, False, True]
    assert rows[0][1].edge == ""
    assert [r.winner for r in value_rows(arm, None)] == ["–", "–"]


def test_importance_is_shown_with_its_n_and_its_limits(search, page):
    complete = sum(t.state == "complete" for t in arm_of(search, "baseline").trials)

    assert f"fANOVA over {complete} complete trials" in page.text
    assert "It is no effect of the trick" in page.text
    assert page.row("recipe.lr")[1:4] == ["0.02 to 2, log", "0.2", page.row("recipe.lr")[3]]
    assert re.fullmatch(r"\d+ %", page.row("recipe.lr")[4])


def test_the_command_sets_the_winning_values_exactly(search):
    arm = arm_of(search, "gradient_clipping")
    winner = next(t for t in arm.trials if t.number == arm.winner)
    record = search.record.model_copy(
        update={
            "command": "harness search gradient_clipping --experiment 'my digits.toml' --trials 30 --workers 4 "
            "--set recipe.epochs=3 --set recipe.lr=0.5 --threads 2 --plugin 'a b.py'"
        }
    )
    words = shlex.split(winner_command(record, arm, winner))

    assert words[:3] == ["harness", "ablate", "gradient_clipping"]
    assert words[3:5] == ["--experiment", "my digits.toml"]
    assert words[-4:] == ["--threads", "2", "--plugin", "a b.py"]
    assert [w for w in words if w.startswith("recipe.lr=")] == [f"recipe.lr={winner.params['recipe.lr']}"]
    settings = dict(w.split("=") for flag, w in pairwise(words) if flag == "--set")
    assert settings.pop("gradient_clipping.kind") == winner.params["gradient_clipping.kind"]
    assert settings.pop("recipe.epochs") == "3"
    assert {k: tomllib.loads(f"v = {v}")["v"] for k, v in settings.items()} == {
        k: v for k, v in winner.params.items() if k != "gradient_clipping.kind"
    }


def test_the_baseline_command_puts_all_tricks_on_its_tuned_recipe(search):
    arm = arm_of(search, "baseline")
    winner = next(t for t in arm.trials if t.number == arm.winner)

    assert winner_command(search.record, arm, winner) == (
        "harness ablate mixup cutmix gradient_clipping ema+label_smoothing --experiment digits "
        f"--set recipe.lr={winner.params['recipe.lr']} --set recipe.weight_decay={winner.params['recipe.weight_decay']}"
    )


def test_every_trial_is_listed_with_its_reason(search, page):
    rows = [cells for cells in page.rows if "alpha must exceed prob" in cells[-1]]

    assert sum(cells[0] == "0 default" for cells in page.rows) == len(search.record.arms)
    assert len(rows) == sum(t.state == "failed" for arm in search.record.arms for t in arm.trials)
    assert [" ".join(c.split()) for c in rows[0]][:4] == ["9", "failed", "–", "0"]


def test_several_objectives_have_a_front_that_is_drawn_and_listed():
    search = Invented(trials=20, objectives=("accuracy", "seconds"))
    html = render_search(search.record, search.runs)
    arm = arm_of(search, "mixup")
    start = html.index('aria-label="The front of mixup"')
    listed = Page(
        "<div>" + html[start + len('aria-label="The front of mixup">') : html.index("</div>", start)] + "</div>"
    )

    assert [cells[0] for cells in listed.rows[1:]] == [str(n) for n in arm.front]
    trial = next(t for t in arm.trials if t.number == arm.front[0])
    seconds = np.array(trial.values["seconds"])
    assert listed.rows[1][2] == f"{seconds.mean():.2f} ± {seconds.std(ddof=1):.2f}"
    assert "validation accuracy, then training time" in Page(html).text
    assert html.count("ring front") >= len(arm.front)


def test_equal_budgets_say_nothing_and_unequal_ones_warn(search, page):
    assert "budgets differ" not in page.text
    shorter = with_arm(search.record, "mixup", trials=arm_of(search, "mixup").trials[:29])

    assert "Trials: baseline 30, mixup 29, cutmix 30" in Page(render_search(shorter, search.runs)).text


def test_an_arm_with_nothing_to_search_does_not_count_as_unequal(search):
    single = with_arm(search.record, "mixup", space={}, trials=arm_of(search, "mixup").trials[:1], winner=0)
    text = Page(render_search(single, search.runs)).text

    assert "budgets differ" not in text
    assert "nothing to search" in text


def test_an_arm_without_a_winner_says_so(search):
    lost = tuple(
        Trial(number=i, state="failed", params={"recipe.lr": 0.1}, reason="loss is not finite") for i in range(30)
    )
    tuned = search.record.comparisons["tuned"]
    skipped = {"run_ids": {}, "skipped": "no trial of the search was completed"}
    arms = tuple(a.model_copy(update=skipped) if a.label == "mixup" else a for a in tuned.arms)
    comparisons = search.record.comparisons | {"tuned": tuned.model_copy(update={"arms": arms})}
    record = with_arm(search.record, "mixup", trials=lost, winner=None, importance=None)
    record = record.model_copy(update={"comparisons": comparisons})
    page = Page(render_search(record, search.runs))

    assert page.row("mixup")[2:6] == ["no winner no complete trial", "–", "–", "–"]
    assert page.row("mixup")[7] == "– mixup was skipped: no trial of the search was completed"
    assert "not measured tuned, against an equally tuned baseline (mixup was skipped: no trial" in page.text
    assert "0 complete trials cannot tell the searched values apart" in page.text
    assert "harness ablate mixup --experiment" not in page.text


def test_a_search_without_comparisons_claims_no_effect():
    search = Invented(trials=1, compared=False)
    page = Page(render_search(search.record, search.runs))

    assert "No comparison on fresh seeds yet" in page.text
    assert "Does the gain survive tuning?" not in page.text
    assert "points [" not in page.text
    assert page.row("mixup")[4:] == ["–", "–", "–", "–"]


def test_an_arm_whose_fresh_runs_all_failed_has_no_number(search):
    ids = next(a for a in search.record.comparisons["tuned"].arms if a.label == "mixup").run_ids.values()
    broken = search.runs["run_id"].isin(list(ids))
    runs = search.runs.assign(
        status=search.runs["status"].where(~broken, "failed"),
        reason=search.runs["reason"].where(~broken, "out of memory"),
    )
    page = Page(render_search(search.record, runs))

    assert page.row("mixup")[4:6] == ["–", "–"]
    assert page.row("mixup")[7] == "– out of memory"


def test_everything_foreign_is_escaped(search):
    arm = arm_of(search, "mixup")
    space = {f"{EVIL}.x": LR, "mixup.kind": {"choices": [EVIL, "b"], "default": EVIL}, "recipe.weight_decay": DECAY}
    trials = tuple(
        t.model_copy(
            update={
                "params": {f"{EVIL}.x": 0.1 + t.number / 100, "mixup.kind": EVIL, "recipe.weight_decay": 0.01},
                "reason": EVIL,
            }
        )
        for t in arm.trials
    )
    record = with_arm(search.record, "mixup", label=EVIL, tricks=(EVIL,), space=space, trials=trials, importance=None)
    fields = ("search", "experiment", "question", "scope", "sampler", "pruner", "toml", "harness_version", "created")
    record = record.model_copy(update=dict.fromkeys(fields, EVIL) | {"notes": (EVIL,), "command": EVIL})
    tuned = record.comparisons["tuned"]
    arms = tuple(a.model_copy(update={"label": EVIL}) if a.label == "mixup" else a for a in tuned.arms)
    record = record.model_copy(update={"comparisons": {"tuned": tuned.model_copy(update={"arms": arms})}})
    html = render_search(record, search.runs, [EVIL])

    assert EVIL not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20
    Page(html)


def test_the_page_is_whole_labelled_and_offline(html, page):
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    sections = [attrs["aria-labelledby"] for tag, attrs in page.tags if tag == "section"]

    assert len(set(ids)) == len(ids)
    assert sections == ["answer", "table", "forest", "worth", "budget", "arms", "commands", "provenance", "reading"]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg\b)|url\(|@import", html)
    links = [attrs["href"] for _, attrs in page.tags if "href" in attrs]
    assert set(links) <= {f"#{i}" for i in ids}
    assert not [attrs for _, attrs in page.tags if "src" in attrs]
    opened = [attrs for tag, attrs in page.tags if tag == "details" and attrs.get("class") == "arm"]
    assert ["open" in attrs for attrs in opened] == [True, False, False, False, False]
    assert all("aria-hidden" in a or a.get("role") == "img" for tag, a in page.tags if tag == "svg" and "x" not in a)


def test_provenance_adds_up_the_time_of_all_runs(search, page):
    assert f"{len(search.runs)} stored" in page.text
    assert f"{1.5 * len(search.runs) / 3600:.2g} hours" in page.text
    assert search.record.command in page.text


def test_the_page_is_named_after_the_folder(search, html, tmp_path):
    folder = tmp_path / "results" / "mine"
    search.write(folder)
    page = write_search(folder, tmp_path / "reports")

    assert page == tmp_path / "reports" / "mine.html"
    assert page.read_text() == html


def test_a_preface_beside_the_record_comes_first_and_escaped(search, tmp_path):
    folder = tmp_path / "results" / "mine"
    search.write(folder)
    (folder / "preface.txt").write_text("Expected: <b>more</b>.\n\nFound: less.\n")
    html = write_search(folder, tmp_path / "reports").read_text()

    main = html[html.index("<main>") :]
    assert main.index("<p>Expected: &lt;b&gt;more&lt;/b&gt;.</p>\n<p>Found: less.</p>") < main.index('id="answer"')


def test_a_folder_without_a_search_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no search \(no search.json\)"):
        write_search(tmp_path, tmp_path)
    (tmp_path / "search.json").write_text('{"search": 1}')
    with pytest.raises(UserError, match="cannot be read as a search"):
        write_search(tmp_path, tmp_path)


def test_a_page_that_cannot_be_written_is_a_user_error(search, tmp_path):
    search.write(tmp_path / "mine")
    (tmp_path / "reports").write_text("a file")

    with pytest.raises(UserError, match="choose another place with --reports"):
        write_search(tmp_path / "mine", tmp_path / "reports")


def test_a_big_search_renders_in_a_second_and_below_a_megabyte(search):
    big = Invented(trials=50)
    start = time.process_time()
    html = render_search(big.record, big.runs)

    assert time.process_time() - start < 1
    assert len(html.encode()) < 1_000_000


def test_rendering_imports_neither_torch_nor_optuna():
    script = "import sys, harness.report.pages.search\nprint([m for m in ('torch', 'optuna') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert out.stdout.strip() == "[]", out.stderr


@pytest.mark.parametrize(
    ("value", "short", "long"),
    [(0.9999, "0.9999", "0.9999"), (0.99999, "0.99999", "0.99999"), (0.95, "0.95", "0.95"), (1.0, "1", "1"),
     (0.123456, "0.123", "0.1235")],
)  # fmt: skip
def test_a_value_just_below_one_is_not_shown_as_one(value, short, long):
    assert (shown(value), typed(value)) == (short, long)
