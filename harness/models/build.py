"""From `[model]` to a `Classifier` with the baseline's initial weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from harness import rng
from harness.data.types import DataInfo
from harness.errors import UserError, did_you_mean
from harness.experiment import Model
from harness.models.classifier import Classifier, Normalize
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
    if name.startswith(("resnet", "resnext", "wide_resnet", "seresnet")):
        args.setdefault("zero_init_last", False)  # timm switches zero-gamma on; here it is a trick
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
    return Classifier(net, Normalize(data.mean, data.std), stages, path)


def _head_path(net: nn.Module) -> str | None:
    """Where the final layer of a timm model is; None if it has none, or several."""
    head = net.get_classifier() if hasattr(net, "get_classifier") else None  # type: ignore[operator]
    return next((path for path, module in net.named_modules() if module is head), None)
