import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.ghost_batch_norm import GhostBatchNorm, GhostNorm
from harness.tricks.contract import NoEffect


class TestGhostBatchNorm(TrickConformance):
    trick = GhostBatchNorm
    params = {"size": 4}  # noqa: RUF012


def drawn(n=8):
    return torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_each_part_is_normalised_by_itself():
    x = drawn()
    out = GhostNorm(nn.BatchNorm2d(3), 4)(x)
    for part in out.split(4):
        torch.testing.assert_close(part.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-6)
        torch.testing.assert_close(part.var((0, 2, 3), unbiased=False), torch.ones(3), rtol=0, atol=1e-3)
    assert float(out.mean((0, 2, 3)).abs().max()) < 1e-6


def test_one_part_and_evaluation_are_plain():
    x, plain = drawn(7), nn.BatchNorm2d(3)
    ghost = GhostNorm(plain, 4)
    torch.testing.assert_close(ghost(x), plain(x))  # 7 images are one part of at least 4
    torch.testing.assert_close(ghost.running_var, plain.running_var)
    torch.testing.assert_close(ghost.eval()(x), plain.eval()(x))


def test_running_statistics_take_a_step_for_each_part():
    x, ghost = drawn(), GhostNorm(nn.BatchNorm2d(3), 4)
    ghost(x)
    first, second = (part.mean((0, 2, 3)) for part in x.split(4))
    torch.testing.assert_close(ghost.running_mean, 0.9 * 0.1 * first + 0.1 * second)


def test_parts_are_nearly_equal():
    sizes = []
    ghost = GhostNorm(nn.BatchNorm2d(3), 4)
    forward = nn.BatchNorm2d.forward
    try:
        nn.BatchNorm2d.forward = lambda self, x: sizes.append(len(x)) or forward(self, x)
        ghost(drawn(11))
    finally:
        nn.BatchNorm2d.forward = forward
    assert sizes == [6, 5]


def test_all_norms_are_swapped_with_their_scales_or_the_batch_is_refused():
    run = tiny_run(batch_size=8)
    run.model.net.stem[1].weight.data.fill_(2.0)
    model = GhostBatchNorm(size=4).model(run.model, run)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(isinstance(m, GhostNorm) for m in norms)
    assert float(model.net.stem[1].weight.mean()) == 2.0
    assert model(tiny_batch().x).shape == (8, 10)
    with pytest.raises(NoEffect, match="not two parts"):
        GhostBatchNorm(size=5).model(run.model, run)
