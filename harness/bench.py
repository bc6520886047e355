"""Benchmarks of the harness against what a careful or a hurried person would use instead.

Times are CPU seconds of the process (system time included, one thread), never wall seconds, except for
runs per hour. What is compared runs interleaved in one process, in an order that is reversed at every
repeat, and a row is the median of the repeats' ratios with its quartiles. On a machine that others use,
only these ratios mean anything: absolute times move by 10 % and more with the neighbours, and runs per
hour need idle cores.

The images are the bundled digits and random pixels, so nothing here says anything about accuracy.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from harness.data.batches import to_pixels
from harness.experiment import Arm, Augment, Data, Model, Recipe, RunSpec
from harness.models.classifier import Classifier, Normalize
from harness.report.build import write_report
from harness.store.reader import read_kind, read_study
from harness.store.schema import ArmPlan, Manifest
from harness.store.writer import atomically, consolidate, prepare, write_manifest, write_run
from harness.study.workers.local import ENVIRONMENT, Job, run_jobs, work
from harness.training.execute import execute
from harness.training.loop import Clock, train
from harness.training.provenance import device_name, host_facts
from harness.training.session import Place, set_up
from harness.tricks import registry
from harness.tricks.contract import Batch, Info, ModelStage, Run, Trick, at
from harness.tricks.functional import soft_cross_entropy

Seconds = NDArray[np.float64]
"""CPU seconds, one for each repeat (R,)."""

Measure = Callable[[], float]
"""Does a fixed amount of work and returns the CPU seconds that it took."""


@dataclass(frozen=True)
class Row:
    """One measured number: the median of `n` repeats with their quartiles `low` and `high`.

    `target` is "" or a bound such as ">= 0.97", in the same unit.
    """

    name: str
    value: float
    unit: str
    low: float
    high: float
    n: int
    measured: str
    target: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the target; None without a target."""
        if not self.target:
            return None
        sign, bound = self.target.split()
        return self.value >= float(bound) if sign == ">=" else self.value <= float(bound)


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    repeats: int
    resnet_images: int
    tricks: tuple[int, ...]
    resnet_tricks: tuple[int, ...]
    pools: int
    pool_runs: int
    many_runs: int
    """Runs without predictions in the second store benchmark; 0 leaves it out."""


QUICK = Size(7, 256, (1, 5, 20), (20,), pools=3, pool_runs=6, many_runs=0)
FULL = Size(15, 512, (1, 5, 20), (1, 5, 20), pools=7, pool_runs=12, many_runs=10_000)


def run_bench(quick: bool, out: Path | None, show: Callable[[Row], None] = lambda row: None) -> list[Row]:
    """All rows, stored as one JSON document at `out` unless it is None; `show` gets each row as it is measured.

    Raises:
        RuntimeError: the measuring process failed; its traceback is on stderr.
        OSError: `out` cannot be written.
    """
    started, load = datetime.now(UTC), os.getloadavg()
    rows = []
    for row in iter_bench(quick):
        rows.append(row)
        show(row)
    if out is not None:
        document = {
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "quick": quick,
            "device": device_name("cpu"),
            "load_average": {"before": load, "after": os.getloadavg()},
            **host_facts(),
            "rows": [asdict(row) | {"met": row.met} for row in rows],
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        atomically(out, lambda file: file.write(json.dumps(document, indent=1).encode()))
    return rows


def iter_bench(quick: bool) -> Iterator[Row]:
    """The rows as they are measured, in a fresh process with one thread and the environment of a worker.

    Raises:
        RuntimeError: that process failed; its traceback is on stderr.
    """
    # The same allocator settings as real runs have, which glibc reads only when a process starts.
    environment = os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "harness.bench", *(["--quick"] if quick else [])]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield Row(**json.loads(line))
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise RuntimeError(f"the benchmark process ended with code {process.returncode}")


