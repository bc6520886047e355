import math

import pytest
import torch
from torch.nn import functional as F

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.consistency.memory_bank import MemoryBank, Queue
from harness.tricks.contract import Batch
from harness.tricks.functional import supervised_contrast


class TestMemoryBank(TrickConformance):
    trick = MemoryBank
    params = {"start": 0.0}  # noqa: RUF012


def test_by_hand():
    """One anchor with a positive at similarity 1 and a negative at 0, tau = 1/2."""
    z, keys = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    positive = torch.tensor([[True, False, True]])
    candidate = torch.tensor([[True, True, False]])  # the third is the anchor's own stale copy
    expected = -math.log(math.exp(2) / (math.exp(2) + 1))

    assert float(supervised_contrast(z, keys, positive, candidate, 0.5)) == pytest.approx(expected)


def test_anchors_without_positives_are_left_out_and_none_at_all_cost_nothing():
    z = F.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    z.requires_grad_()
    positive = torch.tensor([[False, True, False], [True, False, False], [False, False, False]])
    candidate = ~torch.eye(3, dtype=torch.bool)
    both = supervised_contrast(z, z, positive, candidate, 0.1)
    two = supervised_contrast(z[:2], z, positive[:2], candidate[:2], 0.1)
    torch.testing.assert_close(both, two)

    none = supervised_contrast(z, z, positive, torch.zeros(3, 3, dtype=torch.bool), 0.1)
    (g,) = torch.autograd.grad(none, z)
    assert float(none.detach()) == 0
    assert not g.any()


def test_queue_is_first_in_first_out_and_survives_a_round_trip():
    queue = Queue(4, 2, torch.device("cpu"))
    for start in (0, 3):
        index = torch.arange(start, start + 3)
        queue.waiting = (torch.ones(3, 2) * index[:, None], 10 * index, index)
        queue.push()
        queue.push()  # nothing waits any more
    assert queue.index.tolist() == [2, 3, 4, 5]
    assert queue.label.tolist() == [20, 30, 40, 50]
    assert queue.keys[:, 0].tolist() == [2, 3, 4, 5]

    other = Queue(4, 2, torch.device("cpu"))
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.keys, queue.keys)


def prepared(**params):
    run, trick = tiny_run(), MemoryBank(**params)
    run.model = trick.model(run.model, run)
    run.model.eval()  # a frozen encoder: features do not depend on the batch
    run.model.head.train()  # which the tap waits for
    return run, trick


def term(trick, run, batch):
    logits = run.model(batch.x)
    trick.reduce_loss(logits.mean(), run)
    return trick.loss_terms(batch, logits, run)["contrast"]


def part(batch, rows):
    return Batch(batch.x[rows], batch.y[rows], batch.label[rows], batch.index[rows])


def test_with_a_frozen_encoder_the_bank_equals_a_large_batch():
    """Anchors of the third batch, against all three: as the anchors' share of one batch of all images."""
    run, trick = prepared(weight=1.0, start=0.0)
    batch = tiny_batch(30)
    for i in range(3):
        last = term(trick, run, part(batch, slice(10 * i, 10 * i + 10)))
        trick.after_step(run)
    _, features = run.model.forward_with_features(batch.x)
    z = F.normalize(run.state[trick.name]["projection"](features))
    same, others = batch.label[20:, None] == batch.label, batch.index[20:, None] != batch.index

    torch.testing.assert_close(last, supervised_contrast(z[20:], z, same, others, trick.tau))


def test_an_anchor_does_not_meet_its_own_stale_copy():
    run, trick = prepared(start=0.0)
    batch = tiny_batch(10)  # one image of each class, so the only same-class keys are the anchors themselves
    for _ in range(2):
        assert float(term(trick, run, batch).detach()) == 0
        trick.after_step(run)


@pytest.mark.parametrize("params", [{"size": 0, "start": 0.0}, {"start": 0.5}])
def test_without_a_bank_or_before_the_start_the_batch_is_all(params):
    run, trick = prepared(weight=1.0, **params)
    batch = tiny_batch(30)
    term(trick, run, part(batch, slice(0, 10)))
    trick.after_step(run)
    rest = part(batch, slice(10, 30))
    _, features = run.model.forward_with_features(rest.x)
    z = F.normalize(run.state[trick.name]["projection"](features))
    same = rest.label[:, None] == rest.label
    alone = supervised_contrast(z, z, same, ~torch.eye(20, dtype=torch.bool), trick.tau)

    torch.testing.assert_close(term(trick, run, rest), alone)


def test_keeps_no_more_than_the_training_split_and_the_projection_learns():
    run, trick = prepared(start=0.0)
    assert len(run.state[trick.name]["queue"].keys) == 80
    groups = trick.param_groups([], run)
    term(trick, run, tiny_batch(20)).backward()
    assert all(bool(p.grad.any()) for p in groups[0]["params"] if p.ndim > 1)
    assert not run.state[trick.name]["queue"].waiting[0].requires_grad
