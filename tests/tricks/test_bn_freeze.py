import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.transfer.bn_freeze import BnFreeze


class TestBnFreeze(TrickConformance):
    trick = BnFreeze


def trained(trick, epoch=0):
    """One update at an epoch; which buffers and parameters of norms moved."""
    run = tiny_run()
    run.epoch, run.step = epoch, epoch * run.steps_per_epoch
    trick.prepare(run)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    run.model.train()
    trick.epoch_start(run)
    run.model(tiny_batch().x).square().mean().backward()
    run.optimizer.step()
    moved = {k for k, v in run.model.state_dict().items() if not torch.equal(v, before[k])}
    norms = {name for name, m in run.model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    return run, {k.rpartition(".")[2] for k in moved if k.rpartition(".")[0] in norms}


STATS, AFFINE = {"running_mean", "running_var", "num_batches_tracked"}, {"weight", "bias"}


@pytest.mark.parametrize(
    ("stats", "affine", "moving"),
    [("frozen", "live", AFFINE), ("live", "frozen", STATS), ("frozen", "frozen", set())],
)
def test_what_moves(stats, affine, moving):
    assert trained(BnFreeze(stats=stats, affine=affine))[1] == moving


def test_outputs_ignore_batch_mates_when_statistics_are_frozen():
    run, _ = trained(BnFreeze())
    x = tiny_batch().x
    torch.testing.assert_close(run.model(x)[:1], run.model(x[:1]))
    assert run.model.training


@pytest.mark.parametrize(("epoch", "frozen"), [(0, False), (4, False), (5, True), (9, True)])
def test_starts_in_the_middle(epoch, frozen):
    _, moving = trained(BnFreeze(affine="frozen", start=0.5), epoch)
    assert moving == (set() if frozen else STATS | AFFINE)


def test_refuses_to_freeze_nothing():
    run = tiny_run()
    with pytest.raises(NoEffect, match="neither"):
        BnFreeze(stats="live").prepare(run)
    with pytest.raises(NoEffect, match="no epoch of 10"):
        BnFreeze(start=0.95).prepare(run)
    run.model.net = nn.Sequential(nn.Flatten())
    with pytest.raises(NoEffect, match="batch norms"):
        BnFreeze().prepare(run)
