"""Gradient checkpointing: keep the input of each segment only, and compute the rest again when needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from torch import nn

from harness.tricks.contract import Choice, Info, ModelStage, NoEffect, NotApplicable, Run, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class Replay:
    """Remembers at a module's first pass what a second pass needs to be the same, and to leave no trace."""

    def __init__(self, module: nn.Module, streams: Mapping[str, torch.Generator]) -> None:
        self.streams = streams
        self.states = {name: stream.get_state() for name, stream in streams.items()}
        norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.tracked = [(norm, norm.track_running_stats) for norm in norms]

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draws as at first; random streams and running statistics come out as they went in."""
        now = {name: stream.get_state() for name, stream in self.streams.items()}
        before = [(norm.track_running_stats, norm.momentum, norm.num_batches_tracked) for norm, _ in self.tracked]
        for name, state in self.states.items():
            self.streams[name].set_state(state)
        for norm, tracked in self.tracked:
            # Momentum zero, not frozen_statistics, under which the layer would save fewer tensors than at first.
            norm.track_running_stats, norm.momentum, norm.num_batches_tracked = tracked, 0.0, None
        try:
            yield
        finally:
            for (norm, _), own in zip(self.tracked, before, strict=True):
                norm.track_running_stats, norm.momentum, norm.num_batches_tracked = own
            for name, state in now.items():
                self.streams[name].set_state(state)


class Checkpointed:
    """Mixed into the class of a module, which keeps its place, parameters and hooks."""

    streams: ClassVar[Mapping[str, torch.Generator]]

    def forward(self: Any, x: Any) -> Any:
        """As the module's own, without its inner activations where a gradient will be asked for."""
        own = super().forward  # type: ignore[misc]
        if not torch.is_grad_enabled():
            return own(x)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), Replay(self, self.streams).again()

        from torch.utils.checkpoint import checkpoint

        return checkpoint(own, x, use_reentrant=False, context_fn=contexts)


def make_checkpointed(module: nn.Module, streams: Mapping[str, torch.Generator]) -> None:
    """Checkpoint a module of one argument in place, as `torch.nn.utils.parametrize` does: by a class of its own."""
    kind = type(module)
    module.__class__ = type(f"Checkpointed{kind.__name__}", (Checkpointed, kind), {"streams": streams})


class GradientCheckpointing(Trick):
    """Chen, Xu, Zhang, Guestrin 2016, 1604.06174."""

    info: ClassVar = Info(
        name="gradient_checkpointing",
        family="efficiency",
        kind="protocol",
        summary="recompute activations in the backward pass, to save memory",
        paper="Chen, Xu, Zhang, Guestrin 2016, arXiv:1604.06174",
        formula="keep each segment's input; in the backward pass run the segment again and use its activations",
        expect=(
            "Saves activation memory, to about the square root with segments of equal depth, for one more forward "
            "pass a step. The result is the same to the bit, so no effect on accuracy is to be expected. Pointless "
            "where memory is not short."
        ),
        differs=(
            "Segments are the model's stages, or the modules inside them. In the second pass batch normalisation has "
            "momentum zero, so running statistics move once, and the random streams of all tricks are wound back, so "
            "dropout inside a segment draws the same mask."
        ),
        cost=1.33,
    )
    segments: Annotated[Literal["stage", "block"], Choice(("stage", "block"))] = "stage"

    @at(ModelStage.WRAP)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Checkpoint every segment that has weights."""
        if run.recipe.compile:
            raise NotApplicable("the compiler chooses itself what to keep and what to compute again")
        stages = [model.stage(name) for name in model.stages]
        inside = [child for stage in stages if isinstance(stage, nn.Sequential) for child in stage]
        chosen = [m for m in (stages if self.segments == "stage" else inside) if any(True for _ in m.parameters())]
        if not chosen:
            raise NoEffect(f"segments = '{self.segments}' finds nothing with weights in the model's stages")
        for module in chosen:
            make_checkpointed(module, run.streams)
        return model
