"""Where a request's runs are trained, and how many at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.kinds import AnyExperiment
from harness.commands.place import CommandPlace
from harness.commands.surroundings import cards
from harness.cpus import available
from harness.errors import UserError
from harness.experiment import Experiment
from harness.values import whole
from harness.workflow.request import MOST_WORKERS

if TYPE_CHECKING:
    from harness.study.places import AnyPlace
    from harness.training.place import Place
    from harness.workflow.request import CheckRequest, ReplicationRequest, Request, SearchRequest


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


def place_of(
    r: Request | ReplicationRequest | CheckRequest | SearchRequest, experiment: AnyExperiment, verify: bool = False
) -> AnyPlace:
    """Where the runs of an experiment are trained, as a request says it.

    Raises:
        UserError: as in `make_place`, or cards that commands cannot have.
    """
    if isinstance(experiment, Experiment):
        if r.devices is not None:
            raise UserError(f"--devices {r.devices}: it is for experiments whose runs are commands; use --device")
        return make_place(r.device, r.threads, r.data_root, r.cuda_graphs, verify)
    given = [name for name, value in (("device", r.device != "auto"), ("cuda-graphs", r.cuda_graphs)) if value]
    if given:
        raise UserError(f"--{given[0]}: {experiment.file} runs commands, whose cards are command.gpus and --devices")
    each = experiment.command.gpus
    found = tuple(part.strip() for part in r.devices.split(",")) if r.devices is not None else tuple(cards())
    if r.devices is not None and (not all(found) or len(set(found)) < len(found)):
        raise UserError(f"--devices {r.devices}: write cards apart by commas, each once, as in 0,1,2")
    if r.devices is not None and not each:
        raise UserError(f"--devices {r.devices}: {experiment.file} has no command.gpus, so its runs own no card")
    if each > len(found) and not str(r.workers).startswith("ray"):
        raise UserError(
            f"command.gpus = {each}: {len(found)} cards are visible here; name them with --devices, or set it to "
            f"{len(found)} with --set command.gpus={len(found)}"
        )
    beside = (r.results.absolute(), r.reports.absolute())
    return CommandPlace(experiment, r.threads, found if each else (), beside)


def parse_workers(asked: str | int | None, place: AnyPlace) -> int | str | None:
    """The number of local workers, None for as many as one GPU holds, or a Ray address ("local" or "ray://...").

    Raises:
        UserError: neither a number from 1 nor a Ray address.
    """
    most = place.slots if isinstance(place, CommandPlace) and place.device == "cuda" else None
    if asked is None and isinstance(place, CommandPlace):
        return most or max(1, available().count // place.threads)
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
    if most is not None and count > most:
        raise UserError(f"--workers {count}: the cards hold {most} runs at a time (--devices, command.gpus)")
    return count


def slots(workers: int | str | None) -> int:
    """How many runs go on at once, for estimates: what a cluster or a GPU holds is not known before it is asked."""
    return 1 if workers is None else workers if isinstance(workers, int) else available().count
