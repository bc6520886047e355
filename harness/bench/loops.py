"""What is trained, and the ways to train it: the harness, by hand, and with what people use."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from harness.bench.rows import Measure, cpu
from harness.data.rows import to_pixels
from harness.experiment import Arm, Augment, Data, Model, Recipe, RunSpec
from harness.models.classifier import Classifier, Normalize
from harness.training.loop import Clock, train
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks.contract import Batch, Info, ModelStage, Run, Trick, at
from harness.tricks.functional import soft_cross_entropy


class NoOp(Trick):
    """Implements hooks of every step and changes nothing, so that what it costs is the harness's."""

    info: ClassVar = Info(
        name="bench_no_op_0", family="bench", summary="nothing", paper="none", formula="identity", expect="nothing"
    )

    def batch(self, batch: Batch, run: Run) -> Batch:
        """The same batch."""
        return batch

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """No terms."""
        return {}

    def after_step(self, run: Run) -> None:
        """Nothing."""


def no_ops(count: int) -> list[type[Trick]]:
    """That many tricks of different names."""
    names = [f"bench_no_op_{i}" for i in range(count)]
    return [type(name, (NoOp,), {"info": NoOp.info._replace(name=name), "__module__": __name__}) for name in names]


class Perceptron(Trick):
    """Puts a network of two linear layers in the place of the model: steps as short as they get."""

    info: ClassVar = Info(
        name="bench_perceptron", family="bench", summary="a tiny net", paper="none", formula="two layers", expect="-"
    )

    @at(ModelStage.STEM)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """One hidden layer of 64 units."""
        info = run.data
        inputs = info.channels * info.size**2
        net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, len(info.classes)))
        return Classifier(net, Normalize(info.mean, info.std), ("0",), "3")


def write_images(folder: Path, count: int, side: int = 32) -> Path:
    """A folder data set "images" of random pixels: `count` for training and 100 for testing, in 10 classes."""
    draw = np.random.default_rng(0)
    for split, n in (("train", count), ("val", 100)):
        for i in range(n):
            path = folder / "images" / split / f"class{i % 10}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path, compress_level=1)
    return folder


def digits(epochs: int, train_size: int = 1400, held: int = 100) -> RunSpec:
    """A network of 5,122 parameters on digits, batches of 64."""
    return RunSpec(
        data=Data(name="digits", train_size=train_size, val_size=held, test_size=held),
        model=Model(name="digits_resnet", width=8),
        recipe=_recipe(epochs, 64, Augment(shift=0.125)),
        arm=Arm(),
        seed=0,
    )


def resnet8(epochs: int, images: int) -> RunSpec:
    """ResNet-8 on 3x32x32 pixels, batches of 128."""
    return RunSpec(
        data=Data(name="folder", root="images", image_size=32, train_size=images, val_size=100),
        model=Model(name="resnet8", width=16),
        recipe=_recipe(epochs, 128, Augment(shift=0.125, flip=True)),
        arm=Arm(),
        seed=0,
    )


def _recipe(epochs: int, batch_size: int, augment: Augment) -> Recipe:
    return Recipe(epochs=epochs, batch_size=batch_size, lr=0.05, schedule="constant", augment=augment)


def with_tricks(spec: RunSpec, tricks: Sequence[type[Trick]]) -> RunSpec:
    """The run of these tricks."""
    return spec.model_copy(update={"arm": Arm(tricks=tuple(t().spec() for t in tricks))})


def harness_loop(spec: RunSpec, place: Place, epochs: int) -> Measure:
    """The harness itself: its set-up, then its loop, `epochs` epochs a call."""
    s = set_up(spec, place)
    curve = train(s.run, s.stack, s.loader, s.step, s.lr_factors, dict, Clock())
    return lambda: cpu(lambda: next(curve), epochs)


