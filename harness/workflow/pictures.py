"""Contact sheets: what a trick does to images, as the training loop hands them to the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from harness.data.rows import resize, to_pixels
from harness.data.sources import load_source
from harness.data.types import PHOTOS, Batch, Source
from harness.errors import UserError
from harness.experiment import Arm, Augment, Data, Experiment, RunSpec, load_experiment
from harness.report.drawings.sheet import STYLE, Sheet, extent, to_bytes
from harness.training.place import Place
from harness.training.session import Session, set_up
from harness.tricks import registry
from harness.tricks.contract import NotApplicable, Trick
from harness.workflow.place import data_folder

EMBEDDED = "digits-noisy"
"""The experiment whose network and recipe the images are drawn with."""

SHOWN, PHOTOS_SHOWN, DRAWS, BATCH = 8, 4, 5, 32
"""Rows of digits or other data, rows of photographs, draws of each, and images that a draw may mix."""

CUT, STRIDE, SIDE = 213, 71, 96
"""Squares that are cut out of the sample photographs, the distance between them, and what they are resized to."""

CELL, STEP, LINE, MARGIN, HEAD = 1.7, 1.8, 0.19, 0.2, 0.55
"""Sizes in cm: an image, from one to the next, a line of the words below it, the sheet's margin, and a heading."""

UNCHANGED = "it hands all images to the training step as they are stored, and what a step does with them is not shown"

DPI = {"png": 200, "webp": 100}
"""Of a sheet to look at, and of one that a page holds: a tenth of the bytes."""

LEAST_WEIGHT, MOST_NAMED = 0.02, 4
"""Classes of a mixed target that are named: from this weight on, the heaviest first."""


@dataclass(frozen=True)
class Drawn:
    """Images of one data set and what a trick made of them.

    originals: the first batch of the rows as they are stored. draws: by the heading of their column, batches that begin
    with the same images. shown: how many of them have a row. classes: names.
    """

    originals: Batch
    draws: tuple[tuple[str, Batch], ...]
    shown: int
    classes: tuple[str, ...]


def contact_sheet(name: str, experiment: str | None = None, data_root: Path | None = None, form: str = "png") -> bytes:
    """The file of a trick's contact sheet, at its default values; equal calls give equal bytes.

    A row is an image, a column a draw, spread evenly over a training. Images are digits and parts of scikit-learn's two
    sample photographs, or those that the experiment names. The recipe's own augmentation and wrong labels are left
    out. Nothing is trained: what an attack sees is the network before its first step.

    Args:
        name: of a trick.
        experiment: a bundled experiment or a .toml path, whose data, model and recipe are taken.
        data_root: the folder of its data; the default one by default.
        form: png, or webp, which is small enough for a page.

    Raises:
        UserError: the trick changes none of the images, with the reason, or the data cannot be had.
    """
    trick = registry.make(name)
    drawn, missing = collect(trick, experiment, data_root)
    with mpl.rc_context():
        mpl.rcdefaults()  # a matplotlibrc of the machine must not change a sheet
        mpl.rcParams.update(STYLE | {"savefig.dpi": DPI[form]})
        values = ", ".join(f"{key} = {value}" for key, value in trick.spec().params.items())
        words = [f"{name}: {trick.info.summary}", values or "no hyperparameters"]
        return to_bytes(figure(words, drawn), form, words[0], "; ".join([values, *missing]))


def collect(trick: Trick, experiment: str | None, data_root: Path | None) -> tuple[list[Drawn], list[str]]:
    """What the trick makes of the images of each data set, and why there is nothing of the others.

    Raises:
        UserError: as `contact_sheet`.
    """
    drawn: list[Drawn] = []
    refused: dict[str, list[str]] = {}
    for what, spec, source, shown in _asked(trick, experiment, data_root):
        try:
            made = draw(spec, source, shown)
        except NotApplicable as reason:
            refused.setdefault(str(reason), []).append(what)
        else:
            if changes(made):
                drawn.append(made)
            else:
                refused.setdefault(UNCHANGED, []).append(what)
    missing = [f"{' and '.join(where)}: {why}" for why, where in refused.items()]
    if not drawn:
        raise UserError(f"tricks {trick.name} --pictures: there is nothing to show of {'; '.join(missing)}")
    return drawn, missing


def _asked(trick: Trick, experiment: str | None, data_root: Path | None) -> list[tuple[str, RunSpec, Source, int]]:
    """What is drawn: words for the data, the run, its images, and how many of them have a row."""
    loaded = load_experiment(experiment or EMBEDDED)
    source = load_source(loaded.data, data_folder(data_root))
    asked: list[tuple[str, RunSpec, Source, int]] = [
        (loaded.data.name, _spec(trick, loaded, loaded.data), source, SHOWN)
    ]
    if experiment is None:
        data = Data(name="folder", root="photographs", image_size=SIDE, val_size=8, test_size=8)
        asked.append(("photographs", _spec(trick, loaded, data), photographs(), PHOTOS_SHOWN))
    return asked


def _spec(trick: Trick, loaded: Experiment, data: Data) -> RunSpec:
    recipe = loaded.recipe.model_copy(update={"augment": Augment(), "batch_size": BATCH})
    arm = Arm(tricks=(trick.spec(),))
    return RunSpec(
        data=data.model_copy(update={"label_noise": 0.0}), model=loaded.model, recipe=recipe, arm=arm, seed=0
    )


