import pytest
import torch

from harness.testing import TrickConformance, tiny_info, tiny_run
from harness.tricks.contract import NoEffect, NotApplicable
from harness.tricks.core.batch_size import BatchSize, epochs_for_equal_updates
from harness.tricks.functional import soft_cross_entropy


class TestBatchSize(TrickConformance):
    trick = BatchSize
    params = {"size": 16}  # noqa: RUF012


def test_equal_epochs_changes_nothing_but_the_size():
    recipe = tiny_run(batch_size=8, epochs=10).recipe
    changed = BatchSize(size=20).recipe(recipe, tiny_info())

    assert changed == recipe.model_copy(update={"batch_size": 20})


def test_equal_updates_by_hand():
    """80 images: 10 updates an epoch at 8 and 5 at 16, so twice the epochs; 26 at 3, so 100 / 26 = 3.8."""
    recipe = tiny_run(batch_size=8, epochs=10).recipe

    assert BatchSize(size=16, equal="updates").recipe(recipe, tiny_info()).epochs == 20
    assert BatchSize(size=3, equal="updates").recipe(recipe, tiny_info()).epochs == 4


@pytest.mark.parametrize("new", [1, 7, 33, 64, 199, 200])
def test_updates_are_equal_within_half_an_epoch(new):
    epochs = epochs_for_equal_updates(40, images=200, old=32, new=new)

    assert abs(epochs * (200 // new) - 40 * (200 // 32)) <= (200 // new) / 2 or epochs == 1


def test_gradient_noise_falls_with_the_square_root_of_the_size():
    """Standard deviation of mini-batch gradients over draws: log-log slope -1/2."""
    host = torch.Generator().manual_seed(0)
    run = tiny_run(batch_size=8)
    x, label = torch.randn(80, 20, generator=host, dtype=torch.float64), run.train.label
    y = torch.nn.functional.one_hot(label, 10).double()
    recipe, sizes, spreads = run.recipe, (4, 16), []
    for size in sizes:
        n = BatchSize(size=size).recipe(recipe, run.data).batch_size
        grads = []
        for _ in range(1500):
            rows = torch.randint(80, (n,), generator=host)
            w = torch.zeros(20, 10, dtype=torch.float64, requires_grad=True)
            grads.append(torch.autograd.grad(soft_cross_entropy(x[rows] @ w, y[rows]).mean(), w)[0].flatten())
        spreads.append(torch.stack(grads).std(0).mean().log2())

    assert float(spreads[1] - spreads[0]) / 2 == pytest.approx(-0.5, abs=0.1)


def test_refuses_more_than_the_training_split_and_the_size_in_use():
    recipe = tiny_run(batch_size=8).recipe

    with pytest.raises(NotApplicable, match="80"):
        BatchSize(size=81).recipe(recipe, tiny_info())
    with pytest.raises(NoEffect, match="8"):
        BatchSize(size=8).recipe(recipe, tiny_info())
