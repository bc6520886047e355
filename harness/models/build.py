"""From `[model]` to a `Classifier` with the baseline's initial weights."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import nn

from harness import rng
from harness.data.types import DataInfo, Invariances
from harness.errors import UserError, did_you_mean
from harness.experiment import Model
from harness.models.classifier import Classifier, Normalize
from harness.models.plain import Builtin, switch_off
from harness.models.resnet import ARCHITECTURES, ResNet


def build(model: Model, data: DataInfo, seed: int) -> Classifier:
    """Build the network; its weights depend on `seed` and on nothing else.

    Constructors of torch and timm draw from the global generator, so it is seeded from the block's `init`
    stream for their sake and put back afterwards.

    Raises:
        UserError: the model is unknown or refuses its arguments.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.derive(seed, rng.INIT))
        return _timm(model, data) if model.name.startswith("timm/") else _ours(model, data)


def built_in(model: Model) -> Builtin:
    """What a library has built into the network, wherever it is trained; raises as `build`."""
    return _built_in(model.model_dump_json()) if model.name.startswith("timm/") else Builtin()


@lru_cache
def _built_in(model: str) -> Builtin:
    return build(Model.model_validate_json(model), example_of(channels=3, size=32), 0).builtin


def example_of(channels: int, size: int) -> DataInfo:
    """Data of ten classes, to build a network for when no data set is asked for."""
    everything = Invariances(flip=True, shift=1.0, rotation=180.0, color=True)
    classes = tuple(map(str, range(10)))
    return DataInfo(classes, channels, size, (0.0,) * channels, (1.0,) * channels, everything, (1,) * 10)


def _ours(model: Model, data: DataInfo) -> Classifier:
    if model.name not in ARCHITECTURES:
        raise UserError(
            f"unknown model '{model.name}'{did_you_mean(model.name, ARCHITECTURES)} "
            f"Known: {', '.join(ARCHITECTURES)}, or timm/<name>"
        )
    if model.args:
        raise UserError(f"model.args = {model.args}: {model.name} takes only width; args belong to timm models")
    default_width, stages = ARCHITECTURES[model.name]
    width = model.width or default_width
    net = ResNet(data.channels, len(data.classes), [(width * f, stride, blocks) for f, stride, blocks in stages])
    return Classifier(net, Normalize(data.mean, data.std), net.stage_names, "head")


def _timm(model: Model, data: DataInfo) -> Classifier:
    import timm

    name = model.name.removeprefix("timm/")
    if not timm.is_model(name):
        raise UserError(f"unknown timm model '{name}'{did_you_mean(name, timm.list_models())}")
    if model.width is not None:
        raise UserError(f"model.width = {model.width}: timm models take their size from args")
    args: dict[str, Any] = dict(model.args)
    try:
        net: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=len(data.classes), in_chans=data.channels, **args
        )
    except Exception as error:  # timm hands arguments on to its models, which fail on them in ways of their own
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"timm model '{name}' refuses args {model.args}: {why}") from None
    path = _head_path(net)
    if path is None:
        raise UserError(
            f"timm model '{name}' with args {model.args} has not one last layer that gives the logits, which runs need "
            "(models with a second head for distillation have two, features_only has none); choose another model"
        )
    stages = [str(info["module"]) for info in getattr(net, "feature_info", []) or []]
    return Classifier(net, Normalize(data.mean, data.std), stages, path, switch_off(net, model.args))


def _head_path(net: nn.Module) -> str | None:
    """Where the final layer of a timm model is; None if it has none, or several."""
    head = net.get_classifier() if hasattr(net, "get_classifier") else None  # type: ignore[operator]
    return next((path for path, module in net.named_modules() if module is head), None)
