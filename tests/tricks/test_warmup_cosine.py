import pytest

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.core.cosine_decay import CosineDecay
from harness.tricks.core.lr_warmup import LrWarmup
from harness.tricks.core.warmup_cosine import WarmupCosine


class TestWarmupCosine(TrickConformance):
    trick = WarmupCosine
    params = {"epochs": 0.5}  # noqa: RUF012


@pytest.mark.parametrize(("epochs", "start", "final"), [(3.0, 0.01, 0.0), (2.5, 0.1, 0.05), (0.0, 0.01, 0.0)])
def test_equals_the_composition_of_its_parts_point_by_point(epochs, start, final):
    run = tiny_run(epochs=10, schedule="constant")
    preset = WarmupCosine(epochs=epochs, start_factor=start, final=final).schedule(run)
    parts = LrWarmup(epochs=epochs, start_factor=start, prefix=True).wrap_schedule(
        CosineDecay(final=final).schedule(run), run
    )

    points = [t / run.total_steps for t in range(run.total_steps)]
    assert [preset(p) for p in points] == [parts(p) for p in points]


def test_defaults_are_those_of_its_parts():
    preset = WarmupCosine()
    warmup, decay = LrWarmup(), CosineDecay()

    expected = (warmup.epochs, warmup.start_factor, decay.final)
    assert (preset.epochs, preset.start_factor, preset.final) == expected


def test_by_hand():
    """Four updates of warm-up, then a cosine over the other eight: its middle is half the peak."""
    run = tiny_run(epochs=6, batch_size=40)
    schedule = WarmupCosine(epochs=2.0, start_factor=0.2).schedule(run)

    assert [schedule(t / 12) for t in (0, 1, 3, 4, 8)] == pytest.approx([0.4, 0.6, 1.0, 1.0, 0.5])
    assert schedule(1.0) == pytest.approx(0.0)


def test_refuses_a_run_that_is_not_longer():
    with pytest.raises(NotApplicable, match="3 epochs"):
        WarmupCosine().schedule(tiny_run(epochs=3))
