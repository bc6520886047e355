import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.evaluation.temperature_scaling import TemperatureScaling, fitted_temperature


class TestTemperatureScaling(TrickConformance):
    trick = TemperatureScaling


def drawn(n=20000):
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(n, 4, generator=g)
    label = torch.multinomial(logits.softmax(-1), 1, generator=g)[:, 0]
    return logits, label


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_finds_the_factor_by_which_right_logits_were_multiplied(factor):
    logits, label = drawn()
    assert fitted_temperature(factor * logits, label) == pytest.approx(factor, rel=0.05)


def test_is_the_minimum_and_stays_in_its_range():
    logits, label = drawn(300)
    best = fitted_temperature(logits, label)

    def loss(t):
        return float(torch.nn.functional.cross_entropy(logits / t, label))

    assert loss(best) < min(loss(best * 1.05), loss(best / 1.05))
    right = torch.eye(4)[label]
    assert fitted_temperature(right, label) == pytest.approx(0.05, rel=1e-3)  # always right: as sure as may be
    assert fitted_temperature(-right, label) == pytest.approx(50.0, rel=1e-3)


def test_held_out_images_are_not_trained_on_and_predictions_are_divided():
    run, trick = tiny_run(), TemperatureScaling(share=0.25)
    kept = trick.dataset(run.train, run)
    held = run.state["temperature_scaling"]
    assert (len(kept.label), len(held.label)) == (60, 20)
    everything = torch.cat((kept.rows.take(torch.arange(60)), held.rows.take(torch.arange(20))))
    assert sorted(everything.flatten(1).tolist()) == sorted(run.train.images.flatten(1).tolist())

    run.model.eval()
    x = torch.rand(5, 1, 8, 8)
    images = held.rows.take(torch.arange(20)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        temperature = fitted_temperature(run.model(images), held.label)
        torch.testing.assert_close(trick.predictor(run.model, run)(x), run.model(x) / temperature)


def test_a_share_that_leaves_no_batch_is_refused():
    run = tiny_run(batch_size=40)
    with pytest.raises(NotApplicable, match="less than a batch"):
        TemperatureScaling(share=0.6).dataset(run.train, run)
