"""What tricks share that learn from a wider network, trained before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from harness.experiment import RunSpec
from harness.tricks.contract import Run, Trick
from harness.tricks.stages import wider_baseline


class Taught(Trick):
    """A trick with a teacher in `run.state[name]["teacher"]`, frozen and in evaluation mode.

    It is the experiment's baseline on the same data and seed, with `teacher_width_factor` times the channels and
    `teacher_epochs_factor` times the epochs.
    """

    teacher_width_factor: Annotated[int, Field(ge=1)] = 2
    teacher_epochs_factor: Annotated[int, Field(ge=1)] = 1

    def needs(self, spec: RunSpec) -> Sequence[RunSpec]:
        """The teacher."""
        return (wider_baseline(spec, self.teacher_width_factor, self.teacher_epochs_factor),)

    def prepare(self, run: Run) -> None:
        """Get the trained teacher."""
        (teacher,) = self.needs(run.spec)
        run.state.setdefault(self.name, {})["teacher"] = run.stage(teacher).network()
