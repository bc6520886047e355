"""A winner as an experiment file of its own, for `--export`; the record and the pages do not need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from harness.errors import UserError
from harness.store.schema import SearchArm, SearchRecord, Trial
from harness.store.writer import atomically
from harness.tuning.plan import SearchPlan
from harness.tuning.space import settle


def best_arm(record: SearchRecord) -> tuple[SearchArm, Trial] | None:
    """The arm with tricks whose winner validates best, and the winner; None where no arm has one."""
    found = [(arm, trial) for arm in record.arms for trial in arm.trials if arm.tricks and trial.number == arm.winner]
    return max(found, key=lambda one: sum(one[1].values["accuracy"]) / len(one[1].values["accuracy"]), default=None)


def export(plan: SearchPlan, arm: SearchArm, trial: Trial, path: Path) -> None:
    """Write an experiment file with a trial's values, which `harness run` accepts.

    Raises:
        UserError: the file cannot be written, or TOML cannot say a value.
    """
    experiment, _ = settle(plan.experiment, arm.tricks, trial.params)
    tables = experiment.model_dump(mode="json", exclude_unset=True)
    tables["experiment"]["name"] = f"{experiment.experiment.name}-tuned"[:100]
    tables.setdefault("study", {})["tricks"] = ["+".join(arm.tricks)]
    score = trial.values["accuracy"]
    head = (
        f"# Question: does {arm.label} help with the recipe that was tuned for it?",
        f"# Command:  harness run {path.name}",
        f"# Values:   trial {trial.number} of search {plan.search}, validation accuracy "
        f"{100 * sum(score) / len(score):.2f} % on n = {len(score)} seeds.",
        "# The baseline runs on this recipe, too, which was not tuned for it; the search compares each with its own.",
    )
    text = "\n".join(head) + "\n\n" + tomli_w.dumps(_without_none(tables))
    try:
        atomically(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise UserError(f"--export {path}: cannot be written: {error.strerror}") from None


def _without_none(value: Any) -> Any:
    """TOML has no null; a value that is None is left out."""
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return value
