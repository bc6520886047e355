import pytest

from harness.errors import UserError
from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.modules import batch_norms
from harness.tricks.optimization.no_bias_decay import NoBiasDecay
from harness.tricks.regularization.no_norm_decay import NoNormDecay
from harness.tricks.stack import Stack


class TestNoNormDecay(TrickConformance):
    trick = NoNormDecay
    recipe = {"weight_decay": 0.01}  # noqa: RUF012


def test_scales_and_shifts_are_spared_and_the_heads_bias_is_not():
    run = tiny_run()
    groups = NoNormDecay().param_groups([{"params": list(run.model.parameters())}], run)
    spared = {p for group in groups if group.get("weight_decay") == 0 for p in group["params"]}
    assert spared == {p for norm in batch_norms(run.model) for p in norm.parameters()}
    assert run.model.head.bias not in spared
    assert sum(len(group["params"]) for group in groups) == len(list(run.model.parameters()))


def test_nothing_to_spare_and_the_wider_trick_are_refused():
    run = tiny_run()
    with pytest.raises(NoEffect, match="weight decay to be spared"):
        NoNormDecay().wrap_optimizer(run.optimizer, run)
    with pytest.raises(UserError, match="spares the same"):
        Stack([NoNormDecay(), NoBiasDecay()])
