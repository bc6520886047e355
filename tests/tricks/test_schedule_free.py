import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.optimization.schedule_free import ScheduleFree
from updates import build, step, weight


class TestScheduleFree(TrickConformance):
    trick = ScheduleFree
    recipe = {"lr": 0.05}  # noqa: RUF012


def walk(optimizer, w, gradients):
    """z by hand is plain SGD; the network and the average after each update."""
    seen = []
    for g in gradients:
        step(optimizer, [w], [[g]])
        seen.append((float(w.detach()), float(optimizer.average(w))))
    return seen


def test_at_a_constant_rate_x_is_the_plain_mean_of_z():
    w = weight(1.0)
    optimizer = build(ScheduleFree(lr=0.1, beta=0.8, weight_decay=0.0), [w])
    z, zs = 1.0, []
    for (y, x), g in zip(walk(optimizer, w, [1.0, -2.0, 4.0, 0.5]), [1.0, -2.0, 4.0, 0.5], strict=True):
        z -= 0.1 * g
        zs.append(z)
        assert x == pytest.approx(sum(zs) / len(zs))
        assert y == pytest.approx(0.2 * z + 0.8 * x)


def test_rates_weigh_the_mean_by_the_square_of_the_peak_so_far():
    w = weight(0.0)
    optimizer = build(ScheduleFree(lr=1.0, weight_decay=0.0), [w])
    z, top, bottom, peak = 0.0, 0.0, 0.0, 0.0
    for lr, g in ((0.5, 1.0), (1.0, 1.0), (0.25, -3.0)):
        optimizer.param_groups[0]["lr"] = lr
        step(optimizer, [w], [[g]])
        z, peak = z - lr * g, max(peak, lr)
        top, bottom = top + peak**2 * z, bottom + peak**2
        assert float(optimizer.average(w)) == pytest.approx(top / bottom)


def test_decay_is_of_the_weights_at_which_gradients_are_taken():
    w = weight(2.0)
    optimizer = build(ScheduleFree(lr=0.1, weight_decay=0.5), [w])
    step(optimizer, [w], [[0.0]])

    assert float(optimizer.state[w]["z"]) == pytest.approx(2.0 - 0.1 * 0.5 * 2.0)


def test_the_evaluated_network_is_the_average_with_statistics_of_its_own():
    run = tiny_run()
    run.recipe = (trick := ScheduleFree(lr=0.5)).recipe(run.recipe, run.data)
    run.optimizer = trick.optimizer([{"params": list(run.model.parameters())}], run)
    for seed in range(3):
        for p in run.model.parameters():
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
        run.optimizer.step()
    live = {name: t.clone() for name, t in run.model.state_dict().items()}
    average = trick.evaluation_weights(run)

    for (name, mine), own in zip(average.named_parameters(), run.model.parameters(), strict=True):
        torch.testing.assert_close(mine, run.optimizer.average(own), msg=name)
        assert not torch.equal(mine, own)
    statistics = [name for name in live if name.endswith("running_mean")]
    assert statistics
    assert not any(torch.equal(average.state_dict()[name], live[name]) for name in statistics)
    assert all(torch.equal(t, live[name]) for name, t in run.model.state_dict().items())
