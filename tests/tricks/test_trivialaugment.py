import pytest
import torch

from draws import assert_share, recorded
from harness.data.types import PHOTOS
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks import policies
from harness.tricks.augment import trivialaugment as module
from harness.tricks.augment.trivialaugment import TrivialAugment

COLOUR = tiny_info(channels=3)._replace(invariances=PHOTOS)


class TestTrivialAugment(TrickConformance):
    trick = TrivialAugment


def test_one_operation_is_drawn_evenly_for_each_image(monkeypatch):
    calls = recorded(monkeypatch, module, "one_each")
    TrivialAugment().batch(tiny_batch(4, channels=3), tiny_run(info=COLOUR, channels=3))
    ((_, operations, *_, generator),) = calls

    assert isinstance(generator, torch.Generator)  # and no chances, which is evenly
    assert [o.args[0] for o in operations] == list(policies.WIDE)


@pytest.mark.parametrize(("space", "turned"), [("wide", 135.0), ("rand", 30.0)])
def test_strengths_are_31_and_evenly_drawn(space, turned):
    run, drawn = tiny_run(info=COLOUR, channels=3), []

    def keep(x, degrees):
        drawn.append(degrees.abs())
        return x

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(policies.OPERATIONS, "rotate", policies.OPERATIONS["rotate"]._replace(change=keep))
        for _ in range(5):
            TrivialAugment(space=space).batch(tiny_batch(2000, channels=3), run)
    strengths = (torch.cat(drawn) / turned * 30).round()

    assert len(strengths) / 10000 == pytest.approx(1 / 14, rel=0.15)
    assert set(strengths.tolist()) == set(range(31))
    for i in (0, 15, 30):
        assert_share(strengths == i, 1 / 31)


def test_moves_are_a_share_of_the_side_that_can_be_set():
    run = tiny_run(info=COLOUR, channels=3)
    assert TrivialAugment().operations(run)["translate_x"].end == 0.143
    assert TrivialAugment(translate=1.0).operations(run)["translate_y"].end == 1.0
    assert TrivialAugment(space="rand").operations(run)["translate_x"].end == pytest.approx(150 / 331)
    assert "translate_x" not in TrivialAugment(translate=0.0).operations(run)
