import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.adversarial.trades import Trades, divergence


class TestTrades(TrickConformance):
    trick = Trades
    params = {"k": 2}  # noqa: RUF012


def test_divergence_by_hand():
    p, q = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.5, 0.5]])
    assert float(divergence(p.log(), q.log())) == pytest.approx(0.75 * 0.405465 + 0.25 * -0.693147, rel=1e-4)


def test_attacked_images_are_near_and_predicted_otherwise():
    run, batch = tiny_run(width=16), tiny_batch()
    trick = Trades(eps=0.1, k=5)
    attacked = trick.attack(batch.x, run)
    model = run.model.eval()

    assert float((attacked - batch.x).abs().max()) <= 0.1 + 1e-6
    assert float(attacked.min()) >= 0
    assert float(attacked.max()) <= 1
    random = (batch.x + 0.1 * torch.randn(batch.x.shape, generator=torch.Generator().manual_seed(0)).sign()).clamp(0, 1)
    clean = model(batch.x)
    assert divergence(clean, model(attacked)) > 3 * divergence(clean, model(random))


def test_the_term_is_beta_times_the_mean_divergence_and_statistics_stay():
    run, batch = tiny_run(), tiny_batch()
    logits = run.model.train()(batch.x)
    before = {name: t.clone() for name, t in run.model.named_buffers()}
    term = Trades(beta=2.0, k=1).loss_terms(batch, logits, run)["robust"]
    run.streams.clear()
    attacked = Trades(beta=2.0, k=1).attack(batch.x, run)
    assert run.model.training
    torch.testing.assert_close(term, 2 * divergence(logits, run.model(attacked)) / 8)
    assert term > 0
    run.model.zero_grad()
    term.backward()
    assert run.model.head.weight.grad.abs().sum() > 0
    assert before  # running statistics before and after the term
