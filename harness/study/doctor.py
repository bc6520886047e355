"""What this machine offers to a study, and what is missing; what a network is, and what its library built into it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cpus import available
from harness.data.content import content
from harness.data.decoded import DECODER, Copy, copies, pillow
from harness.data.disk import data_root as default_root
from harness.data.disk import expand, shown
from harness.errors import UserError
from harness.experiment import Data, Model
from harness.plugins import is_own

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

PACKAGES = ("torch", "torchvision", "timm", "scikit-learn", "pandas", "pyarrow", "scipy")


def examine(device: str, data_root: Path | None, results: Path) -> Iterator[tuple[str, bool, str]]:
    """Check after check: (what, whether it is good, detail with what to do)."""
    from harness.store.writer import prepare
    from harness.training.provenance import device_name, resolve_device
    from harness.tricks import registry

    yield "python", True, platform.python_version()
    for package in PACKAGES:
        try:
            yield package, True, version(package)
        except PackageNotFoundError:
            yield package, False, "not installed; run `make setup` or `pip install -e .`"
    try:
        name = resolve_device(device)
        yield "device", True, f"{name} ({device_name(name)})"
    except UserError as error:
        yield "device", False, str(error)
    yield "cores", True, f"{available().why} (one run at a time on each)"

    broken = []
    for trick in registry.names():
        try:
            registry.load(trick)
        except UserError as error:
            broken.append(str(error))
    yield "tricks", not broken, "; ".join(broken) or f"{len(registry.names())} load"

    root = default_root() if data_root is None else expand(data_root)
    have = [n for n in ("cifar-10-batches-py", "cifar-100-python") if (root / n).is_dir()]
    folders = [p.name for p in sorted(root.glob("*/train")) for p in [p.parent]] if root.is_dir() else []
    yield "data", True, f"digits is bundled; in {shown(root)}: {shown(', '.join(have + folders)) or 'nothing yet'}"
    yield "decoded", True, _decoded(root)
    try:
        parent = results if results.exists() else results.absolute().parent
        if results.exists():
            prepare(results / ".doctor")
            shutil.rmtree(results / ".doctor")
        writable = os.access(parent, os.W_OK)
        free = shutil.disk_usage(parent).free / 2**30
        yield "results", writable and free > 0.5, f"{results.absolute()}, {free:.0f} GiB free"
    except (UserError, OSError) as error:
        yield "results", False, str(error)


def examine_network(name: str, channels: int = 3, size: int | None = None) -> Iterator[tuple[str, bool, str]]:
    """Fact after fact about a network of ten classes: (what, whether it is good, detail with what to do).

    Args:
        name: as `model.name`.
        channels: of its images.
        size: side of its images; by default what timm's and torchvision's networks are made for, and else 32 pixels.

    Raises:
        UserError: there is no such network, or it is none that runs can use.
    """
    import torch

    from harness.models.build import build, example_of
    from harness.models.plain import draws_in_training

    usual = 224 if name.startswith("torchvision/") else 32
    model = build(_named(name), example_of(channels, size or usual), 0)
    made_for = getattr(model.net, "default_cfg", {}).get("input_size", (3, usual, usual))[-1]
    side = size or int(made_for)
    weights = sum(p.numel() for p in model.parameters())
    yield "network", True, f"{name}, {weights:,} parameters with {channels} channels and 10 classes"
    yield "stages", True, ", ".join(model.stages) or "none with a name, which some tricks need"
    yield "last layer", True, f"{model.head_path}, {type(model.head).__name__}"
    yield "surgery finds", True, _places(model)
    yield "switched off", True, ", ".join(model.builtin.off) or "nothing was on"
    yield "still on", True, ", ".join(model.builtin.on) or "nothing that is known"
    try:
        draws = draws_in_training(model, torch.zeros(2, channels, side, side))
    except Exception as error:  # networks fail in ways of their own
        why = (str(error).splitlines() or [type(error).__name__])[0]
        yield "training pass", False, f"fails on images of {side} x {side} pixels ({why}); choose another model"
        return
    drawn = "draws random numbers, so some dropout is on" if draws else "draws no random numbers"
    known = is_own(name) or any("drop" in what for what in model.builtin.on)
    yield "training pass", known or not draws, f"{drawn} (images of {side} x {side} pixels)"


def _places(model: Classifier) -> str:
    """How often a network has what tricks replace or read, in words."""
    from torch import nn

    from harness.tricks.contract import NoEffect
    from harness.tricks.modules import batch_norms, residual_blocks

    kinds = {"convolutions": nn.Conv2d, "linear layers": nn.Linear, "ReLUs": nn.ReLU, "max pools": nn.MaxPool2d}
    counts = {name: sum(isinstance(m, kind) for m in model.modules()) for name, kind in kinds.items()}
    counts["batch norms"] = len(batch_norms(model))
    try:
        counts["residual blocks"] = len(residual_blocks(model))
    except NoEffect:
        counts["residual blocks"] = 0
    none = [name for name, count in counts.items() if not count]
    have = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{have}{'; no ' + ', no '.join(none) if none else ''}"


def _named(name: str) -> Model:
    try:
        return Model(name=name)
    except ValueError:
        raise UserError(
            f"model '{name}': write one of ours, as resnet20, timm/NAME, torchvision/NAME or FILE.py:CLASS"
        ) from None


def _decoded(root: Path) -> str:
    """How many decoded copies of image folders there are, how large, and which can be deleted."""
    found = list(copies(root))
    if not found:
        return "no decoded copies of image folders"
    size = sum(copy.size for copy in found) / 1e9
    places = ", ".join(shown(folder) for folder in dict.fromkeys(copy.path.parent for copy in found))
    unused = [f"{copy.path.name} ({copy.size / 1e9:.1f} GB, {why})" for copy in found if (why := _no_use(copy, root))]
    text = f"{len(found)} decoded cop{'ies' if len(found) > 1 else 'y'} of image folders, {size:.1f} GB in {places}"
    return f"{text}; of no present use, to delete: {', '.join(unused)}" if unused else text


def _no_use(copy: Copy, root: Path) -> str | None:
    """Why no study would read this copy, or None."""
    about = copy.about
    if about is None:
        return "of an older version"
    if not copy.complete:
        return "unfinished, unless it is being written now"
    if (about.decoder, about.pillow) != (DECODER, pillow()):
        return "decoded by an older version" if about.decoder != DECODER else f"decoded by Pillow {about.pillow}"
    if about.kind not in ("", "folder", "csv"):  # what code gives is not called for again only to look at it
        return None
    asked = {
        "name": about.kind or ("csv" if Path(about.folder).is_file() else "folder"), "root": about.folder,
        "classes": about.classes, "image_size": about.size, "window": about.window, "group": about.group, "val_size": 1,
    }  # fmt: skip
    try:
        data = Data.model_validate(asked)
        return None if content(data, root).digest == about.digest else f"{about.folder} has other images now"
    except UserError:
        return f"{about.folder} is gone or incomplete"
