"""The public test kit: suites for tricks, networks and data; fixtures; makers of rows, curves and stored studies."""

from harness.testing.parts import DataConformance, NetworkConformance
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
    "DataConformance",
    "NetworkConformance",
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
