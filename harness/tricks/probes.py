"""Letting a probe train inside a run, and putting everything back to the bit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from harness.tricks.contract import Run


def remember(value: Any) -> Callable[[], Any]:
    """A function that brings a value back to what it is now, in place where others may hold it."""
    if hasattr(value, "state_dict"):
        saved = copy.deepcopy(value.state_dict())

        def load() -> Any:
            value.load_state_dict(saved)
            return value

        return load
    if isinstance(value, Tensor):
        tensor = value.detach().clone()
        return lambda: value.copy_(tensor)
    if isinstance(value, dict):
        parts = {key: remember(part) for key, part in value.items()}

        def refill() -> Any:
            value.clear()
            value.update({key: part() for key, part in parts.items()})
            return value

        return refill
    if isinstance(value, list | tuple):
        items = [remember(item) for item in value]
        return lambda: type(value)(item() for item in items)
    return lambda: value


@contextmanager
def preserved(run: Run) -> Iterator[None]:
    """A probe may train inside: weights, buffers, optimizer, streams, logs and tricks' state are put back after it."""
    back = [remember(t) for t in (*run.model.parameters(), *run.model.buffers())]
    back += [remember(run.optimizer), remember(run.state)]
    streams = {name: stream.get_state() for name, stream in run.streams.items()}
    hosts = {name: copy.deepcopy(host.bit_generator.state) for name, host in run.numpy_streams.items()}
    mode, logged = run.model.training, dict(run.logged)
    try:
        yield
    finally:
        with torch.no_grad():
            for restore in back:
                restore()
        run.optimizer.zero_grad(set_to_none=True)
        run.model.train(mode)
        run.logged = logged
        # Streams that are new were made inside; made again, they start where they should.
        run.streams = {name: run.streams[name] for name in streams}
        run.numpy_streams = {name: run.numpy_streams[name] for name in hosts}
        for name, state in streams.items():
            run.streams[name].set_state(state)
        for name, host in hosts.items():
            run.numpy_streams[name].bit_generator.state = host
