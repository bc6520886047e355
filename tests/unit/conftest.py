"""A stored study whose runs have predictions, made without training."""

import cProfile
import pstats
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

from harness.store.schema import METRICS, RUNS, ArmPlan, Manifest
from harness.store.writer import prepare, write_manifest, write_run
from harness.testing import tiny_spec
from harness.training.evaluate import metrics

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def store_study(folder, tricks=("mixup", "placebo"), seeds=5, images=80, classes=4):
    """Arms that share what is hard about the images of a seed; `mixup` is less sure, `erm_baseline` the baseline."""
    labels = ("baseline", *tricks)
    arms = tuple(
        ArmPlan(
            label=label,
            tricks={} if label == "baseline" else {label: {}},
            run_ids={s: f"{i:08x}{s:08x}" for s in range(seeds)},
        )
        for i, label in enumerate(labels)
    )
    manifest = Manifest(
        study=folder.name, experiment="digits", question="Does it help?", metric="test_accuracy", margin=0.5,
        alpha=0.05, design="one_at_a_time", seeds=tuple(range(seeds)), arms=arms, fingerprint="f00d",
        scope="digits, 100 training images", command="harness ablate mixup", toml="", harness_version="0.1.0",
        created="2026-01-01T12:00:00+00:00",
    )  # fmt: skip
    prepare(folder)
    write_manifest(folder, manifest)
    for arm in arms:
        for seed, run_id in arm.run_ids.items():
            of_seed, of_arm = np.random.default_rng(seed), np.random.default_rng([seed, labels.index(arm.label)])
            label = of_seed.integers(0, classes, images)
            noise = of_seed.normal(size=(images, classes))
            if arm.label not in ("baseline", "erm_baseline"):
                noise = noise + 0.5 * of_arm.normal(size=(images, classes))
            logits = (2 * np.eye(classes)[label] + noise).astype(np.float32) * (0.5 if arm.label == "mixup" else 1.5)
            logits = logits.astype(np.float16).astype(np.float32)
            measured = metrics(torch.from_numpy(logits), torch.from_numpy(label))
            finished = T0 + timedelta(seconds=seed * len(labels) + labels.index(arm.label))
            row = dict.fromkeys(RUNS.names) | {f"{s}_{m}": measured[m] for s in ("val", "test") for m in METRICS}
            row |= {
                "run_id": run_id, "fingerprint": "f00d", "experiment": "digits", "arm": arm.label, "seed": seed,
                "hyperparameters": "{}", "spec": tiny_spec(epochs=3).canonical_json, "status": "ok", "reason": "",
                "started": T0, "finished": finished, "test_digest": str(logits.sum()), "cpu_seconds_train": 1.0,
                "seconds_train": 1.0, "seconds_other": 0.0, "peak_memory_bytes": 100, "packed": False, "host": "laptop",
                "device": "cpu", "versions": '{"torch": "2"}', "data_hash": "ab" * 32, "git_commit": "0" * 12,
                "git_dirty": False, "train_accuracy": 0.99, "train_nll": 0.1, "train_loss": 0.2, "epochs_done": 3,
                "steps": 30,
            }  # fmt: skip
            points = [
                {"epoch": e, "step": 10 * e, "split": split, "metric": metric, "value": value}
                for e in (1, 2, 3)
                for split, metric, value in (
                    ("train", "loss", 1 / e),
                    ("val", "accuracy", measured["accuracy"] * e / 3),
                    ("val", "nll", measured["nll"] * 3 / e),
                )
            ]
            order = of_arm.permutation(images)  # rows come in any order
            write_run(folder, row, points, (order + 1000, label[order], logits[order]))
    return manifest


@pytest.fixture(scope="session")
def stored_study():
    return store_study


@pytest.fixture(scope="session")
def counted():
    """Call a function; gives what it returns and how many calls of functions that took: work that no clock measures."""

    def count(function):
        profile = cProfile.Profile()
        found = profile.runcall(function)
        return found, pstats.Stats(profile).total_calls

    return count
