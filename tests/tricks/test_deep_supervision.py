import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.deep_supervision import DeepSupervision


class TestDeepSupervision(TrickConformance):
    trick = DeepSupervision


def test_the_term_is_the_loss_of_heads_on_inner_stages():
    run, trick, batch = tiny_run(model="resnet8"), DeepSupervision(weight=0.5), tiny_batch()
    run.model = trick.model(run.model, run)
    before = {name: t.clone() for name, t in run.model.state_dict().items()}
    groups = trick.param_groups([{"params": list(run.model.parameters())}], run)
    assert all(torch.equal(before[name], t) for name, t in run.model.state_dict().items())
    heads = run.state["deep_supervision"]["heads"]
    assert [(h.in_features, h.out_features) for h in heads] == [(4, 10), (8, 10)]
    assert groups[-1]["params"] == list(heads.parameters())

    maps = []
    for stage in ("stage1", "stage2"):
        run.model.stage(stage).register_forward_hook(lambda _m, _a, out: maps.append(out))
    logits = run.model.train()(batch.x)
    trick.reduce_loss(logits.sum(), run)
    run.model(torch.zeros_like(batch.x))  # a pass of another trick's, which must not be seen
    term = trick.loss_terms(batch, logits, run)["stages"]
    expected = sum(soft_cross_entropy(h(m.mean((2, 3))), batch.y).mean() for h, m in zip(heads, maps, strict=False))
    torch.testing.assert_close(term, 0.5 * expected)

    term.backward()
    assert run.model.net.stage3[0].conv1.weight.grad is None
    assert run.model.net.stage1[0].conv1.weight.grad.abs().sum() > 0


def test_networks_without_inner_stages_are_refused():
    run = tiny_run()
    run.model.stages = run.model.stages[:2]
    with pytest.raises(NoEffect, match="between the stem and the last"):
        DeepSupervision().model(run.model, run)
    assert isinstance(run.model.head, nn.Linear)
