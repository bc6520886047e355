import copy

import pytest
import torch
from timm.utils import ModelEmaV3

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.modules import WeightAverage
from harness.tricks.regularization.ema import Ema, decay_at


class TestEma(TrickConformance):
    trick = Ema


def fill(model, value):
    with torch.no_grad():
        for t in (*model.parameters(), *model.buffers()):
            t.fill_(value)


def test_ramps_by_hand_and_none_by_default():
    assert [decay_at(0.999, t, Ema().ramp) for t in (1, 2, 90)] == [0.999] * 3
    assert decay_at(0.999, 2, "tensorflow") == 3 / 12
    assert decay_at(0.999, 90, "tensorflow") == 91 / 100
    assert decay_at(0.999, 8, "timm") == pytest.approx(0.75)
    assert decay_at(0.999, 27, "timm") == pytest.approx(8 / 9)
    for ramp in ("tensorflow", "timm"):
        assert decay_at(0.9, 10_000, ramp) == 0.9
        assert decay_at(0.0, 5, ramp) == 0.0


def test_timms_ramp_is_timms():
    """timm counts updates from one and copies at the first."""
    timm = ModelEmaV3(torch.nn.Linear(1, 1), decay=0.99, use_warmup=True)
    for t in range(2, 40):
        assert decay_at(0.99, t, "timm") == pytest.approx(timm.get_decay(t), rel=1e-12)


def test_default_decay_is_that_of_a_half_life_of_69_updates():
    run, trick = tiny_run(), Ema()
    trick.prepare(run)
    fill(run.model, 0)
    trick.after_step(run)
    fill(run.model, 1)
    for _ in range(69):
        trick.after_step(run)

    averaged = next(trick.evaluation_weights(run).parameters()).flatten()[0]
    assert float(averaged) == pytest.approx(1 - 0.99**69, abs=1e-5)
    assert float(averaged) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(("ramp", "first"), [("none", 0.3), ("tensorflow", 3 / 12), ("timm", 0.3)])
def test_closed_form_after_constant_steps(ramp, first):
    """From 0 towards a constant 2: the average is 2 (1 - product of decays), in weights and float buffers."""
    run, trick = tiny_run(), Ema(decay=0.3, ramp=ramp)
    trick.prepare(run)
    fill(run.model, 0)
    trick.after_step(run)
    fill(run.model, 2)
    for _ in range(5):
        trick.after_step(run)
    left = first * 0.3**4  # at t = 2; from there on min(0.3, 4/13, ...) = 0.3
    averaged = trick.evaluation_weights(run)

    for p in averaged.parameters():
        torch.testing.assert_close(p, torch.full_like(p, 2 * (1 - left)))
    for b in averaged.buffers():
        torch.testing.assert_close(b, torch.full_like(b, 2 * (1 - left) if b.is_floating_point() else 2))


def test_decay_zero_is_a_copy():
    run, trick = tiny_run(), Ema(decay=0.0)
    trick.prepare(run)
    trick.after_step(run)
    with torch.no_grad():
        for p in run.model.parameters():
            p.add_(1.0)
    trick.after_step(run)

    for a, b in zip(trick.evaluation_weights(run).parameters(), run.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_average_is_apart_from_the_live_network_and_in_evaluation_mode():
    run, trick = tiny_run(), Ema()
    trick.prepare(run)
    assert trick.evaluation_weights(run) is run.model  # nothing averaged yet
    trick.after_step(run)
    averaged = trick.evaluation_weights(run)
    before = copy.deepcopy(averaged.state_dict())
    run.model.train()(tiny_batch().x).sum().backward()
    run.optimizer.step()

    assert not any(m.training for m in averaged.modules())
    assert not any(p.requires_grad for p in averaged.parameters())
    for name, value in averaged.state_dict().items():
        assert torch.equal(value, before[name])


def test_state_survives_a_round_trip():
    run, trick = tiny_run(), Ema()
    trick.prepare(run)
    for value in (0.0, 1.0, 3.0):
        fill(run.model, value)
        trick.after_step(run)
    other = WeightAverage(run.model)
    other.load_state_dict(copy.deepcopy(run.state["ema"].state_dict()))

    assert other.count == 3
    for a, b in zip(other.model.parameters(), trick.evaluation_weights(run).parameters(), strict=True):
        assert torch.equal(a, b)
