from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from harness.models.build import build
from harness.sections import Model
from harness.testing import TrickConformance, tiny_info, tiny_run
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks.contract import NoEffect
from harness.tricks.efficiency.channels_last import ChannelsLast


class TestChannelsLast(TrickConformance):
    trick = ChannelsLast

    def _spec(self, trick, seed=0):
        """A network that every processor bears in this layout (`layout.layer_at_risk`)."""
        return super()._spec(trick, seed).model_copy(update={"model": Model(name="digits_resnet", width=16)})


def test_weights_and_images_of_the_arm_lie_pixel_by_pixel():
    session = set_up(TestChannelsLast()._spec(ChannelsLast()), Place(Path("unused-by-digits")))
    batch = next(iter(session.loader.epoch()))

    assert session.run.model.net.stage1[0].conv1.weight.stride() == (9 * 16, 1, 3 * 16, 16)
    assert batch.x.is_contiguous(memory_format=torch.channels_last)


def test_gradients_are_those_of_the_plain_layout():
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model = build(Model(name="digits_resnet", width=16), tiny_info(), 0).double().to(memory_format=layout)
        F.cross_entropy(model(x.contiguous(memory_format=layout)), torch.arange(4)).backward()
        found.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(found[0], found[1])


def test_each_layout_is_refused_where_it_is_the_recipes():
    run = tiny_run(channels_last=True)
    assert ChannelsLast(layout="contiguous").recipe(run.recipe, run.data).channels_last is False
    with pytest.raises(NoEffect, match=r"set recipe\.channels_last = false"):
        ChannelsLast().recipe(run.recipe, run.data)
    with pytest.raises(NoEffect, match=r"set recipe\.channels_last = true"):
        ChannelsLast(layout="contiguous").recipe(tiny_run().recipe, run.data)
