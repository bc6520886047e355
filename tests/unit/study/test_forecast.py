import json
import math
from dataclasses import replace

import pandas as pd
import pytest

from harness.errors import UserError
from harness.experiment import Arm, load_experiment, spec_of
from harness.identity import Identity
from harness.store.writer import prepare, write_run
from harness.study.forecast import Forecast, affordable, choose_seeds, forecast, paired_sd, stored_runs
from harness.study.plan import Plan, make_plan
from harness.testing import make_arm, make_manifest, make_row
from harness.training.place import Place
from harness.workflow.settings import parse_time

AHEAD = Forecast(
    seeds=3, runs=6, missing=6, seconds=12.0, seconds_per_block=4.0, seconds_from="test", disk=0,
    sd=1.0, sd_pairs=10, smallest=3.26, margin=1.0, for_margin=10,
)  # fmt: skip


def manifest(*arms):
    return make_manifest([make_arm("baseline", 0), *arms], 1, experiment="e", fingerprint="f")


def test_budgets_are_numbers_with_a_unit():
    assert [parse_time(t, "--budget") for t in ("90s", "20m", "1.5h")] == [90, 1200, 5400]
    for wrong in ("20", "m", "-5m", "0s", "twenty m", "infm", "nans", "1e400m", "²m", "1_0m", ""):
        with pytest.raises(UserError, match=f"--budget {wrong}: .* for example 20m"):
            parse_time(wrong, "--budget")


def test_seeds_are_those_of_the_margin_within_limit_and_budget():
    assert choose_seeds(AHEAD, 20) == 10
    assert choose_seeds(AHEAD, 7) == 7
    assert choose_seeds(replace(AHEAD, for_margin=2), 20) == 5, "no verdict comes from fewer"
    assert choose_seeds(replace(AHEAD, for_margin=None), 20) == 20, "more than can be computed"


def plan_of(seeds, found=()):
    """Two arms, of which the second takes three times as long; the runs of the seeds in `found` are stored."""
    specs = [spec_of(load_experiment("digits"), Arm(), seed) for seed in range(seeds)]
    slow = [s.model_copy(update={"recipe": s.recipe.model_copy(update={"epochs": 240})}) for s in specs]
    arms = (
        make_arm("baseline", run_ids={s.seed: s.run_id for s in specs}),
        make_arm("slow", run_ids={s.seed: s.run_id for s in slow}, cost=3.0),
    )
    made = manifest().model_copy(update={"arms": arms, "seeds": tuple(range(seeds))})
    every = (*specs, *slow)
    identities = {s.run_id: Identity("images") for s in every}
    stored = {(s.run_id, identities[s.run_id].short, "f"): None for s in every if s.seed in found}
    return Plan(made, every, identities, stored, (), "{}")


@pytest.mark.parametrize(
    ("seconds", "found", "fit"),
    [
        (30.0, (), 7),  # 4 s a seed
        (31.9, (), 7),
        (32.0, (), 8),
        (3.0, (), 0),
        (math.inf, (), 20),
        (3.0, range(10), 10),
        (9.0, range(10), 12),
        (9.0, (0, 2), 4),
    ],
)
def test_a_budget_holds_seeds_by_what_is_missing_of_them(seconds, found, fit):
    assert affordable(plan_of(20, found), AHEAD, seconds) == fit


def planned(experiment, place, results):
    return make_plan(
        experiment, ["cutout"], design="one_at_a_time", seeds=range(3), place=place, results=results, images="",
        command="", toml="",
    )  # fmt: skip


def test_the_plan_of_a_baseline_that_diverges_says_so_and_still_tells_a_time(tmp_path):
    experiment = load_experiment("digits", {"recipe": {"lr": 1e30}})
    place = Place(tmp_path)
    plan = make_plan(
        experiment,
        ["mixup"],
        design="one_at_a_time",
        seeds=range(3),
        place=place,
        results=tmp_path,
        images="",
        command="",
        toml="",
    )
    ahead = forecast(plan, experiment, place, tmp_path, 1)

    assert 0 < ahead.seconds < 1e6
    assert "where the baseline diverged (" in ahead.seconds_from
    assert "lower recipe.lr" in ahead.seconds_from


@pytest.mark.parametrize("packed", [False, True])
def test_the_plan_of_data_that_are_not_here_fetches_nothing(tmp_path, monkeypatch, packed):
    monkeypatch.setattr("harness.data.cifar._download", lambda *_: pytest.fail("it fetches"))
    if packed:
        (tmp_path / "cifar-10-python.tar.gz").touch()
    experiment, place = load_experiment("cifar10-small"), Place(tmp_path)
    plan = make_plan(
        experiment,
        ["cutout"],
        design="one_at_a_time",
        seeds=range(3),
        place=place,
        results=tmp_path,
        images="",
        command="",
        toml="",
    )
    ahead = forecast(plan, experiment, place, tmp_path, 1)

    assert math.isnan(ahead.seconds)
    assert f"cifar10 is not in {tmp_path}; the first run " in ahead.seconds_from
    assert ("unpacks" if packed else "downloads cifar-10-python.tar.gz (170 MB)") in ahead.seconds_from


def test_seeds_cannot_be_chosen_when_nothing_is_known():
    with pytest.raises(UserError, match="run 5 seeds first"):
        choose_seeds(replace(AHEAD, sd=math.nan, sd_pairs=0), 20)


