"""How many images are predicted at once: as many as the memory bears, and with the same bits."""

import pytest
import torch

from harness.data.batches import evaluation_batches
from harness.data.rows import at_once
from harness.data.splits import Held
from harness.data.types import PHOTOS, DataInfo
from harness.experiment import Model
from harness.models.build import build
from harness.training import evaluate
from harness.training.evaluate import predict_all

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("side", "device", "images"),
    [
        (8, CPU, 1000),
        (32, CPU, 1000),
        (33, CPU, 928),
        (128, CPU, 48),
        (224, CPU, 16),
        (1024, CPU, 16),
        (64, GPU, 1000),
        (224, GPU, 320),
    ],
)
def test_a_thousand_images_are_predicted_at_once_up_to_32_pixels_and_fewer_beyond(side, device, images):
    assert at_once(side, 1000, device) == images


def held(count, side, channels=3):
    images = torch.randint(0, 256, (count, side, side, channels), generator=torch.Generator().manual_seed(0))
    return Held(images.byte(), torch.arange(count) % 10, torch.arange(count) + 5, 255)


@pytest.mark.parametrize(
    ("name", "width", "side", "channels"),
    [("digits_resnet", 8, 8, 1), ("resnet8", 8, 32, 3), ("timm/mobilenetv3_small_100", None, 64, 3)],
)
@pytest.mark.parametrize("channels_last", [True, False])
def test_logits_are_the_same_bits_whatever_is_predicted_at_once(
    name, width, side, channels, channels_last, monkeypatch
):
    info = DataInfo(
        tuple("abcdefghij"), channels, side, (0.5,) * channels, (0.25,) * channels, PHOTOS, (1,) * 10
    )  # fmt: skip
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = build(Model(name=name, width=width), info, 0).eval().to(memory_format=layout)
    part = held(75, side, channels)
    whole = predict_all(model, part, CPU, channels_last)
    for size in (16, 32, 48):
        monkeypatch.setattr(evaluate, "at_once", lambda *args, size=size: size)
        some = predict_all(model, part, CPU, channels_last)
        for field in ("logits", "label", "index"):
            assert torch.equal(getattr(some, field), getattr(whole, field)), (size, field)


def test_a_small_rest_is_predicted_with_images_of_the_batch_before():
    part = held(20, 4)
    shapes = [(len(x), label.tolist()) for x, label, _ in evaluation_batches(part, CPU, 16, channels_last=True)]
    assert shapes == [(16, [i % 10 for i in range(16)]), (16, [6, 7, 8, 9])]
    assert [len(x) for x, _, _ in evaluation_batches(held(5, 4), CPU, 16, channels_last=True)] == [5]