def measure(size: Size) -> Iterator[Row]:
    """All rows, measured in this process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as name:
        folder = Path(name)
        yield from start_up(size)
        yield from training(size, folder)
        yield from fixed_cost(size, folder)
        yield from store(size, folder)
        yield from workers(size, folder)


# Measuring -----------------------------------------------------------------------------------------


def summary(name: str, values: Sequence[float] | Seconds, unit: str, measured: str, target: str = "") -> Row:
    """The row of some repeats."""
    low, middle, high = (float(q) for q in np.percentile(values, (25, 50, 75)))
    return Row(name, middle, unit, low, high, len(values), measured, target)


def cpu(f: Callable[[], object], times: int = 1) -> float:
    """CPU seconds of that many calls."""
    started = time.process_time()
    for _ in range(times):
        f()
    return time.process_time() - started


def interleave(repeats: int, work: Mapping[str, Measure]) -> dict[str, Seconds]:
    """CPU seconds (repeats,) of each work, all of them once per repeat, after one unmeasured round."""
    for f in work.values():
        f()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for i in range(repeats):
        for name in list(work) if i % 2 else reversed(list(work)):
            seconds[name].append(work[name]())
    return {name: np.array(values) for name, values in seconds.items()}


# What is trained -----------------------------------------------------------------------------------


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


# Ways to train -------------------------------------------------------------------------------------


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
    side, shift = data.images.shape[1], round(spec.recipe.augment.shift * data.images.shape[1])
    padded = F.pad(data.images, (0, 0, *[shift] * 4))
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
        images = (train.images.float() * (255 / train.peak)).round().byte().numpy()
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


# The benchmarks ------------------------------------------------------------------------------------


def training(size: Size, folder: Path) -> Iterator[Row]:
    """Training steps of the harness against other loops (T1, T2), the processor (T3), and augmentation (T10)."""
    place = Place(write_images(folder, size.resnet_images + 100))
    rounds = size.repeats + 1
    tricks = no_ops(max(*size.tricks, *size.resnet_tricks, 10))
    with ExitStack() as known:
        known.enter_context(registry.registered(Perceptron))
        for trick in tricks:
            known.enter_context(registry.registered(trick))

        spec = with_tricks(digits(8 * rounds), [Perceptron])
        loops = {"bare": bare_loop(spec, place, 8), "soft": bare_loop(spec, place, 8, soft=True)}
        for k in (0, *sorted({*size.tricks, 10})):
            loops[f"{k}"] = harness_loop(with_tricks(spec, [Perceptron, *tricks[:k]]), place, 8)
        seconds, steps = interleave(size.repeats, loops), 8 * (1400 // 64)
        yield from _against_bare("MLP", seconds, steps, ">= 0.90")
        measured = "speed over that of the loop written by hand with rows of probabilities as targets"
        yield summary("T1 MLP 0 tricks, soft targets", seconds["soft"] / seconds["0"], "x", measured)

        spec = digits(2 * rounds)
        loops = _loops(spec, place, 2, tricks, size.tricks)
        seconds, steps = interleave(size.repeats, loops), 2 * (1400 // 64)
        yield from _against_bare("digits", seconds, steps, ">= 0.97")
        yield from _against_others("digits", seconds, {"lightning": ">= 5", "script": ">= 3"})

        spec = resnet8(rounds, size.resnet_images)
        half = spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"precision": "bf16"})})
        loops = _loops(spec, place, 1, tricks, size.resnet_tricks)
        loops |= {
            "bf16": harness_loop(half, place, 1),
            "matmul": matmul_loop(),
            "augment": augment_loop(spec, place, 1),
        }
        seconds, steps = interleave(size.repeats, loops), size.resnet_images // 128
        yield from _against_bare("ResNet-8", seconds, steps, ">= 0.99")
        yield from _against_others("ResNet-8", seconds, {"lightning": ">= 1.5", "script": ">= 1.5"})
        if "lightning" in seconds:
            ratio = seconds["lightning"] / seconds["bf16"]
            yield summary("T2 ResNet-8 bf16 / Lightning", ratio, "x", "speed in bf16 over Lightning's fp32", ">= 2.5")

        rate = 5 * 2 * 1024**3 / seconds["matmul"]
        share = conv_flops(spec, place) * steps / seconds["0"] / rate
        measured = "FLOPs of the convolutions per CPU-second over those of a 1024x1024 matrix product"
        yield summary("T3 ResNet-8 / matmul", share, "x", f"{measured}, fp32, 1 thread", ">= 0.55")
        yield summary("T3 matmul", rate / 1e9, "GFLOP/s", "1024x1024 matrix products, fp32, 1 thread")

        measured = "order, shift, flip and conversion of 128 images of 3x32x32"
        yield summary("T10 augment", 1e3 * seconds["augment"] / steps, "ms/batch", measured, "<= 8")
        yield summary("T10 augment / step", seconds["augment"] / seconds["0"], "x", f"{measured}, per step", "<= 0.05")


def _loops(
    spec: RunSpec, place: Place, epochs: int, no_op: list[type[Trick]], counts: Sequence[int]
) -> dict[str, Measure]:
    """All ways to train `spec`; the harness's under its number of tricks."""
    loops = {"bare": bare_loop(spec, place, epochs), "script": script_loop(spec, place, epochs)}
    if find_spec("lightning"):
        loops["lightning"] = lightning_loop(spec, place, epochs)
    for k in (0, *counts):
        loops[f"{k}"] = harness_loop(with_tricks(spec, no_op[:k]), place, epochs)
    return loops