def photographs() -> Source:
    """Overlapping squares of scikit-learn's two sample photographs, which may be published (CC BY)."""
    from sklearn.datasets import load_sample_images

    images, labels = [], []
    for label, photo in enumerate(load_sample_images().images):
        height, width = (length - CUT for length in photo.shape[:2])
        for top, left in product(range(0, height + 1, STRIDE), range(0, width + 1, STRIDE)):
            out = torch.empty(SIDE, SIDE, 3, dtype=torch.uint8)
            resize(torch.from_numpy(photo.copy()), (top, left, CUT, CUT), out)
            images.append(out.numpy())
            labels.append(label)
    return Source(
        train_images=np.stack(images),
        train_labels=np.array(labels),
        test_images=None,
        test_labels=None,
        classes=("china", "flower"),
        peak=255,
        invariances=PHOTOS,
        digest="sample-photographs",
    )


def draw(spec: RunSpec, source: Source, shown: int) -> Drawn:
    """What the tricks of a run make of the first images of its training split, by the loop's own hooks.

    Raises:
        NotApplicable: a trick cannot act on these data.
        UserError: there are too few images.
    """
    session = set_up(spec, Place(data_root=Path(), rehearsal=True, contiguous=True), source)
    run, loader = session.run, session.loader
    chosen = torch.arange(min(shown, loader.batch_size))
    others = torch.arange(len(chosen), loader.count)
    order, size = torch.Generator().manual_seed(spec.seed), loader.batch_size - len(chosen)
    run.model.train()
    draws = []
    for number in range(DRAWS):
        run.epoch = number * run.recipe.epochs // DRAWS
        run.step = run.epoch * run.steps_per_epoch
        session.stack.notify("epoch_start", run)
        mixed_in = others[torch.randperm(len(others), generator=order)[:size]]
        (batch,) = loader.epoch(torch.cat((chosen, mixed_in)))
        draws.append((f"epoch {run.epoch + 1}", session.stack.fold("batch", batch, run)))
    return Drawn(_originals(session, chosen), tuple(draws), len(chosen), run.data.classes)


def _originals(session: Session, chosen: Tensor) -> Batch:
    """Images and targets as the training split holds them."""
    train = session.run.train
    x = to_pixels(train.rows.take(chosen), train.peak, channels_last=False)
    y = session.loader.one_hot[train.label[chosen]] if train.y is None else train.y[chosen]
    return Batch(x, y, train.label[chosen], train.index[chosen])


def changes(drawn: Drawn) -> bool:
    """Whether a draw differs from the image that it is of."""
    return not all(torch.equal(batch.x[: drawn.shown], drawn.originals.x) for _, batch in drawn.draws)


def words_of(y: Tensor, classes: Sequence[str]) -> str:
    """The heaviest classes of a target (K,) with their weights: two in a line where their names are short."""
    weights, order = y.sort(descending=True, stable=True)
    named = [
        f"{weight:.2f} {classes[i][:12]}"
        for weight, i in zip(weights.tolist()[:MOST_NAMED], order.tolist(), strict=False)
        if weight >= LEAST_WEIGHT
    ]
    step = 2 if max(map(len, named), default=0) <= 7 else 1
    return "\n".join(" + ".join(named[i : i + step]) for i in range(0, len(named), step))


def figure(words: Sequence[str], parts: Sequence[Drawn]) -> Figure:
    """The sheet: for each image of each part the original, and then its draws with the targets that they changed."""
    blocks = [_cells(part) for part in parts]
    gaps = [0.15 + LINE * max(text.count("\n") + 1 for _, cells in block for _, text in cells) for block in blocks]
    height = 2 * MARGIN + sum(HEAD + part.shown * (CELL + gap) for part, gap in zip(parts, gaps, strict=True)) + HEAD
    sheet = Sheet(max(2 * MARGIN + (DRAWS + 1) * STEP, 2 * MARGIN + extent(words, "bold")), height)
    for line, text in enumerate(words):
        sheet.text(MARGIN, MARGIN + 0.4 * line, text, va="top", weight="normal" if line else "bold")
    top = MARGIN + HEAD
    for block, gap in zip(blocks, gaps, strict=True):
        top += HEAD
        for column, (heading, cells) in enumerate(block):
            left = MARGIN + column * STEP
            sheet.text(left + CELL / 2, top - 0.1, heading, ha="center", va="bottom")
            for row, (image, text) in enumerate(cells):
                upper = top + row * (CELL + gap)
                axes = sheet.axes(left, upper, left + CELL, upper + CELL)
                axes.imshow(image.numpy(), "gray", vmin=0, vmax=1)
                axes.set_axis_off()
                sheet.text(left + CELL / 2, upper + CELL + 0.05, text, ha="center", va="top", size=5, linespacing=1.0)
        top += len(block[0][1]) * (CELL + gap)
    return sheet.figure


def _cells(part: Drawn) -> list[tuple[str, list[tuple[Tensor, str]]]]:
    """The columns of a part: a heading, and for each row the image as it is drawn and the words below it."""
    columns = []
    for heading, batch in (("original", part.originals), *part.draws):
        images = batch.x[: part.shown].detach().clamp(0, 1).permute(0, 2, 3, 1).squeeze(-1)
        told = [
            "" if batch is not part.originals and torch.allclose(y, known) else words_of(y, part.classes)
            for y, known in zip(batch.y[: part.shown], part.originals.y, strict=True)
        ]
        columns.append((heading, list(zip(images, told, strict=True))))
    return columns
