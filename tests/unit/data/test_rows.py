from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from harness.data import content, sources
from harness.data.batches import Loader
from harness.data.rows import CROP_DRAWS, TRIES, ArrayRows, PhotoRows, crop_boxes, resize, rows_of, squares
from harness.data.sources import load_source
from harness.data.splits import split
from harness.data.types import TrainingSet
from harness.experiment import Augment, Data, Recipe
from harness.tricks.images import views

SIDE = 64


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos() -> list[torch.Tensor]:
    """Scikit-learn's two photographs, uint8 (3, 427, 640)."""
    return [torch.from_numpy(photo.copy()).permute(2, 0, 1) for photo in load_sample_images().images]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder `photos` of two classes: a photograph and its left half, upright."""
    root = tmp_path_factory.mktemp("rows")
    for split_name in ("train", "val"):
        for label, photo in zip(("china", "flower"), load_sample_images().images, strict=True):
            path = root / "photos" / split_name / label / "0.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(photo).save(path)
            Image.fromarray(photo[:, :300]).save(path.with_name("1.png"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HOME", str(root / "home"))
        yield root
    sources._load.cache_clear()


def rows(root: Path, side: int = SIDE) -> PhotoRows:
    found = load_source(Data(name="folder", root="photos", image_size=side, val_size=1), root).train_images
    assert isinstance(found, PhotoRows)
    return found


def draws(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(CROP_DRAWS, n, generator=stream(seed))


def gradient(images: torch.Tensor) -> float:
    """Mean length of the brightness's gradient over uint8 images (N, H, W, C): how sharp they are."""
    grey = images.float().mean(-1)
    down, right = grey[:, 1:, :-1] - grey[:, :-1, :-1], grey[:, :-1, 1:] - grey[:, :-1, :-1]
    return float((down**2 + right**2).sqrt().mean())


def torchvision_crops(chosen: torch.Tensor, drawn: torch.Tensor, scale_min: float, side: int) -> torch.Tensor:
    """The same boxes of the originals, resized by torchvision."""
    originals = [photo[..., :300] if half else photo for photo in photos() for half in (False, True)]
    out = []
    for i, where in enumerate(chosen.tolist()):
        size = torch.tensor([originals[where].shape[1:]])
        (box,) = crop_boxes(size, drawn[:, i : i + 1], scale_min).tolist()
        out.append(tv.resized_crop(originals[where], *box, [side, side], antialias=True).permute(1, 2, 0))
    return torch.stack(out)


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize("scale_min", [0.08, 0.35])
def test_training_crops_are_as_sharp_as_torchvisions_of_the_originals(
    scale_min: float, side: int, data_root: Path
) -> None:
    chosen = torch.arange(4).repeat(25)
    drawn = draws(100)
    ours = rows(data_root, side).crops(chosen, drawn, scale_min)
    assert gradient(ours) == pytest.approx(gradient(torchvision_crops(chosen, drawn, scale_min, side)), rel=0.05)


def test_a_crop_of_a_small_image_is_torchvisions(data_root: Path) -> None:
    # At 300 pixels nothing is shrunk: 427 and 300 are below twice that.
    chosen, drawn = torch.arange(4), draws(4)
    ours, theirs = rows(data_root, 300).crops(chosen, drawn, 0.08), torchvision_crops(chosen, drawn, 0.08, 300)
    assert (ours.int() - theirs.int()).abs().max() <= 1