def _against_bare(name: str, seconds: Mapping[str, Seconds], steps: int, target: str) -> Iterator[Row]:
    """T1: speed as a share of the bare loop's, and the time that a step takes longer, by number of tricks."""
    bare = seconds["bare"]
    yield summary(f"T1 {name} bare", 1e3 * bare / steps, "ms/step", "the loop written by hand")
    for k in sorted(int(key) for key in seconds if key.isdigit()):
        with_k = f"{k} no-op tricks" if k else "no trick"
        measured = f"speed of the harness with {with_k} over that of the loop written by hand"
        added = f"CPU time that the harness with {with_k} adds to a step of the loop written by hand"
        yield summary(f"T1 {name} {k} tricks", bare / seconds[f"{k}"], "x", measured, target if k == 0 else "")
        limit = "<= 60" if k == 10 else ""
        yield summary(f"T1 {name} {k} tricks, added", 1e6 * (seconds[f"{k}"] - bare) / steps, "us/step", added, limit)


def _against_others(name: str, seconds: Mapping[str, Seconds], targets: Mapping[str, str]) -> Iterator[Row]:
    """T2: how many times faster than what people use."""
    words = {"lightning": "Lightning", "script": "a timm-style script"}
    for key, target in targets.items():
        if key in seconds:
            measured = f"speed over that of {words[key]}, per-sample torchvision transforms, same net and batches, fp32"
            yield summary(f"T2 {name} / {words[key]}", seconds[key] / seconds["0"], "x", measured, target)


def fixed_cost(size: Size, folder: Path) -> Iterator[Row]:
    """T5: what a run costs beside its training steps, in a process that has run before."""
    study = folder / "fixed"
    prepare(study)

    def once(held: int) -> float:
        job = Job(digits(1, 128, held), "bench", study, Place(folder))
        total = cpu(lambda: work(job))
        rows, _, _ = read_kind(study, "runs", {job.spec.run_id})
        assert rows is not None
        return total - float(rows["cpu_seconds_train"][0].as_py())

    seconds = interleave(size.repeats, {"small": lambda: once(50), "usual": lambda: once(800)})
    measured = "CPU time of a 1-epoch run on digits less its training steps: set-up, evaluation of {}, result files"
    yield summary("T5 fixed cost", 1e3 * seconds["small"], "ms/run", measured.format("228 images"), "<= 50")
    yield summary("T5 with evaluation", 1e3 * seconds["usual"], "ms/run", measured.format("1,728 images"))


