"""`[study] base`: tricks that all runs have, and the effects are of adding to them."""

import json

import pandas as pd
import pytest

from harness.errors import UserError
from harness.experiment import Arm, load_experiment, spec_of
from harness.report.load import load
from harness.study.forecast import over_base
from harness.study.kinds import trick_of
from harness.study.plan import make_plan
from harness.testing import StoredRun, make_row, make_study
from harness.training.place import Place
from harness.tuning.space import settle
from harness.workflow.replicating import _Source

BASE = ("ema", "label_smoothing")


def planned(tmp_path, *asked, base=BASE, design="one_at_a_time", tricks=None):
    experiment = load_experiment("digits", {"study": {"base": base}, "tricks": tricks or {}})
    return experiment, make_plan(
        experiment, asked, design=design, seeds=range(2), place=Place(tmp_path), results=tmp_path, images="x",
        command="", toml="",
    )  # fmt: skip


def test_every_run_has_the_base_and_every_arm_adds_to_it(tmp_path):
    experiment, plan = planned(tmp_path, "mixup", "mixup+sam")
    tricks = {s.run_id: s.arm.names for s in plan.specs}
    of = {arm.label: {tricks[i] for i in arm.run_ids.values()} for arm in plan.manifest.arms}

    assert of == {"baseline": {BASE}, "mixup": {(*BASE, "mixup")}, "mixup+sam": {(*BASE, "mixup", "sam")}}
    assert [set(arm.tricks) for arm in plan.manifest.arms] == [set(), {"mixup"}, {"mixup", "sam"}]
    assert plan.manifest.baseline.label == "baseline"
    assert "always with ema + label_smoothing" in plan.manifest.scope
    made = Arm(tricks=tuple(trick_of(experiment, n).spec() for n in (*BASE, "mixup")))
    assert spec_of(experiment, made, 0).run_id in tricks, "as if the three had been asked for together"


def test_a_sweep_gives_a_trick_of_the_base_other_values(tmp_path):
    _, plan = planned(tmp_path, "label_smoothing.eps=0.05,0.2", design="sweep")
    values = {a.label: {s.arm.tricks[1].params["eps"] for s in plan.specs if s.run_id in a.run_ids.values()}
              for a in plan.manifest.arms}  # fmt: skip

    assert values == {"baseline": {0.1}, "label_smoothing(eps=0.05)": {0.05}, "label_smoothing(eps=0.2)": {0.2}}


def test_tables_of_the_file_hold_for_the_base(tmp_path):
    _, plan = planned(tmp_path, "sam", tricks={"label_smoothing": {"eps": 0.3}})
    assert {s.arm.tricks[1].params["eps"] for s in plan.specs} == {0.3}


def test_a_clash_with_the_base_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cutmix.*mixup"):
        planned(tmp_path, "cutmix", base=("mixup",))


@pytest.mark.parametrize(
    ("base", "asked", "said"),
    [(("ema",), "ema", "ema is in study.base, so all runs have it"), (("emma",), "mixup", "did you mean 'ema'")],
)
def test_what_the_base_has_is_no_arm_and_its_names_are_tricks(tmp_path, base, asked, said):
    with pytest.raises(UserError, match=said):
        planned(tmp_path, asked, base=base)


def test_without_a_base_nothing_is_another_run(tmp_path):
    _, plan = planned(tmp_path, "mixup", base=())
    assert plan.specs[-1].run_id == spec_of(load_experiment("digits"), plan.specs[-1].arm, plan.specs[-1].seed).run_id
    assert "always with" not in plan.manifest.scope


def test_a_search_tunes_on_top_of_the_base(tmp_path):
    experiment, _ = planned(tmp_path, "mixup")
    changed, arm = settle(experiment, ["mixup"], {"mixup.alpha": 0.5})
    assert arm.names == (*BASE, "mixup")
    assert settle(experiment, [], {})[1].names == BASE
    assert changed.study.base == BASE


def test_a_replication_has_the_base_of_the_study(tmp_path):
    _, plan = planned(tmp_path, "mixup", tricks={"label_smoothing": {"eps": 0.3}})
    old, specs = plan.manifest, {spec.run_id: spec.canonical_json for spec in plan.specs}

    def run(arm, seed):
        spec, mark = specs[arm.run_ids[seed]], old.fingerprint
        return StoredRun(make_row(arm, seed, spec=spec, fingerprint=mark, identity=arm.identity))

    make_study(tmp_path / old.study, old, run)
    experiment = _Source.of(load(tmp_path / old.study), old.arms[1:]).experiment
    again = make_plan(
        experiment, ["mixup"], design="one_at_a_time", seeds=range(2), place=Place(tmp_path), results=tmp_path,
        images="x", command="", toml="",
    )  # fmt: skip

    assert experiment.study.base == BASE
    assert [arm.run_ids for arm in again.manifest.arms] == [arm.run_ids for arm in old.arms]


def test_a_forecast_takes_stored_runs_that_have_the_base():
    """With another value of the base, or without it, they are runs of another baseline."""
    ema, mixup = {"ema": {"decay": 0.9}}, {"mixup": {"alpha": 1.0}}
    tricks = [{}, ema, ema | mixup, {"ema": {"decay": 0.5}}, mixup]
    stored = [("+".join(sorted(t)) or "baseline", json.dumps(t), n) for n, t in enumerate(tricks)]
    rows = pd.DataFrame(stored, columns=["arm", "hyperparameters", "n"])
    found = over_base(rows, ema)

    assert found[["arm", "n"]].values.tolist() == [["baseline", 1], ["mixup", 2]]
    assert [json.loads(text) for text in found["hyperparameters"]] == [{}, mixup]
