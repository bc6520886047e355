"""Where a request's runs are trained, and how many at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cpus import available
from harness.errors import UserError
from harness.values import whole
from harness.workflow.request import MOST_WORKERS

if TYPE_CHECKING:
    from harness.training.place import Place


def data_folder(data_root: Path | None) -> Path:
    """The folder of the data sets, absolute: the one that was named, or the default.

    Raises:
        UserError: there is no such folder.
    """
    from harness.data.disk import data_root as default_root
    from harness.data.disk import expand

    root = default_root() if data_root is None else expand(data_root)
    if data_root is not None and not os.path.isdir(root):
        raise UserError(f"--data-root {data_root}: no such folder")
    return root.absolute()


def make_place(
    device: str, threads: int, data_root: Path | None, cuda_graphs: bool = False, check: bool = False
) -> Place:
    """Where runs are trained: data folder, device and threads.

    Raises:
        UserError: no such data folder or device, or graphs on a device that has none.
    """
    from harness.training.place import Place
    from harness.training.provenance import resolve_device

    root = data_folder(data_root)
    device = resolve_device(device)
    if cuda_graphs and not device.startswith("cuda"):
        raise UserError(f"--cuda-graphs with the device {device}: only a CUDA device has graphs; leave the option out")
    return Place(root, device, threads, check=check, cuda_graphs=cuda_graphs)


def parse_workers(asked: str | int | None, place: Place) -> int | str | None:
    """The number of local workers, None for as many as one GPU holds, or a Ray address ("local" or "ray://...").

    Raises:
        UserError: neither a number from 1 nor a Ray address.
    """
    if asked is None:
        return None if place.device.startswith("cuda") else max(1, available().count // place.threads)
    text = str(asked)
    if text == "ray":
        return "local"
    if text.startswith("ray://"):
        return text
    count = whole(text)
    if count is None or not 1 <= count <= MOST_WORKERS:
        raise UserError(f"--workers {text}: a number of processes up to {MOST_WORKERS}, ray, or ray://HOST:PORT")
    return count


def slots(workers: int | str | None) -> int:
    """How many runs go on at once, for estimates: what a cluster or a GPU holds is not known before it is asked."""
    return 1 if workers is None else workers if isinstance(workers, int) else available().count
