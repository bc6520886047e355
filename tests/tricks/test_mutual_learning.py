import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.distillation.mutual_learning import MutualLearning
from harness.tricks.functional import distillation, soft_cross_entropy


class TestMutualLearning(TrickConformance):
    trick = MutualLearning


def ready(weight=1.0):
    run, trick = tiny_run(), MutualLearning(weight=weight)
    groups = trick.param_groups([{"params": list(run.model.parameters())}], run)
    return run, trick, groups


def test_the_other_network_is_of_the_same_kind_with_weights_of_its_own_and_learns():
    run, _, groups = ready()
    peer = run.state["mutual_learning"]
    shapes = [[p.shape for p in net.parameters()] for net in (run.model, peer)]
    assert shapes[0] == shapes[1]
    assert not torch.equal(peer.head.weight, run.model.head.weight)
    assert groups[1]["params"] == list(peer.parameters())


def test_terms_by_their_formulas_and_each_network_learns_from_its_own():
    run, trick, _ = ready(weight=0.5)
    peer, batch = run.state["mutual_learning"], tiny_batch()
    logits, other = run.model.train()(batch.x), peer(batch.x)
    terms = trick.loss_terms(batch, logits, run)
    torch.testing.assert_close(terms["mutual"], 0.5 * distillation(logits, other, 1.0))
    expected = soft_cross_entropy(other, batch.y).mean() + 0.5 * distillation(other, logits, 1.0)
    torch.testing.assert_close(terms["other"], expected)

    terms["other"].backward(retain_graph=True)
    assert run.model.head.weight.grad is None
    assert peer.head.weight.grad.abs().sum() > 0
    peer.zero_grad()
    terms["mutual"].backward()
    assert run.model.head.weight.grad.abs().sum() > 0
    assert peer.head.weight.grad is None


def test_a_second_pass_of_a_step_leaves_the_others_statistics():
    run, trick, _ = ready()
    peer, batch = run.state["mutual_learning"], tiny_batch()
    logits = run.model.train()(batch.x)
    run.again = True
    before = {name: t.clone() for name, t in peer.named_buffers()}
    trick.loss_terms(batch, logits, run)
    assert all(torch.equal(before[name], t) for name, t in peer.named_buffers())
    run.again = False
    trick.loss_terms(batch, logits, run)
    assert not all(torch.equal(before[name], t) for name, t in peer.named_buffers())
