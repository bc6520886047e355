import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.regularization.layer_freezing import LayerFreezing, frozen_count, layers_of


class TestLayerFreezing(TrickConformance):
    trick = LayerFreezing
    params = {"start": 0.0}  # noqa: RUF012 (of two epochs, the second begins half-way)


def test_counts_by_hand():
    assert [frozen_count(10, t, 0.5, 1.0) for t in (0.0, 0.5, 0.6, 0.75, 1.0)] == [0, 0, 2, 5, 10]
    assert frozen_count(10, 0.75, 0.5, 0.4) == 2


def test_layers_freeze_from_the_input_on_and_never_thaw():
    run = tiny_run(epochs=10)
    trick = LayerFreezing()
    order, frozen = layers_of(run.model), []
    for run.epoch in range(10):
        trick.epoch_start(run)
        trained = [any(p.requires_grad for p in layer.parameters(recurse=False)) for layer in order]
        assert trained == sorted(trained)  # all frozen layers come first
        frozen.append(trained.count(False))
    n = len(order)
    assert frozen == [0] * 6 + [int(n * 0.2 * k + 1e-9) for k in (1, 2, 3, 4)]
    assert order[0] is run.model.net.stem[0]
    assert order[-1] is run.model.head


def test_frozen_weights_stay_where_the_optimizer_left_them():
    run = tiny_run(epochs=2)
    run.epoch = 1
    LayerFreezing(start=0.0).epoch_start(run)
    before = [p.detach().clone() for p in run.model.parameters()]
    run.model.train()(torch.rand(8, 1, 8, 8)).square().sum().backward()
    run.optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True)]
    assert moved == [p.requires_grad for p in run.model.parameters()]
    assert any(moved)
    assert not all(moved)


def test_a_run_without_a_frozen_layer_is_refused():
    with pytest.raises(NoEffect, match="no layer is frozen"):
        LayerFreezing(start=0.95).prepare(tiny_run(epochs=10))
