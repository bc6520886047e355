from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run, tiny_spec
from harness.training.loop import Clock, train
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks.contract import NotApplicable
from harness.tricks.distillation import masked_image_modelling as module
from harness.tricks.distillation.masked_image_modelling import MaskedImageModelling, masked_l1, patch_mask

PLACE = Place(Path("unused-by-digits"))


class TestMaskedImageModelling(TrickConformance):
    trick = MaskedImageModelling


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


def prepared(trick, run):
    """The run with its decoder, and the step's own function."""
    trick.model(run.model, run)
    return lambda batch: trick.gradient(None, batch, run)


def test_learns_to_fill_in():
    """On images of one grey level each, the masked patches can be told from the others; the head takes no part."""
    session = set_up(tiny_spec(MaskedImageModelling(), epochs=30, optimizer="adamw", lr=1e-2, batch_size=8), PLACE)
    run, grey = session.run, torch.randint(3, 13, (40, 1, 1, 1), generator=torch.Generator().manual_seed(0))
    images = grey.to(torch.uint8).expand(40, 8, 8, 1).contiguous()
    session.loader.resident = session.loader._pad(images)
    start = {name: t.detach().clone() for name, t in run.model.named_parameters()}
    curves = train(run, session.stack, session.loader, session.step, session.lr_factors, dict, Clock())
    losses = [p.value for p in chain(*curves) if (p.split, p.metric) == ("train", "loss")]

    assert losses[-1] < 0.5 * losses[0]
    moved = {name for name, t in run.model.named_parameters() if not torch.equal(t, start[name])}
    assert moved == {name for name in start if "head" not in name}


def test_the_network_sees_the_mean_where_it_must_fill_in(monkeypatch):
    run, seen, asked = tiny_run(), [], []
    monkeypatch.setattr(module, "masked_l1", lambda out, x, mask: asked.append((x, mask)) or masked_l1(out, x, mask))
    step = prepared(MaskedImageModelling(), run)
    run.model.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    batch = tiny_batch()
    for _ in range(2):
        step(batch)

    for x, (clean, mask) in zip(seen, asked, strict=True):
        assert torch.equal(clean, batch.x)
        assert torch.equal(x, torch.where(mask, torch.tensor(0.5), clean))
        assert int(mask[0].sum()) == 40, "10 of 16 patches of 2x2 pixels: 0.6, in whole patches"
    assert not torch.equal(asked[0][1], asked[1][1]), "masks are drawn anew"


def test_the_loss_is_that_of_the_decoded_map():
    """A decoder that gives 0.75 everywhere is 0.25 off on images that are 0.5 everywhere."""
    run = tiny_run()
    trick = MaskedImageModelling()
    step = prepared(trick, run)
    decoder = run.state[trick.name]["decoder"]
    with torch.no_grad():
        decoder.weight.zero_()
        decoder.bias.fill_(0.75)
    batch = tiny_batch()

    assert float(step(replace(batch, x=torch.full_like(batch.x, 0.5))).detach()) == pytest.approx(0.25)
    assert decoder.bias.grad is not None


def test_refuses_what_it_cannot_mask():
    run = tiny_run()
    with pytest.raises(NotApplicable, match="do not divide"):
        MaskedImageModelling(patches=3).model(run.model, run)
    run.model.stages = ("head",)
    with pytest.raises(NotApplicable, match="feature maps"):
        MaskedImageModelling().model(run.model, run)
    run.model.stages = ()
    with pytest.raises(NotApplicable, match="named stages"):
        MaskedImageModelling().model(run.model, run)
