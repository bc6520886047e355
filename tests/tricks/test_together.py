"""Tricks that take the loss several times or weigh it, beside tricks with a term or a level of their own."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from harness.testing import tiny_batch, tiny_run, tiny_spec
from harness.training.loop import total_loss
from harness.training.place import Place
from harness.training.precision import Amp
from harness.training.session import set_up
from harness.tricks import registry
from harness.tricks.contract import Info, Precision
from harness.tricks.efficiency.gradient_accumulation import micro_batches
from harness.tricks.losses.center_loss import move
from harness.tricks.losses.flooding import Flooding, flood
from harness.tricks.losses.multi_task_aux_loss import MultiTaskAuxLoss
from harness.tricks.losses.soft_dice_loss import soft_dice
from harness.tricks.stack import Stack

PASSES = {
    "awp": {"start": 0.0, "gamma": 0.5},
    "fgm_training": {"eps": 2.0},
    "fgsm_training": {"eps": 0.3},
    "sam": {"rho": 1.0},
    "gradient_accumulation": {"k": 4},
}
"""Tricks that take the loss more than once a step, with values that make the passes differ."""


def stepped(arm, **params):
    """A session with these tricks after its first step, with the batch and the network before it."""
    tricks = [registry.make(name, params.get(name) or PASSES.get(name)).spec() for name in arm]
    spec = tiny_spec(batch_size=20)
    spec = spec.model_copy(update={"arm": spec.arm.model_copy(update={"tricks": tuple(tricks)})})
    session = set_up(spec, Place(data_root=Path("unused-by-digits")))
    batch = next(iter(session.loader.epoch()))
    before = copy.deepcopy(session.run.model).train()
    session.step(batch)
    session.stack.notify("after_step", session.run)
    return session, batch, before


def features_of(model, batch, parts):
    return torch.cat([model.forward_with_features(part.x)[1] for part in micro_batches(batch, parts)]).detach()


@pytest.mark.parametrize("passes", PASSES)
def test_centers_move_by_all_images_as_the_first_pass_saw_them(passes):
    session, batch, before = stepped(("center_loss", passes))
    features = features_of(before, batch, 4 if passes == "gradient_accumulation" else 1)
    expected = move(torch.zeros(10, features.shape[1]), features, batch.label, lr=0.5)

    torch.testing.assert_close(session.run.state["center_loss"]["centers"], expected)
    assert "seen" not in session.run.state["center_loss"]


@pytest.mark.parametrize("passes", sorted({*PASSES} - {"gradient_accumulation"}))
def test_the_memory_keeps_embeddings_of_the_first_pass(passes):
    session, batch, before = stepped(("memory_bank", passes))
    state = session.run.state["memory_bank"]
    project = set_up(session.run.spec, Place(data_root=Path("unused-by-digits"))).run.state["memory_bank"]["projection"]
    expected = F.normalize(project(features_of(before, batch, 1))).detach()

    torch.testing.assert_close(state["queue"].keys[-len(batch.x) :], expected)
    assert state["queue"].index[-len(batch.x) :].tolist() == batch.index.tolist()


def losses(*tricks):
    """The total loss of one batch with these tricks, the cross-entropy, the probabilities and what was logged."""
    run, batch = tiny_run(), tiny_batch()
    stack = Stack(tricks)
    teacher = copy.deepcopy(run.model)
    run.state["knowledge_distillation"] = teacher.eval()
    total = total_loss(run, stack, Amp(Precision(), run.device))(batch).detach()
    logits = copy.deepcopy(run.model)(batch.x).detach()
    logged = {name: value for name, (value, _) in run.logged.items()}
    return SimpleNamespace(
        total=total, ce=F.cross_entropy(logits, batch.label), batch=batch, logits=logits, logged=logged
    )


@pytest.mark.parametrize("b", [0.05, 5.0])
def test_flooding_beside_distillation_floods_the_hard_loss_at_its_level(b):
    """0.1 (|CE - b| + b), where |0.1 CE - b| + b would be a level of ten times b."""
    found = losses(Flooding(b=b), registry.make("knowledge_distillation", {"hard": 0.1}))

    torch.testing.assert_close(
        found.total - found.logged["loss/knowledge_distillation.soft"], 0.1 * flood(found.ce, b), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("weight", [0.5, 0.9, 1.0])
def test_flooding_beside_dice_floods_the_share_of_the_cross_entropy(weight):
    found = losses(Flooding(b=4.0), registry.make("soft_dice_loss", {"weight": weight}))
    dice = soft_dice(found.logits.softmax(-1), found.batch.y)

    torch.testing.assert_close(found.total, (1 - weight) * flood(found.ce, 4.0) + weight * dice)


def test_flooding_alone_has_the_level_that_was_asked_for():
    torch.testing.assert_close(losses(Flooding(b=4.0)).total, 8.0 - losses().ce)


def test_a_level_comes_before_a_learned_factor_whatever_the_names():
    class Last(Flooding):
        info = Info(name="z_flooding", family="test", summary="s", paper="p", formula="f", expect="e")

    stack = Stack([MultiTaskAuxLoss(weighting="uncertainty"), Last()])
    assert [hook.__self__.name for hook in stack.hooks("reduce_loss")] == ["z_flooding", "multi_task_aux_loss"]
