import copy

import pytest
import torch
from torch.nn import functional as F

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.consistency.r_drop import RDrop, disagreement
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.passes import together
from harness.tricks.stack import Stack


class TestRDrop(TrickConformance):
    trick = RDrop


def prepared(trick, n=8):
    """A run whose closure is the loss as the loop computes it, and the losses and logits that it saw."""
    run, seen = tiny_run(), []
    run.model = trick.model(run.model, run)
    stack = Stack([trick])

    def closure(batch):
        logits = run.model(batch.x)
        losses = stack.weigh(soft_cross_entropy(logits, batch.y), batch, logits, run)
        seen.append(logits.detach())
        return stack.add_terms(losses.mean(), batch, logits, run)

    return run, tiny_batch(n), closure, seen


def test_disagreement_by_hand_and_symmetric():
    """p = (3/4, 1/4), q = (1/2, 1/2): the two divergences add to (1/4) ln 3 - twice a half of it."""
    p, q = torch.tensor([[3.0, 1.0]]).log(), torch.zeros(1, 2)
    kl = 0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()
    lk = 0.5 * torch.tensor(2 / 3).log() + 0.5 * torch.tensor(2.0).log()

    torch.testing.assert_close(disagreement(torch.cat((p, q))), (kl + lk) / 2)
    torch.testing.assert_close(disagreement(torch.cat((q, p))), (kl + lk) / 2)


def test_disagreement_is_the_mean_of_both_divergences_over_images():
    z = torch.randn(10, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = F.log_softmax(z, -1).chunk(2)
    expected = sum(F.kl_div(a, b, reduction="batchmean", log_target=True) for a, b in ((p, q), (q, p))) / 2
    torch.testing.assert_close(disagreement(z), expected)


def test_loss_is_two_cross_entropies_and_the_weighted_divergence():
    run, batch, closure, seen = prepared(RDrop(alpha=2.0, p=0.5))
    loss = RDrop(alpha=2.0).gradient(closure, batch, run)
    first, second = seen[0].chunk(2)
    expected = soft_cross_entropy(first, batch.y).mean() + soft_cross_entropy(second, batch.y).mean()

    assert not torch.equal(first, second)
    torch.testing.assert_close(loss, expected + 2.0 * disagreement(seen[0]))
    assert not loss.requires_grad


def test_without_dropout_there_is_no_divergence_and_the_gradient_is_twice_the_plain_one():
    run, batch, closure, seen = prepared(RDrop(p=0.0))
    plain = copy.deepcopy(run.model)
    loss = RDrop(p=0.0).gradient(closure, batch, run)
    single = soft_cross_entropy(plain(batch.x), batch.y).mean()
    single.backward()

    assert float(disagreement(seen[0])) == pytest.approx(0.0, abs=1e-9)
    torch.testing.assert_close(loss, 2 * single.detach())
    for a, b in zip(run.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, 2 * b.grad, rtol=1e-4, atol=1e-6)


def test_both_copies_keep_their_targets_in_order():
    batch = tiny_batch(3)
    both = together(batch, batch)
    for name in ("x", "y", "label", "index"):
        first, second = getattr(both, name).chunk(2)
        assert torch.equal(first, getattr(batch, name))
        assert torch.equal(second, getattr(batch, name))
