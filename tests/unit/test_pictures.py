"""Contact sheets show what tricks do to images, by the hooks of the training loop."""

import io
import struct

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import UserError
from harness.tricks import registry
from harness.tricks.contract import Trick, overrides
from harness.workflow.pictures import DRAWS, PHOTOS_SHOWN, SHOWN, UNCHANGED, collect, contact_sheet, figure, words_of

DIGITS = "digits-noisy"


def on_images(name):
    trick = registry.make(name)
    return overrides(trick, "sample_transform") or overrides(trick, "batch")


@pytest.mark.parametrize("name", ["cutout", "mixup", "random_affine"])
def test_a_sheet_has_a_row_for_each_image_and_a_column_for_each_draw(name):
    drawn, missing = collect(registry.make(name), None, None)

    images = [axes.images[0].get_array() for axes in figure([name], drawn).axes]
    digits = np.stack(images[: (DRAWS + 1) * SHOWN]).reshape(DRAWS + 1, SHOWN, 8, 8)
    photographs = np.stack(images[(DRAWS + 1) * SHOWN :]).reshape(DRAWS + 1, PHOTOS_SHOWN, 96, 96, 3)
    assert missing == []
    for columns in (digits, photographs):
        changed = (columns[1:] != columns[0]).reshape(DRAWS, -1)
        assert changed.any(1).all()  # of every draw
        assert len({draw.tobytes() for draw in columns}) == DRAWS + 1


def test_the_originals_are_stored_pixels_and_a_hidden_square_is_all_that_cutout_changes():
    (drawn,), _ = collect(registry.make("cutout"), DIGITS, None)

    x = drawn.originals.x
    assert torch.equal((x * 16).round() / 16, x)  # sixteen is white
    for _, batch in drawn.draws:
        for before, after in zip(x, batch.x[:SHOWN], strict=True):
            rows, columns = (before != after)[0].nonzero().unbind(1)
            assert rows.max() - rows.min() < 4
            assert columns.max() - columns.min() < 4
            assert len(set(after[before != after].tolist())) == 1
            assert torch.equal(batch.y[:SHOWN], drawn.originals.y)


def test_words_are_the_heaviest_weights_of_a_target():
    y = torch.tensor([0.25, 0.0, 0.62, 0.015, 0.115])

    assert words_of(y, "abcde") == "0.62 c + 0.25 a\n0.12 e"
    assert words_of(y, ["a cat", "b", "a large dog of some breed", "d", "e"]) == "0.62 a large dog \n0.25 a cat\n0.12 e"


def test_mixed_targets_are_told_below_their_image_and_others_only_once():
    def texts(name):
        (drawn,), _ = collect(registry.make(name), DIGITS, None)
        return [text.get_text() for text in figure([name], [drawn]).texts if text.get_text()[:2] in ("0.", "1.")]

    assert sum("+" in text for text in texts("mixup")) > SHOWN
    assert texts("random_affine") == [f"1.00 {digit}" for digit in "02673451"]


@pytest.mark.parametrize("name", ["label_smoothing", "adamw", "fgsm_training"])
def test_a_trick_that_changes_no_image_is_refused(name, tmp_path):
    done = CliRunner().invoke(app, ["tricks", name, "--pictures", str(tmp_path / "a.png")])

    assert str(done.exception) == (
        f"tricks {name} --pictures: there is nothing to show of digits and photographs: {UNCHANGED}"
    )
    assert list(tmp_path.iterdir()) == []


def test_equal_calls_give_equal_bytes_that_the_command_writes(tmp_path):
    done = CliRunner().invoke(app, ["tricks", "random_flip", "--pictures", str(tmp_path / "new" / "a.png")])

    written = (tmp_path / "new" / "a.png").read_bytes()
    assert done.exit_code == 0, done.output
    assert written == contact_sheet("random_flip")
    assert contact_sheet("mixup", DIGITS) == contact_sheet("mixup", DIGITS)
    # Digits bear no mirror, so only the photographs are there, and the file says why.
    assert b"digits declares invariances.flip = False" in written
    assert imread(io.BytesIO(written)).shape[:2] == struct.unpack(">II", written[16:24])[::-1]


NOTHING_OF_DIGITS = {
    "alternating_flip": "force = true mirrors anyway",
    "augmix": "what a step does with them is not shown",
    "grayscale": "no colour to take out",
    "label_smoothing": UNCHANGED,
    "random_flip": "force = true flips anyway",
}


@pytest.mark.parametrize("name", [name for name in registry.names() if on_images(name)])
def test_every_trick_of_images_has_a_sheet_or_a_reason(name):
    if name in NOTHING_OF_DIGITS:
        with pytest.raises(UserError, match=NOTHING_OF_DIGITS[name]):
            collect(registry.make(name), DIGITS, None)
    else:
        (drawn,), _ = collect(registry.make(name), DIGITS, None)
        assert len(drawn.draws) == DRAWS


def test_draws_are_spread_over_a_training():
    (drawn,), _ = collect(registry.make("progressive_resizing"), DIGITS, None)

    assert [heading for heading, _ in drawn.draws] == ["epoch 1", "epoch 9", "epoch 17", "epoch 25", "epoch 33"]
    assert [batch.x.shape[-1] for _, batch in drawn.draws] == [
        4,
        4,
        4,
        5,
        8,
    ]  # half until half, whole for the last fifth


def test_an_image_hook_of_each_sample_is_shown():
    class Negative(Trick):
        info = registry.load("cutout").info._replace(name="negative")

        def sample_transform(self, image, run):
            return 16 - image

    with registry.registered(Negative):
        (drawn,), _ = collect(Negative(), DIGITS, None)

    for _, batch in drawn.draws:
        assert torch.equal(batch.x[:SHOWN], 1 - drawn.originals.x)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pictures", "a.png"], "tricks --pictures a.png: name the trick that is to be shown"),
        (["mixup", "--pictures", "a.jpg"], "a contact sheet is a .png, or a small .webp; let its name end with one"),
        (["mixup", "-e", "digits"], "tricks --experiment digits: only --pictures shows images"),
        (["mixup", "--pictures", "a.png", "--data-root", "x"], "tricks --data-root x: the data are named by"),
        (["mixpu", "--pictures", "a.png"], "mixpu"),
    ],
    ids=["no trick", "no png", "no pictures", "no experiment", "unknown"],
)
def test_what_cannot_be_asked_is_said_at_once(arguments, said):
    done = CliRunner().invoke(app, ["tricks", *arguments])

    assert isinstance(done.exception, UserError)
    assert said in str(done.exception)
