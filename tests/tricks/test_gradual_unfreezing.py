import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.training.session import baseline_optimizer
from harness.tricks.contract import NoEffect, NotApplicable
from harness.tricks.transfer.gradual_unfreezing import GradualUnfreezing, first_trained


class TestGradualUnfreezing(TrickConformance):
    trick = GradualUnfreezing
    params = {"groups_per_epoch": 2}  # noqa: RUF012  four groups in two epochs


def moved(run, trick, epoch):
    """Top-level parts whose weights an update with momentum and decay moves in an epoch."""
    run.epoch = epoch
    run.model.train()
    trick.epoch_start(run)
    before = {k: p.detach().clone() for k, p in run.model.named_parameters()}
    run.optimizer.zero_grad(set_to_none=True)
    run.model(tiny_batch(seed=epoch).x).square().mean().backward()
    run.optimizer.step()
    return {k.split(".")[1] for k, p in run.model.named_parameters() if not torch.equal(p, before[k])}


def test_one_more_group_with_each_epoch():
    run, trick = tiny_run(weight_decay=0.1), GradualUnfreezing()
    groups = trick.param_groups([{"params": list(run.model.parameters())}], run)
    run.optimizer = baseline_optimizer(groups, run)
    trick.prepare(run)

    assert moved(run, trick, 0) == {"head"}
    assert moved(run, trick, 1) == {"head", "stage2"}
    assert moved(run, trick, 2) == {"head", "stage2", "stage1"}
    assert moved(run, trick, 3) == {"head", "stage2", "stage1", "stem"}
    assert moved(run, trick, 9) == {"head", "stage2", "stage1", "stem"}


def test_a_resumed_run_has_the_groups_of_its_epoch():
    run, trick = tiny_run(), GradualUnfreezing()
    assert moved(run, trick, 2) == {"head", "stage2", "stage1"}


def test_the_plan_by_hand():
    assert [first_trained(6, epoch, 1) for epoch in range(7)] == [5, 4, 3, 2, 1, 0, 0]
    assert [first_trained(6, epoch, 4) for epoch in range(3)] == [2, 0, 0]


def test_weights_that_the_optimizer_does_not_have_stay_frozen():
    run = tiny_run()
    stem = run.model.net.stem[0].weight.requires_grad_(False)
    run.optimizer = torch.optim.SGD([p for p in run.model.parameters() if p.requires_grad], lr=0.1)
    moved(run, GradualUnfreezing(), 9)
    assert not stem.requires_grad


def test_refuses_what_would_freeze_nothing_or_never_end():
    with pytest.raises(NoEffect, match="all 4 groups"):
        GradualUnfreezing(groups_per_epoch=4).prepare(tiny_run())
    with pytest.raises(NotApplicable, match="takes 4 epochs"):
        GradualUnfreezing().prepare(tiny_run(epochs=3))
