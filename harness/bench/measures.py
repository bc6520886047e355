"""The benchmarks: T1 to T13, in the order in which they are measured."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from harness.bench.commands import judged, nothing_to_do, start_up
from harness.bench.loops import (
    Perceptron,
    augment_loop,
    bare_loop,
    conv_flops,
    digits,
    harness_loop,
    lightning_loop,
    matmul_loop,
    no_ops,
    resnet8,
    script_loop,
    with_tricks,
    write_images,
)
from harness.bench.photographs import photographs
from harness.bench.rows import BenchRow, Measure, Seconds, cpu, interleave, summary
from harness.experiment import Data, RunSpec
from harness.report.pages.study import write_report
from harness.store.merge import consolidate
from harness.store.reader import read_kind, read_study
from harness.store.schema import ArmPlan, Manifest
from harness.store.writer import prepare, write_manifest, write_run
from harness.study.workers.job import Job
from harness.study.workers.local import run_jobs, work
from harness.training.execute import execute
from harness.training.place import Place
from harness.tricks import registry
from harness.tricks.contract import Trick


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
    photographs: int


QUICK = Size(7, 256, (1, 5, 20), (20,), pools=3, pool_runs=6, many_runs=0, photographs=2000)
FULL = Size(15, 512, (1, 5, 20), (1, 5, 20), pools=7, pool_runs=12, many_runs=10_000, photographs=20_000)


def measure(size: Size) -> Iterator[BenchRow]:
    """All rows, measured in this process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as name:
        folder = Path(name)
        yield from start_up(size.repeats)
        yield from nothing_to_do(size.repeats, folder)
        yield from judged(size.repeats, folder)
        yield from training(size, folder)
        yield from fixed_cost(size, folder)
        yield from store(size, folder)
        yield from workers(size, folder)
        yield from photographs(size.photographs, folder)


def training(size: Size, folder: Path) -> Iterator[BenchRow]:
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


def _against_bare(name: str, seconds: Mapping[str, Seconds], steps: int, target: str) -> Iterator[BenchRow]:
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


def _against_others(name: str, seconds: Mapping[str, Seconds], targets: Mapping[str, str]) -> Iterator[BenchRow]:
    """T2: how many times faster than what people use."""
    words = {"lightning": "Lightning", "script": "a timm-style script"}
    for key, target in targets.items():
        if key in seconds:
            measured = f"speed over that of {words[key]}, per-sample torchvision transforms, same net and batches, fp32"
            yield summary(f"T2 {name} / {words[key]}", seconds[key] / seconds["0"], "x", measured, target)


def fixed_cost(size: Size, folder: Path) -> Iterator[BenchRow]:
    """T5: what a run costs beside its training steps, in a process that has run before."""
    study = folder / "fixed"
    prepare(study)

    def once(held: int) -> float:
        job = _job(digits(1, 128, held), study)
        total = cpu(lambda: work(job))
        rows, _, _ = read_kind(study, "runs", {job.spec.run_id: job.identity.short})
        assert rows is not None
        return total - float(rows["cpu_seconds_train"][0].as_py())

    seconds = interleave(size.repeats, {"small": lambda: once(50), "usual": lambda: once(800)})
    measured = "CPU time of a 1-epoch run on digits less its training steps: set-up, evaluation of {}, result files"
    yield summary("T5 fixed cost", 1e3 * seconds["small"], "ms/run", measured.format("228 images"), "<= 50")
    yield summary("T5 with evaluation", 1e3 * seconds["usual"], "ms/run", measured.format("1,728 images"))


def _job(spec: RunSpec, study: Path) -> Job:
    return Job.of(spec, "bench", study, Place(study.parent))


def workers(size: Size, folder: Path) -> Iterator[BenchRow]:
    """T4: finished runs per hour with one and two persistent workers."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    steps: dict[int, list[float]] = {1: [], 2: []}
    for i in range(size.pools):
        for n in (1, 2) if i % 2 else (2, 1):
            study = folder / f"pool-{i}-{n}"
            prepare(study)
            spec = digits(5)
            specs = [spec.model_copy(update={"seed": seed}) for seed in range(n * size.pool_runs)]
            for _ in run_jobs([_job(s, study) for s in specs], n):
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


def store(size: Size, folder: Path) -> Iterator[BenchRow]:
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

    def rows(kind: str, study: Path, runs: list[tuple[str, int, str]], with_predictions: bool) -> Iterator[BenchRow]:
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
    write_manifest(study, _manifest(study.name, runs, result.row["fingerprint"], result.row["identity"]))
    report = [cpu(lambda: write_report(study, folder)) for _ in range(3)]
    yield summary("T8 report, 100 arms x 10 seeds", report, "s", "CPU time to read, analyse and render a study")
    if size.many_runs:
        many = [("baseline", i, f"{i:016x}") for i in range(size.many_runs)]
        yield from rows(f"{size.many_runs:,} runs", folder / "many", many, False)


def _manifest(study: str, runs: Sequence[tuple[str, int, str]], fingerprint: str, identity: str) -> Manifest:
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
        arms=tuple(
            ArmPlan(label=a, tricks={} if a == "baseline" else {a: {}}, run_ids=i, identity=identity)
            for a, i in ids.items()
        ),
        fingerprint=fingerprint,
        scope="invented results",
        command="harness bench",
        toml="",
        harness_version="0",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
