"""A run in little: what trains in set-up does one step, and bundled experiments keep their memory layout."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.errors import UserError
from harness.experiment import Model, experiments_dir, load_experiment
from harness.models.build import build
from harness.models.classifier import Classifier, Normalize
from harness.testing import tiny_info, tiny_spec
from harness.training import assemble, session, stages
from harness.training.layout import layer_at_risk
from harness.training.place import Place
from harness.training.rehearse import rehearse
from harness.training.seen import Seen
from harness.tricks import registry
from harness.tricks.images import TrainingPixels
from harness.tricks.needs import needs_of

PLACE = Place(data_root=Path("unused-by-digits"), contiguous=True)


def seen(spec):
    *phases, last = rehearse(spec, PLACE, 1)
    assert phases[0] == "set-up"
    return last


def test_a_set_up_phase_that_trains_does_one_step(monkeypatch):
    drawn, draw = [], TrainingPixels.draw
    monkeypatch.setattr(TrainingPixels, "draw", lambda self, *args: drawn.append(1) or draw(self, *args))
    found = seen(tiny_spec(registry.make("lr_range_test")))

    assert isinstance(found, Seen)
    assert not found.problem
    assert len(drawn) == 1


@pytest.mark.parametrize("name", ["knowledge_distillation", "kd_logits_cached", "kd_plus_ood", "masked_pretraining"])
def test_a_stage_is_neither_trained_nor_read(name, monkeypatch):
    def no(*_):
        raise AssertionError("a stage was looked for")

    built, deepest = [], assemble.assemble
    monkeypatch.setattr(stages, "_states", no)
    monkeypatch.setattr(stages, "assemble", lambda spec, *args, **kw: built.append(spec) or deepest(spec, *args, **kw))
    spec = tiny_spec(registry.make(name))
    *_, last = rehearse(spec, replace(PLACE, stages_dir=Path("there-is-none")), 1)

    assert last.problem == ""
    assert last.run_seconds > 0, "it went on to a training step"
    assert built == list(needs_of(spec))


def test_no_trick_of_ours_fails_in_little(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(session, "layer_at_risk", lambda model: "")  # the networks of tests are narrow
    problems = {name: seen(tiny_spec(registry.make(name))).problem for name in registry.builtin()}
    assert {name: why for name, why in problems.items() if why} == {}


def test_a_network_that_would_corrupt_memory_is_not_compiled(monkeypatch):
    monkeypatch.setattr(session, "layer_at_risk", lambda model: "net.stage2.0.shortcut.0")
    last = seen(tiny_spec(registry.make("torch_compile")))

    assert last.problem.startswith("recipe.compile: compiled for this processor, net.stage2.0.shortcut.0 of digits")
    assert last.own


def test_a_rehearsal_leaves_nothing_behind(tmp_path):
    place = Place(Path("unused-by-digits"), stages_dir=tmp_path, checkpoint_dir=tmp_path)
    list(rehearse(tiny_spec(registry.make("knowledge_distillation"), model="resnet8"), place, 1))
    assert list(tmp_path.iterdir()) == []


def test_bundled_experiments_keep_their_memory_layout():
    models = {
        load_experiment(path.stem).model.model_dump_json(): load_experiment(path.stem).model
        for path in experiments_dir().glob("*.toml")
    }
    assert len(models) >= 4
    assert [layer_at_risk(build(model, tiny_info(), 0)) for model in models.values()] == [""] * len(models)


@pytest.mark.parametrize(
    ("name", "args", "why"),
    [
        ("deit_tiny_distilled_patch16_224", {}, "has not one last layer"),
        ("resnet10t", {"features_only": True}, "has not one last layer"),
        ("resnet10t", {"block": "basic"}, "refuses args {'block': 'basic'}: 'str' object has no attribute"),
    ],
)
def test_a_timm_model_that_is_no_classifier_of_ours_is_refused_in_one_line(name, args, why):
    with pytest.raises(UserError) as error:
        build(Model(name=f"timm/{name}", args=args), tiny_info(), 0)
    assert why in str(error.value)
    assert "\n" not in str(error.value)


class Odd(nn.Module):
    """A network that gives something else than logits, or fails in a way of its own."""

    def __init__(self, gives):
        super().__init__()
        self.gives, self.head = gives, nn.Linear(64, 10)

    def forward(self, x):
        return self.gives(self.head(x.flatten(1)))


def fails(_):
    raise IndexError("too small")


@pytest.mark.parametrize(
    ("gives", "why"),
    [
        (lambda y: (y, y), "gives a tuple for an image, and runs need one logit for each of the 10 classes"),
        (lambda y: y[:, :3], "gives a tensor of (1, 3) for an image, and runs need one logit"),
        (lambda y: y[..., None], "gives a tensor of (1, 10, 1) for an image, and runs need one logit"),
        (fails, "cannot take images of 8 x 8 pixels (too small); choose another model"),
    ],
    ids=["two outputs", "three classes", "a map", "an error of its own"],
)
def test_a_network_without_one_logit_for_each_class_is_refused_in_one_line(gives, why, monkeypatch):
    def odd(_model, data, _seed):
        return Classifier(Odd(gives), Normalize(data.mean, data.std), (), "head")

    monkeypatch.setattr(assemble, "build", odd)
    found = seen(tiny_spec())

    assert found.problem.startswith("model.name = 'digits_resnet' " + why)
    assert found.own
    assert "\n" not in found.problem


def test_batch_normalisation_on_one_value_is_refused_before_anything_trains():
    spec = tiny_spec(batch_size=1, epochs=1)
    data, model = spec.data.model_copy(update={"image_size": 32}), Model(name="timm/resnet10t")
    found = seen(spec.model_copy(update={"data": data, "model": model}))

    assert found.own
    assert found.problem.startswith("recipe.batch_size = 1: batch normalisation cannot train on one value per channel")
    assert found.problem.endswith("use a larger batch_size or data.image_size")


def test_a_transformer_of_another_size_says_which_argument_makes_it_fit():
    spec = tiny_spec()
    data = spec.data.model_copy(update={"image_size": 32})
    small = spec.model_copy(update={"data": data, "model": Model(name="timm/vit_tiny_patch16_224")})

    assert "; set model.args = {img_size=32}, or images of another size" in seen(small).problem
    fitting = Model(name="timm/vit_tiny_patch16_224", args={"img_size": 32})
    assert seen(small.model_copy(update={"model": fitting})).problem == ""


def test_what_was_not_seen_is_no_problem_and_takes_no_time():
    assert Seen() == Seen(problem="", own=False, at_risk="", run_seconds=0.0)


def test_with_a_trick_too_a_network_of_another_size_is_named():
    spec = tiny_spec(registry.make("mixup"))
    data = spec.data.model_copy(update={"image_size": 32})
    found = seen(spec.model_copy(update={"data": data, "model": Model(name="timm/vit_tiny_patch16_224")}))

    assert found.own
    assert found.problem.startswith("model.name = 'timm/vit_tiny_patch16_224' cannot take images of 32 x 32 pixels")


@pytest.mark.parametrize(
    ("channels_last", "contiguous", "named"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_layer_that_bears_no_channels_last_is_named_before_anything_trains(
    channels_last, contiguous, named, monkeypatch
):
    monkeypatch.setattr("harness.training.session.layer_at_risk", lambda model: "net.stem.0")
    place = Place(data_root=Path("unused-by-digits"), contiguous=contiguous)
    *phases, found = rehearse(tiny_spec(channels_last=channels_last), place, 1)

    assert found.at_risk == ("net.stem.0" if named else "")
    assert ("a training step" in phases) is not named
