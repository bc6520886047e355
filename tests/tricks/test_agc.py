import pytest
import torch
from timm.utils.agc import adaptive_clip_grad

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.optimization.agc import Agc, unit_norms


class TestAgc(TrickConformance):
    trick = Agc


def clipped(trick, run):
    trick.prepare(run)
    trick.on_gradients(list(run.model.parameters()), run)


def graded(seed=0):
    run = tiny_run()
    for p in run.model.parameters():
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
    return run


def test_units_by_hand():
    assert unit_norms(torch.tensor([[3.0, 4.0], [0.0, 2.0]])).flatten().tolist() == [5.0, 2.0]
    assert float(unit_norms(torch.tensor([3.0, 4.0]))) == 5.0
    assert unit_norms(torch.ones(2, 3, 2, 2)).shape == (2, 1, 1, 1)


def test_ratios_are_bounded_small_gradients_stay_and_the_head_is_left_out():
    run = graded()
    first = next(p for p in run.model.parameters() if p.ndim == 4)
    first.grad[0] *= 1e-6
    kept, heads = first.grad[0].clone(), [p.grad.clone() for p in run.model.head.parameters()]
    clipped(Agc(limit=0.02), run)

    for p in set(run.model.parameters()) - set(run.model.head.parameters()):
        assert bool((unit_norms(p.grad) <= 0.02 * unit_norms(p.detach()).clamp(min=1e-3) * (1 + 1e-5)).all())
    assert torch.equal(first.grad[0], kept)
    for p, before in zip(run.model.head.parameters(), heads, strict=True):
        assert torch.equal(p.grad, before)


def test_agrees_with_timm():
    ours, theirs = graded(), graded()
    clipped(Agc(limit=0.01, eps=1e-3), ours)
    head = set(theirs.model.head.parameters())
    adaptive_clip_grad([p for p in theirs.model.parameters() if p not in head], clip_factor=0.01, eps=1e-3)

    for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_limit_that_is_never_reached_is_the_baseline():
    run = graded()
    trick = Agc(limit=1e9)
    clipped(trick, run)
    with pytest.raises(NoEffect, match=r"ever left limit = 1e\+09"):
        trick.finalize(run.model, run)


def test_all_others_are_clipped_wherever_the_head_stands_among_them():
    one, other = graded(), graded()
    clipped(Agc(), one)
    trick = Agc()
    trick.prepare(other)
    trick.on_gradients([*other.model.head.parameters(), *other.model.parameters()], other)

    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
