import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.optimization.one_cycle import OneCycle


class TestOneCycle(TrickConformance):
    trick = OneCycle


@pytest.mark.parametrize(("shape", "anneal"), [("cosine", "cos"), ("linear", "linear")])
def test_rate_and_momentum_agree_with_torch(shape, anneal):
    run = tiny_run()  # 100 updates
    ours, theirs = (torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.5) for _ in range(2))
    oracle = torch.optim.lr_scheduler.OneCycleLR(theirs, 1.0, total_steps=run.total_steps, anneal_strategy=anneal)
    trick = OneCycle(shape=shape)
    schedule = trick.schedule(run)
    trick.wrap_optimizer(ours, run)

    for t in range(run.total_steps):
        run.step = t
        ours.step()
        assert schedule(run.progress) == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9)
        assert ours.param_groups[0]["momentum"] == pytest.approx(theirs.param_groups[0]["momentum"], rel=1e-9)
        theirs.step()
        if run.step < run.total_steps - 1:
            oracle.step()
    assert schedule(run.progress) == pytest.approx(1 / (25 * 1e4))


def test_cycles_the_first_beta_of_adam():
    run = tiny_run()
    run.step = 29  # pct 0.3 of 100 updates, counted from zero: the peak
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], betas=(0.9, 0.99))
    OneCycle(low=0.8).wrap_optimizer(optimizer, run).step()

    assert optimizer.param_groups[0]["betas"] == (pytest.approx(0.8), 0.99)


def test_needs_momentum():
    for optimizer in (torch.optim.SGD, torch.optim.Adagrad):
        with pytest.raises(NotApplicable, match="momentum"):
            OneCycle().wrap_optimizer(optimizer([torch.nn.Parameter(torch.zeros(1))], lr=0.1), tiny_run())
