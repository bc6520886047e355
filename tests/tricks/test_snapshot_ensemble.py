import math

import pytest
import torch

from harness.errors import UserError
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.optimization.snapshot_ensemble import SnapshotEnsemble
from harness.tricks.regularization.ema import Ema
from harness.tricks.stack import Stack


class TestSnapshotEnsemble(TrickConformance):
    trick = SnapshotEnsemble


def trained(trick, **recipe):
    """A whole training whose weights after update t are drawn with seed t; returns the run and its updates."""
    run = tiny_run(**recipe)
    trick.prepare(run)
    saved = []
    for step in range(1, run.total_steps + 1):
        run.step = step
        g = torch.Generator().manual_seed(run.step)
        with torch.no_grad():
            for p in run.model.parameters():
                p.copy_(0.3 * torch.randn(p.shape, generator=g))
            run.model.net.stem[1].running_mean.fill_(run.step / 100)
        before = len(run.state[trick.name]), id(run.state[trick.name])
        trick.after_step(run)
        if (len(run.state[trick.name]), id(run.state[trick.name])) != before:
            saved.append(run.step)
    run.model.eval()
    return run, saved


@pytest.mark.parametrize(("cycles", "total"), [(5, 100), (4, 100), (10, 30), (3, 21)])
def test_schedule_is_the_papers_where_cycles_are_whole(cycles, total):
    """lr_0 / 2 (cos(pi mod(t - 1, T / M) / (T / M)) + 1), t from one."""
    schedule = SnapshotEnsemble(cycles=cycles, last=1).schedule(tiny_run())
    period = total // cycles
    for t in range(1, total + 1):
        expected = (math.cos(math.pi * ((t - 1) % period) / period) + 1) / 2
        assert schedule((t - 1) / total) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("cycles", "expected"), [(5, [20, 40, 60, 80, 100]), (3, [34, 67, 100])])
def test_saves_before_each_restart_and_at_the_end(cycles, expected):
    trick = SnapshotEnsemble(cycles=cycles, last=1)
    run, saved = trained(trick)
    assert saved == expected
    schedule = trick.schedule(run)
    for t in expected[:-1]:
        assert schedule(t / run.total_steps) > 0.99 > 0.1 > schedule((t - 1) / run.total_steps)


def test_prediction_is_the_mean_probability_of_the_last_networks():
    trick = SnapshotEnsemble(cycles=5, last=3)
    run, saved = trained(trick)
    x, probabilities = tiny_batch().x, []
    live = {name: t.clone() for name, t in run.model.state_dict().items()}
    out = trick.predictor(run.model, run)(x)
    assert all(torch.equal(t, live[name]) for name, t in run.model.state_dict().items())

    for step in saved[-3:]:
        other, _ = trained(SnapshotEnsemble(cycles=5, last=1), epochs=step // 10)
        probabilities.append(other.model(x).softmax(-1))
    assert (probabilities[0] - probabilities[1]).abs().max().item() > 0.01
    torch.testing.assert_close(out.exp(), torch.stack(probabilities).mean(0))


def test_one_snapshot_is_the_last_network_and_equal_ones_are_one():
    trick = SnapshotEnsemble(last=1)
    run, _ = trained(trick)
    x = tiny_batch().x
    own = run.model(x).log_softmax(-1)
    torch.testing.assert_close(trick.predictor(run.model, run)(x), own)

    run.state[trick.name] = run.state[trick.name] * 4
    torch.testing.assert_close(trick.predictor(run.model, run)(x), own)


def test_before_the_first_cycle_ends_the_live_network_predicts():
    run, trick = tiny_run(), SnapshotEnsemble()
    trick.prepare(run)
    assert trick.predictor(run.model, run) is run.model


def test_refuses_what_cannot_be():
    with pytest.raises(NotApplicable, match="100 updates"):
        SnapshotEnsemble(cycles=101).schedule(tiny_run())
    with pytest.raises(UserError, match="evaluation weights"):
        Stack([SnapshotEnsemble(), Ema()])
