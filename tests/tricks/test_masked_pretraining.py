from pathlib import Path

import pytest
import torch

from harness.experiment import Arm
from harness.testing import TrickConformance, tiny_spec
from harness.training import stages
from harness.training.execute import execute, train_stages
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks import registry
from harness.tricks.contract import overrides
from harness.tricks.distillation.masked_pretraining import MaskedPretraining
from harness.tricks.needs import needs_of


class TestMaskedPretraining(TrickConformance):
    trick = MaskedPretraining


def spec_of(*names, **recipe):
    tricks = tuple(registry.make(name).spec() for name in names)
    return tiny_spec(**recipe).model_copy(update={"arm": Arm(tricks=tricks)})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(Path("unused-by-digits"), stages_dir=tmp_path_factory.mktemp("stages"))


def weights(place, *names):
    spec = spec_of(*names)
    train_stages(spec, place)
    return {name: t.detach().clone() for name, t in set_up(spec, place).run.model.state_dict().items()}


@pytest.mark.parametrize(("asked", "epochs"), [(0.5, 10), (0.26, 5), (2.0, 40), (0.001, 1)])
def test_needs_a_pretraining_of_its_share_of_the_epochs(asked, epochs):
    spec = tiny_spec(MaskedPretraining(epochs=asked, lr=0.01, ratio=0.3, patches=2), seed=3, epochs=20)
    (stage,) = needs_of(spec)

    assert stage.arm.names == ("masked_image_modelling",)
    assert stage.arm.tricks[0].params == {"ratio": 0.3, "patches": 2}
    assert (stage.recipe.epochs, stage.recipe.optimizer, stage.recipe.lr) == (epochs, "adamw", 0.01)
    assert (stage.recipe.schedule, stage.recipe.weight_decay) == ("cosine", 0.05)
    assert (stage.seed, stage.data, stage.model) == (3, spec.data, spec.model)
    assert (stage.recipe.augment, stage.recipe.batch_size) == (spec.recipe.augment, spec.recipe.batch_size)


def test_starts_from_what_its_stage_has_learned_but_for_the_head(place):
    own, start = weights(place, "masked_pretraining"), weights(place)
    (stage,) = needs_of(spec_of("masked_pretraining"))
    trained = stages.Needed(spec_of("masked_pretraining"), place, None)(stage).network().state_dict()

    for name, value in own.items():
        assert torch.equal(value, (start if name.startswith("net.head") else trained)[name]), name
    assert not torch.equal(own["net.stem.0.weight"], start["net.stem.0.weight"])


DRAWS = ("identity_init", "init_sweep", "kaiming_init", "tanh_hidden", "zero_gamma")


def test_tricks_that_set_initial_weights_are_all_tried():
    setting = {name for name in registry.builtin() if overrides(registry.make(name), "init")}
    assert setting == {*DRAWS, "masked_pretraining"}


@pytest.mark.parametrize("draw", DRAWS)
def test_the_stage_starts_from_the_weights_that_another_trick_sets(draw, place):
    """And on the network that it shapes."""
    (stage,) = needs_of(spec_of("masked_pretraining", draw))
    assert set(stage.arm.names) == {"masked_image_modelling", draw}
    begun, drawn = set_up(stage, place).run.model.state_dict(), weights(place, draw)
    together = weights(place, "masked_pretraining", draw)

    assert all(torch.equal(begun[name], t) for name, t in drawn.items())
    assert not torch.equal(together["net.stem.0.weight"], drawn["net.stem.0.weight"])


def test_tricks_that_do_not_shape_the_network_are_no_part_of_the_stage():
    (alone,) = needs_of(spec_of("masked_pretraining"))
    (beside,) = needs_of(spec_of("masked_pretraining", "arcface_head", "mixup", "sam", "center_loss", "ema"))

    assert alone == beside


def test_what_cannot_be_masked_is_skipped_with_the_reason(place):
    spec = tiny_spec(MaskedPretraining(patches=3))
    (stage,) = needs_of(spec)
    row = execute(stage, "test", place).row

    assert (row["status"], row["reason"]) == ("skipped", "patches = 3 do not divide images of 8 pixels")
