"""What a session evaluates: the networks of the slot's owner, as `finalize` left them, through the predictors."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch

from harness.experiment import Arm
from harness.testing import tiny_spec
from harness.training.execute import execute
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks import registry
from harness.tricks.contract import Info, Trick

PLACE = Place(data_root=Path("unused-by-digits"))
CARD = Info(name="halved_head", family="test", summary="s", paper="p", formula="f", expect="e")


class HalvedHead(Trick):
    """Predicts with half the head's weights, which it writes to the network for the time of a prediction."""

    info: ClassVar = CARD

    def predictor(self, predict, run):
        def predicted(x):
            weight = run.model.head.weight
            whole = weight.detach().clone()
            weight.detach().mul_(0.5)
            try:
                return predict(x)
            finally:
                weight.detach().copy_(whole)

        return predicted


@pytest.mark.parametrize("other", ["ema", "repvgg_reparam", "inference_fusion", "snapshot_ensemble"])
def test_a_predictor_that_writes_to_the_network_writes_to_the_one_that_predicts(other):
    """Whatever average was taken and whatever `finalize` returned: alone, the other trick would predict the same."""
    with registry.registered(HalvedHead):
        spec = tiny_spec().model_copy(update={"arm": Arm(tricks=(registry.make(other).spec(), HalvedHead().spec()))})
        together = execute(spec, "test", PLACE)
        alone = execute(spec.model_copy(update={"arm": Arm(tricks=(registry.make(other).spec(),))}), "test", PLACE)

    trained_on = [[p for p in result.points if p.split == "train"] for result in (together, alone)]
    assert trained_on[0] == trained_on[1]
    assert (together.predictions.logits - alone.predictions.logits).abs().max() > 1e-2


def test_prediction_leaves_the_live_network_in_place():
    session = set_up(tiny_spec(registry.make("ema")), PLACE)
    live, mode = session.run.model, session.run.model.training
    network = set_up(tiny_spec(), PLACE).run.model
    out = session.predict((network,), session.splits.val)

    assert session.run.model is live
    assert live.training is mode
    assert torch.equal(out.logits, set_up(tiny_spec(), PLACE).predict((network,), session.splits.val).logits)
