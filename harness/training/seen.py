"""What a rehearsal of a run has shown, as plain values; nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

MEMORY = "try a smaller recipe.batch_size or model"
"""What helps a run for which memory does not suffice."""


@dataclass(frozen=True)
class Seen:
    """What a rehearsal has shown.

    `problem` says why the run cannot be trained, and is empty when it can; with `own` it is a whole sentence for the
    user. `skipped` is why a trick refuses the run, which is no problem. `at_risk` is the layer that forbids the layout
    (see `layout.layer_at_risk`), and then nothing was trained.
    `run_seconds` is the training time of the whole run by the last step that was measured, without evaluations.
    """

    problem: str = ""
    own: bool = False
    at_risk: str = ""
    run_seconds: float = 0.0
    skipped: str = ""
