import pytest
import torch
from pydantic import ValidationError

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.regularization.selective_backprop import SelectiveBackprop, chosen


class TestSelectiveBackprop(TrickConformance):
    trick = SelectiveBackprop


def test_draws_are_in_proportion_to_a_power_of_the_ranks():
    g, losses, counts = torch.Generator().manual_seed(0), torch.tensor([5.0, 0.1, 30.0]), torch.zeros(3)
    for _ in range(4000):
        counts[chosen(losses, 1, 2.0, g)] += 1
    expected = torch.tensor([4.0, 1.0, 9.0]) / 14  # ranks 2, 1, 3, squared
    torch.testing.assert_close(counts / 4000, expected, rtol=0, atol=5 * (0.25 / 4000) ** 0.5)


def test_no_image_is_drawn_twice():
    picked = chosen(torch.rand(20), 8, 3.0, torch.Generator().manual_seed(1))
    assert len(picked.unique()) == 8


@pytest.mark.parametrize(("step", "size"), [(0, 8), (50, 4), (89, 4), (90, 8)])
def test_a_part_of_the_batch_is_trained_on_within_the_window(step, size):
    run, batch, seen = tiny_run(), tiny_batch(), []
    run.step = step

    def closure(given):
        seen.append(given)
        return soft_cross_entropy(run.model(given.x), given.y).mean()

    SelectiveBackprop().gradient(closure, batch, run)
    assert len(seen[0].x) == size
    for i, index in enumerate(seen[0].index.tolist()):
        assert torch.equal(seen[0].x[i], batch.x[index])
        assert int(seen[0].y[i].argmax()) == int(batch.label[index])
    assert run.model.head.weight.grad.abs().sum() > 0


def test_what_never_selects_is_refused():
    with pytest.raises(NoEffect, match="leaves the batch whole"):
        SelectiveBackprop(keep=0.99).prepare(tiny_run())
    with pytest.raises(NoEffect, match="no update"):
        SelectiveBackprop(start=0.501, end=0.502).prepare(tiny_run())
    with pytest.raises(ValidationError, match="is not before"):
        SelectiveBackprop(start=0.9, end=0.9)
