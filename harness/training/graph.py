"""A training step as a CUDA graph: captured once for each shape of batch, then replayed in a single launch.

Small networks on a GPU wait for the host, which takes longer to launch some hundred kernels than they take to
run. A replayed graph does the same kernels on the same memory, so whatever changes from step to step must lie
on the device: the batch is copied into the graph's own, the learning rate is a tensor, and generators are
registered. A trick whose step depends on anything else says so on its card (`Info.eager`), and its runs, like
all runs that cannot be captured, take plain steps.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from harness.training.precision import Amp
from harness.tricks.contract import Batch, Run
from harness.tricks.stack import Stack

WARM_UP = 3
"""Plain steps before a capture: libraries choose their kernels and allocate, which a graph may not do."""

OPTIMIZERS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
"""Their fused kernels read the learning rate, and count steps, on the device."""

Replay = Callable[[], None]

Capture = Callable[[Callable[[], None], Sequence[torch.Generator]], Replay]
"""Records what the work does on the device, without doing it, and returns what does it."""


def reason_against(run: Run, stack: Stack, amp: Amp) -> str:
    """Why the steps of this run cannot be captured; empty when they can."""
    for trick in stack.tricks:
        if trick.info.eager:
            return f"{trick.name}: {trick.info.eager}"
    if amp.scaler is not None:
        return "float16: whether a step overflowed is decided on the host"
    optimizer = run.optimizer
    if type(optimizer) not in OPTIMIZERS or not all(group.get("fused") for group in optimizer.param_groups):
        return f"{type(optimizer).__name__} reads its learning rate on the host"
    return ""


def graphed(
    step: Callable[[Batch], Tensor], run: Run, stack: Stack, amp: Amp, capture: Capture | None = None
) -> Callable[[Batch], Tensor]:
    """The step captured and replayed where that can be done, else the step itself."""
    if reason_against(run, stack, amp):
        return step
    return GraphedStep(step, run, bool(stack.hooks("epoch_start") or stack.hooks("epoch_end")), capture)


@dataclass(frozen=True)
class _Graph:
    """One captured step: its own batch, where replaying leaves the loss and what the tricks log, and the replay."""

    batch: Batch
    loss: Tensor
    logged: dict[str, tuple[Tensor, int]]
    replay: Replay


class GraphedStep:
    """Stands in for `step`: takes some plain steps, captures one, and replays it from then on.

    Batches of another shape or layout get a graph of their own. With `each_epoch`, for tricks that change the
    network or its inputs between epochs, so does every epoch. When a step cannot be captured after all, `refused`
    says why and all further ones are plain.

    Args:
        step: makes one update on a batch and returns the loss (`loop.step_of`).
        run: its optimizer must be one of `OPTIMIZERS`.
        each_epoch: forget the graphs when an epoch begins.
        capture: how to record; that of the CUDA device when left out.
    """

    def __init__(
        self, step: Callable[[Batch], Tensor], run: Run, each_epoch: bool = False, capture: Capture | None = None
    ) -> None:
        self.step, self.run, self.each_epoch = step, run, each_epoch
        self.stream = torch.cuda.Stream(run.device) if run.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.capture = capture or self._capture_cuda
        self.epoch = run.epoch
        self.refused = ""
        self.plain: Counter[Hashable] = Counter()
        self.graphs: dict[Hashable, _Graph] = {}
        self.replays = 0

    def __call__(self, batch: Batch) -> Tensor:
        """Make one update; the loss that is returned is overwritten by the next one."""
        if self.each_epoch and self.run.epoch != self.epoch:
            self.epoch = self.run.epoch
            self.plain.clear()
            self.graphs.clear()
        key = tuple((t.shape, t.stride(), t.dtype) for t in _parts(batch))
        graph = self.graphs.get(key)
        if graph is None:
            self.plain[key] += 1
            if self.refused or self.plain[key] < WARM_UP:
                return self._plain_step(batch)
            if self.plain[key] == WARM_UP:
                return self._watched_step(batch)
            try:
                graph = self.graphs[key] = self._captured(batch)
            except RuntimeError as error:  # of CUDA: the step did what a graph may not do, or memory ran out
                self.refused = f"the capture failed: {(str(error).splitlines() or [type(error).__name__])[0]}"
                return self._plain_step(batch)
        for mine, given in zip(_parts(graph.batch), _parts(batch), strict=True):
            mine.copy_(given)
        graph.replay()
        self.replays += 1
        for name, (total, count) in graph.logged.items():
            before, n = self.run.logged.get(name, (0.0, 0))
            self.run.logged[name] = (before + total, n + count)
        return graph.loss

    def _plain_step(self, batch: Batch) -> Tensor:
        self._rates_to_device()
        if self.stream is None:
            return self.step(batch).detach()
        # On the stream of the capture: autograd remembers where a parameter was first used.
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            loss = self.step(batch).detach()
        torch.cuda.current_stream().wait_stream(self.stream)
        return loss

    def _watched_step(self, batch: Batch) -> Tensor:
        """A plain step that sees whether the host waits in it, which would make a capture fail halfway."""
        if self.stream is None:
            return self._plain_step(batch)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                loss = self._plain_step(batch)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        waits = [w for w in caught if "synchronizing CUDA operation" in str(w.message)]
        if waits:
            self.refused = f"it waits for the device ({Path(waits[0].filename).name}:{waits[0].lineno})"
        return loss

    def _rates_to_device(self) -> None:
        """Have the optimizer read learning rates, and count steps, on the device."""
        for group in self.run.optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=self.run.device)
            if "capturable" in group:
                group["capturable"] = True

    def _captured(self, batch: Batch) -> _Graph:
        own = Batch(*(t.clone() for t in _parts(batch)))
        losses: list[Tensor] = []
        earlier, self.run.logged = self.run.logged, {}
        try:
            replay = self.capture(lambda: losses.append(self.step(own).detach()), self._generators())
        finally:
            logged, self.run.logged = self.run.logged, earlier
        return _Graph(own, losses[0], logged, replay)

    def _generators(self) -> list[torch.Generator]:
        """Those that a step may draw from; the plain steps have made them."""
        return [g for g in self.run.streams.values() if g.device.type == self.run.device.type]

    def _capture_cuda(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Replay:
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        # Threads that pin memory for a streamed data set may go on meanwhile.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            work()
        return graph.replay


def _parts(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return batch.x, batch.y, batch.label, batch.index
