"""Where and how the commands of an experiment run on this machine."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.commands.experiment import CommandExperiment, CommandSpec
from harness.commands.surroundings import Code, card_names, code_of, data_digest, fingerprint, processor, versions
from harness.identity import Identity, key_of

CODE = "the command"
"""What the code of a command is called among the sources of an identity."""


@dataclass(frozen=True)
class CommandPlace:
    """Where the commands of one experiment run; nothing here may change a result beyond what the fingerprint says.

    `experiment` is that of the file which the user named: commands come from there, and never from a stored spec.
    `devices` are the cards that runs may have, as CUDA_VISIBLE_DEVICES names them. `beside` are folders inside the code
    that are no code: results and reports. `home` is where runs leave their folders and logs.
    """

    experiment: CommandExperiment
    threads: int = 1
    devices: tuple[str, ...] = ()
    beside: tuple[Path, ...] = ()
    packed: bool = False
    home: Path | None = None

    @property
    def device(self) -> str:
        """What runs train on: "cuda" for those that own cards, else "cpu"."""
        return "cuda" if self.experiment.command.gpus else "cpu"

    @property
    def slots(self) -> int:
        """How many runs the cards hold at a time."""
        return len(self.devices) // self.experiment.command.gpus if self.experiment.command.gpus else 0

    @property
    def python(self) -> str:
        """The interpreter that {python} is: the one that `[command]` names, or this one."""
        named = self.experiment.command.python
        if named is None:
            return sys.executable
        # Not resolved: an environment's python is a link, and its path is what makes it that environment's.
        return os.path.normpath(self.experiment.path(".") / Path(named).expanduser())

    def fingerprint(self, of: object = None) -> dict[str, str]:
        """What changes the numbers of a run beside its spec, code and data: versions, device, threads."""
        device = f"cuda: {', '.join(card_names()) or 'unknown'}" if self.device == "cuda" else f"cpu: {processor()}"
        facts: dict[str, Any] = {"device": device, **self.versions}
        return fingerprint(facts | ({} if self.device == "cuda" else {"threads": self.threads}))

    @cached_property
    def versions(self) -> dict[str, str]:
        """Of the interpreter and its packages."""
        return versions(self.python)

    @cached_property
    def images(self) -> str:
        """Content digest of the data, taken once; empty without any."""
        data = self.experiment.command.data
        return data_digest(self.experiment.path(data)) if data is not None else ""

    def code(self) -> Code:
        """The state of the code now."""
        c = self.experiment.command
        return code_of(self.experiment.cwd, c.code, self.experiment.path("."), self.beside)

    @cached_property
    def planned_code(self) -> Code:
        """The state of the code when it was first asked for."""
        return self.code()

    def identity(self, spec: CommandSpec, images: str, code: Code | None = None) -> Identity:
        """What decides a run's numbers beside its spec and machine."""
        return Identity(images, ((CODE, (code or self.planned_code).digest),), numbers=spec.version)

    def name(self, spec: CommandSpec, images: str) -> str:
        """What files of a run are named by: its key and its fingerprint."""
        return f"{key_of(spec.run_id, self.identity(spec, images).short)}-{self.fingerprint()['fingerprint']}"
