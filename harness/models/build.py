"""From `[model]` to a `Classifier` with the baseline's initial weights."""

from __future__ import annotations

from functools import lru_cache

import torch

from harness import plugins, rng
from harness.data.types import DataInfo, Invariances
from harness.errors import UserError
from harness.experiment import Model
from harness.identity import LIBRARIES
from harness.models.airbench import Airbench
from harness.models.architectures import ARCHITECTURES, near_network
from harness.models.classifier import Classifier, Normalize
from harness.models.libraries import build_timm, build_torchvision
from harness.models.own import build_own
from harness.models.plain import Builtin
from harness.models.pretrained import weights_file
from harness.models.resnet import ResNet, ResNetD
from harness.models.weights import start_from

OURS: dict[str, type[ResNet] | type[Airbench]] = {"resnet18d": ResNetD, "airbench": Airbench}
"""Those of `ARCHITECTURES` that are no plain `ResNet`."""


def build(model: Model, data: DataInfo, seed: int) -> Classifier:
    """Build the network; its weights depend on `seed` and on nothing else.

    Constructors of torch and timm draw from the global generator, so it is seeded from the block's `init`
    stream for their sake and put back afterwards.

    Raises:
        UserError: the model is unknown or refuses its arguments, or the file of its weights does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.derive(seed, rng.INIT))
        network = _drawn(model, data)
    if model.weights is not None:
        start_from(network, weights_file(model), model.weights)
    return network


def _drawn(model: Model, data: DataInfo) -> Classifier:
    if model.name.startswith("timm/"):
        return build_timm(model, data)
    if model.name.startswith("torchvision/"):
        return build_torchvision(model, data)
    part = None if model.name in ARCHITECTURES else plugins.part(plugins.NETWORKS, model.name, "model.name")
    return _ours(model, data) if part is None else build_own(part, model, data)


def built_in(model: Model) -> Builtin:
    """What a library has built into the network, wherever it is trained; raises as `build`."""
    drawn = model.model_copy(update={"weights": None})
    return _built_in(drawn.model_dump_json()) if model.name.startswith(LIBRARIES) else Builtin()


@lru_cache
def _built_in(model: str) -> Builtin:
    return build(Model.model_validate_json(model), example_of(channels=3, size=32), 0).builtin


def example_of(channels: int, size: int) -> DataInfo:
    """Data of ten classes, to build a network for when no data set is asked for."""
    everything = Invariances(flip=True, shift=1.0, rotation=180.0, color=True)
    classes = tuple(map(str, range(10)))
    return DataInfo(classes, channels, size, (0.0,) * channels, (1.0,) * channels, everything, (1,) * 10)


def _ours(model: Model, data: DataInfo) -> Classifier:
    known = [*ARCHITECTURES, *plugins.names(plugins.NETWORKS)]
    if model.name not in ARCHITECTURES:
        raise UserError(
            f"unknown model '{model.name}'{near_network(model.name, known)} Known: {', '.join(known)}, timm/<name>, "
            "torchvision/<name>, or a class of your own as mine.py:Net"
        )
    if model.args:
        raise UserError(f"model.args = {model.args}: {model.name} takes only width; args belong to other models")
    default_width, stages = ARCHITECTURES[model.name]
    width = model.width or default_width
    net = OURS.get(model.name, ResNet)(
        data.channels, len(data.classes), [(width * f, stride, blocks) for f, stride, blocks in stages]
    )
    return Classifier(net, Normalize(data.mean, data.std), net.stage_names, "head")
