from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from harness.data import batches
from harness.data.batches import Loader, evaluation_batches
from harness.data.rows import to_pixels
from harness.data.splits import Held
from harness.errors import UserError
from harness.experiment import Augment
from harness.tricks.contract import Batch, TrainingSet

SIDE = 8


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def training_set(count: int = 20, side: int = SIDE, channels: int = 3) -> TrainingSet:
    # No pixel is black, so that the border of a shifted image can be told from its content.
    images = torch.randint(1, 256, (count, side, side, channels), dtype=torch.uint8, generator=stream(9))
    return TrainingSet(images, torch.arange(count) % 3, torch.arange(count) + 100)


def loader(train: TrainingSet | None = None, seed: int = 0, **more: Any) -> Loader:
    augment = Augment(**{k: more.pop(k) for k in list(more) if k in Augment.model_fields})
    settings = {"batch_size": 4, "device": "cpu", "classes": 3, "channels_last": True} | more
    streams = {"order": stream(seed), "augment_rng": stream(seed + 1)}
    return Loader(train or training_set(), augment, **streams, **settings)


def epoch(made: Loader, positions: Tensor | None = None) -> Batch:
    parts = list(made.epoch(positions))
    fields = ((b.x, b.y, b.label, b.index) for b in parts)
    return Batch(*(torch.cat(tensors) for tensors in zip(*fields, strict=True)))


def windows(image: Tensor, shift: int) -> list[Tensor]:
    """All windows of a float image (C, H, W) with a black border, row by row."""
    padded = pad(image, [shift] * 4)
    offsets = range(2 * shift + 1)
    return [padded[:, i : i + SIDE, j : j + SIDE] for i in offsets for j in offsets]


def test_without_augmentation_batches_are_the_images_in_shuffled_order() -> None:
    train = training_set()
    batch = epoch(loader(train))
    order = torch.randperm(20, generator=stream(0))
    assert torch.equal(batch.index, train.index[order])
    assert torch.equal(batch.label, train.label[order])
    assert torch.equal(batch.x, train.images[order].permute(0, 3, 1, 2) / 255)


def test_each_epoch_has_its_own_order() -> None:
    made = loader()
    assert not torch.equal(epoch(made).index, epoch(made).index)


def test_the_last_incomplete_batch_is_dropped() -> None:
    made = loader(batch_size=8)
    assert made.steps_per_epoch == 2
    assert [len(b.x) for b in made.epoch()] == [8, 8]


@pytest.mark.parametrize("channels_last", [True, False])
def test_batches_have_the_memory_format_that_was_asked_for(channels_last: bool) -> None:
    for more in ({}, {"shift": 0.125, "flip": True}, {"rotation": 10.0}):
        for batch in loader(channels_last=channels_last, **more).epoch():
            assert batch.x.is_contiguous(memory_format=torch.channels_last) == channels_last
            assert batch.x.is_contiguous() != channels_last


@pytest.mark.parametrize("flip", [True, False])
def test_each_image_is_a_window_of_its_padded_original(flip: bool) -> None:
    train = training_set()
    batch = epoch(loader(train, shift=0.25, flip=flip))
    seen = set()
    for x, index in zip(batch.x, batch.index, strict=True):
        original = train.images[index - 100].permute(2, 0, 1) / 255
        views = windows(original, 2)
        if flip:
            views += [view.flip(-1) for view in views]
        matches = [k for k, view in enumerate(views) if torch.equal(x, view)]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) > 10  # 20 images draw from 25 or 50 windows


def test_offsets_are_uniform_in_both_directions() -> None:
    image = torch.zeros(1, SIDE, SIDE, 1, dtype=torch.uint8)
    image[0, 4, 4] = 255
    train = TrainingSet(image.expand(9000, -1, -1, -1), torch.zeros(9000).long(), torch.arange(9000))
    x = epoch(loader(train, shift=0.125, batch_size=100)).x
    lit = x.sum((0, 1))
    assert int(lit.sum()) == 9000
    # 9 places with 1000 expected in each; the standard deviation of a count is 30.
    assert (lit[3:6, 3:6] - 1000).abs().max() < 150


