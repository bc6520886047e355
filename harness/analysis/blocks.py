"""Which studies trained the same blocks."""

from __future__ import annotations

import json

import pandas as pd

DRAWN_FROM = ("classes", "val_size", "test_size")
"""The settings, beside the images themselves, that decide which images a seed holds out."""


def blocks_of(rows: pd.DataFrame) -> str:
    """What the seeds of a study draw their blocks from: the digest of its images and how they are held out.

    Studies of which it is equal validate and test on the same images at the same seed. Their training images are the
    same, too, or one's are part of the other's, since training splits are nested (`harness.data.splits.split`). Labels,
    recipes and networks may differ.

    Args:
        rows: of the study's own runs, with the columns of `harness.store.schema.RUNS`.

    Returns:
        Text to compare, empty where the rows do not say it.
    """
    for spec, images in rows[["spec", "data_hash"]].dropna().head(1).itertuples(index=False):
        try:
            data = json.loads(spec)["data"]
            settings = {name: data.get(name) for name in DRAWN_FROM}
        except (AttributeError, KeyError, TypeError, ValueError):  # of a foreign file
            return ""
        return f"{images} {json.dumps(settings)}" if images else ""
    return ""
