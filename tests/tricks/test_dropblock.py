import pytest
import torch

from draws import assert_share, assert_uniform
from harness.testing import TrickConformance, tiny_run
from harness.tricks.regularization.dropblock import Dropblock, dropped_blocks


class TestDropblock(TrickConformance):
    trick = Dropblock


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_what_is_dropped_are_squares():
    out = dropped_blocks(torch.ones(200, 1, 6, 6), 0.05, 2, generator())
    lone = [m for m in (out == 0)[:, 0] if int(m.sum()) == 4]  # maps in which one square fell

    assert len(lone) > 20
    for hidden in lone:
        rows, columns = hidden.any(1).nonzero()[:, 0], hidden.any(0).nonzero()[:, 0]
        assert rows.diff().tolist() == columns.diff().tolist() == [1]


@pytest.mark.parametrize(("rate", "side"), [(0.1, 1), (0.1, 2), (0.05, 3)])
def test_the_share_is_about_the_rate_and_the_mean_stays(rate, side):
    x = torch.ones(500, 4, 8, 8)
    out = dropped_blocks(x, rate, side, generator())

    assert float(out.mean()) == pytest.approx(1.0, rel=1e-5)
    assert float((out == 0).float().mean()) == pytest.approx(
        rate, rel=0.15
    )  # squares may overlap, which gamma neglects


def test_no_rate_and_evaluation_leave_the_map_and_the_rate_grows():
    x = torch.rand(4, 2, 4, 4, generator=generator())
    torch.testing.assert_close(dropped_blocks(x, 0.0, 2, generator()), x)

    run, plain = tiny_run(), tiny_run()
    model = Dropblock(rate=0.5).model(run.model, run)
    images = torch.rand(8, 1, 8, 8, generator=generator())
    assert torch.equal(model.train()(images), plain.model.train()(images))  # at the start the rate is zero
    run.step = run.total_steps // 2
    assert not torch.equal(model(images), plain.model(images))
    assert torch.equal(model.eval()(images).isnan(), torch.zeros(8, 10, dtype=torch.bool))


def test_norms_and_sums_of_the_last_two_stages_are_hooked():
    run = tiny_run(model="resnet8", width=4)
    Dropblock().model(run.model, run)
    hooked = {name for name, m in run.model.named_modules() if m._forward_hooks}
    stages = [f"net.stage{i}.0" for i in (2, 3)]
    assert hooked == {f"{stage}{part}" for stage in stages for part in ("", ".norm1", ".norm2")}


def test_squares_lie_anywhere_in_the_map_with_the_chance_of_equation_1():
    """gamma = 0.02 * 36 / (4 * 25) for each of 25 corners; a map without any has the chance (1 - gamma)^25."""
    hidden = dropped_blocks(torch.ones(6000, 1, 6, 6), 0.02, 2, generator())[:, 0] == 0
    gamma = 0.02 * 36 / (4 * 25)
    lone = hidden[hidden.sum((1, 2)) == 4]
    spread = torch.rand(2, len(lone), generator=generator())

    assert_share(~hidden.flatten(1).any(1), (1 - gamma) ** 25)
    for axis, noise in zip((2, 1), spread, strict=True):
        corner = lone.any(axis).int().argmax(1)
        assert set(corner.tolist()) == set(range(5))
        assert_uniform(corner + noise, 0, 5)
