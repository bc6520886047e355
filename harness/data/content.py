"""Placeholder until the data branch lands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.experiment import Data


@dataclass(frozen=True)
class Content:
    digest: str


def content(data: Data, data_root: Path) -> Content:
    from harness.data.sources import load_source

    return Content(load_source(data, data_root).digest)
