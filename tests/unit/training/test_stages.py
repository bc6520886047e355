"""What a run needs is trained before it, predicts as it was evaluated, and counts as its cost, whoever trained it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from harness.errors import UserError
from harness.experiment import Arm
from harness.testing import tiny_spec
from harness.training.execute import execute, train_stages
from harness.training.place import Place
from harness.training.stages import Needed, path_of
from harness.tricks import needs, registry
from harness.tricks.contract import Info, NotApplicable, Trick
from harness.tricks.needs import needs_of, stages_of
from harness.tricks.stages import on_folds, plain

TEACHERS = ("knowledge_distillation", "kd_logits_cached", "kd_plus_ood")
CARD = Info(name="", family="test", summary="s", paper="p", formula="f", expect="e")


class Asking(Trick):
    """Needs what a test says."""

    info: ClassVar = CARD._replace(name="asking")
    asked: ClassVar = []

    def needs(self, spec):
        return [make(spec) for make in self.asked]


class Again(Trick):
    """Needs the run of the other arm, which may need this one."""

    info: ClassVar = CARD._replace(name="again")

    def needs(self, spec):
        return [spec.model_copy(update={"seed": spec.seed + 1})]


@pytest.fixture
def place(tmp_path):
    return Place(Path("unused-by-digits"), stages_dir=tmp_path / "stages")


@pytest.fixture
def asking(monkeypatch):
    """A run that needs these arms, each of its seed."""

    def spec_of(*arms, **recipe):
        monkeypatch.setattr(Asking, "asked", [lambda spec, arm=arm: arm_of(spec, *arm) for arm in arms])
        return tiny_spec(Asking(), **recipe)

    with registry.registered(Asking):
        yield spec_of


def arm_of(spec, *tricks):
    made = (registry.make(t, p).spec() for t, p in (t if isinstance(t, tuple) else (t, {}) for t in tricks))
    return spec.model_copy(update={"arm": Arm(tricks=tuple(made))})


def handed_over(spec, place):
    """The only stage of a run."""
    train_stages(spec, place)
    (stage,) = needs_of(spec)
    return Needed(spec, place, None)(stage)


@pytest.mark.parametrize(
    "tricks",
    [
        (),
        (("ema", {"decay": 0.9}),),
        (("snapshot_ensemble", {"cycles": 2, "last": 2}),),
        ("test_time_augmentation",),
        ("repvgg_reparam",),
        ("tanh_hidden", "bnneck"),
        (("mixed_precision", {"dtype": "bf16"}),),
    ],
    ids=lambda tricks: "+".join(t if isinstance(t, str) else t[0] for t in tricks) or "baseline",
)
def test_a_stage_predicts_what_its_run_predicted(tricks, asking, place):
    """To the bit, but where a trick folds layers before the test is read."""
    spec = asking(tricks, epochs=4)
    stage = handed_over(spec, place)
    result = execute(stage.spec, "test", place)

    assert result.row["status"] == "ok", result.row["reason"]
    torch.testing.assert_close(stage.logits("test"), result.predictions.logits, rtol=1e-4, atol=1e-4)
    if "repvgg_reparam" not in tricks:
        assert torch.equal(stage.logits("test"), result.predictions.logits)


def test_parts_and_features_of_a_stage(asking, place):
    stage = handed_over(asking(()), place)
    network, parts = stage.network(), {name: stage.part(name) for name in ("train", "val", "test")}

    assert {name: len(part.label) for name, part in parts.items()} == {"train": 40, "val": 40, "test": 100}
    part = parts["val"]
    x = part.rows[:].permute(0, 3, 1, 2).float() / part.peak
    with torch.no_grad():
        logits, features = network.forward_with_features(x)
    torch.testing.assert_close(stage.features("val"), features)
    torch.testing.assert_close(stage.logits(part), logits)
    assert not any(p.requires_grad for p in network.parameters())
    assert not network.training
    with pytest.raises(UserError, match="no part 'rest'; it has train, val, test"):
        stage.part("rest")


@pytest.mark.parametrize("alone", [False, True])
def test_what_folds_leave_out_is_handed_over(alone, asking, place, monkeypatch):
    """Whatever is trained on the whole; each image is left out as often as there are folds that lack it."""
    spec = asking(())
    monkeypatch.setattr(Asking, "asked", [lambda spec, k=k: on_folds(plain(spec), 4, alone)[k] for k in range(4)])
    train_stages(spec, place)
    stages = [Needed(spec, place, None)(stage) for stage in needs_of(spec)]
    rest = [stage.part("rest") for stage in stages]

    assert [len(part.label) for part in rest] == [30 if alone else 10] * 4
    for stage, part in zip(stages, rest, strict=True):
        assert torch.equal(stage.logits("rest"), stage.logits(part))
        assert set(part.index.tolist()).isdisjoint(stage.part("train").index.tolist())
    assert len({i for part in rest for i in part.index.tolist()}) == 40
    row = execute(spec, "test", place).row
    assert len(json.loads(row["stages"])) == 4


def test_folds_are_of_a_whole(asking):
    spec = asking(())
    (part, _) = on_folds(spec, 2)
    with pytest.raises(NotApplicable, match="folds of a fold"):
        on_folds(part, 2)
    with pytest.raises(UserError, match="at least 2"):
        on_folds(spec, 1)


def test_a_network_that_is_handed_over_is_nobody_elses(asking, place):
    stage = handed_over(asking(()), place)
    before = stage.logits("val")
    with torch.no_grad():
        for parameter in stage.network().parameters():
            parameter.zero_()

    assert torch.equal(stage.logits("val"), before)


@pytest.mark.parametrize("name", TEACHERS)
def test_every_run_carries_what_its_teacher_took(name, place):
    """The same whoever trained the teacher, and whether it was there before."""
    spec = tiny_spec(registry.make(name))
    (teacher,) = needs_of(spec)
    assert teacher == needs_of(tiny_spec(registry.make(TEACHERS[0])))[0], "one teacher for all"
    train_stages(spec, place)
    path = path_of(place.name(teacher), place)
    written = path.stat().st_mtime_ns
    first = execute(spec, "test", place).row
    train_stages(spec, place)
    again = execute(spec, "test", place).row
    others = [execute(tiny_spec(registry.make(other)), "test", place).row for other in TEACHERS]

    assert path.stat().st_mtime_ns == written, "trained once"
    for row in (first, again, *others):
        assert row["status"] == "ok", row["reason"]
        assert json.loads(row["stages"]) == [path.stem]
        assert (row["seconds_other"], row["cpu_seconds_other"]) == (first["seconds_other"], first["cpu_seconds_other"])
    assert first["cpu_seconds_other"] > 0
    assert first["test_digest"] == again["test_digest"]


def test_a_stage_counts_its_training_and_its_set_up(place):
    """And a stage that two ways lead to counts once."""
    spec = tiny_spec(registry.make("masked_pretraining"))
    (stage,) = needs_of(spec)
    (place.stages_dir).mkdir()
    done = execute(stage, "test", place, as_stage=True)
    path_of(place.name(stage), place).write_bytes(done.stage)
    row = execute(spec, "test", place).row

    assert row["cpu_seconds_other"] == done.row["cpu_seconds_train"] + done.row["cpu_seconds_setup"]
    assert row["seconds_other"] == done.row["seconds_train"] + done.row["seconds_setup"]
    assert row["cpu_seconds_setup"] > 0, "the weights were taken over in set-up"
    assert execute(tiny_spec(), "test", place).row["cpu_seconds_setup"] == 0


def test_stages_of_stages_come_first_and_count_once(asking, place):
    """The run needs a distilled network and its teacher, which is the teacher's own."""
    distilled = ("knowledge_distillation",)
    spec = asking(distilled, ())
    (teacher,) = needs_of(arm_of(spec, *distilled))
    order = list(stages_of([spec]).values())

    assert [(s.arm.names, s.model.width) for s in order] == [((), 8), (distilled, 4), ((), 4)]
    assert order[0] == teacher
    train_stages(spec, place)
    row = execute(spec, "test", place).row
    assert json.loads(row["stages"]) == sorted(place.name(stage) for stage in order)
    assert [*Needed(arm_of(spec, *distilled), place, None).costs] == [place.name(teacher)]


