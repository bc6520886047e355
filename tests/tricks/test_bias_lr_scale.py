import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.optimization.bias_lr_scale import BiasLrScale


class TestBiasLrScale(TrickConformance):
    trick = BiasLrScale
    params = {"factor": 2.0}  # noqa: RUF012


def test_biases_have_the_multiple_and_their_decay_per_update_stays():
    run = tiny_run(lr=0.1, weight_decay=0.02)
    groups = BiasLrScale(factor=4.0).param_groups([{"params": list(run.model.parameters())}], run)
    names = {p: name for name, p in run.model.named_parameters()}
    scaled, plain = groups if "lr" in groups[0] else groups[::-1]

    assert scaled["lr"] == pytest.approx(0.4)
    assert scaled["lr"] * scaled["weight_decay"] == pytest.approx(0.1 * 0.02)
    assert all(names[p].endswith("bias") for p in scaled["params"])
    assert not any(names[p].endswith("bias") for p in plain["params"])
    assert len(scaled["params"]) + len(plain["params"]) == len(names)
    assert "lr" not in plain


def test_what_a_group_carries_is_multiplied():
    run = tiny_run(lr=0.1)
    (group,) = BiasLrScale(factor=2.0).param_groups(
        [{"params": [run.model.head.bias], "lr": 0.3, "weight_decay": 0.0}], run
    )
    assert (group["lr"], group["weight_decay"]) == (pytest.approx(0.6), 0.0)


def test_a_model_without_biases():
    run = tiny_run()
    run.model = torch.nn.Linear(2, 2, bias=False)
    with pytest.raises(NoEffect, match="no bias"):
        BiasLrScale().param_groups([], run)
