import math
from pathlib import Path

import pytest
import torch

from harness.errors import UserError
from harness.experiment import Arm
from harness.testing import TrickConformance, tiny_batch, tiny_run, tiny_spec
from harness.training.evaluate import mean_probability, metrics
from harness.training.execute import execute
from harness.training.loop import Clock, train
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks.architecture.repvgg_reparam import RepvggReparam
from harness.tricks.contract import NotApplicable
from harness.tricks.efficiency.inference_fusion import InferenceFusion
from harness.tricks.evaluation.test_time_augmentation import TestTimeAugmentation
from harness.tricks.optimization.snapshot_ensemble import SnapshotEnsemble
from harness.tricks.regularization.ema import Ema
from harness.tricks.stack import Stack

PLACE = Place(data_root=Path("unused-by-digits"))


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
    out = mean_probability([network(x) for network in trick.evaluation_weights(run)])
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
    (only,) = trick.evaluation_weights(run)
    assert torch.equal(only(x), run.model(x))

    run.state[trick.name] = run.state[trick.name] * 4
    out = mean_probability([network(x) for network in trick.evaluation_weights(run)])
    torch.testing.assert_close(out, run.model(x).log_softmax(-1))


def test_before_the_first_cycle_ends_the_live_network_predicts():
    run, trick = tiny_run(), SnapshotEnsemble()
    trick.prepare(run)
    assert trick.evaluation_weights(run) == [run.model]


def spec_of(*tricks):
    arm = Arm(tricks=tuple(trick.spec() for trick in tricks))
    return tiny_spec(epochs=4).model_copy(update={"arm": arm})


@pytest.mark.parametrize("rewriting", [RepvggReparam(), InferenceFusion()], ids=lambda trick: trick.name)
def test_every_snapshot_is_rewritten_where_a_trick_rewrites_the_trained_network(rewriting):
    """Folding keeps outputs, so the test is read with the ensemble's predictions, not with the last network's."""
    several, last = (execute(spec_of(SnapshotEnsemble(cycles=4, last=n), rewriting), "test", PLACE).row for n in (3, 1))
    assert abs(several["test_nll"] - last["test_nll"]) > 1e-3

    session = set_up(spec_of(SnapshotEnsemble(cycles=4, last=3), rewriting), PLACE)
    list(train(session.run, session.stack, session.loader, session.step, session.lr_factors, dict, Clock()))
    whole = session.predict(session.evaluated(), session.splits.test).logits
    folded = session.predict(session.finalized(session.evaluated()), session.splits.test).logits
    torch.testing.assert_close(folded, whole, rtol=1e-4, atol=1e-4)
    assert metrics(whole, session.splits.test.label)["nll"] == pytest.approx(several["test_nll"], abs=1e-5)


def test_views_are_averaged_for_each_snapshot():
    """The mean over snapshots is of probabilities, that over views of logits, as each trick says alone."""
    session = set_up(spec_of(SnapshotEnsemble(cycles=4, last=2), TestTimeAugmentation()), PLACE)
    list(train(session.run, session.stack, session.loader, session.step, session.lr_factors, dict, Clock()))
    each = [session.predict((network,), session.splits.test).logits for network in session.evaluated()]
    together = session.predict(session.evaluated(), session.splits.test).logits

    torch.testing.assert_close(together.exp(), sum(z.softmax(-1) for z in each) / 2)


def test_refuses_what_cannot_be():
    with pytest.raises(NotApplicable, match="100 updates"):
        SnapshotEnsemble(cycles=101).schedule(tiny_run())
    with pytest.raises(UserError, match="evaluation weights"):
        Stack([SnapshotEnsemble(), Ema()])
