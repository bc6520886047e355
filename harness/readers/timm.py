"""timm's train.py: `summary.csv`, whose header a resumed run writes again, and `args.yaml`; accuracies in percent."""

from __future__ import annotations

from harness.readers.epochs import with_args

TIMM = with_args("timm", "summary.csv", "timm's train.py: summary.csv and args.yaml", "percent")
