"""Experiments, runs and places of both kinds: those of the loop, and those of commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.commands.experiment import CommandExperiment, CommandSpec
from harness.experiment import COMMAND, Experiment, RunSpec, experiment_tables, find_experiment, text_of
from harness.values import Keys, read_toml

AnyExperiment = Experiment | CommandExperiment
AnySpec = RunSpec | CommandSpec


def of_loop(spec: AnySpec) -> RunSpec:
    """A run that is known to be of the loop."""
    assert isinstance(spec, RunSpec), "a command is no run of the loop"
    return spec


def is_command(name_or_path: str) -> bool:
    """Whether the runs of an experiment file are commands.

    Raises:
        UserError: there is no such file, or it is no TOML.
    """
    return COMMAND in read_toml(text_of(name_or_path), str(find_experiment(name_or_path)))


def load_any(
    name_or_path: str,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    options: Mapping[Keys, str] | None = None,
) -> AnyExperiment:
    """The experiment of a file; the arguments and what it raises are those of `experiment_tables`."""
    tables, origins = experiment_tables(name_or_path, overrides, options)
    return (CommandExperiment if COMMAND in tables else Experiment).read(tables, origins)