def workers(size: Size, folder: Path) -> Iterator[Row]:
    """T4: finished runs per hour with one and two persistent workers."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    steps: dict[int, list[float]] = {1: [], 2: []}
    for i in range(size.pools):
        for n in (1, 2) if i % 2 else (2, 1):
            study = folder / f"pool-{i}-{n}"
            prepare(study)
            spec = digits(5)
            specs = [spec.model_copy(update={"seed": seed}) for seed in range(n * size.pool_runs)]
            for _ in run_jobs([Job(s, "bench", study, Place(folder)) for s in specs], n):
                pass
            rows = read_study(study, predictions=False).runs
            begin, end = (rows[c].astype("int64").to_numpy() / 1e3 for c in ("started", "finished"))
            rates[n].append(3600 * busy_rate(begin, end, n))
            steps[n].append(float(rows["cpu_seconds_train"].median()))
    measured = "runs of 5 epochs on digits per hour (wall), after each worker's first run and while all are busy"
    for n in rates:
        yield summary(f"T4 {n} workers", rates[n], "runs/h", measured)
    gain = np.array(rates[2]) / np.array(rates[1])
    yield summary("T4 2 workers / 1", gain, "x", "runs per hour, wall: needs two idle cores", ">= 1.8")
    cost = np.array(steps[2]) / np.array(steps[1])
    yield summary("T4 cost of a run, 2 workers / 1", cost, "x", "CPU time of a run's training steps", "<= 1.15")


def busy_rate(begin: Seconds, end: Seconds, workers: int) -> float:
    """Runs per second from when each worker has finished one run until the first has no more to do.

    A run that lies partly in that window counts with the part of its time that does. Without such a window,
    when one worker was done before another had begun, all runs count over the whole time.

    Args:
        begin: start of each run in seconds (N,).
        end: end of each run in seconds (N,).
        workers: runs at a time; every worker does at least two.
    """
    active = [(begin <= t) & (t < end) for t in np.sort(begin)]
    together = next((a for a in active if a.sum() == workers), None)
    closed = np.sort(end)[-workers]
    if together is None or end[together].max() >= closed:
        return float(len(begin) / (end.max() - begin.min()))
    opened = end[together].max()
    inside = np.clip(np.minimum(end, closed) - np.maximum(begin, opened), 0, None)
    return float((inside / (end - begin)).sum() / (closed - opened))


ARMS, SEEDS = 100, 10
CURVE_EPOCHS = 16


def store(size: Size, folder: Path) -> Iterator[Row]:
    """T8: writing, merging and reading the rows of many runs, and the report made of them."""
    held = digits(CURVE_EPOCHS, 128).model_copy(update={"data": Data(name="digits", train_size=128, val_size=200)})
    held = held.model_copy(update={"data": held.data.model_copy(update={"test_size": 1400})})
    result = execute(held, "bench", Place(folder))
    p = result.predictions
    assert p is not None, result.row["reason"]
    predictions = p.index.numpy(), p.label.numpy(), p.logits.numpy()
    points = [vars(point) for point in result.points]
    draw = np.random.default_rng(0)

    def write(study: Path, runs: Sequence[tuple[str, int, str]], with_predictions: bool) -> None:
        for arm, seed, run_id in runs:
            accuracy = 0.9 + 0.02 * draw.standard_normal()
            row = result.row | {"run_id": run_id, "arm": arm, "seed": seed, "test_accuracy": accuracy}
            write_run(study, row | {"test_digest": run_id}, points, predictions if with_predictions else None)

    def rows(kind: str, study: Path, runs: list[tuple[str, int, str]], with_predictions: bool) -> Iterator[Row]:
        prepare(study)
        parts = [runs[i : i + 100] for i in range(0, len(runs), 100)]
        each = [10 * cpu(lambda part=part: write(study, part, with_predictions)) for part in parts]  # type: ignore[misc]
        yield summary(f"T8 write, {kind}", each, "ms/run", "CPU time to store a run, in parts of 100 runs", "<= 2")
        merge = [cpu(lambda: consolidate(study))]
        yield summary(f"T8 consolidate, {kind}", merge, "s", "CPU time to merge the files", "<= 1.5")
        read = [1e3 * cpu(lambda: read_study(study, predictions=False)) for _ in range(size.repeats)]
        yield summary(f"T8 read, {kind}", read, "ms", "CPU time to read the rows and curves of all runs", "<= 50")

    arms = ["baseline", *(f"trick{i:02d}" for i in range(1, ARMS))]
    runs = [(arm, seed, f"{i:08x}{seed:08x}") for i, arm in enumerate(arms) for seed in range(SEEDS)]
    study = folder / "stored"
    yield from rows(f"{len(runs):,} runs with predictions", study, runs, True)
    write_manifest(study, _manifest(study.name, runs, str(result.row["fingerprint"])))
    report = [cpu(lambda: write_report(study, folder)) for _ in range(3)]
    yield summary("T8 report, 100 arms x 10 seeds", report, "s", "CPU time to read, analyse and render a study")
    if size.many_runs:
        many = [("baseline", i, f"{i:016x}") for i in range(size.many_runs)]
        yield from rows(f"{size.many_runs:,} runs", folder / "many", many, False)


def _manifest(study: str, runs: Sequence[tuple[str, int, str]], fingerprint: str) -> Manifest:
    ids: dict[str, dict[int, str]] = {}
    for arm, seed, run_id in runs:
        ids.setdefault(arm, {})[seed] = run_id
    return Manifest(
        study=study,
        experiment="bench",
        question="",
        metric="test_accuracy",
        margin=0.5,
        alpha=0.05,
        design="one_at_a_time",
        seeds=tuple(range(SEEDS)),
        arms=tuple(ArmPlan(label=a, tricks={} if a == "baseline" else {a: {}}, run_ids=i) for a, i in ids.items()),
        fingerprint=fingerprint,
        scope="invented results",
        command="harness bench",
        toml="",
        harness_version="0",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def start_up(size: Size) -> Iterator[Row]:
    """T9: what `--help` costs, and whether it imports torch."""

    def help_page(*options: str) -> str:
        command = [sys.executable, *options, "-m", "harness", "--help"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr

    seconds = []
    for _ in range(size.repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        help_page()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    yield summary("T9 --help", seconds, "s", "CPU time of `python -m harness --help`", "<= 0.2")
    loaded = [line.split("|")[-1].strip() for line in help_page("-X", "importtime").splitlines()]
    yield summary("T9 --help, torch", [float("torch" in loaded)], "imports", "whether it imports torch", "<= 0")


if __name__ == "__main__":
    for measured_row in measure(QUICK if "--quick" in sys.argv[1:] else FULL):
        sys.stdout.write(json.dumps(asdict(measured_row)) + "\n")
        sys.stdout.flush()
