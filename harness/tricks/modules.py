"""Pieces of networks that several tricks share: surgery, dropout, batch statistics, averages, features."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.tricks.contract import Groups, NoEffect, NotApplicable, Run, to_pixels

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def replace_modules(
    root: nn.Module, match: Callable[[nn.Module], bool], build: Callable[[nn.Module], nn.Module], needs: str
) -> int:
    """Replace every submodule that `match` accepts by `build(module)`; return how many.

    Raises:
        NoEffect: nothing matched; the message says that the trick needs `needs`.
    """
    found = [(path, module) for path, module in root.named_modules() if path and match(module)]
    if not found:
        raise NoEffect(f"needs {needs}, and the model has none")
    for path, module in found:
        parent, _, leaf = path.rpartition(".")
        new = build(module)
        new.train(module.training)
        setattr(root.get_submodule(parent), leaf, new)
    return len(found)


def residual_blocks(model: nn.Module) -> list[nn.Module]:
    """Residual blocks of the form conv-norm-act with named parts, in order.

    Ours have conv1, norm1, act1 ... and shortcut; timm's have conv1, bn1, act1 ... and downsample.

    Raises:
        NoEffect: there are none.
    """

    def fits(block: nn.Module) -> bool:
        ours, theirs = hasattr(block, "shortcut"), hasattr(block, "downsample")
        return hasattr(block, "conv1") and ((ours and hasattr(block, "norm1")) or (theirs and hasattr(block, "bn1")))

    found = [module for module in model.modules() if fits(module)]
    if not found:
        raise NoEffect("needs residual blocks of convolutions and norms, and the model has none")
    return found


def conv_norm_names(block: nn.Module) -> list[tuple[str, str]]:
    """Names of a residual block's convolutions, in order, and of the norm after each."""
    norm = "norm" if hasattr(block, "shortcut") else "bn"
    pairs = [(f"conv{i}", f"{norm}{i}") for i in (1, 2, 3)]
    return [pair for pair in pairs if all(isinstance(getattr(block, name, None), nn.Module) for name in pair)]


def module_depths(model: Classifier) -> dict[nn.Module, int]:
    """The stage to which each module of the network belongs: 0 is the stem, len(model.stages) the head.

    What lies between two stages belongs to the later one, what follows the last stage to the head.

    Raises:
        NoEffect: the network has no named stages.
    """
    if not model.stages:
        raise NoEffect("needs named stages, and the model has none")
    head = set(model.head.modules())
    depths: dict[nn.Module, int] = {}
    following = 0
    for path, module in model.net.named_modules():
        own = [i for i, stage in enumerate(model.stages) if f"{path}.".startswith(f"{stage}.")]
        depths[module] = len(model.stages) if module in head else own[0] if own else following
        following = own[0] + 1 if own else following
    return depths


def parameters_by_depth(model: Classifier) -> list[list[nn.Parameter]]:
    """All parameters of the network, from the stem to the head (see `module_depths`)."""
    groups: list[list[nn.Parameter]] = [[] for _ in range(len(model.stages) + 1)]
    for module, depth in module_depths(model).items():
        groups[depth] += module.parameters(recurse=False)
    return groups


def split_groups(groups: Groups, depths: list[list[nn.Parameter]]) -> list[tuple[int, dict[str, Any]]]:
    """Every parameter group in parts of one depth each, with that depth; strangers go to the last depth."""
    last = len(depths) - 1
    depth_of = {p: depth for depth, members in enumerate(depths) for p in members}
    parts: list[tuple[int, dict[str, Any]]] = []
    for group in groups:
        for depth in sorted({depth_of.get(p, last) for p in group["params"]}):
            own = [p for p in group["params"] if depth_of.get(p, last) == depth]
            parts.append((depth, {**group, "params": own}))
    return parts


def drawn_linear(features: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with torch's own distribution, uniform in ±1/sqrt(features), from a stream of one's own."""
    layer = nn.Linear(features, outputs, device="meta").to_empty(device=generator.device)
    for parameter in layer.parameters():
        draw = torch.rand(parameter.shape, generator=generator, device=generator.device)
        parameter.data.copy_((2 * draw - 1) / features**0.5)
    return layer


class CosineHead(nn.Module):
    """`scale` times the cosine between the features (N, D) and each class's weight: (N, K)."""

    def __init__(self, linear: nn.Linear, scale: float) -> None:
        super().__init__()
        self.weight, self.scale = linear.weight, scale
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, features: Tensor) -> Tensor:
        """Logits, in float32 since the angle near zero needs it."""
        with torch.autocast(features.device.type, enabled=False):
            return self.scale * F.linear(F.normalize(features.to(self.weight.dtype)), F.normalize(self.weight))


def with_cosines(model: Classifier, scale: float) -> Classifier:
    """The network with cosines in the place of its linear head.

    Raises:
        NotApplicable: the head is not linear.
    """
    if not isinstance(model.head, nn.Linear):
        raise NotApplicable("needs a linear head, and the model has another one")
    model.set_head(CosineHead(model.head, scale))
    return model


