import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.mixing.copy_paste import (
    CopyPaste,
    ink_share,
    jittered,
    outside,
    paste,
    saliency,
    salient_box,
)

SWAP = torch.tensor([1, 0])


class TestCopyPaste(TrickConformance):
    trick = CopyPaste
    params = {"prob": 1.0}  # noqa: RUF012


class TestCopyPasteOfBoxes(TrickConformance):
    trick = CopyPaste
    params = {"mask": "box"}  # noqa: RUF012


def unmirrored(**info):
    info = tiny_info(**info)
    return info._replace(invariances=info.invariances._replace(flip=False))


def strokes():
    """Image 0 has a row of ink, image 1 a column that crosses it."""
    batch = tiny_batch(n=2)
    batch.x.zero_()
    batch.x[0, 0, 2, :] = 0.5
    batch.x[1, 0, :, 3] = 0.9
    return batch


def test_empty_mask_is_the_identity_and_a_full_one_the_other_image():
    batch = tiny_batch(n=2)
    none, full = torch.zeros(2, 8, 8, dtype=torch.bool), torch.ones(2, 8, 8, dtype=torch.bool)
    kept = paste(batch, batch.x[SWAP], SWAP, none, ink_share(none, full))
    other = paste(batch, batch.x[SWAP], SWAP, full, ink_share(full, full))

    assert torch.equal(kept.x, batch.x)
    assert torch.equal(kept.y, batch.y)
    assert torch.equal(other.x, batch.x[SWAP])
    assert torch.equal(other.y, batch.y[SWAP])


def test_ink_by_hand():
    """Over the row of 8 come 8 pixels of the column, one of them on the row: 8 of 15 that show."""
    batch = strokes()
    run = tiny_run(info=unmirrored()._replace(mean=(0.2,)))
    for _ in range(20):
        mixed = CopyPaste(prob=1.0, jitter="none").batch(batch, run)
        if not torch.equal(mixed.x, batch.x):
            break
    expected = batch.x[0].clone()
    expected[0, :, 3] = 0.9
    assert torch.equal(mixed.x[0], expected)
    torch.testing.assert_close(mixed.y[0, :2], torch.tensor([7 / 15, 8 / 15]))
    # The other way round the row covers the crossing.
    assert float(mixed.x[1, 0, 2, 3]) == 0.5
    torch.testing.assert_close(mixed.y[1, :2], torch.tensor([8 / 15, 7 / 15]))


def test_images_without_ink_give_nothing_away():
    nothing = torch.zeros(1, 8, 8, dtype=torch.bool)
    assert ink_share(nothing, nothing).tolist() == [0.0]


def test_box_is_around_the_planted_bright_spot():
    x = torch.full((2, 3, 8, 8), 0.3)
    x[0, :, 4:7, 3:6] = 1.0
    x[1, :, 0, 7] = 0.05
    assert [divmod(int(p), 8) for p in saliency(x, outside(x)).flatten(1).argmax(1)] == [(5, 4), (0, 7)]
    box, expected = salient_box(x, area=0.25), torch.zeros(2, 8, 8, dtype=torch.bool)
    expected[0, 3:7, 2:6] = True
    expected[1, :2, 5:] = True  # half of it is above the image, a column to the right of it
    assert torch.equal(box, expected)
    assert not salient_box(x, area=0.0).any()


def bordered():
    """Grey 0.3, two columns of black at the left and a bright pixel at the right, as after a shift."""
    x = torch.full((1, 3, 8, 8), 0.3)
    x[..., :2] = 0.0
    x[..., 4, 6] = 0.6
    return x


