"""Ultralytics: `results.csv`, padded with blanks in older versions, and `args.yaml`; metrics are fractions."""

from __future__ import annotations

from harness.readers.epochs import with_args

ULTRALYTICS = with_args("ultralytics", "results.csv", "Ultralytics: results.csv and args.yaml", "fraction")
