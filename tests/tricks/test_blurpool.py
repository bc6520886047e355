import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.blurpool import Blur, Blurpool
from harness.tricks.contract import NoEffect


class TestBlurpool(TrickConformance):
    trick = Blurpool


class TestBefore(TrickConformance):
    trick = Blurpool
    params = {"place": "before"}  # noqa: RUF012


@pytest.mark.parametrize(("stride", "side"), [(1, 6), (2, 6), (2, 7)])
def test_equals_timms_layer(stride, side):
    from timm.layers import BlurPool2d

    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Blur(stride, torch.device("cpu"))(x), BlurPool2d(3, filt_size=3, stride=stride)(x))


def test_by_hand_and_a_constant_stays():
    x = torch.zeros(1, 1, 5, 5)
    x[..., 2, 2] = 16.0
    out = Blur(1, torch.device("cpu"))(x)[0, 0]
    assert out[1:4, 1:4].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    torch.testing.assert_close(Blur(2, torch.device("cpu"))(torch.ones(1, 2, 8, 8)), torch.ones(1, 2, 4, 4))


def test_strides_move_behind_the_activation_and_before_the_shortcut():
    run, plain = tiny_run(), tiny_run()
    block = Blurpool().model(run.model, run).net.stage2[0].eval()
    old = plain.model.net.stage2[0].eval()
    x = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    assert block.conv1.stride == (1, 1)
    old.conv1.stride = (1, 1)
    blur = Blur(2, torch.device("cpu"))
    branch = old.norm2(old.conv2(blur(old.act1(old.norm1(old.conv1(x))))))
    old.shortcut[0].stride = (1, 1)
    torch.testing.assert_close(block(x), (branch + old.shortcut(blur(x))).relu())


def test_before_blurs_what_a_strided_convolution_sees():
    run, plain = tiny_run(), tiny_run()
    block = Blurpool(place="before").model(run.model, run).net.stage2[0]
    x = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    old = plain.model.net.stage2[0].conv1
    assert old.stride == (2, 2)
    torch.testing.assert_close(block.conv1(x), old(Blur(1, torch.device("cpu"))(x)))


def test_timms_stem_pool_is_blurred_and_narrow_layers_can_be_spared():
    run = tiny_run(channels=3, size=32, model="timm/resnet26", width=None)
    model = Blurpool(channels=16).model(run.model, run)
    assert sum(isinstance(m, Blur) for m in model.modules()) == 1 + 2 * 3
    assert not any(isinstance(m, nn.MaxPool2d) and m.stride == 2 for m in model.modules())
    run = tiny_run()
    with pytest.raises(NoEffect, match="16 inputs"):
        Blurpool(channels=16).model(run.model, run)


def test_predictions_change_less_under_a_shift():
    def change(model):
        x = tiny_batch(n=64).x
        a, b = model.net.stage2(x.expand(-1, 4, -1, -1)), model.net.stage2(x.roll(1, -1).expand(-1, 4, -1, -1))
        return float((a - b).detach().square().mean() / a.detach().var())

    run, plain = tiny_run(), tiny_run()
    assert change(Blurpool().model(run.model, run).eval()) < change(plain.model.eval())