def measures(boxes: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    """Of boxes in an image: the share of the area, the logarithm of the aspect, and the centre."""
    place, size = boxes[:, :2].double(), boxes[:, 2:].double()
    area, aspect = size.prod(1) / shape.prod(), (size[:, 1] / size[:, 0]).log()
    return torch.stack((area, aspect, *((place + size / 2) / shape).unbind(1)))


def test_boxes_have_the_areas_and_aspects_of_torchvisions() -> None:
    n = 4000
    for height, width in ((300, 300), (200, 400), (90, 400)):
        ours = crop_boxes(torch.tensor([[height, width]]).expand(n, 2), draws(n), 0.08)
        assert (ours[:, :2] >= 0).all()
        assert (ours[:, 2:] >= 1).all()
        assert (ours[:, :2] + ours[:, 2:] <= torch.tensor([height, width])).all()
        image = torch.empty(1, height, width)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            get = v2.RandomResizedCrop(8, scale=(0.08, 1.0)).make_params
            theirs = torch.tensor([list(get([image]).values()) for _ in range(n)])  # top, left, height, width
        shape = torch.tensor([height, width])
        for a, b in zip(measures(ours, shape), measures(theirs, shape), strict=True):
            error = float(((a.var() + b.var()) / n).sqrt())
            assert abs(float(a.mean() - b.mean())) < 4 * error + 1e-9, (height, width)
            assert float(a.std()) == pytest.approx(float(b.std()), rel=0.08, abs=1e-9)


def test_the_first_try_that_fits_is_taken_and_else_the_centre() -> None:
    half = torch.full((CROP_DRAWS, 1), 0.5)  # square boxes of 0.54 of the area, in the middle
    half[:TRIES] = (0.25 - 0.08) / 0.92  # a quarter of the area
    assert crop_boxes(torch.tensor([[100, 100]]), half, 0.08).tolist() == [[25, 25, 50, 50]]
    wide = half.clone()
    wide[0], wide[TRIES] = 1.0, 1.0  # the whole area at 4/3 leaves a square image
    assert crop_boxes(torch.tensor([[100, 100]]), wide, 0.08).tolist() == [[25, 25, 50, 50]]
    wide[:TRIES], wide[TRIES : 2 * TRIES] = 1.0, 1.0
    assert crop_boxes(torch.tensor([[100, 100], [90, 240], [240, 90]]), wide.expand(-1, 3), 0.08).tolist() == [
        [0, 0, 100, 100],
        [0, 60, 90, 120],
        [60, 0, 120, 90],
    ]


def test_what_is_evaluated_is_the_central_square_resized(data_root: Path) -> None:
    assert squares(torch.tensor([[427, 640], [640, 428]])).tolist() == [[0, 106, 427, 427], [106, 0, 428, 428]]
    found = rows(data_root, 300)
    expected = tv.resize(tv.center_crop(photos()[0], [427, 427]), [300, 300], antialias=True).permute(1, 2, 0)
    assert (found[:1][0].int() - expected.int()).abs().max() <= 1


def test_an_image_of_the_asked_size_stays_as_it_is() -> None:
    image, out = torch.arange(48, dtype=torch.uint8).view(4, 4, 3), torch.empty(4, 4, 3, dtype=torch.uint8)
    resize(image, [0, 0, 4, 4], out)
    assert torch.equal(out, image)


def test_kept_images_have_their_aspect_and_at_most_twice_the_side(data_root: Path) -> None:
    assert rows(data_root).sizes.tolist() == [[128, 192], [182, 128]] * 2
    assert rows(data_root, 300).sizes.tolist() == [[427, 640], [427, 300]] * 2


@pytest.mark.parametrize("chosen", [slice(1, 3), torch.tensor([3, 0, 0]), torch.tensor([True, False, True, False])])
def test_rows_give_what_an_array_would(chosen: Any, data_root: Path) -> None:
    found = rows(data_root)
    array = found[:]
    for some in (found, ArrayRows(array), ArrayRows(array.numpy())):
        assert (len(some), some.side, some.channels) == (4, SIDE, 3)
        assert torch.equal(some[chosen], array[chosen])
        part = some.select(torch.tensor([2, 1, 3]))
        assert torch.equal(part[:], array[[2, 1, 3]])
        assert torch.equal(part.take(torch.tensor([2, 2])), array[[3, 3]])
        assert torch.equal(part.select(torch.tensor([1]))[:], array[[1]])
        assert torch.equal(some.on(torch.device("cpu"))[:], array)
        assert rows_of(some) is some
        for ours, theirs in zip(some.moments(255), ArrayRows(array).moments(255), strict=True):
            assert ours == pytest.approx(theirs)


def test_mean_and_std_of_photographs_are_those_of_the_split_and_read_no_pixel(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = load_source(Data(name="folder", root="photos", image_size=SIDE, val_size=1), data_root)
    found = source.train_images
    assert isinstance(found, PhotoRows)
    with monkeypatch.context() as patched:
        patched.setattr(PhotoRows, "_resized", lambda *args: pytest.fail("pixels were read"))
        parts = split(source, Data(name="folder", root="photos", image_size=SIDE, val_size=2), 0)
    pixels = parts.train.images[:].double().flatten(0, 2) / 255
    assert parts.info.mean == pytest.approx(pixels.mean(0).tolist())
    assert parts.info.std == pytest.approx(pixels.std(0, correction=0).tolist())


def batches(found: PhotoRows, seed: int = 0, **augment: Any) -> torch.Tensor:
    n = len(found)
    train = TrainingSet(found, torch.zeros(n).long(), torch.arange(n))
    loader = Loader(train, Augment(**augment), 4, "cpu", 2, stream(seed), stream(seed + 1), channels_last=True)
    (batch,) = loader.epoch(torch.arange(4))
    return batch.x


def test_crops_of_a_batch_are_taken_from_the_kept_images(data_root: Path) -> None:
    found = rows(data_root)
    g = stream(1)
    torch.rand(8, 4, generator=g)
    expected = found.crops(torch.arange(4), torch.rand(CROP_DRAWS, 4, generator=g), 0.3)
    assert torch.equal(batches(found, scale_min=0.3), expected.permute(0, 3, 1, 2) / 255)


def test_shift_flip_and_rotation_follow_the_crop(data_root: Path) -> None:
    found = rows(data_root)
    cropped, flipped = batches(found, scale_min=0.3), batches(found, scale_min=0.3, flip=True)
    same = [(torch.equal(a, b), torch.equal(a, b.flip(-1))) for a, b in zip(cropped, flipped, strict=True)]
    assert all(a != b for a, b in same)
    assert {a for a, _ in same} == {True, False}
    turned = batches(found, scale_min=0.3, rotation=0.01)
    assert not torch.equal(turned, cropped)
    assert (turned - cropped)[..., 2:-2, 2:-2].abs().max() < 0.05


def test_every_option_leaves_the_other_draws_of_photographs_alone(data_root: Path) -> None:
    found = rows(data_root)
    n = len(found)
    train = TrainingSet(found, torch.zeros(n).long(), torch.arange(n))
    states = set()
    for augment in (Augment(), Augment(scale_min=0.3), Augment(flip=True)):
        drawn = stream(1)
        list(Loader(train, augment, 4, "cpu", 2, stream(), drawn, channels_last=True).epoch())
        states.add(tuple(drawn.get_state().tolist()))
    assert len(states) == 1


def test_a_run_holds_no_copy_of_photographs(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = rows(data_root).select(torch.arange(4).repeat(10_000))
    monkeypatch.setattr(PhotoRows, "_resized", lambda *args: pytest.fail("pixels were read"))
    train = TrainingSet(found, torch.zeros(40_000).long(), torch.arange(40_000))
    for augment in (Augment(shift=0.1), Augment(scale_min=0.35)):
        loader = Loader(train, augment, 64, "cpu", 2, stream(), stream(1), channels_last=True)
        assert loader.resident is None


def test_photographs_that_fit_are_held_where_crops_need_no_more(data_root: Path) -> None:
    found = rows(data_root)
    train = TrainingSet(found, torch.zeros(4).long(), torch.arange(4))
    loader = Loader(train, Augment(), 4, "cpu", 2, stream(), stream(1), channels_last=True)
    assert loader.resident is not None
    assert np.array_equal(loader.resident.numpy(), found[:].numpy())


def test_images_that_tricks_draw_are_cropped_from_the_kept_ones_too(data_root: Path) -> None:
    found, g = rows(data_root), stream(3)
    expected = found.crops(torch.arange(4), torch.rand(CROP_DRAWS, 4, generator=g), 0.3)
    recipe = Recipe(epochs=1, batch_size=4, lr=0.1, augment=Augment())
    drawn = views(found, torch.arange(4), 255, recipe.model_copy(update={"augment": Augment(scale_min=0.3)}), stream(3))
    assert torch.equal(drawn, expected.permute(0, 3, 1, 2) / 255)
    assert torch.equal(views(found, torch.arange(4), 255, recipe, g), found[:].permute(0, 3, 1, 2) / 255)


def test_another_version_of_the_decoder_is_another_data_set(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data(name="folder", root="photos", image_size=SIDE, val_size=1)
    before = content.content(data, data_root).digest
    monkeypatch.setattr(content, "DECODER", "0")
    assert content.content(data, data_root).digest != before


@pytest.mark.slow
def test_table_of_sharpness(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen, drawn = torch.arange(4).repeat(50), draws(200)
    with capsys.disabled():
        heads = "side  scale_min  torchvision  ours  ours / torchvision"
        print(f"\n{heads}  (mean gradient, n = 200 crops of 4 images)")  # noqa: T201
        for side in (32, 64, 96, 128, 160, 224):
            for scale_min in (0.08, 0.35):
                theirs = gradient(torchvision_crops(chosen, drawn, scale_min, side))
                ours = gradient(rows(data_root, side).crops(chosen, drawn, scale_min))
                print(f"{side:4}  {scale_min:9}  {theirs:11.2f}  {ours:4.2f}  {ours / theirs:.3f}")  # noqa: T201
                assert ours == pytest.approx(theirs, rel=0.05)