def test_about_half_of_the_images_are_mirrored() -> None:
    image = torch.zeros(1, SIDE, SIDE, 1, dtype=torch.uint8)
    image[0, 0, 0] = 255
    train = TrainingSet(image.expand(4000, -1, -1, -1), torch.zeros(4000).long(), torch.arange(4000))
    x = epoch(loader(train, flip=True, batch_size=100)).x
    mirrored = x[:, 0, 0, -1].sum()
    assert x[:, 0, 0, 0].sum() + mirrored == 4000
    assert abs(float(mirrored) - 2000) < 160  # five standard deviations


def test_flip_does_not_change_the_shifts() -> None:
    still, flipped = epoch(loader(shift=0.25)), epoch(loader(shift=0.25, flip=True))
    originals = training_set().images
    for a, b, index in zip(still.x, flipped.x, still.index, strict=True):
        image = originals[index - 100].permute(2, 0, 1) / 255
        where = next(k for k, view in enumerate(windows(image, 2)) if torch.equal(a, view))
        # The content of the window is the same; only its direction may differ.
        assert torch.equal(b, windows(image, 2)[where]) or torch.equal(b, windows(image, 2)[where].flip(-1))


@pytest.mark.parametrize("more", [{"shift": 0.25, "flip": True}, {"rotation": 20.0, "scale_min": 0.5}])
def test_equal_generator_states_give_equal_bits_and_others_do_not(more: dict[str, Any]) -> None:
    a, b, other = epoch(loader(**more)), epoch(loader(**more)), epoch(loader(seed=5, **more))
    assert torch.equal(a.x, b.x)
    assert not torch.equal(a.x, other.x)


def test_chunks_do_not_change_the_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"shift": 0.25, "flip": True, "rotation": 10.0}
    whole = epoch(loader(**more))
    monkeypatch.setattr(batches, "CHUNK_PIXELS", 1)
    assert torch.equal(epoch(loader(**more)).x, whole.x)


def test_no_draw_comes_from_the_global_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "fits", lambda rows, device: False)
    before = torch.get_rng_state()
    epoch(loader(shift=0.25, flip=True, rotation=10.0, scale_min=0.5))
    assert torch.equal(torch.get_rng_state(), before)


def test_images_that_do_not_fit_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = epoch(loader(shift=0.25, flip=True))
    monkeypatch.setattr(batches, "fits", lambda rows, device: False)
    streamed = epoch(loader(shift=0.25, flip=True))
    for field in ("x", "y", "label", "index"):
        assert torch.equal(getattr(streamed, field), getattr(resident, field))


def test_a_constant_image_stays_constant_in_a_resized_crop() -> None:
    images = torch.full((40, SIDE, SIDE, 1), 100, dtype=torch.uint8)
    train = TrainingSet(images, torch.zeros(40).long(), torch.arange(40))
    x = epoch(loader(train, scale_min=0.3)).x
    # Nothing but the outermost pixels may mix with the black outside, when the window touches the border.
    assert torch.allclose(x[:, :, 1:-1, 1:-1], torch.tensor(100 / 255), atol=1e-6)


def test_a_resized_crop_shows_the_share_of_the_area_that_was_asked_for() -> None:
    # On a horizontal ramp, the slope of a row is the share of the width that the crop shows.
    ramp = torch.arange(0, 256, 4, dtype=torch.uint8).expand(64, 64)
    images = torch.stack([ramp, ramp.T], dim=-1).expand(200, -1, -1, -1)
    train = TrainingSet(images, torch.zeros(200).long(), torch.arange(200))
    x = epoch(loader(train, scale_min=0.4, batch_size=50)).x
    width = (x[:, 0, 32, 40] - x[:, 0, 32, 24]) * 255 / (4 * 16)
    height = (x[:, 1, 40, 32] - x[:, 1, 24, 32]) * 255 / (4 * 16)
    area, aspect = width * height, width / height
    assert float(area.min()) >= 0.39
    assert float(area.max()) <= 1.001
    assert float(area.min()) < 0.5
    assert float(aspect.max()) <= 4 / 3 + 0.01
    assert float(aspect.min()) >= 3 / 4 - 0.01


