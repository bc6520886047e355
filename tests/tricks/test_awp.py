import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.adversarial.awp import Awp, ascend
from harness.tricks.contract import NoEffect, NotApplicable
from harness.tricks.functional import soft_cross_entropy


class TestAwp(TrickConformance):
    trick = Awp


class TestFast(TrickConformance):
    trick = Awp
    params = {"form": "fast"}  # noqa: RUF012


def closure_of(run, seen=None):
    def closure(batch):
        if seen is not None:
            seen.append([p.detach().clone() for p in run.model.parameters()])
        return soft_cross_entropy(run.model(batch.x), batch.y).mean()

    return closure


def with_momentum(run):
    run.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.1, momentum=0.9)
    return run


def test_ascent_by_hand():
    w = [torch.tensor([[3.0, 4.0]]), torch.tensor([1.0])]
    before = ascend(w, [torch.tensor([[0.0, -2.0]]), torch.tensor([0.0])], gamma=0.1)

    torch.testing.assert_close(w[0], torch.tensor([[3.0, 3.5]]))  # 0.1 |(3, 4)| = 0.5 along (0, -1)
    assert torch.equal(w[1], torch.tensor([1.0]))  # no direction, no move
    assert torch.equal(before[0], torch.tensor([[3.0, 4.0]]))

    w = [torch.tensor([3.0, -4.0])]
    ascend(w, [torch.tensor([3.0, 4.0])], gamma=0.1, limit=0.05)
    torch.testing.assert_close(w[0], torch.tensor([3.15, -3.8]))  # moves of 0.3 and 0.4 become 5 % of |w|


class Quadratic(nn.Module):
    """Loss w' A w / 2, with gradient A w."""

    a = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))

    def loss(self):
        return 0.5 * (self.weight @ self.a @ self.weight.T).sum()


@pytest.mark.parametrize("scale", [1.0, 2.0**16])
def test_gradient_of_a_quadratic(scale):
    run = tiny_run()
    run.model = Quadratic()
    run.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.1)
    run.backward = lambda loss: (loss * scale).backward()
    w, a = run.model.weight.detach().clone(), Quadratic.a
    loss = Awp(gamma=0.1, start=0.0).gradient(lambda _batch: run.model.loss(), tiny_batch(), run)
    moved = w + 0.1 * w.norm() * (w @ a) / (w @ a).norm()

    torch.testing.assert_close(run.model.weight.grad / scale, moved @ a)
    torch.testing.assert_close(loss, (0.5 * moved @ a @ moved.T).sum())
    assert torch.equal(run.model.weight, w)


@pytest.mark.parametrize("form", ["paper", "kaggle"])
def test_moves_of_each_layer_and_bits_of_the_weights_afterwards(form):
    run, batch, seen = tiny_run(), tiny_batch(), []
    trick = Awp(form=form, gamma=0.05, start=0.0, limit=0.02 if form == "kaggle" else None)
    trick.gradient(closure_of(run, seen), batch, run)
    old, new = seen
    for (name, p), a, b in zip(run.model.named_parameters(), old, new, strict=True):
        assert torch.equal(p, a)
        move = b - a
        if form == "paper":
            expected = 0.05 * a.norm() if p.ndim > 1 else torch.zeros(())
            torch.testing.assert_close(move.norm(), expected, rtol=1e-3, atol=1e-6)
        else:
            assert bool((move.abs() <= 0.02 * a.abs() + 1e-7).all())
            assert bool(move.any()) == name.endswith("weight")


def test_fast_moves_along_the_momentum_in_one_pass():
    run, batch, seen = with_momentum(tiny_run()), tiny_batch(), []
    trick = Awp(form="fast", gamma=0.05, start=0.0, limit=1.0)
    trick.gradient(closure_of(run, seen), batch, run)
    assert all(torch.equal(a, b) for a, b in zip(seen[0], run.model.parameters(), strict=True))  # no momentum yet
    run.optimizer.step()
    run.optimizer.zero_grad()
    seen.clear()
    trick.gradient(closure_of(run, seen), batch, run)
    (moved,) = seen
    head, buffer = run.model.head.weight, run.optimizer.state[run.model.head.weight]["momentum_buffer"]
    index = [p is head for p in run.model.parameters()].index(True)
    expected = (0.05 * head.norm() * buffer / buffer.norm()).clamp(-head.abs(), head.abs())

    torch.testing.assert_close(moved[index] - head, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("trick", [Awp(gamma=0.0, start=0.0), Awp(gamma=0.5, start=0.5)])
def test_without_reach_or_before_the_start_it_is_the_baseline(trick):
    run, plain, batch = tiny_run(), tiny_run(), tiny_batch()
    loss = trick.gradient(closure_of(run), batch, run)
    expected = closure_of(plain)(batch)
    expected.backward()

    assert torch.equal(loss, expected.detach())
    for a, b in zip(run.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    for a, b in zip(run.model.buffers(), plain.model.buffers(), strict=True):
        assert torch.equal(a, b)  # the first pass leaves running statistics alone


def test_refuses_an_optimizer_without_momentum_and_a_network_without_matrices():
    run = tiny_run()
    with pytest.raises(NotApplicable, match="momentum"):
        Awp(form="fast").prepare(run)
    Awp(form="fast").prepare(with_momentum(run))
    run.model = nn.BatchNorm2d(3)
    with pytest.raises(NoEffect, match="no weight"):
        Awp().prepare(run)
