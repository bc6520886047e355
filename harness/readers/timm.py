"""timm's train.py: `summary.csv`, whose header a resumed run writes again, and `args.yaml`; accuracies in percent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.readers.epochs import with_args


def _averaged(settings: Mapping[str, Any]) -> str:
    """With a moving average of the weights, its scores take the place of the network's, under the same names."""
    if settings.get("model_ema") is True and settings.get("model_ema_force_cpu") is not True:
        return "eval_* are those of the averaged weights (model_ema), and those of the network itself are not there"
    return ""


TIMM = with_args("timm", "summary.csv", "timm's train.py: summary.csv and args.yaml", "percent", _averaged)
