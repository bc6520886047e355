import pytest
import torch
from torch.nn import functional as F

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.distillation.attention_transfer import AttentionTransfer, attention


class TestAttentionTransfer(TrickConformance):
    trick = AttentionTransfer


def test_attention_by_hand_and_whatever_the_sign_and_scale_of_the_map():
    maps = torch.tensor([[[[1.0, 2.0]], [[1.0, -2.0]]]])  # mean squares 1 and 4
    torch.testing.assert_close(attention(maps), torch.tensor([[1.0, 4.0]]) / 17**0.5)
    torch.testing.assert_close(attention(-3 * maps), attention(maps))


def prepared(beta=1000.0):
    run, trick = tiny_run(), AttentionTransfer(beta=beta)
    run.model = trick.model(run.model, run).train()
    trick.prepare(run)
    return run, trick


def test_the_term_compares_all_stages_behind_the_stem():
    run, trick = prepared(beta=4.0)
    teacher, batch, seen = run.state["attention_transfer"]["teacher"], tiny_batch(), []
    for model in (run.model, teacher):
        for stage in ("stage1", "stage2"):
            model.stage(stage).register_forward_hook(lambda _m, _a, out: seen.append(attention(out)))
    logits = run.model(batch.x)
    trick.reduce_loss(logits.sum(), run)
    term = trick.loss_terms(batch, logits, run)["attention"]
    expected = 2 * (F.mse_loss(seen[0], seen[2]) + F.mse_loss(seen[1], seen[3]))
    torch.testing.assert_close(term, expected)
    term.backward()
    assert run.model.net.stem[0].weight.grad.abs().sum() > 0


def test_a_teacher_with_the_same_weights_teaches_nothing():
    run, trick = prepared()
    run.state["attention_transfer"]["teacher"] = tiny_run().model.train()
    batch = tiny_batch()
    logits = run.model(batch.x)
    trick.reduce_loss(logits.sum(), run)
    assert float(trick.loss_terms(batch, logits, run)["attention"]) == pytest.approx(0.0, abs=1e-9)


def test_networks_without_stages_are_refused():
    run = tiny_run()
    run.model.stages = run.model.stages[:1]
    with pytest.raises(NoEffect, match="named stages"):
        AttentionTransfer().model(run.model, run)
