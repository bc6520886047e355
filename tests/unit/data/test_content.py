"""The digest of a data set's bytes: what changes it, what does not, and what it costs."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10, CIFAR100

from harness.data import hashes, sources
from harness.data.content import CIFAR, content, read_folder
from harness.data.sources import load_source
from harness.errors import UserError
from harness.experiment import Data


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def data(**more: Any) -> Data:
    return Data.model_validate({"name": "folder", "root": "pets", "val_size": 1, "image_size": 8, **more})


def tree(root: Path) -> Path:
    """Files of two classes, which are no images: their content is all that counts here."""
    for name in ("train/cat/a", "train/cat/b", "train/dog/a", "val/cat/a", "val/dog/a"):
        write(root / "pets" / name, f"bytes of {name}")
    return root


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take files for old enough, as they are a moment after they were written."""
    monkeypatch.setattr(hashes, "_settled", lambda facts, now_ns: True)


def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed from now on."""
    names: list[str] = []
    take = hashes._hash
    monkeypatch.setattr(hashes, "_hash", lambda folder, file: (names.append(file.name), take(folder, file))[1])
    return names


# what the digest is of


def test_equal_folders_have_one_digest_wherever_they_lie(tmp_path: Path) -> None:
    digest = content(data(), tree(tmp_path / "a")).digest
    assert content(data(), tree(tmp_path / "b")).digest == digest
    assert content(data(root=str(tmp_path / "b" / "pets")), tmp_path / "elsewhere").digest == digest
    assert content(data(image_size=9, val_size=2, label_noise=0.5, window=(0, 9)), tmp_path / "b").digest == digest
    assert len(digest) == 16
    assert int(digest, 16) >= 0


@pytest.mark.parametrize("keep_times", [False, True])
def test_other_bytes_under_an_old_name_are_another_data_set(
    keep_times: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    path = tree(tmp_path) / "pets" / "val" / "dog" / "a"
    before, stat = content(data(), tmp_path).digest, path.stat()
    write(path, "BYTES OF val/dog/a")
    assert path.stat().st_size == stat.st_size
    if keep_times:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert content(data(), tmp_path).digest != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("train/cat", "train/cow"),  # with val/cat, another name for a class
        ("train/cat/b", "train/dog/b"),  # another label
        ("train/cat/a", "train/cat/z"),  # another order of the rows
        ("train/cat/b", "val/cat/b"),  # another split
    ],
)
def test_another_class_label_order_or_split_of_the_same_bytes_is_another_data_set(
    old: str, new: str, tmp_path: Path
) -> None:
    pets = tree(tmp_path) / "pets"
    before = content(data(), tmp_path).digest
    (pets / old).rename(pets / new)
    if new == "train/cow":
        (pets / "val/cat").rename(pets / "val/cow")
    assert content(data(), tmp_path).digest != before


def test_a_new_name_that_keeps_the_order_is_the_same_data_set(tmp_path: Path) -> None:
    pets = tree(tmp_path) / "pets"
    before = content(data(), tmp_path)
    (pets / "train/cat/a").rename(pets / "train/cat/aa")
    assert content(data(), tmp_path) == before


def test_the_chosen_classes_and_their_order_decide_and_others_do_not_count(tmp_path: Path) -> None:
    pets = tree(tmp_path) / "pets"
    both = content(data(), tmp_path).digest
    for split in ("train", "val"):
        write(pets / split / "eel" / "a", split)
    assert content(data(classes=2), tmp_path).digest == both
    assert content(data(classes=("cat", "dog")), tmp_path).digest == both
    assert content(data(classes=("dog", "cat")), tmp_path).digest != both
    assert content(data(), tmp_path).digest != both


def test_figures_and_notes_say_what_was_found(tmp_path: Path) -> None:
    write(tree(tmp_path) / "pets" / "train" / "cat" / "Thumbs.db", "")
    found = content(data(), tmp_path)
    assert (found.images, found.classes, found.unreadable) == (5, 2, None)
    assert found.notes == (f"{tmp_path / 'pets'}: passed over what is no image of a class: 1 Thumbs.db",)


# what is hashed again


def test_only_files_that_changed_are_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    pets = tree(tmp_path) / "pets"
    names = hashed(monkeypatch)
    first = content(data(), tmp_path)
    assert len(names) == 5
    names.clear()
    assert content(data(), tmp_path) == first
    assert names == []
    write(pets / "train" / "dog" / "b", "new")
    os.utime(pets / "val" / "dog" / "a")
    write(pets / "other", "the same bytes, another inode").replace(pets / "train" / "cat" / "a")
    assert content(data(), tmp_path) != first
    assert sorted(names) == ["train/cat/a", "train/dog/b", "val/dog/a"]
    names.clear()
    content(data(classes=("dog", "cat")), tmp_path)
    assert names == []


def test_the_hash_of_a_file_that_may_change_within_one_tick_of_the_clock_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path)
    facts = read_folder(data(), tmp_path).splits[0][0].facts
    tick = facts.ctime_ns + 50_000_000 + 1
    assert not hashes._settled(facts._replace(ctime_ns=facts.ctime_ns | 1), tick)
    assert hashes._settled(facts._replace(ctime_ns=facts.ctime_ns | 1), tick + 10**9)
    whole = facts._replace(ctime_ns=10**18)
    assert not hashes._settled(whole, 10**18 + 2 * 10**9)
    assert hashes._settled(whole, 10**18 + 3 * 10**9)
    names = hashed(monkeypatch)
    monkeypatch.setattr(time, "time_ns", lambda: facts.ctime_ns)
    content(data(), tmp_path)
    content(data(), tmp_path)
    assert len(names) == 10


@pytest.mark.parametrize("damage", [b"", b"half", b"0" * 64 + b'\n{"train/cat/a": 1}', b"\xff\n\xff"])
def test_a_damaged_store_of_hashes_is_made_anew(damage: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    first = content(data(), tree(tmp_path))
    (store,) = (tmp_path / ".harness-decoded").glob("hashes-*.json")
    whole = store.read_bytes()
    store.write_bytes(damage or whole[:-1] + b" ")
    names = hashed(monkeypatch)
    assert content(data(), tmp_path) == first
    assert len(names) == 5
    assert store.read_bytes() == whole


def test_hashes_go_to_the_users_cache_when_the_data_root_is_not_writable_or_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    root = tree(tmp_path / "root")
    (root / ".harness-decoded").write_text("a file where the folder would be")
    names = hashed(monkeypatch)
    first = content(data(), root)
    assert list((tmp_path / "home" / ".cache" / "harness" / ".harness-decoded").iterdir())
    assert content(data(), root) == first
    assert len(names) == 5
    monkeypatch.setenv("HOME", os.devnull)
    assert content(data(), root) == first
    assert len(names) == 10


def test_a_file_that_changes_while_it_is_hashed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tree(tmp_path) / "pets" / "train" / "cat" / "b"
    take = hashes._hash

    def change(folder: Path, file: Any) -> Any:
        if file.name == "train/cat/b":
            write(path, "longer than it was when the folder was listed")
        return take(folder, file)

    monkeypatch.setattr(hashes, "_hash", change)
    with pytest.raises(UserError, match="train/cat/b changed while it was read"):
        content(data(), tmp_path)


def test_files_that_may_not_be_read_are_named_and_not_part_of_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pets = tree(tmp_path) / "pets"
    without = content(data(), tmp_path).digest
    write(pets / "train" / "cat" / "c", "secret")
    take = hashes.hashlib.file_digest

    def refuse(stream: Any, name: str) -> Any:
        if stream.name.endswith("cat/c"):
            raise PermissionError(13, "Permission denied")
        return take(stream, name)

    monkeypatch.setattr(hashes.hashlib, "file_digest", refuse)
    found = read_folder(data(), tmp_path)
    assert found.digest == without
    assert found.unreadable(()) == (("train/cat/c", "Permission denied"),)


def run(code: str, *words: object) -> subprocess.Popen[str]:
    """A process that runs `code`, with `content` and `Data` at hand and `words` as `sys.argv[1:]`."""
    top = "import sys\nfrom harness.data import hashes\nfrom harness.data.content import content\n"
    top += "from harness.experiment import Data\nfrom pathlib import Path\n"
    command = [sys.executable, "-c", top + code, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_several_processes_may_hash_one_folder_at_once(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for i in range(200):
        write(root / "pets" / "train" / "cat" / f"{i}", str(i))
    time.sleep(2 * hashes.TICK_SECONDS)
    code = "print(content(Data.model_validate_json(sys.argv[1]), Path(sys.argv[2])).digest)"
    started = [run(code, data().model_dump_json(), root) for _ in range(3)]
    assert {process.communicate()[0].strip() for process in started} == {content(data(), root).digest}
    assert [path.name[:7] for path in (root / ".harness-decoded").iterdir()] == ["hashes-"]


# digits, CIFAR, and what is imported


def test_cifar_is_known_by_the_checksums_that_torchvision_checks_and_need_not_be_there(tmp_path: Path) -> None:
    for name, dataset in (("cifar10", CIFAR10), ("cifar100", CIFAR100)):
        listed = [*dataset.train_list, *dataset.test_list, [dataset.meta["filename"], dataset.meta["md5"]]]
        assert dict(listed) == CIFAR[name]
    found = [content(Data.model_validate({"name": n, "val_size": 1}), tmp_path / "nowhere") for n in CIFAR]
    assert [c.classes for c in found] == [10, 100]
    assert len({c.digest for c in found}) == 2
    assert not (tmp_path / "nowhere").exists()


def test_digits_are_known_by_the_file_that_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = Data.model_validate({"name": "digits", "val_size": 1})
    found = content(digits, Path("unused"))
    assert (found.images, found.classes) == (len(load_digits().data), 10)
    for more in ({}, {"classes": 3}, {"image_size": 16}):
        assert load_source(digits.model_copy(update=more), Path("unused")).digest == found.digest
    monkeypatch.setattr(sources, "read_digits", lambda: pytest.fail("loaded again though nothing changed"))
    assert load_source(digits, Path("unused")).digest == found.digest


@pytest.mark.parametrize("name", ["digits", "cifar10", "folder"])
def test_the_digest_of_unchanged_data_imports_nothing_heavy_and_opens_no_image(name: str, tmp_path: Path) -> None:
    tree(tmp_path)
    time.sleep(2 * hashes.TICK_SECONDS)
    asked = data() if name == "folder" else Data.model_validate({"name": name, "val_size": 1})
    content(asked, tmp_path)
    heavy = ("torch", "torchvision", "sklearn", "PIL", "pandas", "numpy", "pyarrow")
    code = f"""
hashes._hash = None
content(Data.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
print([m for m in {heavy} if m in sys.modules])
"""
    out, err = run(code, asked.model_dump_json(), tmp_path).communicate()
    assert out.strip() == "[]", err


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_not_searched_for_while_files_are_listed_and_hashed(
    enabled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is afterwards if it was before, also when the folder cannot be read."""
    seen, real = [], hashes.hashes
    monkeypatch.setattr("harness.data.content.hashes", lambda *args: seen.append(gc.isenabled()) or real(*args))
    (gc.enable if enabled else gc.disable)()
    try:
        read_folder(data(), tree(tmp_path))
        assert seen == [False]
        assert gc.isenabled() == enabled
        with pytest.raises(UserError):
            read_folder(data(root="none"), tmp_path)
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
