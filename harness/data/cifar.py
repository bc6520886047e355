"""CIFAR-10 and CIFAR-100, read and downloaded by torchvision, with errors that say what to do."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.content import cifar_digest
from harness.data.disk import TIMEOUT_SECONDS
from harness.data.types import PHOTOS, DataInfo, Source
from harness.errors import UserError
from harness.experiment import Data

PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
SIZE = "170 MB"


def load_cifar(name: str, data_root: Path) -> Source:
    """CIFAR-10 or CIFAR-100 from `data_root`, downloaded there first when a file is missing.

    Args:
        name: "cifar10" or "cifar100".
        data_root: the folder that holds, or will hold, torchvision's folder of the data set.

    Raises:
        UserError: a file is missing and cannot be downloaded, or is damaged, or `data_root` is torchvision's folder.
    """
    from torchvision.datasets.utils import check_integrity

    dataset, files = _files(name, data_root)
    missing = [path for path in files if not path.is_file()]
    if missing and data_root.name == dataset.base_folder:
        raise UserError(
            f"the data root {data_root} is the folder of {name} itself: name the folder that holds it, "
            f"{data_root.parent}, with --data-root or HARNESS_DATA"
        )
    if missing:
        _download(dataset, data_root, missing)
    try:
        train, test = dataset(data_root, train=True), dataset(data_root, train=False)
    except (RuntimeError, OSError) as error:  # torchvision compares checksums before it reads
        damaged = next((path for path, md5 in files.items() if not check_integrity(path, md5)), None)
        raise UserError(
            f"{damaged or data_root / dataset.base_folder}: damaged or unreadable ({error}); "
            f"delete it and start again to download it, or fetch {dataset.filename} from {PAGE}"
        ) from None
    return Source(
        train_images=np.ascontiguousarray(train.data),
        train_labels=np.array(train.targets, dtype=np.int64),
        test_images=np.ascontiguousarray(test.data),
        test_labels=np.array(test.targets, dtype=np.int64),
        classes=tuple(train.classes),
        peak=255,
        invariances=PHOTOS,
        digest=cifar_digest(name),
    )


def not_here(data: Data, data_root: Path) -> str:
    """What the first run would fetch, as a sentence, or an empty string where no file is missing."""
    if data.name not in ("cifar10", "cifar100"):
        return ""
    dataset, files = _files(data.name, data_root)
    if all(path.is_file() for path in files):
        return ""
    archive = data_root / dataset.filename
    fetched = f"unpacks {archive}" if archive.is_file() else f"downloads {dataset.filename} ({SIZE}) from {PAGE}"
    return f"{data.name} is not in {data_root}; the first run {fetched}"


def unseen(data: Data) -> DataInfo:
    """What is known of CIFAR-10 or CIFAR-100 without its files; the statistics of its pixels are not."""
    known = tuple(map(str, range(10 if data.name == "cifar10" else 100)))
    names = data.classes if isinstance(data.classes, tuple) else known[: data.classes]
    train = data.train_size or 50_000 - data.val_size
    return DataInfo(
        classes=names, channels=3, size=data.image_size or 32, mean=(0.5,) * 3, std=(0.25,) * 3, invariances=PHOTOS,
        train_counts=(train // len(names),) * len(names),
    )  # fmt: skip


def _files(name: str, data_root: Path) -> tuple[Any, dict[Path, str]]:
    """Torchvision's class of a data set, and its files with their checksums."""
    from torchvision.datasets import CIFAR10, CIFAR100

    dataset: Any = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    listed = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
    return dataset, {data_root / dataset.base_folder / file: md5 for file, md5 in listed}


def _download(dataset: Any, data_root: Path, missing: list[Path]) -> None:
    """Fetch the archive, or unpack the one that lies in `data_root`, and move the missing files into place.

    Everything happens in a folder of its own, so that an interrupted download leaves nothing behind and
    two processes do not write to the same file.
    """
    from torchvision.datasets.utils import check_integrity

    archive = data_root / dataset.filename
    if archive.is_file() and not check_integrity(archive, dataset.tgz_md5):
        raise UserError(
            f"{archive} is damaged or incomplete (its md5 is not {dataset.tgz_md5}); delete it and start again to "
            f"download it, or fetch it from {PAGE}"
        )
    default = socket.getdefaulttimeout()
    try:
        data_root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_root) as temporary:
            if archive.is_file():
                shutil.copy(archive, temporary)
            socket.setdefaulttimeout(TIMEOUT_SECONDS)  # torchvision sets none and would wait for ever
            with contextlib.redirect_stdout(sys.stderr):
                dataset(temporary, download=True)
            missing[0].parent.mkdir(exist_ok=True)
            for path in missing:
                os.replace(Path(temporary, dataset.base_folder, path.name), path)
    except (OSError, RuntimeError, HTTPException) as error:
        raise UserError(
            f"{missing[0]} is missing and the download failed ({error}). Fetch {dataset.filename} from "
            f"{PAGE} and put it into {data_root}, or name the folder that has {dataset.base_folder} with "
            "--data-root or HARNESS_DATA; `--experiment digits` works offline now"
        ) from None
    finally:
        socket.setdefaulttimeout(default)
