import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.last_stride_1 import LastStride1
from harness.tricks.contract import NoEffect


class TestLastStride1(TrickConformance):
    trick = LastStride1


def last_map(model, x):
    seen = []
    handle = model.stage(model.stages[-1]).register_forward_hook(lambda _m, _args, out: seen.append(out.shape))
    with torch.no_grad():
        model.eval()(x)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("name", ["digits_resnet", "resnet8", "timm/resnet18", "timm/resnet26", "timm/resnet26d"])
def test_same_parameters_and_four_times_the_positions(name):
    settings = {"channels": 3, "size": 64, "model": name, "width": None if name.startswith("timm") else 4}
    run, plain = tiny_run(**settings), tiny_run(**settings)
    model = LastStride1().model(run.model, run)
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before, after = last_map(plain.model, x), last_map(model, x)

    assert after[:2] == before[:2]
    assert after[2:] == tuple(2 * n for n in before[2:])
    assert not any(isinstance(m, torch.nn.AvgPool2d) for m in model.stage(model.stages[-1]).modules())
    for (a_name, a), (b_name, b) in zip(model.state_dict().items(), plain.model.state_dict().items(), strict=True):
        assert a_name == b_name
        assert torch.equal(a, b)


def test_every_second_position_of_a_single_convolution_is_the_baselines():
    """The first convolution of the stage samples the same grid, only finer."""
    run, plain = tiny_run(), tiny_run()
    LastStride1().model(run.model, run)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    fine, coarse = (r.model.net.stage2[0].conv1(x) for r in (run, plain))
    torch.testing.assert_close(fine[..., ::2, ::2], coarse)


def test_a_last_stage_that_keeps_the_size_is_refused():
    run = tiny_run()
    run.model = LastStride1().model(run.model, run)
    with pytest.raises(NoEffect, match="stage2, does not downsample"):
        LastStride1().model(run.model, run)