@torch.no_grad()
def check_forward(model: nn.Module, run: Run, size: int, what: str) -> None:
    """Try one image of `size` pixels a side, in evaluation mode.

    Raises:
        NotApplicable: the network fails on it; `what` says what it cannot bear.
    """
    mode = model.training
    try:
        model.eval()(torch.zeros(1, run.data.channels, size, size, device=run.device))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise NotApplicable(f"the model cannot bear {what}: {str(error).splitlines()[0]}") from error
    finally:
        model.train(mode)


def dropout(x: Tensor, p: float, generator: torch.Generator, whole_channels: bool = False) -> Tensor:
    """Zero each unit, or each channel (N, C), with probability p and scale the rest by 1 / (1 - p)."""
    shape = (*x.shape[:2], *[1] * (x.ndim - 2)) if whole_channels else x.shape
    kept = torch.rand(shape, generator=generator, device=x.device) >= p
    return x * kept.to(x.dtype) / (1 - p)


class DropInput:
    """Forward pre-hook that drops the input of a module while that module trains.

    A hook leaves module paths and `model.head` as other tricks and stored weights know them. It holds no
    state but the run's generator, which copies of the network share.
    """

    def __init__(self, p: float, generator: torch.Generator, whole_channels: bool) -> None:
        self.p, self.generator, self.whole_channels = p, generator, whole_channels

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """The module's new arguments; None keeps them."""
        return (dropout(args[0], self.p, self.generator, self.whole_channels),) if module.training else None

    def __deepcopy__(self, memo: dict[int, Any]) -> DropInput:
        return self


def batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The batch-normalisation layers that keep running statistics."""
    found = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [m for m in found if m.track_running_stats]


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Forward passes inside normalise as before but leave running statistics, and their counters, alone."""
    norms = batch_norms(model)
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextmanager
def mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Training or evaluation mode for a while; each module gets its own mode back."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, own in before:
            module.training = own


@torch.no_grad()
def plain_batches(run: Run) -> Iterator[Tensor]:
    """All training images as pixels in [0, 1], in nearly equal batches of at most the recipe's size."""
    rows = run.train.rows
    for at in torch.arange(len(rows)).tensor_split(math.ceil(len(rows) / run.recipe.batch_size)):
        yield to_pixels(rows.take(at).to(run.device), run.train.peak, run.recipe.channels_last)


def recompute_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set running statistics to their mean over batches, with all else in evaluation mode; stays so."""
    model.eval()
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the cumulative average
        norm.train()
    for x in batches if norms else ():
        model(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


class WeightAverage:
    """A running average of a network: parameters and floating buffers averaged, integer buffers copied.

    It holds a copy of the network from the start, so that a checkpoint finds a place to be loaded into, but
    counts no network until the first update, which must have weight one.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.count = 0

    @torch.no_grad()
    def update(self, model: nn.Module, weight: float) -> None:
        """Move the average towards `model`: average + weight * (model - average)."""
        mine = [*self.model.parameters(), *self.model.buffers()]
        new = [t.detach() for t in (*model.parameters(), *model.buffers())]
        floating = [i for i, t in enumerate(mine) if t.is_floating_point()]
        torch._foreach_lerp_([mine[i] for i in floating], [new[i] for i in floating], weight)
        for a, b in zip(mine, new, strict=True):
            if not a.is_floating_point():
                a.copy_(b)
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights and the number of networks in them."""
        return {"model": self.model.state_dict(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.count = state["count"]


def projection(model: Classifier, width: int, generator: torch.Generator) -> nn.Sequential:
    """Two linear layers with a ReLU between them for the head's input, drawn from `generator` on its device.

    Raises:
        NotApplicable: the head is not linear, so the number of its features is unknown.
    """
    features = getattr(model.head, "in_features", None)
    if not isinstance(features, int):
        raise NotApplicable("needs a linear head, to know the number of features, and the model has none")
    first, last = (drawn_linear(features, outputs, generator) for outputs in (features, width))
    return nn.Sequential(first, nn.ReLU(), last)


class FeatureTap:
    """Forward pre-hook on the head that keeps its input, the penultimate features (N, D), of training passes.

    Register it at `ModelStage.WRAP`, call `hold` in `reduce_loss` and `take` in `loss_terms`: between the two,
    other tricks' terms may make passes of their own. Copies of the network get a tap of their own.
    """

    def __init__(self) -> None:
        self.last: Tensor | None = None
        self.held: Tensor | None = None

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        """See the head's input."""
        if module.training and torch.is_grad_enabled():
            self.last = args[0]

    def hold(self) -> None:
        """Keep the features of the pass that was last."""
        self.held, self.last = self.last, None

    def take(self) -> Tensor:
        """The kept features, in float32, which are then forgotten."""
        assert self.held is not None, "no training pass since the features were taken"
        features, self.held, self.last = self.held, None, None
        return features.float()

    def __deepcopy__(self, memo: dict[int, Any]) -> FeatureTap:
        return FeatureTap()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: it is empty between steps."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class OutputTap(FeatureTap):
    """The same for the output of a module, as a forward hook: a stage's maps (N, C, H, W)."""

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor | None = None) -> None:
        """See the module's output."""
        if module.training and torch.is_grad_enabled():
            self.last = output

    def __deepcopy__(self, memo: dict[int, Any]) -> OutputTap:
        return OutputTap()