def test_black_that_an_augmentation_moved_in_is_neither_salient_nor_pasted():
    """Columns 0 and 1 are black and column 2 may be half so; black is farther from the mean than the spot."""
    x = bordered()
    out = outside(x)
    box = salient_box(x, area=1.0)
    everywhere = torch.zeros(1, 8, 8, dtype=torch.bool)

    assert out[0, 0].tolist() == [True] * 3 + [False] * 5
    assert bool((out == out[:, :1]).all())
    assert divmod(int(saliency(x, everywhere).flatten().argmax()), 8)[1] <= 1, "what went wrong without"
    assert int(saliency(x, out).flatten().argmax()) // 8 in (3, 4, 5)
    assert int(saliency(x, out).flatten().argmax()) % 8 in (5, 6, 7)
    assert not bool((box & out).any())
    assert bool(box.any())


def test_corners_of_a_turn_are_outside_and_a_dark_object_is_not():
    x = torch.full((2, 1, 9, 9), 0.5)
    x[0, 0, 0, :3] = x[0, 0, 1, :2] = x[0, 0, 2, 0] = 0.0
    x[1, 0, 3:6, 3:6] = 0.0
    out = outside(x)
    assert bool(out[0, :3, 0].all())
    assert bool(out[0, 0, :3].all())
    assert not bool(out[0, 5:, 5:].any())
    assert not bool(out[1].any())
    assert bool(outside(torch.zeros(1, 3, 4, 4)).all())


def test_jitter_by_hand():
    """Half the size at the upper left corner: each pixel is the mean of 2 x 2; twice the size: a window is seen."""
    x = torch.arange(16.0).view(1, 1, 4, 4)
    small = jittered(x, torch.tensor([[0.0], [0.0], [0.0], [0.9]]), 0.5, 2.0, flip=False)
    expected = torch.zeros(4, 4)
    expected[:2, :2] = torch.tensor([[2.5, 4.5], [10.5, 12.5]])
    torch.testing.assert_close(small[0, 0], expected)

    right_below = jittered(x, torch.tensor([[1.0], [0.0], [0.0], [0.9]]), 0.5, 2.0, flip=False)
    left_above = jittered(x, torch.tensor([[1.0], [1.0], [1.0], [0.9]]), 0.5, 2.0, flip=False)
    assert float(right_below.min()) >= 4.0
    assert float(right_below[0, 0, 1, 1]) == pytest.approx(10 - 5 / 4 + 2.5)
    assert float(left_above[0, 0, 1, 1]) == pytest.approx(1.25)


def test_jitter_mirrors_only_where_it_may():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    low, high = (torch.tensor([[0.5], [0.5], [0.5], [u]]) for u in (0.4, 0.6))
    assert torch.equal(jittered(x, low, 1.0, 1.0, flip=True), x.flip(-1))
    assert torch.equal(jittered(x, high, 1.0, 1.0, flip=True), x)
    assert torch.equal(jittered(x, low, 1.0, 1.0, flip=False), x)


def test_box_targets_are_the_share_of_changed_pixels():
    run, batch = tiny_run(info=unmirrored(channels=3)), tiny_batch(n=8, channels=3)
    shares = set()
    for _ in range(40):
        mixed = CopyPaste(prob=1.0, jitter="none").batch(batch, run)
        changed = (mixed.x != batch.x).any(1).float().mean((1, 2))
        given_away = 1 - mixed.y[torch.arange(8), batch.label]
        torch.testing.assert_close(given_away, changed)
        shares.update(changed.tolist())
    assert len(shares) > 10


@pytest.mark.parametrize("prob", [0.0, 0.5, 1.0])
def test_acts_with_the_given_probability(prob):
    run, batch = tiny_run(), tiny_batch(n=2)
    acted = sum(CopyPaste(prob=prob).batch(batch, run) is not batch for _ in range(400)) / 400
    assert abs(acted - prob) <= (0.1 if prob == 0.5 else 0)


def test_refuses_dark_ink_on_bright_paper():
    run = tiny_run(info=tiny_info()._replace(mean=(0.8,)))
    with pytest.raises(NotApplicable, match="bright on black"):
        CopyPaste().prepare(run)
    CopyPaste(mask="box").prepare(run)
