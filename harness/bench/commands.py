"""What commands cost that have nothing to train: help, a study of which every run is stored, scores made elsewhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from harness.bench.loops import write_images
from harness.bench.rows import BenchRow, summary
from harness.commands.kinds import of_loop
from harness.data.content import content
from harness.experiment import find_experiment, load_experiment
from harness.store.reader import Key
from harness.store.schema import METRICS
from harness.store.writer import prepare, write_manifest, write_run
from harness.study.plan import Plan, make_plan
from harness.training.place import Place

FILES = 13_000
WORKLOADS = (
    ("digits", "digits", 3),
    ("cifar10", "all of CIFAR-10", 4),
    ("imagenette", f"a folder of {FILES:,} files", 3),
)
"""Experiment, how it is called, and the CPU seconds that a call with nothing left to do may take."""


def start_up(repeats: int) -> Iterator[BenchRow]:
    """T9: what `--help` costs, and whether it imports torch. Nothing on Windows, which does not count for children."""
    seconds = [s for _ in range(repeats) if (s := cpu_of("--help")) is not None]
    if not seconds:
        return
    yield summary("T9 --help", seconds, "s", "CPU time of `python -m harness --help`", "<= 0.2")
    yield summary("T9 --help, torch", [imports_torch("--help")], "imports", "whether it imports torch", "<= 0")


def nothing_to_do(repeats: int, folder: Path) -> Iterator[BenchRow]:
    """T11: what a study costs whose runs are all stored, its report included; the runs are invented."""
    root = write_images(folder / "pictures", FILES - 100)
    (root / "images").rename(root / "imagenette2")
    for experiment, name, target in WORKLOADS:
        results = folder / f"nothing-{experiment}"
        _store(experiment, root, results)
        words = ["ablate", "mixup", "-e", experiment, "--data-root", str(root), "--results", str(results)]
        words += ["--reports", str(folder)]
        cpu_of(*words)  # plans once more, and notes that there is nothing left
        seconds = [s for _ in range(repeats) if (s := cpu_of(*words)) is not None]
        if seconds:
            measured = f"CPU time of `harness ablate mixup` on {name} when all its runs are stored"
            yield summary(f"T11 nothing to do, {name}", seconds, "s", measured, f"<= {target}")


def judged(repeats: int, folder: Path, methods: int = 20, seeds: int = 500) -> Iterator[BenchRow]:
    """T13: what it costs to judge a table of runs that were trained elsewhere, its page included."""
    draw, table = np.random.default_rng(0), folder / "table.csv"
    lines = [f"m{m},{s},{draw.normal(80, 1):.2f}" for m in range(methods) for s in range(seeds)]
    table.write_text("\n".join(["method,seed,test_acc", *lines]), encoding="utf-8")
    words = ["judge", str(table), "--baseline", "m0", "--unit", "percent"]
    words += ["--results", str(folder / "judged"), "--reports", str(folder)]
    seconds = [s for _ in range(repeats) if (s := cpu_of(*words)) is not None]
    if seconds:
        measured = f"CPU time of `harness judge` on a table of {len(lines):,} rows"
        yield summary("T13 judge", seconds, "s", measured, "<= 5")
        yield summary("T13 judge, torch", [imports_torch(*words)], "imports", "whether it imports torch", "<= 0")


def imports_torch(*words: str) -> float:
    """Whether a command of ours imports torch: 0 or 1."""
    command = [sys.executable, "-X", "importtime", "-m", "harness", *words]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return float("torch" in [line.split("|")[-1].strip() for line in told.splitlines()])


def cpu_of(*words: str) -> float | None:
    """CPU seconds of a command of ours, its children included; None where the system does not count them."""
    try:
        import resource
    except ImportError:
        return None
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "harness", *words], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _store(name: str, root: Path, results: Path) -> None:
    """Store a study of mixup as if it had been trained."""
    experiment, place = load_experiment(name), Place(root)
    plan = make_plan(
        experiment, ["mixup"], design="one_at_a_time", seeds=experiment.study.blocks, place=place,
        results=results, images=content(experiment.data, root).digest, command="", toml=_text(name),
    )  # fmt: skip
    images = {"digits": 1400, "cifar10": 10_000, "imagenette": 100}[name]
    folder = results / plan.manifest.study
    prepare(folder)
    write_manifest(folder, plan.manifest)
    draw = np.random.default_rng(0)
    for spec in plan.specs:
        logits = draw.standard_normal((images, 10)).astype(np.float32)
        label = np.arange(images) % 10
        points = [
            {"epoch": e, "step": e, "split": "val", "metric": m, "value": draw.random()}
            for e in range(1, 21)
            for m in ("accuracy", "nll")
        ]
        row = _row(plan, plan.key(spec), spec.seed, spec.arm.label, place.fingerprint(of_loop(spec)), draw)
        write_run(folder, row | {"spec": spec.canonical_json}, points, (np.arange(images), label, logits))


def _row(
    plan: Plan, key: Key, seed: int, arm: str, machine: dict[str, str], draw: np.random.Generator
) -> dict[str, object]:
    now = datetime.now(UTC)
    metrics = {f"{split}_{metric}": draw.random() for split in ("val", "test") for metric in METRICS}
    return metrics | machine | {
        "run_id": key[0], "identity": key[1], "identity_json": plan.identities[key[0]].json, "arm": arm, "seed": seed,
        "hyperparameters": "{}", "status": "ok", "reason": "", "experiment": plan.manifest.experiment, "packed": False,
        "test_digest": f"{arm}-{seed}", "seconds_total": 1.0, "seconds_train": 1.0, "cpu_seconds_train": 1.0,
        "seconds_other": 0.0, "started": now, "finished": now, "data_hash": plan.manifest.data, "versions": "{}",
    }  # fmt: skip


def _text(name: str) -> str:
    return find_experiment(name).read_text(encoding="utf-8")
