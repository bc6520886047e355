"""What a data set holds, as a digest of its bytes, without decoding an image and without importing torch.

Runs are reused and paired only where the digests of their data agree. The chosen classes of a folder decide which
files are in its digest. The version of the decoder is in it, too, as it decides the pixels; image size and grey window
belong to the `[data]` table, and so to the run's id.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.decoded import DECODER, About, Failure, pillow, reports
from harness.data.disk import shown
from harness.data.hashes import hashes
from harness.data.labels import with_labels
from harness.data.leaks import leak_of
from harness.data.listing import SPLITS, File, Listing, Lost, list_folder
from harness.data.tables import list_table
from harness.errors import UserError
from harness.experiment import Data

if TYPE_CHECKING:
    from harness.data.given import Given

CIFAR = {
    "cifar10": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    "cifar100": {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
}
"""The md5 of each file of the official pickles. torchvision compares them before it reads a file, so a run on CIFAR is
a run on these bytes."""

NAMED = {"train": "train", "val": "own val", "test": "val"}
"""How a digest calls the splits, so that data sets without a validation split of their own keep theirs."""

DIGITS = "datasets/data/digits.csv.gz"
"""The digits inside the package of scikit-learn."""


@dataclass(frozen=True)
class Content:
    """What a data set holds.

    digest: 16 hex digits, equal exactly when images, labels and classes are, and decoded alike. images: their number,
    with those that cannot be decoded. classes: in the order of the labels; as many as the data set has for digits and
    CIFAR. notes: lines about what was passed over. unreadable: (path, reason) of the files that are left out; None
    while no decoded copy says it. leak: which splits share images, in a sentence; empty where none do.
    """

    digest: str
    images: int
    classes: int
    notes: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] | None = ()
    leak: str = ""


def content(data: Data, data_root: Path) -> Content:
    """The digest of the data set that `data` names; nothing is downloaded, and CIFAR need not be there.

    Args:
        data: the `[data]` table.
        data_root: the folder that holds data sets.

    Raises:
        UserError: a folder of images is missing, incomplete, or changes while it is read; or a file of labels is.
    """
    found = _images(data, data_root)
    return replace(found, digest=with_labels(found.digest, data, data_root))


def _images(data: Data, data_root: Path) -> Content:
    """What the data set itself holds, whose labels `data.labels` may replace."""
    if data.from_files:
        folder = read_folder(data, data_root)
        failed = reports(folder.about(data), data_root)
        return Content(
            folder.digest,
            images=sum(map(len, folder.splits)),
            classes=len(folder.listing.classes),
            notes=folder.notes,
            unreadable=None if failed is None else folder.unreadable(failed),
            leak=leak_of(folder.sha256, [file.group for file in folder.splits[0]] if data.group else None),
        )
    if (of_code := code_of(data)) is not None:
        found = of_code(data, data_root)
        return Content(found.digest, found.images, len(found.classes), leak=found.leak)
    if data.name == "npz":
        from harness.data.arrays import npz_digest, read_npz  # the one that needs NumPy

        parts = read_npz(data, data_root)
        images = sum(len(labels) for _, labels in parts.values())
        return Content(npz_digest(data, data_root), images, classes=int(parts["train"][1].max()) + 1)
    if data.name == "digits":
        return Content(digits_digest(read_digits()), images=1797, classes=10)
    return Content(cifar_digest(data.name), images=60_000, classes=10 if data.name == "cifar10" else 100)


def code_of(data: Data) -> Callable[[Data, Path], Given] | None:
    """What loads a data set that code gives; None for others. Imports what it needs, which may be torch."""
    if data.kind == "own":
        from harness.data.own import load_own

        return load_own
    if data.kind == "hf":
        from harness.data.hub import load_hub

        return load_hub
    if data.kind.startswith("torchvision/") and not data.from_files:
        from harness.data.builtin import load_builtin

        return load_builtin
    return None


def _list(data: Data, data_root: Path) -> Listing:
    """The files of a data set of files."""
    if data.kind in ("folder", "csv"):
        return list_table(data, data_root) if data.name == "csv" else list_folder(data, data_root)
    from harness.data.builtin import list_builtin

    return list_builtin(data, data_root)


def cifar_digest(name: str) -> str:
    """16 hex digits that identify "cifar10" or "cifar100" by the checksums of its files."""
    listed = "\n".join(f"{md5}  {file}" for file, md5 in CIFAR[name].items())
    return hashlib.sha256(f"{name}\n{listed}".encode()).hexdigest()[:16]


def read_digits() -> bytes:
    """The compressed table of digits that comes with scikit-learn, which is not imported.

    Raises:
        UserError: scikit-learn is not installed, or has no such file.
    """
    spec = find_spec("sklearn")
    path = Path((spec.submodule_search_locations or [""])[0] if spec else "", DIGITS)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: the digits of scikit-learn cannot be read ({error.strerror}); install it anew"
        ) from None


def digits_digest(table: bytes) -> str:
    """16 hex digits that identify the table of digits."""
    return hashlib.sha256(table).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder of images with the hash of each file, in the order of the rows.

    splits: of each split the files that can be read. sha256: their hashes. lost: (position of the split, class
    position, path, reason) of the files that cannot. digest: 16 hex digits.
    """

    listing: Listing
    splits: tuple[tuple[File, ...], ...]
    sha256: tuple[tuple[str, ...], ...]
    lost: tuple[Lost, ...]
    digest: str

    def about(self, data: Data) -> About:
        """What a decoded copy of these files is."""
        assert data.image_size is not None  # `Data` asks folders for it
        table = Path(data.root or "").name if data.name == "csv" else ""
        folder, classes = str((self.listing.folder / table).absolute()), self.listing.classes
        channels = data.channels or 3
        return About(
            folder, classes, self.digest, data.image_size, data.window,
            pillow=pillow(), channels=channels, group=data.group, kind=data.name,
        )  # fmt: skip

    def unreadable(self, failed: Sequence[Sequence[Failure]]) -> tuple[tuple[str, str], ...]:
        """(path, reason) of all files that are left out, given those that could not be decoded."""
        undecoded = [(path, why) for split in failed for _, path, why in split]
        return (*((path, why) for _, _, path, why in self.lost), *undecoded)

    @property
    def notes(self) -> tuple[str, ...]:
        """A line about what was passed over, if anything was."""
        ignored = self.listing.ignored
        if not ignored:
            return ()
        kinds = ", ".join(f"{count} {kind}" for kind, count in ignored)
        return (f"{shown(self.listing.folder)}: passed over what is no image of a class: {kinds}",)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage inside: a tuple or two for each file, none of them garbage, would set off several.

    In a process that holds torch and a network these took half the time of reading a folder of 20,000 files.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@_uncollected()
def read_folder(data: Data, data_root: Path) -> Folder:
    """List the files of a `folder` or `csv` data set and hash those that have changed since they were hashed last.

    Raises:
        UserError: the folder is missing or incomplete, or a file changes while it is read.
    """
    listing = _list(data, data_root)
    found = iter(hashes(listing.folder, [file for split in listing.splits for file in split], data_root))
    digest = hashlib.sha256(repr((DECODER, listing.classes)).encode())
    lost = list(listing.lost)
    files: list[tuple[File, ...]] = []
    values: list[tuple[str, ...]] = []
    for i, split in enumerate(SPLITS):
        hashed = [(file, next(found)) for file in listing.splits[i]]
        lost += [(i, file.label, shown(file.name), value.why) for file, value in hashed if value.why]
        files.append(tuple(file for file, value in hashed if value.sha256))
        values.append(tuple(value.sha256 for _, value in hashed if value.sha256))
        lines = (
            f"{NAMED[split]} {file.label} {value}{file.group and f' {file.group}'}"
            for file, value in zip(files[i], values[i], strict=True)
        )
        digest.update("\n".join(["", *lines]).encode())
    return Folder(listing, tuple(files), tuple(values), tuple(lost), digest.hexdigest()[:16])
