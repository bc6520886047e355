"""Folders of images as people have them: clutter, links, names, near misses. No file is read here."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from harness.data.listing import Listing, list_folder
from harness.errors import UserError
from harness.experiment import Data


def listed(root: Path, name: str = "pets", **more: Any) -> Listing:
    return list_folder(
        Data.model_validate({"name": "folder", "root": name, "val_size": 1, "image_size": 8, **more}), root
    )


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def tree(root: Path, *classes: str) -> Path:
    """A data set with one file in train and in val of each class."""
    for name in classes or ("cat", "dog"):
        touch(root / "pets" / "train" / name / "0.png", root / "pets" / "val" / name / "0.png")
    return root / "pets"


def names(listing: Listing) -> list[str]:
    return [file.name for split in listing.splits for file in split]


PLAIN = ["train/cat/0.png", "train/dog/0.png", "val/cat/0.png", "val/dog/0.png"]


@pytest.mark.parametrize(
    ("clutter", "kind"),
    [
        ("train/cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg", "@eaDir"),
        ("train/@eaDir/cat/0.png", "@eaDir"),
        ("val/cat/deeper/@eaDir/0.png", "@eaDir"),
        ("train/cat/.AppleDouble/0.png", ".AppleDouble"),
        ("train/__MACOSX/cat/0.png", "__MACOSX"),
        ("val/#recycle/0.png", "#recycle"),
        ("train/lost+found/0.png", "lost+found"),
        ("train/cat/Thumbs.db", "Thumbs.db"),
        ("train/cat/._0.png", "hidden"),
        ("train/.ipynb_checkpoints/0.png", "hidden"),
        ("train/$RECYCLE.BIN/0.png", "$RECYCLE.BIN"),
        ("train/dog/Icon\r", "Icon"),
        ("train/README.md", "outside the class folders"),
    ],
)
def test_what_systems_leave_behind_is_no_image_and_no_class_and_is_counted(
    clutter: str, kind: str, tmp_path: Path
) -> None:
    touch(tree(tmp_path) / clutter)
    found = listed(tmp_path)
    assert (found.classes, names(found), found.lost) == (("cat", "dog"), PLAIN, ())
    assert found.ignored == ((kind, 1),)


def test_class_folders_are_in_natural_order(tmp_path: Path) -> None:
    tree(tmp_path, *map(str, range(12)))
    assert listed(tmp_path).classes == tuple(map(str, range(12)))
    assert listed(tmp_path, classes=3).classes == ("0", "1", "2")


def test_mixed_names_have_an_order(tmp_path: Path) -> None:
    mixed = ("1a", "10", "a", "a2b", "a10b", "b", "²", "007")
    tree(tmp_path, *mixed)
    assert listed(tmp_path).classes == ("1a", "007", "10", "a", "a2b", "a10b", "b", "²")


def test_names_of_one_number_have_an_order_of_their_own(tmp_path: Path) -> None:
    alike = sorted("0" * zeros + "1" for zeros in range(8))  # a set of so many is in order by chance once in 40320
    tree(tmp_path, *alike)
    assert listed(tmp_path).classes == tuple(alike)


def test_the_order_of_files_is_that_of_their_names_at_any_depth(tmp_path: Path) -> None:
    pets = tree(tmp_path)
    touch(
        pets / "train" / "cat" / "b" / "1.png",
        pets / "train" / "cat" / "a.png",
        pets / "train" / "cat" / "b" / "c" / "2",
    )
    assert names(listed(tmp_path))[:4] == ["train/cat/0.png", "train/cat/a.png", "train/cat/b/1.png", "train/cat/b/c/2"]


# links


def test_links_to_files_to_folders_and_to_classes_are_followed(tmp_path: Path) -> None:
    pets = tree(tmp_path)
    touch(tmp_path / "store" / "1.png", tmp_path / "store" / "more" / "2.png")
    (pets / "train" / "cat" / "1.png").symlink_to(tmp_path / "store" / "1.png")
    (pets / "train" / "dog" / "more").symlink_to(tmp_path / "store" / "more")
    (pets / "train" / "eel").symlink_to(tmp_path / "store")
    (pets / "val" / "eel").symlink_to(tmp_path / "store")
    found = listed(tmp_path)
    assert found.classes == ("cat", "dog", "eel")
    assert names(found)[:6] == [
        *("train/cat/0.png", "train/cat/1.png", "train/dog/0.png", "train/dog/more/2.png"),
        *("train/eel/1.png", "train/eel/more/2.png"),
    ]


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    pets = tree(tmp_path)
    (pets / "train" / "cat" / "all").symlink_to(pets)
    (pets / "train" / "dog" / "self").symlink_to(pets / "train" / "dog")
    (pets / "val" / "dog" / "knot").symlink_to("knot")
    found = listed(tmp_path)
    assert ("link to a folder above", 2) in found.ignored
    assert [(path, why) for *_, path, why in found.lost] == [("val/dog/knot", os.strerror(errno.ELOOP))]
    assert names(found) == PLAIN


def test_links_to_nothing_are_named(tmp_path: Path) -> None:
    pets = tree(tmp_path)
    (pets / "train" / "dog" / "1.png").symlink_to("../../../.git/annex/objects/1.png")
    found = listed(tmp_path)
    assert names(found) == PLAIN
    assert found.lost == ((0, 1, "train/dog/1.png", "a link to nothing"),)
    (pets / "train" / "eel").symlink_to("nowhere")
    (pets / "val" / "eel").symlink_to("nowhere")
    with pytest.raises(UserError, match="train/eel is a link to nothing; fetch"):
        listed(tmp_path)
    assert listed(tmp_path, classes=("cat", "dog")).classes == ("cat", "dog")


# names


def test_names_that_are_not_utf_8_are_listed_and_can_be_printed(tmp_path: Path) -> None:
    pets = tree(tmp_path)
    name = os.fsdecode(b"caf\xe9")
    touch(pets / "train" / name / f"{name}.png", pets / "val" / name / f"{name}.png")
    (pets / "val" / name / f"{name}2.png").symlink_to("nowhere")
    found = listed(tmp_path)
    assert found.classes == ("caf\\xe9", "cat", "dog")
    assert found.lost == ((2, 0, "val/caf\\xe9/caf\\xe92.png", "a link to nothing"),)
    assert (found.folder / names(found)[0]).is_file()
    assert listed(tmp_path, classes=("dog", "caf\\xe9")).classes == ("dog", "caf\\xe9")
    touch(pets / "train" / f"{name}2" / "0.png")
    with pytest.raises(UserError) as error:
        listed(tmp_path)
    assert "'caf\\xe92' only in train" in str(error.value).encode().decode()


# choice, and what is missing


def test_classes_are_chosen_before_train_and_val_are_compared(tmp_path: Path) -> None:
    pets = tree(tmp_path)
    touch(pets / "train" / "unlabelled" / "0.png")
    with pytest.raises(UserError, match=r"'unlabelled' only in train; add .* with data\.classes"):
        listed(tmp_path)
    assert listed(tmp_path, classes=("dog", "cat")).classes == ("dog", "cat")
    assert listed(tmp_path, classes=2).classes == ("cat", "dog")
    with pytest.raises(UserError, match="but 'unlabelled' only in train"):
        listed(tmp_path, classes=("cat", "unlabelled"))


@pytest.mark.parametrize(
    ("moves", "said"),
    [
        ({"val": "Test"}, r"pets/val does not exist; .* has 'train', 'Test': rename 'Test' to 'test'"),
        ({"val": "valid"}, r"has 'train', 'valid': rename 'valid' to 'val'"),
        ({"val": "Val"}, r"has 'train', 'Val': rename 'Val' to 'val'"),
        ({"train": "Train"}, r"pets/train does not exist; .*has 'Train', 'val': rename 'Train' to 'train'"),
        ({"train": "training", "val": "testing"}, r"rename 'training' to 'train' and rename 'testing' to 'test'"),
        ({"train": "pets/train", "val": "pets/val"}, r"the data set lies in .*pets/pets: name that folder"),
        (
            {"train/cat/0.png": "0.png", "val": ".val", "train": ".t"},
            r"has a table, labels\.csv: if it lists",
        ),
        ({"val": "elsewhere"}, r"pets/val does not exist; expected val/ with one folder of images for each class"),
        ({"val/cat": ".cat", "val/dog": ".dog"}, r"pets/val has no class folders; expected val/<class>/<image files>"),
    ],
)
def test_near_misses_say_what_is_there_and_what_to_rename(moves: dict[str, str], said: str, tmp_path: Path) -> None:
    pets = tree(tmp_path)
    touch(pets / "labels.csv")
    for old, new in moves.items():
        (pets / new).parent.mkdir(exist_ok=True)
        (pets / old).rename(pets / new)
    with pytest.raises(UserError, match=said):
        listed(tmp_path)


# layouts


def test_three_folders_are_the_three_splits(tmp_path: Path) -> None:
    pets = tree(tmp_path)
    touch(*(pets / "test" / name / f"{i}.png" for name in ("cat", "dog") for i in range(2)))
    assert [[file.name for file in split] for split in listed(tmp_path).splits] == [
        PLAIN[:2],
        PLAIN[2:],
        ["test/cat/0.png", "test/cat/1.png", "test/dog/0.png", "test/dog/1.png"],
    ]
    touch(pets / "test" / "eel" / "0.png", pets / "val" / "eel" / "0.png")
    with pytest.raises(UserError, match=r"train, val, test must have the same .* but 'eel' only in val and test; add"):
        listed(tmp_path)


@pytest.mark.parametrize("name", ["val", "test"])
def test_one_folder_beside_train_is_the_test_split(tmp_path: Path, name: str) -> None:
    (tree(tmp_path) / "val").rename(tmp_path / "pets" / name)
    found = listed(tmp_path)
    assert [len(split) for split in found.splits] == [2, 0, 2]
    assert found.splits[2][0].name == f"{name}/cat/0.png"


def test_a_test_of_a_challenge_without_labels_is_passed_over_and_a_split_of_another_name_is_not(tmp_path: Path) -> None:
    pets = tree(tmp_path)
    touch(pets / "test" / "0.png")
    assert names(listed(tmp_path)) == PLAIN
    touch(pets / "Testing" / "cat" / "0.png")
    with pytest.raises(UserError, match=r"pets is no data set; .* has Testing and test for one split: keep one"):
        listed(tmp_path)
    (pets / "Testing").rename(pets / "other")
    (pets / "val").rename(pets / "valid")
    with pytest.raises(UserError, match=r"pets/val does not exist; .*rename 'valid' to 'val'"):
        listed(tmp_path)


def test_class_folders_alone_are_all_to_split(tmp_path: Path) -> None:
    touch(*(tmp_path / "pets" / c / f"{i}.png" for c in ("cat", "dog") for i in range(3)), tmp_path / "pets" / "a.md")
    found = listed(tmp_path)
    assert [len(split) for split in found.splits] == [6, 0, 0]
    assert found.classes == ("cat", "dog")
    assert found.splits[0][3].name == "dog/0.png"
    assert found.ignored == (("outside the class folders", 1),)


def test_a_data_root_that_misses_by_one_step_says_which_step(tmp_path: Path) -> None:
    pets = tree(tmp_path)
    with pytest.raises(UserError, match=r"data\.root = 'pest' needs that folder .*; did you mean 'pets'\?$"):
        listed(tmp_path, "pest")
    with pytest.raises(UserError, match=f"train is one of its splits: name {pets} in its place"):
        listed(pets / "train", "imagenette2")
    (pets / "val").rename(pets / "valid")
    with pytest.raises(UserError, match="pets has 'train', 'valid': rename 'valid' to 'val'"):
        listed(pets, "imagenette2")


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pets = tree(tmp_path)
    scan = os.scandir

    def refuse(path: str) -> Any:
        if path == str(pets / "val" / "dog"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"pets/val/dog: the folder cannot be read \(Permission denied\)"):
        listed(tmp_path)


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tree(tmp_path)
    assert names(listed(tmp_path / "elsewhere", "~/pets")) == PLAIN
