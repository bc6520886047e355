import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.evaluation.mc_dropout import McDropout


class TestMcDropout(TrickConformance):
    trick = McDropout


def applied(**params):
    run, trick = tiny_run(), McDropout(**params)
    run.model = trick.model(run.model, run).eval()
    return run, trick


def test_masks_are_drawn_only_while_predicting():
    run, trick = applied(p=0.5, passes=1)
    x = tiny_batch().x
    plain = run.model(x)
    torch.testing.assert_close(plain, tiny_run().model.eval()(x))
    predict = trick.predictor(run.model, run)
    assert not torch.allclose(predict(x), predict(x))
    assert torch.equal(run.model(x), plain)


def test_the_mean_is_of_probabilities_and_settles():
    run, trick = applied(p=0.3, passes=400)
    x = tiny_batch().x
    out = trick.predictor(run.model, run)(x)
    torch.testing.assert_close(out.exp().sum(-1), torch.ones(8))
    again = trick.predictor(run.model, run)(x)
    assert float((out.exp() - again.exp()).abs().max()) < 0.05

    run, trick = applied(p=0.3, passes=2)
    singles = []

    def keeping(z):
        singles.append(run.model(z))
        return singles[-1]

    mean = trick.predictor(keeping, run)(x).exp()
    torch.testing.assert_close(mean, sum(z.softmax(-1) for z in singles) / 2)


def test_training_draws_are_not_moved_by_predictions():
    outs = []
    for predicts in (False, True):
        run, trick = applied(p=0.5)
        if predicts:
            trick.predictor(run.model, run)(tiny_batch().x)
        outs.append(run.model.train()(tiny_batch().x))
    assert torch.equal(*outs)
    assert float(outs[0].detach().abs().sum()) == pytest.approx(float(outs[1].detach().abs().sum()))