def stored(**arms):
    base = {0: 0.90, 1: 0.91, 2: 0.92}
    rows = [{"arm": "baseline", "hyperparameters": "{}", "seed": s, "test_accuracy": v} for s, v in base.items()]
    for arm, gains in arms.items():
        rows += [
            {"arm": arm, "hyperparameters": json.dumps({arm: {}}), "seed": s, "test_accuracy": base[s] + g}
            for s, g in zip(base, gains, strict=True)
        ]
    return pd.DataFrame(rows)


def test_deviation_of_the_studys_own_arms_is_pooled_and_in_points():
    """Differences -1, 0, 1 (deviation 1) and 2, 2, 5 points (deviation sqrt 3): pooled sqrt((1 + 3) / 2)."""
    rows = stored(a=(-0.01, 0.0, 0.01), b=(0.02, 0.02, 0.05), wild=(-0.9, 0.0, 0.0))
    sd, pairs = paired_sd(rows, manifest(make_arm("a", 0), make_arm("b", 0)))

    assert pairs == 6
    assert sd == pytest.approx(math.sqrt(2))


def test_without_pairs_of_its_own_a_study_expects_the_median_arm():
    rows = stored(a=(-0.01, 0.0, 0.01), b=(0.02, 0.02, 0.05), wild=(-0.9, 0.0, 0.0))
    sd, pairs = paired_sd(rows, manifest(make_arm("new", 0)))

    assert pairs == 9
    assert sd == pytest.approx(math.sqrt(3))


def test_an_inactive_arm_says_nothing_about_the_deviation():
    rows = [
        {"arm": arm, "hyperparameters": arm, "seed": s, "test_accuracy": 0.9}
        for arm in ("baseline", "x")
        for s in (0, 1, 2)
    ]

    assert paired_sd(pd.DataFrame(rows), manifest())[1] == 0


def test_rows_of_other_workloads_and_machines_are_not_counted(tmp_path):
    """A study of other data in the results folder leaves nothing, but the columns that a forecast reads."""
    experiment = load_experiment("digits")
    spec = spec_of(experiment, Arm(), 0)
    for i, (mark, text) in enumerate([("f", spec.canonical_json), ("other", spec.canonical_json), ("f", other(spec))]):
        prepare(tmp_path / f"study{i}")
        write_run(tmp_path / f"study{i}", make_row(run_id=f"r{i}", fingerprint=mark, spec=text), [], None)
    assert list(stored_runs(manifest(), experiment, tmp_path)["run_id"]) == ["r0"]
    (tmp_path / "study0" / "runs" / "r0-f.parquet").unlink()
    assert stored_runs(manifest(), experiment, tmp_path)["arm"].tolist() == []


def test_rows_of_edited_code_and_of_another_numbers_version_are_not_counted(tmp_path):
    experiment = load_experiment("digits")
    text = spec_of(experiment, Arm(), 0).canonical_json
    now, edited = Identity("images", (("mine", "now"),)), Identity("images", (("mine", "before"),))
    rows = {
        "baseline": ("baseline", Identity("images")),
        "old baseline": ("baseline", Identity("images", numbers=-1)),
        "mine": ("mine", now),
        "edited": ("mine", edited),
        "other": ("theirs", Identity("images", (("theirs", "x"),))),
        "old other": ("theirs", Identity("images", numbers=-1)),
        "other images": ("theirs", Identity("photos")),
        "of 0.1.0": ("theirs", None),
    }
    for folder in ("one", "two"):
        prepare(tmp_path / folder)
        for run_id, (arm, identity) in rows.items():
            facts = {"data_hash": "old digest"}
            if identity is not None:
                facts = {"data_hash": identity.data, "identity": identity.short, "identity_json": identity.json}
            row = make_row(arm, run_id=run_id, fingerprint="f", spec=text, **facts)
            write_run(tmp_path / folder, row, [], None)
    arms = [
        make_arm("baseline", 0, identity=Identity("images").short),
        make_arm("mine", 0, identity=now.short),
    ]
    asked = make_manifest(arms, 1, experiment="e", fingerprint="f", data="images")

    assert sorted(stored_runs(asked, experiment, tmp_path)["run_id"]) == ["baseline", "mine", "of 0.1.0", "other"]


def test_an_edited_run_of_the_same_id_does_not_hide_the_one_that_counts(tmp_path):
    experiment = load_experiment("digits")
    text = spec_of(experiment, Arm(), 0).canonical_json
    now, edited = Identity("images", (("mine", "now"),)), Identity("images", (("mine", "before"),))
    for folder, identity in {"a": edited, "b": now}.items():
        prepare(tmp_path / folder)
        facts = {"data_hash": "images", "identity": identity.short, "identity_json": identity.json}
        write_run(tmp_path / folder, make_row("mine", run_id="r", fingerprint="f", spec=text, **facts), [], None)
    asked = make_manifest([make_arm("mine", 0, identity=now.short)], 1, experiment="e", fingerprint="f", data="images")

    assert stored_runs(asked, experiment, tmp_path)["identity"].tolist() == [now.short]


def other(spec):
    return json.dumps(json.loads(spec.canonical_json) | {"data": {"name": "cifar10"}})
