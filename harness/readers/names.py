"""What names of columns say: seed, method, direction, scale and split."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

SHARES = frozenset({
    "acc", "accuracy", "top1", "top5", "auc", "auroc", "roc", "f1", "precision", "recall", "iou", "miou", "dice", "map",
    "specificity", "sensitivity",
})  # fmt: skip
"""Words of what lies in [0, 1], or in percent in [0, 100]; higher is better."""

WRONG = frozenset({"error", "err", "wer", "cer", "ece"})
"""The same, and lower is better. An error may be any number, so its scale is not concluded from the word alone."""

HIGHER = SHARES | {"kappa", "mcc", "r2", "psnr", "ssim", "bleu", "rouge", "reward", "return"}
LOWER = WRONG | {
    "loss", "nll", "rmse", "mse", "mae", "perplexity", "ppl", "brier", "fid", "seconds", "time", "runtime", "latency",
    "duration",
}  # fmt: skip

CLOCK = frozenset({
    "time", "seconds", "runtime", "duration", "timestamp", "date", "created", "id", "index", "number", "row", "run",
    "second", "memory", "unnamed", "host", "pid",
})  # fmt: skip
"""Words of columns that differ from run to run even when the same is computed twice."""

SEEDS = ("seed", "random_seed", "seed_everything", "global_seed", "manual_seed")
METHODS = ("method", "arm", "trick", "variant", "algorithm", "treatment", "condition")
BASELINES = ("baseline", "base", "control", "none", "vanilla")
FOLDS = frozenset({"fold", "folds", "cv", "split"})
DATASETS = ("dataset", "data_set", "task", "benchmark", "data.name", "dataset_name")


def words(name: str) -> list[str]:
    """The words of a column's name: "metrics/accuracy_top1" is metrics, accuracy, top1; "valAcc" is val, acc."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [w for w in re.split(r"[^a-z0-9]+", parted.lower()) if w]


def called(columns: Iterable[str], names: Iterable[str]) -> list[str]:
    """The columns of these names; "config.seed" and "params/seed" are called seed, too."""
    wanted = set(names)
    return [c for c in columns if c.lower() in wanted or re.split(r"[./]", c.lower())[-1] in wanted]


def direction(name: str) -> Literal["higher", "lower"] | None:
    """Which way a score of this name is better; None where the name does not say."""
    found = set(words(name))
    up, down = bool(found & HIGHER), bool(found & LOWER)
    return None if up == down else "higher" if up else "lower"


def is_share(name: str) -> bool:
    """Whether a score of this name is a share: a fraction, or in percent."""
    return bool(set(words(name)) & SHARES)


def split_of(name: str) -> Literal["test", "val", "train", "unknown"]:
    """What a score of this name was measured on."""
    for word in words(name):
        if word in ("test", "train"):
            return "test" if word == "test" else "train"
        if word in ("val", "valid", "validation", "eval", "dev"):
            return "val"
    return "unknown"
