"""Checkpoints of long runs at epoch ends: a run that was killed goes on and ends with the same bits.

A checkpoint holds tensors, numbers, strings and containers of them, and is loaded with torch's safe loader,
which executes no code.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch

from harness.experiment import RunSpec
from harness.training import files
from harness.training.loop import Clock, CurvePoint
from harness.training.place import Place
from harness.training.session import Session


def path_of(spec: RunSpec, place: Place, images: str | None = None) -> Path | None:
    """Where the run's checkpoint lies, or None when runs are not checkpointed; `images` as in `Place.name`."""
    if place.checkpoint_dir is None:
        return None
    return place.checkpoint_dir / f"{place.name(spec, images)}.pt"


def save(path: Path, session: Session, points: list[CurvePoint], clock: Clock) -> None:
    """Write everything that the rest of the training depends on, under a temporary name first."""
    run, amp = session.run, session.amp
    state = {
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scaler": amp.scaler.state_dict() if amp.scaler is not None else {},
        "step": run.step,
        "epoch": run.epoch,
        "loader": [session.loader.order.get_state(), session.loader.augment_rng.get_state()],
        "streams": {name: stream.get_state() for name, stream in run.streams.items()},
        "numpy_streams": {name: json.dumps(g.bit_generator.state) for name, g in run.numpy_streams.items()},
        "tricks": {name: _packed(value) for name, value in run.state.items()},
        "points": [list(astuple(p)) for p in points],
        "clock": [clock.wall, clock.cpu, clock.steps],
    }
    files.save(path, state)


def load(path: Path, session: Session, clock: Clock) -> list[CurvePoint] | None:
    """Bring a freshly set-up run to where the checkpoint was taken; returns the curve points until then.

    Returns None, and leaves the run as it was, when there is no checkpoint or it cannot be read: the run then
    starts from the beginning.
    """
    run, amp = session.run, session.amp
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, EOFError, RuntimeError, ValueError, KeyError, OSError, pickle.UnpicklingError):
        return None
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    if amp.scaler is not None:
        amp.scaler.load_state_dict(state["scaler"])
    run.step, run.epoch = state["step"], state["epoch"]
    session.loader.order.set_state(state["loader"][0])
    session.loader.augment_rng.set_state(state["loader"][1])
    for name, value in state["streams"].items():
        run.rng(name).set_state(value)
    for name, text in state["numpy_streams"].items():
        run.numpy(name).bit_generator.state = json.loads(text)
    for name, value in state["tricks"].items():
        run.state[name] = _unpacked(value, run.state.get(name), run.device)
    clock.wall, clock.cpu, clock.steps = state["clock"]
    return [CurvePoint(*values) for values in state["points"]]


STATE_DICT = "__state_dict__"


def _packed(value: Any) -> Any:
    """A trick's state as plain containers; objects by their `state_dict`."""
    if hasattr(value, "state_dict"):
        return {STATE_DICT: value.state_dict()}
    if isinstance(value, dict):
        return {k: _packed(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(v) for v in value]
    return value


def _unpacked(value: Any, present: Any, device: torch.device) -> Any:
    """The inverse of `_packed`; `present` is what set-up has put in the same place."""
    if isinstance(value, dict):
        if STATE_DICT in value:
            present.load_state_dict(value[STATE_DICT])
            return present
        old = present if isinstance(present, dict) else {}
        return {k: _unpacked(v, old.get(k), device) for k, v in value.items()}
    if isinstance(value, list):
        old_items = present if isinstance(present, list | tuple) else ()
        items = [_unpacked(v, old_items[i] if i < len(old_items) else None, device) for i, v in enumerate(value)]
        return tuple(items) if isinstance(present, tuple) else items
    return value.to(device) if isinstance(value, torch.Tensor) else value
