"""What a run on photographs costs before its first step, and the memory that it takes: `python -m` is one worker."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from harness.bench.rows import BenchRow, cpu, summary
from harness.data.sources import load_source
from harness.experiment import Arm, Augment, Data, Model, Recipe, RunSpec
from harness.study.workers.local import ENVIRONMENT
from harness.training.execute import peak_memory
from harness.training.place import Place
from harness.training.session import set_up

SIDE, HELD, DISTINCT = 224, 64, 50
BATCHES = 4


def photographs(count: int, folder: Path) -> Iterator[BenchRow]:
    """T12: set-up of a second run in a worker, and the worker's peak, with `count` photographs to train on."""
    root = _write(folder / "photographs", count)
    decoding = cpu(lambda: load_source(_spec().data, root))
    yield summary("T12 decode", [1e3 * decoding / count], "ms/image", f"hashing and decoding {count:,} JPEGs, once")
    command = [sys.executable, "-m", "harness.bench.photographs", str(root)]
    done = subprocess.run(command, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=True)
    seconds, peak = json.loads(done.stdout)
    what = f"{count:,} photographs of {SIDE} pixels, ResNet-18"
    yield summary("T12 set-up", [seconds], "s", f"CPU time to set up the second run of a worker, {what}", "<= 0.5")
    measured = f"peak of a worker before its first step, with {BATCHES} batches of 16 and an evaluation, {what}"
    yield summary("T12 memory", [peak / 1e9], "GB", measured, "<= 1.5")


def _spec(seed: int = 0) -> RunSpec:
    return RunSpec(
        data=Data(name="folder", root="photos", image_size=SIDE, val_size=HELD),
        model=Model(name="timm/resnet18"),
        recipe=Recipe(epochs=1, batch_size=16, lr=0.1, augment=Augment(scale_min=0.35, flip=True)),
        arm=Arm(),
        seed=seed,
    )


def _write(root: Path, count: int) -> Path:
    """A folder `photos` of ten classes: squares of scikit-learn's photographs, each file with bytes of its own."""
    from sklearn.datasets import load_sample_images

    draw, photos, encoded = np.random.default_rng(0), load_sample_images().images, []
    for i in range(DISTINCT):
        photo, stream = photos[i % len(photos)], io.BytesIO()
        top, left = (draw.integers(length - SIDE) for length in photo.shape[:2])
        Image.fromarray(photo[top : top + SIDE, left : left + SIDE]).save(stream, "JPEG", quality=85)
        encoded.append(stream.getvalue())
    for split, n in (("train", count + HELD), ("val", HELD)):
        for i in range(n):
            path = root / "photos" / split / f"class{i % 10}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded[i % DISTINCT] + i.to_bytes(4, "little"))  # decoders stop before what follows
    return root


def worker(root: Path) -> tuple[float, int]:
    """CPU seconds of the second run's set-up in this process, and the peak in bytes.

    No step is trained: what that takes is the network's, however many photographs there are.
    """
    torch.set_num_threads(1)
    place = Place(root)
    set_up(_spec(0), place)
    seconds = cpu(lambda: set_up(_spec(1), place))
    session = set_up(_spec(1), place)
    for _ in islice(session.loader.epoch(), BATCHES):
        pass
    session.validate()
    return seconds, peak_memory("cpu")


if __name__ == "__main__":
    print(json.dumps(worker(Path(sys.argv[1]))))  # noqa: T201 (read by the process that measures)
