from typing import ClassVar

import pytest
import torch

from harness.errors import UserError
from harness.testing import tiny_batch, tiny_run
from harness.tricks.contract import Batch, BatchStage, Info, Trick, at
from harness.tricks.stack import Stack


def card(name, **extra):
    return Info(name=name, family="test", summary="s", paper="p", formula="f", expect="e", **extra)


class AddOne(Trick):
    info: ClassVar = card("add_one")

    @at(BatchStage.MIX)
    def batch(self, batch, run):
        return Batch(batch.x + 1, batch.y, batch.label, batch.index)

    def example_weights(self, batch, logits, run):
        return torch.full((len(logits),), 2.0)

    def loss_terms(self, batch, logits, run):
        return {"one": torch.tensor(1.0)}


class Double(Trick):
    info: ClassVar = card("double")

    @at(BatchStage.AUGMENT)
    def batch(self, batch, run):
        return Batch(batch.x * 2, batch.y, batch.label, batch.index)

    def example_weights(self, batch, logits, run):
        return torch.full((len(logits),), 3.0)

    def loss_terms(self, batch, logits, run):
        return {"two": torch.tensor(2.0)}

    def criterion(self, logits, y, run):
        return logits.sum(-1)


class OtherLoss(Trick):
    info: ClassVar = card("other_loss", excludes={"add_one": "they dislike each other"})

    def criterion(self, logits, y, run):
        return logits.sum(-1)


@pytest.mark.parametrize("order", [(AddOne, Double), (Double, AddOne)])
def test_pipelines_follow_stages_and_not_the_order_of_asking(order):
    batch = tiny_batch(n=2)
    out = Stack(t() for t in order).fold("batch", batch, tiny_run())

    assert torch.equal(out.x, batch.x * 2 + 1)


def test_products_and_sums_combine_all_tricks():
    stack, run, batch = Stack([AddOne(), Double()]), tiny_run(), tiny_batch(n=2)
    logits = torch.zeros(2, 10)

    assert stack.weigh(torch.ones(2), batch, logits, run).tolist() == [6.0, 6.0]
    assert float(stack.add_terms(torch.tensor(0.5), batch, logits, run)) == 3.5
    assert set(run.logged) == {"loss/add_one.one", "loss/double.two"}


def test_every_clash_is_named_with_its_reason():
    with pytest.raises(UserError) as error:
        Stack([OtherLoss(), Double(), AddOne()])

    assert "other_loss + add_one: they dislike each other" in str(error.value)
    assert "double and other_loss each want to own the criterion" in str(error.value)


def test_a_slot_falls_back_to_its_default():
    def default():
        return "default"

    assert Stack().slot("criterion", default) is default
    assert Stack([Double()]).slot("criterion", default) is not default
