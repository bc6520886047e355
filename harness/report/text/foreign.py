"""What a page says of scores that were made elsewhere."""

from __future__ import annotations

from harness.analysis.rows import metric_of
from harness.store.schema import Manifest

_SPLITS = {
    "test": "that the test split was read once",
    "val": "what they would be on a test split: they are of validation data, on which choices may have been made",
    "train": "what they would be on unseen data: they are of training data",
}


def claims(manifest: Manifest, metric: str) -> str:
    """Where scores come from and what no page on them can say; empty for runs of this program."""
    if not manifest.source:
        return ""
    split = _SPLITS.get(metric_of(manifest, metric).split, "on which data they were measured")
    return (
        f"These scores come from {manifest.source}: they were made elsewhere, and are only judged here. This page "
        f"cannot say {split}; nor that the methods of a seed share a data split, that all had the same data, code and "
        "budget, or that no other runs were made and left out."
    )
