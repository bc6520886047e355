import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.optimization.muon import Muon
from updates import build, step


class TestMuon(TrickConformance):
    trick = Muon


def test_singular_values_of_an_update_are_near_one_whatever_the_gradients_scale():
    g = torch.Generator().manual_seed(0)
    gradient = torch.randn(16, 32, generator=g)
    updates = []
    for scale in (1.0, 1e3):
        w = torch.nn.Parameter(torch.zeros(16, 32))
        step(build(Muon(lr=1.0, weight_decay=0.0), [w]), [w], [gradient * scale])
        updates.append(w.detach() / (0.2 * 32**0.5))
        values = torch.linalg.svdvals(updates[-1])
        assert 0.6 < float(values.min()) <= float(values.max()) < 1.25
    torch.testing.assert_close(*updates, rtol=0.05, atol=0.02)


def test_the_update_keeps_the_gradients_directions():
    """Of a gradient U S V' it is near - U V': its product with the gradient is near the sum of S."""
    gradient = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    w = torch.nn.Parameter(torch.zeros(8, 8))
    step(build(Muon(lr=1.0, weight_decay=0.0), [w]), [w], [gradient])

    along = -float((w.detach() * gradient).sum()) / (0.2 * 8**0.5)
    assert along == pytest.approx(float(torch.linalg.svdvals(gradient).sum()), rel=0.25)


def test_vectors_and_the_head_take_adams_steps():
    run = tiny_run()
    run.recipe = Muon().recipe(run.recipe, run.data)
    optimizer = Muon(lr=0.01, weight_decay=0.0).optimizer([{"params": list(run.model.parameters())}], run)
    before = [p.detach().clone() for p in run.model.parameters()]
    for p in run.model.parameters():
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(2))
    optimizer.step()
    adam = {p for p in run.model.parameters() if "exp_avg" in optimizer.state[p]}

    assert adam == {p for p in run.model.parameters() if p.ndim < 2} | set(run.model.head.parameters())
    for p, old in zip(run.model.parameters(), before, strict=True):
        assert not torch.equal(p.detach(), old)


def test_decay_is_decoupled():
    w = torch.nn.Parameter(torch.ones(4, 4))
    optimizer = build(Muon(lr=0.1, weight_decay=0.5), [w])
    step(optimizer, [w], [torch.zeros(4, 4)])

    torch.testing.assert_close(w.detach(), torch.full((4, 4), 0.95))
