"""What a page says of scores that this program's loop did not make."""

from __future__ import annotations

from harness.analysis.rows import metric_of
from harness.store.schema import Manifest

_SPLITS = {
    "test": "that the test split was read once",
    "val": "what they would be on a test split: they are of validation data, on which choices may have been made",
    "train": "what they would be on unseen data: they are of training data",
}


def claims(manifest: Manifest, metric: str) -> str:
    """Where scores come from and what no page on them can say; empty for runs of the loop."""
    if manifest.in_loop:
        return ""
    split = _SPLITS.get(metric_of(manifest, metric).split, "on which data they were measured")
    if not manifest.source:
        return (
            f"These runs are commands ({manifest.scope}), started here with the same code, data and machine, and "
            f"judged by what they logged. This page cannot say {split}; nor what the program does with its seed."
        )
    return (
        f"These scores come from {manifest.source}: they were made elsewhere, and are only judged here. This page "
        f"cannot say {split}; nor that the methods of a seed share a data split, that all had the same data, code and "
        "budget, or that no other runs were made and left out."
    )
