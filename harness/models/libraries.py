"""Networks of timm and torchvision: built, their built-in tricks switched off, their last layer found."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.data.types import DataInfo
from harness.errors import UserError, did_you_mean
from harness.experiment import Model
from harness.models.classifier import Classifier, Normalize, replace_submodule
from harness.models.own import stages_of
from harness.models.plain import switch_off
from harness.models.pretrained import normalization, torchvision_name, torchvision_weights, weights_file


def build_timm(model: Model, data: DataInfo) -> Classifier:
    """A network of timm; its last layer is drawn, and with `pretrained` the rest comes from a file.

    Raises:
        UserError: unknown, refuses its arguments, has no last layer of its own, or its weights cannot be had.
    """
    import timm

    name, classes = model.name.removeprefix("timm/"), len(data.classes)
    if not timm.is_model(name):
        raise UserError(f"unknown timm model '{name}'{did_you_mean(name, timm.list_models())}")
    if model.width is not None:
        raise UserError(f"model.width = {model.width}: timm models take their size from args")
    args: dict[str, Any] = dict(model.args)
    if model.pretrained:
        args |= {"pretrained_cfg_overlay": {"file": str(weights_file(model))}}
    try:
        net: Any = timm.create_model(
            name, pretrained=model.pretrained, num_classes=classes, in_chans=data.channels, **args
        )
        if model.pretrained and classes == net.default_cfg["num_classes"]:  # the file's last layer was kept
            net.reset_classifier(classes)
    except Exception as error:  # timm hands arguments on to its models, which fail on them in ways of their own
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"timm model '{name}' refuses args {model.args}: {why}") from None
    path = _timm_head(net)
    if path is None:
        raise UserError(
            f"timm model '{name}' with args {model.args} has not one last layer that gives the logits, which runs need "
            "(models with a second head for distillation have two, features_only has none); choose another model"
        )
    stages = [str(info["module"]) for info in getattr(net, "feature_info", []) or []]
    return Classifier(net, _normalize(model, data), stages, path, switch_off(net, model.args, model.pretrained))


def _timm_head(net: nn.Module) -> str | None:
    """Where the final layer of a timm model is; None if it has none, or several."""
    head = net.get_classifier() if hasattr(net, "get_classifier") else None  # type: ignore[operator]
    return next((path for path, module in net.named_modules() if module is head), None)


def build_torchvision(model: Model, data: DataInfo) -> Classifier:
    """A network of torchvision; its last layer is drawn, and with `pretrained` the rest comes from a file.

    Its first convolution is made for the channels of the images. From pretrained weights, that of grey images has the
    sum of the three channels' kernels, which is what grey images as RGB would see.

    Raises:
        UserError: unknown, refuses its arguments, has no last linear layer, or its weights cannot be had.
    """
    import torchvision

    name = torchvision_name(model)
    if model.width is not None:
        raise UserError(f"model.width = {model.width}: torchvision models take their size from args")
    args: dict[str, Any] = dict(model.args)
    if model.pretrained:
        weights_file(model)  # where torchvision looks, too
        args["weights"] = torchvision_weights(model)
    else:
        args["num_classes"] = len(data.classes)
        if name in _AUXILIARY:
            args = {"aux_logits": False, "init_weights": True} | args
    try:
        net: nn.Module = torchvision.models.get_model(name, **args)
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"torchvision model '{name}' refuses args {model.args}: {why}") from None
    linear = [path for path, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"torchvision model '{name}' has no last linear layer that gives the logits; choose another")
    if model.pretrained:
        _take_off_auxiliary(net)
        last = net.get_submodule(linear[-1])
        assert isinstance(last, nn.Linear)
        replace_submodule(net, linear[-1], nn.Linear(last.in_features, len(data.classes)))
    _fit_channels(net, data.channels, model)
    built_in = switch_off(net, model.args, model.pretrained)
    return Classifier(net, _normalize(model, data), stages_of(net, linear[-1]), linear[-1], built_in)


_AUXILIARY = ("googlenet", "inception_v3")
"""Networks with second heads, which training would have to weigh."""


def _take_off_auxiliary(net: nn.Module) -> None:
    if hasattr(net, "aux_logits"):
        setattr(net, "aux_logits", False)  # noqa: B010 (a module's attributes are typed as modules)
        for name in ("aux1", "aux2", "AuxLogits"):
            if hasattr(net, name):
                setattr(net, name, None)


def _fit_channels(net: nn.Module, channels: int, model: Model) -> None:
    path, first = next((path, m) for path, m in net.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels == channels:
        return
    if model.pretrained and channels != 1:
        raise UserError(
            f"model.pretrained = true: the weights of {model.name} are for images of {first.in_channels} channels, and "
            f"these have {channels}; start from drawn weights"
        )
    new = nn.Conv2d(
        channels,
        first.out_channels,
        kernel_size=first.kernel_size,  # type: ignore[arg-type]  # typed as a tuple of any length
        stride=first.stride,  # type: ignore[arg-type]
        padding=first.padding,  # type: ignore[arg-type]
        dilation=first.dilation,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    if model.pretrained:
        with torch.no_grad():
            new.weight.copy_(first.weight.sum(1, keepdim=True))
            if isinstance(first.bias, Tensor) and new.bias is not None:
                new.bias.copy_(first.bias)
    replace_submodule(net, path, new)


def _normalize(model: Model, data: DataInfo) -> Normalize:
    """By the images of the training split, or as the pretrained weights were trained."""
    return Normalize(*(normalization(model, data.channels) if model.pretrained else (data.mean, data.std)))
