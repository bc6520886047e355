import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.efficiency.gradient_accumulation import GradientAccumulation, micro_batches
from harness.tricks.functional import soft_cross_entropy


class TestGradientAccumulation(TrickConformance):
    trick = GradientAccumulation


def closure_of(run, sizes):
    def closure(batch):
        sizes.append(len(batch.x))
        return soft_cross_entropy(run.model(batch.x.double()), batch.y).mean()

    return closure


def without_norms(model):
    """In float64 and without batch normalisation."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return model.double()


@pytest.mark.parametrize(("n", "k"), [(8, 4), (10, 4), (8, 8), (7, 2)])
@pytest.mark.parametrize("scale", [1.0, 2.0**10])
def test_gradients_equal_those_of_the_full_batch(n, k, scale):
    """Uneven parts, too, which a division by k would get wrong."""
    run, batch, sizes = tiny_run(), tiny_batch(n), []
    without_norms(run.model)
    expected = closure_of(run, [])(batch)
    gradients = torch.autograd.grad(expected, list(run.model.parameters()))
    run.backward = lambda loss: (loss * scale).backward()
    loss = GradientAccumulation(k=k).gradient(closure_of(run, sizes), batch, run)

    assert sizes == [n // k + (i < n % k) for i in range(k)]
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-6, atol=1e-6)
    for p, g in zip(run.model.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad / scale, g, rtol=1e-12, atol=1e-12)


def test_parts_hold_every_image_with_its_own_target():
    batch = tiny_batch(5)
    parts = micro_batches(batch, 2)
    for name in ("x", "y", "label", "index"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))


def test_running_statistics_move_with_every_part():
    run = tiny_run()
    run.model.train().double()
    GradientAccumulation(k=4).gradient(closure_of(run, []), tiny_batch(), run)
    assert int(run.model.net.stem[1].num_batches_tracked) == 4


def test_refuses_more_parts_than_images():
    with pytest.raises(NotApplicable, match="would be empty"):
        GradientAccumulation(k=9).prepare(tiny_run())
    GradientAccumulation(k=8).prepare(tiny_run())
