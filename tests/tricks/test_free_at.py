import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.adversarial.free_at import FreeAt
from harness.tricks.functional import soft_cross_entropy


class TestFreeAt(TrickConformance):
    trick = FreeAt


def test_each_batch_comes_m_times_and_no_image_is_skipped():
    run, trick = tiny_run(batch_size=8), FreeAt(m=4)  # 80 images, 10 updates an epoch
    trick.prepare(run)
    epochs = [trick.sampler(run.train, run).view(10, 8) for _ in range(4)]
    for order in epochs:
        for start in (0, 4, 8):
            assert all(torch.equal(row, order[start]) for row in order[start : start + 4])
    fresh = torch.cat([order[start] for order in epochs for start in (0, 4, 8)])
    assert sorted(fresh[:80].tolist()) == list(range(80))


def test_one_gradient_moves_weights_and_attack_within_its_radius():
    run, batch, trick = tiny_run(), tiny_batch(), FreeAt(eps=0.1)
    trick.prepare(run)
    seen = []

    def closure(given):
        seen.append(given.x)
        return soft_cross_entropy(run.model(given.x), given.y).sum()

    for _ in range(3):
        trick.gradient(closure, batch, run)
    delta = run.state["free_at"]["delta"]
    assert torch.equal(seen[0].detach(), batch.x)
    torch.testing.assert_close(seen[1].detach(), (batch.x + 0.1 * seen[0].grad.sign()).clamp(0, 1))
    assert float(delta.abs().max()) == pytest.approx(0.1)
    assert run.model.head.weight.grad.abs().sum() > 0


def test_the_next_batch_inherits_the_attack():
    run, trick = tiny_run(), FreeAt(eps=0.1)
    trick.prepare(run)
    losses = []

    def closure(given):
        loss = soft_cross_entropy(run.model(given.x), given.y).sum()
        losses.append(given.x.detach())
        return loss

    first, second = tiny_batch(seed=0), tiny_batch(seed=1)
    trick.gradient(closure, first, run)
    moved = run.state["free_at"]["delta"].clone()
    trick.gradient(closure, second, run)
    torch.testing.assert_close(losses[1], (second.x + moved).clamp(0, 1))
