import copy
from itertools import combinations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.regularization.dropout_multiplier import DropoutMultiplier


class TestDropoutMultiplier(TrickConformance):
    trick = DropoutMultiplier


def applied(**params):
    run = tiny_run(width=16)
    run.model = DropoutMultiplier(**params).model(run.model, run)
    return run.model


def shares(model):
    """Share of zeros at the head's input, at the second convolutions' and of branches that are zero."""
    seen = {"head": [], "block": [], "path": []}

    def note(kind):
        return lambda _m, args: seen[kind].append(args[0].detach())

    model.head.register_forward_pre_hook(note("head"))

    def note_branch(_module, _args, out):
        seen["path"].append(out.detach().flatten(1).abs().amax(1))

    for block in (m for m in model.modules() if hasattr(m, "shortcut")):
        block.act1 = nn.Identity()  # so that zeros come from dropout alone
        block.act2 = nn.Identity()
        block.conv2.register_forward_pre_hook(note("block"))
        block.norm2.register_forward_hook(note_branch)
    x = torch.rand(500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model.train()(x)
    return {kind: float(torch.cat([v.flatten() for v in values]).eq(0).float().mean()) for kind, values in seen.items()}


@pytest.mark.parametrize("m", [0.5, 1.0, 2.0])
def test_rates_and_their_ratios(m):
    base = {"head": 0.2, "block": 0.1, "path": 0.3}
    rates = shares(applied(m=m, **base))

    for kind, p in base.items():
        n = {"head": 500 * 32, "block": 500 * 64 * 64, "path": 1000}[kind]
        assert abs(rates[kind] - m * p) < 5 * (m * p * (1 - m * p) / n) ** 0.5 + 1e-3
    for a, b in combinations(base, 2):
        assert rates[a] / rates[b] == pytest.approx(base[a] / base[b], rel=0.25)


def test_kept_branches_are_scaled_up():
    model, plain = applied(head=0.0, block=0.0, path=0.25), tiny_run(width=16).model
    first = [m.train().net.stage1[0] for m in (model, plain)]
    x = torch.rand(64, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    dropped, whole = (block.norm2(block.conv2(x)) for block in first)
    factor = (dropped / whole).flatten(1).mean(1)

    assert {round(f, 3) for f in factor.tolist()} == {0.0, 1.333}


def test_m_zero_is_the_baseline_and_refused():
    run = tiny_run()
    with pytest.raises(NoEffect, match="zero"):
        DropoutMultiplier(m=0.0).model(run.model, run)


def test_a_rate_of_one_is_refused():
    with pytest.raises(ValidationError, match="rate of one"):
        DropoutMultiplier(m=2.0, head=0.5)


def test_head_alone_needs_no_blocks():
    run = tiny_run()
    run.model.net = nn.Sequential(nn.Flatten())
    run.model.net.add_module("head", nn.Linear(64, 10))
    with pytest.raises(NoEffect, match="residual blocks"):
        DropoutMultiplier().model(run.model, run)
    model = DropoutMultiplier(block=0.0, path=0.0).model(run.model, run).train()
    x = tiny_batch().x
    assert not torch.equal(model(x), model(x))


def test_evaluation_and_copies_ignore_it():
    model, plain = applied(), tiny_run(width=16).model
    x = tiny_batch().x
    assert torch.equal(copy.deepcopy(model).eval()(x), plain.eval()(x))
    assert model.state_dict().keys() == plain.state_dict().keys()
