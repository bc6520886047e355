"""The public test kit: the suite for tricks and its fixtures; makers of rows, curves, manifests and stored studies."""

from harness.testing.records import (
    CREATED,
    FINGERPRINT,
    StoredRun,
    make_arm,
    make_curve,
    make_manifest,
    make_row,
    make_run,
    make_study,
)
from harness.testing.tricks import Tape, TinyStage, TrickConformance, tape, tiny_batch, tiny_info, tiny_run, tiny_spec

__all__ = [
    "CREATED",
    "FINGERPRINT",
    "StoredRun",
    "Tape",
    "TinyStage",
    "TrickConformance",
    "make_arm",
    "make_curve",
    "make_manifest",
    "make_row",
    "make_run",
    "make_study",
    "tape",
    "tiny_batch",
    "tiny_info",
    "tiny_run",
    "tiny_spec",
]
