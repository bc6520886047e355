"""Photographs from disk to the report: the two JPEGs that come with scikit-learn, cut into small images."""

import json

import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from harness.store.reader import read_manifest, read_study

SIDE = 64
SMALL = (
    "model.name=timm/resnet10t", "model.args.stem_width=8", "data.image_size=32", "data.val_size=12", "recipe.epochs=6",
    "recipe.batch_size=8", "recipe.lr=0.05", "recipe.precision=fp32",
)  # fmt: skip


def crops(photo, n):
    """The first n whole tiles of a photo."""
    columns = photo.width // SIDE
    for i in range(n):
        left, top = i % columns * SIDE, i // columns * SIDE
        yield photo.crop((left, top, left + SIDE, top + SIDE))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A data root whose `imagenette2` holds three classes, and four files that need care."""
    root = tmp_path_factory.mktemp("photos")
    china, flower = (Image.fromarray(array) for array in load_sample_images().images)
    for name, photo in {"china": china, "flower": flower, "grey": china.convert("L")}.items():
        for i, crop in enumerate(crops(photo, 36)):
            folder = root / "imagenette2" / ("train" if i < 24 else "val") / name
            folder.mkdir(parents=True, exist_ok=True)
            crop.save(folder / f"{i}.{'png' if i % 3 == 0 else 'jpg'}")
    train = root / "imagenette2" / "train"
    flower.convert("L").crop((0, 0, SIDE, SIDE)).save(train / "flower" / "grey-scale.jpg")
    whole = (train / "china" / "1.jpg").read_bytes()
    (train / "china" / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (train / "china" / "notes.txt").write_text("not an image")
    return root


@pytest.fixture(scope="module")
def study(cli, photos):
    """Baseline and mixup on two seeds."""
    settings = [word for text in SMALL for word in ("--set", text)]
    done = cli.here(
        "ablate", "mixup", "-e", "imagenette", "--data-root", photos, "--seeds", 2, "--workers", 1, "--name", "photos",
        *settings, "--json", "--no-probe",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_every_run_ends_well_and_learns_more_than_chance(cli, study):
    runs = read_study(cli.folder / "results" / "photos").runs

    assert runs["status"].tolist() == ["ok"] * 4
    assert set(runs["arm"]) == {"baseline", "mixup"}
    assert runs["test_digest"].nunique() == 4
    # Chance is one third; grey images are easily told from coloured ones.
    assert runs.loc[runs["arm"] == "baseline", "train_accuracy"].min() > 0.4


def test_broken_files_are_named_with_the_reason_and_left_out(cli, study):
    said = next(line for line in study.stderr.splitlines() if "left out" in line)
    assert said.startswith("note: 2 of 111 image files cannot be read and are left out (")
    for name in ("train/china/truncated.jpg", "train/china/notes.txt"):
        assert f"{name}: " in said
    assert "grey-scale.jpg" not in study.stderr
    assert said.removeprefix("note: ") in read_manifest(cli.folder / "results" / "photos").notes


def test_the_report_shows_the_effect(cli, study):
    document = json.loads(study.stdout)
    html = (cli.folder / "reports" / "photos.html").read_text()

    assert [e["n"] for e in document["effects"] if e["arm"] == "mixup"] == [2]
    assert "imagenette2" in html
    assert "mixup" in html


def test_a_second_study_reads_the_decoded_images(cli, study, photos):
    assert len(list((photos / ".harness-decoded").glob("*/train.npy"))) == 1
    settings = [word for text in SMALL for word in ("--set", text)]
    again = cli.here("ablate", "mixup", "-e", "imagenette", "--data-root", photos, "--seeds", 2, *settings)

    assert "all 4 runs are done already" in again.stderr
    assert len(list((photos / ".harness-decoded").glob("*/train.npy"))) == 1
