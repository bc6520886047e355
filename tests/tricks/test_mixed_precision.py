import pytest
import torch
from pydantic import ValidationError

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.training.precision import Amp
from harness.tricks.contract import NoEffect, Precision
from harness.tricks.core.mixed_precision import MixedPrecision
from harness.tricks.functional import soft_cross_entropy


class TestMixedPrecision(TrickConformance):
    trick = MixedPrecision


def gradients(precision):
    """Unscaled gradients of one step, and the dtype of the network's output."""
    run, batch = tiny_run(), tiny_batch()
    amp = Amp(precision, run.device)
    with amp.autocast():
        logits = run.model(batch.x)
    amp.backward(soft_cross_entropy(logits.float(), batch.y).mean())
    amp.unscale(run.optimizer)
    return torch.cat([p.grad.flatten() for p in run.model.parameters()]), logits.dtype


def test_precisions():
    run, bf16_run = tiny_run(), tiny_run(precision="bf16")

    assert MixedPrecision().precision(run) == Precision(torch.bfloat16, None)
    assert MixedPrecision(dtype="fp16", init_scale=1024.0).precision(run) == Precision(torch.float16, 1024.0)
    assert MixedPrecision(dtype="fp32").precision(bf16_run) == Precision(None, None)


@pytest.mark.parametrize(("dtype", "expected"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_gradients_equal_those_of_float32_to_the_tolerance_of_the_type(dtype, expected):
    exact, _ = gradients(Precision())
    got, output = gradients(MixedPrecision(dtype=dtype, init_scale=65536.0).precision(tiny_run()))

    assert output is expected
    assert got.dtype is torch.float32
    assert 0 < float((got - exact).norm() / exact.norm()) < 0.1


def test_an_overflow_skips_the_update_and_halves_the_scale():
    run = tiny_run()
    amp = Amp(MixedPrecision(dtype="fp16", init_scale=1024.0).precision(run), run.device)
    before = [p.detach().clone() for p in run.model.parameters()]
    amp.backward(run.model(tiny_batch().x).sum())
    next(run.model.parameters()).grad[0] = torch.inf
    amp.step(run.optimizer)

    assert all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))
    assert amp.scaler.get_scale() == 512.0


def test_refuses_what_the_recipe_does_already_and_what_would_be_ignored():
    with pytest.raises(NoEffect, match="bf16"):
        MixedPrecision().precision(tiny_run(precision="bf16"))
    with pytest.raises(ValidationError, match="fp16"):
        MixedPrecision(dtype="bf16", init_scale=2.0)
