"""Where runs execute, whichever kind they are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.commands.kinds import AnyExperiment, AnySpec, of_loop
from harness.commands.place import CommandPlace
from harness.experiment import Experiment, RunSpec
from harness.identity import Identity
from harness.training.place import Place

AnyPlace = Place | CommandPlace


def identity_at(place: AnyPlace, spec: AnySpec, images: str) -> Identity:
    """What decides a run's numbers beside its spec and machine, on data with that content digest."""
    if isinstance(place, CommandPlace) and not isinstance(spec, RunSpec):
        return place.identity(spec, images)
    assert isinstance(place, Place), "a place does not fit the kind of the run"
    return place.identity(of_loop(spec), images)


def images_at(place: AnyPlace, experiment: AnyExperiment) -> str:
    """The content digest of an experiment's data; empty where a command declares none.

    Raises:
        UserError: they are not here, or damaged.
    """
    if isinstance(place, CommandPlace):
        return place.images
    assert isinstance(experiment, Experiment), "a place does not fit the kind of the experiment"
    return place.digest(experiment.data)


def machine_of(place: AnyPlace, of: AnyExperiment | AnySpec) -> dict[str, str]:
    """What changes the bits of a run beside its spec, as columns."""
    if isinstance(place, Place) and isinstance(of, Experiment | RunSpec):
        return place.fingerprint(of)
    assert isinstance(place, CommandPlace), "a place does not fit the kind of the run"
    return place.fingerprint()


def at_home(place: AnyPlace, packed: bool, study_dir: Path, stages: Path) -> AnyPlace:
    """The place with the folders in which the runs of a study leave what they go on from."""
    if isinstance(place, CommandPlace):
        return replace(place, packed=packed and place.device == "cpu", home=study_dir)
    return replace(place, packed=packed, stages_dir=stages, checkpoint_dir=study_dir / "checkpoints")
