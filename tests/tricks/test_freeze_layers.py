import copy
from pathlib import Path

import pytest
import torch
from timm.utils import freeze

from harness.experiment import Arm
from harness.testing import TrickConformance, tiny_batch, tiny_run, tiny_spec
from harness.training.execute import train_stages
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks import registry
from harness.tricks.contract import NotApplicable
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.transfer.freeze_layers import FreezeLayers


class TestFreezeLayers(TrickConformance):
    trick = FreezeLayers


def trained_epoch(trick, learned=True, **settings):
    """One epoch of three steps with decay and momentum, as the loop does it; the state before and after."""
    run = tiny_run(**settings)
    if learned:
        run.model(tiny_batch(channels=run.data.channels, size=run.data.size).x)  # statistics of one batch
    groups = trick.param_groups([{"params": list(run.model.parameters())}], run)
    trick.prepare(run)
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.1)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    run.model.eval()
    run.model.train()  # as after an evaluation
    trick.epoch_start(run)
    for seed in range(3):
        batch = tiny_batch(channels=run.data.channels, size=run.data.size, seed=seed)
        optimizer.zero_grad()
        soft_cross_entropy(run.model(batch.x), batch.y).mean().backward()
        optimizer.step()
    return run, {k for k, v in run.model.state_dict().items() if not torch.equal(v, before[k])}


FROZEN = {1: ("net.stem.",), 2: ("net.stem.", "net.stage1."), 3: ("net.stem.", "net.stage1.", "net.stage2.")}


@pytest.mark.parametrize("upto", [1, 2, 3])
def test_frozen_weights_and_statistics_keep_their_bits(upto):
    run, changed = trained_epoch(FreezeLayers(upto=upto))
    trainable = {k for k in run.model.state_dict() if k.startswith("net.") and not k.startswith(FROZEN[upto])}
    assert changed == trainable


@pytest.mark.parametrize(("freeze_bn", "learned", "live"), [
    (None, True, False), (None, False, True), (False, True, True), (True, False, False),
])  # fmt: skip
def test_statistics_are_kept_where_some_were_learned_unless_told_otherwise(freeze_bn, learned, live):
    _, changed = trained_epoch(FreezeLayers(upto=2, freeze_bn=freeze_bn), learned)
    lower = {k for k in changed if k.startswith(FROZEN[2])}
    assert bool(lower) == live
    assert all(k.endswith(("running_mean", "running_var", "num_batches_tracked")) for k in lower)


def test_computes_what_timm_computes_with_a_frozen_network():
    """timm turns batch norms of frozen modules into affine maps of their statistics."""
    run, _ = trained_epoch(FreezeLayers(upto=2))
    other = copy.deepcopy(run.model)
    freeze(other.net, ["stem", "stage1"])
    trainable = {name for name, p in run.model.named_parameters() if p.requires_grad}
    assert trainable == {name for name, p in other.named_parameters() if p.requires_grad}
    torch.testing.assert_close(run.model(tiny_batch(seed=9).x), other(tiny_batch(seed=9).x))


def test_keeps_what_pretraining_has_learned(tmp_path):
    """Pretraining changes the lower stages, and training then keeps them, with their statistics."""
    arm = Arm(tricks=tuple(registry.make(name).spec() for name in ("freeze_layers", "masked_pretraining")))
    place = Place(data_root=Path("unused-by-digits"), stages_dir=tmp_path)
    train_stages(tiny_spec().model_copy(update={"arm": arm}), place)
    session, plain = (set_up(tiny_spec().model_copy(update={"arm": a}), place) for a in (arm, Arm()))
    weight = "net.stem.0.weight"
    assert not torch.equal(session.run.model.state_dict()[weight], plain.run.model.state_dict()[weight])
    assert session.run.state["freeze_layers"] == {"keep": True}
    trained = {p for group in session.run.optimizer.param_groups for p in group["params"]}
    assert trained == {p for p in session.run.model.parameters() if p.requires_grad}
    assert not any(p.requires_grad for p in session.run.model.stage("stem").parameters())


def test_groups_of_other_tricks_keep_their_settings_and_empty_ones_go():
    run = tiny_run()
    stem, rest = [], []
    for name, p in run.model.named_parameters():
        (stem if name.startswith("net.stem.") else rest).append(p)
    (group,) = FreezeLayers(upto=1).param_groups([{"params": stem, "lr": 1.0}, {"params": rest, "lr": 2.0}], run)
    assert group == {"params": rest, "lr": 2.0}


def test_timm_stem_counts_as_the_first_stage():
    _, changed = trained_epoch(FreezeLayers(upto=4), channels=3, size=32, model="timm/resnet18", width=None)
    assert {k.split(".")[1] for k in changed} == {"layer4", "fc"}


def test_trainable_count_and_the_upper_end():
    run = tiny_run()
    FreezeLayers(upto=3).param_groups([], run)
    assert sum(p.numel() for p in run.model.parameters() if p.requires_grad) == 8 * 10 + 10
    with pytest.raises(NotApplicable, match="3 stages"):
        FreezeLayers(upto=4).param_groups([], run)