def bare_loop(spec: RunSpec, place: Place, epochs: int, soft: bool = False) -> Measure:
    """What one writes by hand for speed: resident uint8 images, cropped in bulk, channels_last, fused SGD.

    With integer labels, whose loss is one kernel; or, when `soft`, with rows of probabilities as tricks need them.
    """
    session = set_up(spec, place)
    model, data, recipe, optimizer = session.run.model.train(), session.run.train, spec.recipe, _sgd(session.run, True)
    side, shift = data.rows.side, round(spec.recipe.augment.shift * data.rows.side)
    padded = F.pad(data.images[:], (0, 0, *[shift] * 4))
    pixels, window = torch.arange(side), 2 * shift + 1
    labels = F.one_hot(data.label, len(session.run.data.classes)).float() if soft else data.label
    usable = len(data.label) // recipe.batch_size * recipe.batch_size

    def epoch() -> float:
        chosen = torch.randperm(len(data.label))[:usable]
        rows = pixels + torch.randint(window, (usable, 1))
        columns = pixels.expand(usable, -1)
        if recipe.augment.flip:
            columns = torch.where(torch.rand(usable, 1) < 0.5, side - 1 - pixels, pixels)
        columns = columns + torch.randint(window, (usable, 1))
        images = padded[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
        x = to_pixels(images, data.peak, channels_last=True)
        targets, total = labels[chosen], torch.zeros(())
        for xb, yb in zip(*(torch.split(t, recipe.batch_size) for t in (x, targets)), strict=True):
            optimizer.param_groups[0]["lr"] = recipe.lr
            optimizer.zero_grad()
            logits = model(xb)
            loss = soft_cross_entropy(logits, yb).mean() if soft else F.cross_entropy(logits, yb)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach()
        return float(total)

    return lambda: cpu(epoch, epochs)


def _sgd(run: Run, fused: bool | None = None) -> torch.optim.SGD:
    r = run.recipe
    return torch.optim.SGD(run.model.parameters(), lr=r.lr, momentum=r.momentum, nesterov=True, fused=fused)


class Samples(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets hand them over, transformed one at a time: the usual way."""

    def __init__(self, spec: RunSpec, place: Place) -> None:
        from torchvision.transforms import v2

        train, augment = set_up(spec, place).run.train, spec.recipe.augment
        images = (train.images[:].float() * (255 / train.peak)).round().byte().numpy()
        self.images, self.label = images.squeeze(-1) if images.shape[-1] == 1 else images, train.label.tolist()
        side = self.images.shape[1]
        flip = [v2.RandomHorizontalFlip()] if augment.flip else []
        crop = v2.RandomCrop(side, padding=round(augment.shift * side))
        self.transform = v2.Compose([crop, *flip, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[i])), self.label[i]


def data_loader(spec: RunSpec, place: Place) -> DataLoader[tuple[Tensor, int]]:
    """Shuffled batches, loaded in this process: workers cost more CPU time than they save at these sizes."""
    return DataLoader(Samples(spec, place), spec.recipe.batch_size, shuffle=True, drop_last=True)


def script_loop(spec: RunSpec, place: Place, epochs: int) -> Measure:
    """The shape of timm's and torchvision's scripts: DataLoader, contiguous images, the loss read at each step.

    No average of the weights, which is an option there, too: both sides do the same work.
    """
    run, loader = set_up(spec, place).run, data_loader(spec, place)
    model = run.model.train().to(memory_format=torch.contiguous_format)
    optimizer, criterion = _sgd(run), nn.CrossEntropyLoss()

    def epoch() -> float:
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        return total

    return lambda: cpu(epoch, epochs)


def lightning_loop(spec: RunSpec, place: Place, epochs: int) -> Measure:
    """Lightning's Trainer with a DataLoader, timed from the start of its first epoch to the end of its last.

    Progress bar, logger and checkpoints are off: the harness has none of them inside an epoch either.
    """
    lightning: Any = import_module("lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    run, loader = set_up(spec, place).run, data_loader(spec, place)
    network = run.model.to(memory_format=torch.contiguous_format)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network, self.seconds = network, 0.0

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return _sgd(run)

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            loss = F.cross_entropy(self.network(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def on_train_start(self) -> None:
            self.seconds = -time.process_time()

        def on_train_end(self) -> None:
            self.seconds += time.process_time()

    module = Module()

    def fit() -> float:
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=place.data_root,
        )  # fmt: skip
        trainer.fit(module, loader)
        return float(module.seconds)

    return fit


def matmul_loop(side: int = 1024, times: int = 5) -> Measure:
    """Float32 matrix products, 2 * side ** 3 * times FLOPs."""
    a = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    return lambda: cpu(lambda: a @ a, times)


def augment_loop(spec: RunSpec, place: Place, epochs: int) -> Measure:
    """The harness's batches alone, without a training step."""
    loader = set_up(spec, place).loader
    return lambda: cpu(lambda: list(loader.epoch()), epochs)


def conv_flops(spec: RunSpec, place: Place) -> int:
    """FLOPs of the convolutions of one step, forward and backward, an addition and a product counted as two."""
    session = set_up(spec, place)
    batch = next(session.loader.epoch())
    with FlopCounterMode(display=False) as counter:
        session.run.loss(batch).backward()  # type: ignore[no-untyped-call]
    return sum(n for op, n in counter.get_flop_counts()["Global"].items() if "convolution" in str(op))