def test_a_rotation_by_at_most_zero_point_one_degrees_hardly_moves_the_centre() -> None:
    train = training_set()
    plain, turned = epoch(loader(train)), epoch(loader(train, rotation=0.1))
    assert not torch.equal(plain.x, turned.x)
    assert torch.allclose(plain.x[:, :, 3:5, 3:5], turned.x[:, :, 3:5, 3:5], atol=0.01)


def test_rotation_turns_the_image_about_its_centre() -> None:
    # A white right half: its mean direction after a turn by t is (cos t, sin t).
    images = torch.zeros(300, 32, 32, 1, dtype=torch.uint8)
    images[:, :, 16:] = 255
    train = TrainingSet(images, torch.zeros(300).long(), torch.arange(300))
    x = epoch(loader(train, rotation=30.0, batch_size=100)).x
    axis = torch.linspace(-1, 1, 32)
    disc = (axis[:, None] ** 2 + axis[None, :] ** 2 < 0.9).float()
    right, down = (x * disc * axis).sum((1, 2, 3)), (x * disc * axis[:, None]).sum((1, 2, 3))
    degrees = torch.atan2(down, right).rad2deg()
    assert 25 < float(degrees.max()) <= 30.5
    assert -30.5 <= float(degrees.min()) < -25


def test_targets_are_one_hot_float_rows_of_the_label() -> None:
    batch = epoch(loader())
    assert batch.y.dtype == torch.float32
    assert torch.equal(batch.y, torch.eye(3)[batch.label])


def test_targets_of_the_training_set_are_taken_when_it_has_them() -> None:
    plain = training_set()
    y = torch.rand(20, 3, dtype=torch.float64, generator=stream(2)).softmax(1)
    batch = epoch(loader(TrainingSet(plain.images, plain.label, plain.index, 255, y)))
    assert torch.equal(batch.y, y[batch.index - 100].float())


def test_positions_replace_the_shuffled_order_and_may_repeat() -> None:
    batch = epoch(loader(), torch.tensor([3, 3, 3, 5, 1, 0, 7, 7, 2]))
    assert batch.index.tolist() == [103, 103, 103, 105, 101, 100, 107, 107]


def test_repeated_positions_are_augmented_differently() -> None:
    x = epoch(loader(shift=0.25, flip=True), torch.zeros(8, dtype=torch.long)).x
    assert len({tuple(image.flatten().tolist()) for image in x}) > 4


def test_a_split_smaller_than_a_batch_is_refused_with_both_numbers() -> None:
    with pytest.raises(UserError, match=r"batch_size = 21: the training split has 20 images"):
        loader(batch_size=21)
    with pytest.raises(UserError, match=r"batch_size = 4: the sampler chose 3 images"):
        list(loader().epoch(torch.arange(3)))


def test_transforms_see_each_uint8_image_after_the_shift() -> None:
    shapes = []

    def invert(image: Tensor) -> Tensor:
        shapes.append((tuple(image.shape), image.dtype))
        return 255 - image

    plain, changed = epoch(loader(shift=0.25)), epoch(loader(shift=0.25, transforms=invert))
    assert shapes == [((3, SIDE, SIDE), torch.uint8)] * 20
    assert torch.allclose(changed.x, 1 - plain.x, atol=1e-6)


def test_peak_is_white() -> None:
    images = torch.tensor([[[[16]]], [[[4]]]], dtype=torch.uint8)
    assert to_pixels(images, 16, channels_last=True).flatten().tolist() == [1.0, 0.25]


def test_evaluation_batches_cover_the_split_in_order() -> None:
    train = training_set(40)
    held = Held(train.images, train.label, train.index, 255)
    x, label, index = zip(*evaluation_batches(held, "cpu", 16, channels_last=True), strict=True)
    assert [len(part) for part in label] == [16, 16, 8]
    own = [pixels[-len(part) :] for pixels, part in zip(x, label, strict=True)]
    assert torch.equal(torch.cat(own), train.images.permute(0, 3, 1, 2) / 255)
    assert torch.equal(torch.cat(label), train.label)
    assert torch.equal(torch.cat(index), train.index)
