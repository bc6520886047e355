import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.mixing.copy_paste import CopyPaste, ink_share, paste, saliency, salient_box

SWAP = torch.tensor([1, 0])


class TestCopyPaste(TrickConformance):
    trick = CopyPaste
    params = {"prob": 1.0}  # noqa: RUF012


class TestCopyPasteOfBoxes(TrickConformance):
    trick = CopyPaste
    params = {"mask": "box"}  # noqa: RUF012


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
    kept = paste(batch, SWAP, none, ink_share(none, full))
    other = paste(batch, SWAP, full, ink_share(full, full))

    assert torch.equal(kept.x, batch.x)
    assert torch.equal(kept.y, batch.y)
    assert torch.equal(other.x, batch.x[SWAP])
    assert torch.equal(other.y, batch.y[SWAP])


def test_ink_by_hand():
    """Over the row of 8 come 8 pixels of the column, one of them on the row: 8 of 15 that show."""
    batch = strokes()
    run = tiny_run(info=tiny_info()._replace(mean=(0.2,)))
    for _ in range(20):
        mixed = CopyPaste(prob=1.0).batch(batch, run)
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
    x[1, :, 0, 7] = 0.0
    assert [divmod(int(p), 8) for p in saliency(x).flatten(1).argmax(1)] == [(5, 4), (0, 7)]
    box, expected = salient_box(x, area=0.25), torch.zeros(2, 8, 8, dtype=torch.bool)
    expected[0, 3:7, 2:6] = True
    expected[1, :2, 5:] = True  # half of it is above the image, a column to the right of it
    assert torch.equal(box, expected)
    assert not salient_box(x, area=0.0).any()


def test_box_targets_are_the_share_of_changed_pixels():
    run, batch = tiny_run(channels=3), tiny_batch(n=8, channels=3)
    shares = set()
    for _ in range(40):
        mixed = CopyPaste(prob=1.0).batch(batch, run)
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
