from pathlib import Path

import pytest
import torch

from harness.experiment import Arm
from harness.testing import TrickConformance, tiny_run, tiny_spec
from harness.training.session import Place, set_up
from harness.tricks import registry
from harness.tricks.contract import NotApplicable, overrides
from harness.tricks.distillation.masked_pretraining import MaskedPretraining, masked_l1, patch_mask


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
