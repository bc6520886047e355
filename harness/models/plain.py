"""Tricks that a library builds into its networks: found by the kinds of layers and by values, and switched off.

A baseline holds no trick, so that an arm measures what it adds. Networks of timm and torchvision come with residual
branches whose last norm starts at zero (Goyal et al. 2017, 1706.02677, section 5.1), with layer scale (Touvron et al.
2021, 2103.17239, section 2), stochastic depth (Huang et al. 2016, 1603.09382) and dropout. What `model.args` ask for by
name stays on.
A scale that starts near zero is set to one and stays a parameter, so the network keeps its size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

SMALL = 0.01
"""A scale below it silences its branch at the start: layer scale is 1e-6 to 1e-4."""

NORM, SCALE, PATH, BLOCK, PATCHES, DROPOUT = KINDS = (
    "zero-scale norm", "layer scale", "drop path", "drop block", "patch dropout", "dropout",
)  # fmt: skip

ASKED = {
    NORM: ("zero_init",),
    SCALE: ("init_value", "layer_scale"),
    PATH: ("drop_path",),
    BLOCK: ("drop_block",),
    PATCHES: ("patch_drop",),
    DROPOUT: ("drop",),
}
"""Parts of the names of arguments that ask for a trick; an argument is of the first kind of which it has a part."""

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

DROPS = {
    "DropPath": (PATH, "drop_prob"),
    "ResidualDrop": (PATH, "drop"),
    "DropBlock2d": (BLOCK, "drop_prob"),
    "PatchDropout": (PATCHES, "prob"),
    "PatchDropoutWithIndices": (PATCHES, "prob"),
    "StochasticDepth": (PATH, "p"),
}
"""Layers of timm and torchvision that drop something, and the attribute with the probability; by class name, to import
neither here."""

FUNCTIONAL = "drop_rate"
"""The attribute with the probability with which timm's networks call dropout as a function."""


@dataclass(frozen=True)
class Builtin:
    """What a library has built into a network.

    off: what was switched off, in words. on: what is still on, in words. last_norms: paths of the norms that the
    library lets start at zero, because they end residual branches.
    """

    off: tuple[str, ...] = ()
    on: tuple[str, ...] = ()
    last_norms: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What a reader of results must know of it; empty when there is nothing."""
        said = [f"switched off in the baseline: {', '.join(self.off)}"] if self.off else []
        said += [f"still on: {', '.join(self.on)}"] if self.on else []
        return f"Tricks that the library builds in: {'; '.join(said)}." if said else ""


@dataclass(frozen=True)
class _Found:
    """A trick in one place: the value it has there, and how to take it out."""

    kind: str
    path: str
    value: float
    module: nn.Module
    attribute: str

    def switch_off(self) -> None:
        held = getattr(self.module, self.attribute)
        if isinstance(held, Tensor):
            nn.init.ones_(held)
        else:
            setattr(self.module, self.attribute, 0.0)


def switch_off(net: nn.Module, args: Collection[str] = (), trained: bool = False) -> Builtin:
    """Switch off every built-in trick of a network, but for those that were asked for.

    Args:
        net: as the library made it, before any training.
        args: names of the arguments that the user gave to it.
        trained: its weights are the result of training, so only what drops something is a trick that is built in.
    """
    asked = {next((kind for kind, parts in ASKED.items() if any(p in name for p in parts)), "") for name in args}
    found: dict[str, list[_Found]] = {kind: [] for kind in KINDS}
    for one in _find(net):
        if trained and one.kind in (NORM, SCALE):
            continue
        found[one.kind].append(one)
        if one.kind not in asked:
            one.switch_off()
    words = {kind: _words(places) for kind, places in found.items() if places}
    wanted = [f"{said}, as model.args ask for" for kind, said in words.items() if kind in asked]
    off = tuple(said for kind, said in words.items() if kind not in asked)
    return Builtin(off, (*wanted, *(() if trained else _silent(net))), tuple(one.path for one in found[NORM]))


def draws_in_training(net: nn.Module, x: Tensor) -> bool:
    """Whether a training pass draws random numbers, as every dropout does; running statistics move with it."""
    mode = net.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        net.train()(x)
        drawn = not torch.equal(before, torch.get_rng_state())
    net.train(mode)
    return drawn


def _find(net: nn.Module) -> Iterator[_Found]:
    for path, module in net.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            value = _constant(parameter)
            if value is None or abs(value) >= SMALL:
                continue
            if isinstance(module, NORMS) and name == "weight":
                yield _Found(NORM, path, value, module, name)
            elif value and parameter.numel() > 1:
                yield _Found(SCALE, f"{path}.{name}", value, module, name)
        known = [DROPS[c.__name__] for c in type(module).__mro__ if c.__name__ in DROPS]
        kind, attribute = (DROPOUT, "p") if isinstance(module, _DropoutNd) else (*known, (DROPOUT, FUNCTIONAL))[0]
        rate = getattr(module, attribute, None)
        if isinstance(rate, int | float) and rate > 0:
            yield _Found(kind, path, float(rate), module, attribute)


def _silent(net: nn.Module) -> Iterator[str]:
    """Other weights and gains that start at zero, by the layers that hold them."""
    places: dict[str, int] = {}
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if _constant(parameter) == 0 and (name == "weight" or parameter.ndim == 0):
                what = f"{name} of {type(module).__name__} at zero"
                places[what] = places.get(what, 0) + 1
    return (f"{what} ({count}x)" for what, count in places.items())


def _constant(parameter: Tensor) -> float | None:
    """The one value that all elements have; None if they differ, or there are none."""
    values = parameter.detach().flatten()
    return float(values[0]) if len(values) and bool((values == values[0]).all()) else None


def _words(found: Sequence[_Found]) -> str:
    """Such as "drop path up to 0.1 (11x)"."""
    values = sorted({one.value for one in found})
    return f"{found[0].kind} {'up to ' if len(values) > 1 else ''}{values[-1]:g} ({len(found)}x)"