def test_runs_that_need_runs_without_end_are_refused():
    with registry.registered(Again), pytest.raises(UserError, match="need runs without an end"):
        stages_of([tiny_spec(Again())])


def test_a_run_gets_no_stage_that_was_not_declared(asking, place):
    spec = asking(())
    train_stages(spec, place)
    hand_over = Needed(spec, place, None)

    with pytest.raises(UserError, match=r"\(mixup, seed 0\) that none of its tricks declares"):
        hand_over(arm_of(spec, "mixup"))


def test_a_run_whose_stages_are_not_there_fails_and_says_so(place):
    row = execute(tiny_spec(registry.make("knowledge_distillation")), "test", place).row

    assert row["status"] == "failed"
    assert row["reason"].startswith("the arm knowledge_distillation needs run ")
    assert "(baseline, seed 0), which is not trained" in row["reason"]


def test_what_cannot_act_needs_nothing():
    """The run says why, and nothing is trained for it."""
    spec = tiny_spec(registry.make("knowledge_distillation", {"hard": 1.0, "soft": 0.0}))
    assert needs_of(spec) == ()
    row = execute(spec, "test", Place(Path("unused-by-digits"))).row
    assert (row["status"], row["reason"]) == (
        "skipped",
        "hard = 1 and soft = 0 leave the loss as it is in the baseline",
    )


def test_code_of_a_stage_is_part_of_what_the_run_belongs_to(asking, monkeypatch):
    """The run's own trick is the same; what its stage uses is edited."""
    spec = asking(("mixup",))
    before = needs.identify(spec, "images")
    assert before.json == registry.identity_of(["asking"], spec.model, "images").json, "nothing but its own images"
    monkeypatch.setitem(registry._sources, "mixup", "edited")
    after = needs.identify(spec, "images")

    assert len(after.stages) == 1
    assert after.short != before.short
    assert after == type(after).of(after.json)


def test_images_of_a_stage_are_part_of_what_the_run_belongs_to(asking, monkeypatch):
    few = lambda spec: plain(spec).model_copy(update={"data": spec.data.model_copy(update={"classes": 5})})  # noqa: E731
    spec = asking(())
    monkeypatch.setattr(Asking, "asked", [few])
    one, other = (needs.identify(spec, "images", lambda data, d=d: d) for d in ("five", "others"))

    assert one.short != other.short
    with pytest.raises(UserError, match="other images than its own"):
        needs.identify(spec, "images")


def test_a_rehearsal_takes_untrained_stages(place):
    spec = tiny_spec(registry.make("kd_logits_cached"))
    (stage,) = needs_of(spec)
    handed = Needed(spec, replace(place, rehearsal=True), None)

    assert handed.costs == {}
    assert handed(stage).logits("train").shape == (40, 10)
