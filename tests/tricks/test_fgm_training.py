from dataclasses import replace

import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.adversarial.fgm_training import FgmTraining, perturbation
from harness.tricks.contract import NotApplicable
from harness.tricks.functional import soft_cross_entropy


class TestFgmTraining(TrickConformance):
    trick = FgmTraining


class TestAtTheStem(TrickConformance):
    trick = FgmTraining
    params = {"layer": "stem"}  # noqa: RUF012


def closure_of(run, seen=None):
    def closure(batch):
        if seen is not None:
            seen.append(batch.x.detach())
        return soft_cross_entropy(run.model(batch.x), batch.y).mean()

    return closure


def gradients(run):
    return [p.grad.clone() for p in run.model.parameters()]


def test_perturbation_by_hand():
    g = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]], [[-2e-8, 0.0]]])
    torch.testing.assert_close(perturbation(g, 0.5), torch.tensor([[[0.3, 0.4]], [[0.0, 0.0]], [[-0.5, 0.0]]]))


class Margin(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 64, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return x.flatten(1) @ self.weight.T


def test_margin_of_a_linear_model_falls_by_eps_times_the_two_norm_and_gradients_add():
    run, seen = tiny_run(), []
    run.model, batch = Margin(), tiny_batch(4, classes=2)
    loss = FgmTraining(eps=0.3).gradient(closure_of(run, seen), batch, run)
    w = (run.model.weight[0] - run.model.weight[1]).detach()
    fall = (1 - 2 * batch.label.float()) * ((seen[0] - seen[1]).flatten(1) @ w)
    clean, moved = (closure_of(run)(replace(batch, x=x)) for x in seen)
    (expected,) = torch.autograd.grad(clean + moved, run.model.weight)

    torch.testing.assert_close(fall, (0.3 * w.norm()).expand(4))
    torch.testing.assert_close((seen[1] - seen[0]).flatten(1).norm(dim=1), torch.full((4,), 0.3))
    torch.testing.assert_close(run.model.weight.grad, expected)
    assert torch.equal(loss, clean.detach())


@pytest.mark.parametrize("layer", ["input", "stem"])
@pytest.mark.parametrize("scale", [1.0, 2.0**12])
def test_eps_zero_doubles_the_plain_gradient_and_statistics_move_once(layer, scale):
    run, plain, batch = tiny_run(), tiny_run(), tiny_batch()
    run.backward = lambda loss: (loss * scale).backward()
    FgmTraining(eps=0.0, layer=layer).gradient(closure_of(run), batch, run)
    closure_of(plain)(batch).backward()

    torch.testing.assert_close([g / scale for g in gradients(run)], [2 * g for g in gradients(plain)])
    for a, b in zip(run.model.buffers(), plain.model.buffers(), strict=True):
        assert torch.equal(a, b)
    assert batch.x.grad is None


def test_the_stem_moves_by_eps_for_each_example_and_only_in_the_second_pass():
    run, batch, outputs = tiny_run(), tiny_batch(), []
    # A look at what the next layer gets.
    run.model.stage("stage1").register_forward_pre_hook(lambda _m, args: outputs.append(args[0].detach()))
    losses = []

    def closure(b):
        losses.append(closure_of(run)(b))
        run.model(torch.rand(3, 1, 8, 8))  # a term of the loss that runs the network on other images
        return losses[-1]

    FgmTraining(eps=0.7, layer="stem").gradient(closure, batch, run)
    clean, other, moved, other_again = outputs

    torch.testing.assert_close((moved - clean).flatten(1).norm(dim=1), torch.full((8,), 0.7))
    assert len(other) == len(other_again) == 3
    assert losses[1] > losses[0]
    assert not run.model.stage("stem")._forward_hooks


def test_the_stem_must_exist_and_be_within_reach():
    run = tiny_run(compile=True)
    with pytest.raises(NotApplicable, match="compiled"):
        FgmTraining(layer="stem").prepare(run)
    run.model.stages = ()
    with pytest.raises(NotApplicable, match="named stages"):
        FgmTraining(layer="stem").prepare(run)
    FgmTraining(layer="input").prepare(run)
