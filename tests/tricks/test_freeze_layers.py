import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.transfer.freeze_layers import FreezeLayers


class TestFreezeLayers(TrickConformance):
    trick = FreezeLayers


def trained_epoch(trick, **settings):
    """One epoch of three steps with decay and momentum, as the loop does it; the state before and after."""
    run = tiny_run(**settings)
    run.model = trick.model(run.model, run)
    parameters = [p for p in run.model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1)
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


def test_statistics_can_stay_live():
    _, changed = trained_epoch(FreezeLayers(upto=2, freeze_bn=False))
    lower = {k for k in changed if k.startswith(FROZEN[2])}
    assert lower
    assert all(k.endswith(("running_mean", "running_var", "num_batches_tracked")) for k in lower)


def test_timm_stem_counts_as_the_first_stage():
    _, changed = trained_epoch(FreezeLayers(upto=4), channels=3, size=32, model="timm/resnet18", width=None)
    assert {k.split(".")[1] for k in changed} == {"layer4", "fc"}


def test_trainable_count_and_the_upper_end():
    run = tiny_run()
    FreezeLayers(upto=3).model(run.model, run)
    assert sum(p.numel() for p in run.model.parameters() if p.requires_grad) == 8 * 10 + 10
    with pytest.raises(NotApplicable, match="3 stages"):
        FreezeLayers(upto=4).model(run.model, run)
