import math
from pathlib import Path

import pytest
import torch

from draws import assert_uniform
from harness.experiment import Arm
from harness.testing import TrickConformance, tiny_run, tiny_spec
from harness.training.session import Place, set_up
from harness.tricks import registry
from harness.tricks.contract import NotApplicable, overrides
from harness.tricks.distillation.masked_pretraining import MaskedPretraining, masked_l1, patch_mask
from harness.tricks.images import TrainingPixels


class TestMaskedPretraining(TrickConformance):
    trick = MaskedPretraining


def test_loss_depends_on_masked_pixels_only():
    x, output = torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2, 2), 3.0, requires_grad=True)
    mask = torch.tensor([[[[True, False], [False, False]]]])
    loss = masked_l1(output, x, mask)
    loss.backward()

    assert float(loss.detach()) == 3.0
    assert torch.equal(output.grad, 0.5 * mask.expand(1, 2, 2, 2).float())


@pytest.mark.parametrize(("ratio", "count"), [(0.6, 10), (0.01, 1), (0.99, 15)])
def test_mask_covers_whole_patches_of_the_asked_number(ratio, count):
    score = torch.rand(5, 4, 4, generator=torch.Generator().manual_seed(0))
    mask = patch_mask(score, ratio, 8)

    assert mask.shape == (5, 1, 8, 8)
    assert torch.equal(mask.flatten(1).sum(1), torch.full((5,), 4 * count))
    patches = mask.view(5, 4, 2, 4, 2)
    assert torch.equal(patches, patches[:, :, :1, :, :1].expand_as(patches))
    worst = score.flatten(1).argmin(1)
    assert bool(patches[:, :, 0, :, 0].flatten(1).gather(1, worst[:, None]).all())


def test_learns_to_fill_in(monkeypatch):
    """On images of one grey level each, the masked patches can be told from the others."""
    run = tiny_run(width=8, epochs=20)
    grey = torch.randint(60, 200, (80, 1, 1, 1), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    run.train = run.train.__class__(images=grey.expand(80, 8, 8, 1), label=run.train.label, index=run.train.index)
    losses = []
    monkeypatch.setattr(
        "harness.tricks.distillation.masked_pretraining.masked_l1",
        lambda *args: losses.append(masked_l1(*args)) or losses[-1],
    )
    head = run.model.head.weight.detach().clone()
    stem = run.model.net.stem[0].weight.detach().clone()
    MaskedPretraining(epochs=0.5, lr=1e-2).init(run.model, run)

    assert len(losses) == 100  # half of 20 epochs of 10 updates
    first, last = (float(torch.stack(part).mean().detach()) for part in (losses[:5], losses[-5:]))
    assert last < 0.5 * first
    assert not torch.equal(run.model.net.stem[0].weight, stem)
    assert torch.equal(run.model.head.weight, head)  # the head takes no part
    assert all(p.grad is None for p in run.model.parameters())
    assert not run.model.stage("stage2")._forward_hooks


def test_refuses_what_it_cannot_mask():
    run = tiny_run()
    with pytest.raises(NotApplicable, match="do not divide"):
        MaskedPretraining(patches=3).init(run.model, run)
    run.model.stages = ("head",)
    with pytest.raises(NotApplicable, match="feature maps"):
        MaskedPretraining().init(run.model, run)
    run.model.stages = ()
    with pytest.raises(NotApplicable, match="named stages"):
        MaskedPretraining().init(run.model, run)


DRAWS = ("identity_init", "init_sweep", "kaiming_init", "tanh_hidden", "zero_gamma")


def test_tricks_that_set_initial_weights_are_all_tried():
    setting = {name for name in registry.builtin() if overrides(registry.make(name), "init")}
    assert setting == {*DRAWS, "masked_pretraining"}


@pytest.mark.parametrize("draw", DRAWS)
def test_pretraining_starts_from_the_weights_that_another_trick_sets_and_keeps_what_it_learned(draw, monkeypatch):
    def weights(*names):
        arm = Arm(tricks=tuple(registry.make(name).spec() for name in names))
        session = set_up(tiny_spec().model_copy(update={"arm": arm}), Place(data_root=Path("unused-by-digits")))
        return {name: t.detach().clone() for name, t in session.run.model.named_parameters()}

    found = {}
    pretrain = MaskedPretraining._pretrain

    def watched(self, model, maps, run):
        found["start"] = {name: t.detach().clone() for name, t in model.named_parameters()}
        pretrain(self, model, maps, run)
        found["end"] = {name: t.detach().clone() for name, t in model.named_parameters()}

    monkeypatch.setattr(MaskedPretraining, "_pretrain", watched)
    together, drawn = weights("masked_pretraining", draw), weights(draw)

    assert all(torch.equal(found["start"][name], t) for name, t in drawn.items())
    assert all(torch.equal(found["end"][name], t) for name, t in together.items())
    assert not torch.equal(together["net.stem.0.weight"], drawn["net.stem.0.weight"])


def test_the_network_sees_the_mean_where_it_must_fill_in_and_the_rate_falls_as_a_cosine(monkeypatch):
    run, seen, asked, rates = tiny_run(epochs=2), [], [], []

    class Recording(torch.optim.AdamW):
        def step(self, *args, **kwargs):
            rates.append((self.param_groups[0]["lr"], self.param_groups[0]["weight_decay"]))
            return super().step(*args, **kwargs)

    monkeypatch.setattr(torch.optim, "AdamW", Recording)
    monkeypatch.setattr(
        "harness.tricks.distillation.masked_pretraining.masked_l1",
        lambda output, x, mask: asked.append((x, mask)) or masked_l1(output, x, mask),
    )
    run.model.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    MaskedPretraining().init(run.model, run)

    steps = 10  # half of two epochs of ten updates
    assert len(asked) == steps
    for x, (clean, mask) in zip(seen[1:], asked, strict=True):  # the first pass asks for the shape
        assert torch.equal(x, torch.where(mask, torch.tensor(0.5), clean))
        assert int(mask[0].sum()) == 40, "10 of 16 patches of 2x2 pixels: 0.6, in whole patches"
    assert len({tuple(mask.flatten().tolist()) for _, mask in asked}) == steps, "masks are drawn anew"
    expected = [1e-3 * 0.5 * (1 + math.cos(math.pi * t / steps)) for t in range(steps)]
    assert [rate for rate, _ in rates] == pytest.approx(expected)
    assert {decay for _, decay in rates} == {0.05}


def test_every_image_is_drawn_alike(monkeypatch):
    run, rows = tiny_run(epochs=16), []
    real = TrainingPixels.draw
    monkeypatch.setattr(TrainingPixels, "draw", lambda self, at, *rest: rows.append(at) or real(self, at, *rest))
    MaskedPretraining().init(run.model, run)
    drawn = torch.cat(rows)

    assert set(drawn.tolist()) == set(range(80))
    assert_uniform(drawn + torch.rand(len(drawn), generator=torch.Generator().manual_seed(0)), 0, 80)
