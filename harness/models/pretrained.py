"""The file of weights that a network starts from: one's own, or a library's, through the library's own cache.

timm takes files of the Hugging Face hub, torchvision those of the folder of torch.hub. A file that is not there is
fetched once. Nothing here imports torch before a network with pretrained weights is asked for.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.errors import UserError, did_you_mean
from harness.experiment import Model

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weights in a repository of the hub, best first."""


def weights_digest(model: Model) -> str:
    """16 hex digits of the sha256 of the file that the network starts from; empty where its weights are drawn.

    Raises:
        UserError: as `weights_file`.
    """
    if not model.pretrained and model.weights is None:
        return ""
    path = weights_file(model)
    facts = path.stat()
    return _sha256(path, facts.st_size, facts.st_mtime_ns)[:16]


def weights_file(model: Model) -> Path:
    """Where the file lies, after it was fetched if it was not there.

    Raises:
        UserError: the library offers no weights for this network, or they can be neither found nor fetched; the line
            says which file is expected where.
    """
    if model.weights is not None:
        return _own(model.weights)
    return _timm(model) if model.name.startswith("timm/") else _torchvision(model)


def _own(weights: str) -> Path:
    path = Path(os.path.expanduser(weights))
    if not path.is_file():
        raise UserError(
            f"model.weights = '{weights}': there is no such file in {Path.cwd()}; give a path from the current folder, "
            "or a whole one, on every machine that trains"
        )
    return path


def normalization(model: Model, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of each channel with which the weights were trained; of grey images, the means over the channels."""
    if model.name.startswith("timm/"):
        config = _timm_config(model)
        mean, std = tuple(config.mean), tuple(config.std)
    else:
        preset = torchvision_weights(model).transforms()
        mean, std = tuple(preset.mean), tuple(preset.std)
    if channels == len(mean):
        return mean, std
    return (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels


def torchvision_name(model: Model) -> str:
    """The name of a classifier of torchvision.

    Raises:
        UserError: there is none of that name.
    """
    import torchvision

    name = model.name.removeprefix("torchvision/")
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UserError(f"unknown torchvision model '{name}'{did_you_mean(name, known)}")
    return name


def torchvision_weights(model: Model) -> Any:
    """What torchvision calls DEFAULT: its best weights for a network."""
    import torchvision

    return torchvision.models.get_model_weights(model.name.removeprefix("torchvision/")).DEFAULT


def _timm_config(model: Model) -> Any:
    import timm

    name = model.name.removeprefix("timm/")
    if not timm.is_model(name):
        raise UserError(f"unknown timm model '{name}'{did_you_mean(name, timm.list_models())}")
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        near = did_you_mean(name, timm.list_models(pretrained=True))
        raise UserError(f"model.pretrained = true: timm has no weights for '{name}'{near}")
    return config


def _timm(model: Model) -> Path:
    config = _timm_config(model)
    if not config.hf_hub_id:
        return _fetched(model, config.url)
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, _, revision = config.hf_hub_id.partition("@")
    names = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILES
    for name in names:
        found = try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    why = "no such file there"
    for name in names:
        try:
            return Path(hf_hub_download(repository, name, revision=revision or None))
        except LocalEntryNotFoundError as error:
            why = str(error).splitlines()[0]
        except EntryNotFoundError:
            continue
        except Exception as error:  # a network fails in ways of its own
            why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        break
    place = Path(constants.HF_HUB_CACHE, f"models--{repository.replace('/', '--')}")
    raise UserError(
        f"model.pretrained = true: the weights of {model.name} ({' or '.join(names)} of {repository}) are not in "
        f"{place} and cannot be fetched ({why}); fetch them where there is a network with "
        f"`hf download {repository}` and copy that folder, or name another one with HF_HOME"
    )


def _torchvision(model: Model) -> Path:
    torchvision_name(model)
    return _fetched(model, torchvision_weights(model).url)


def _fetched(model: Model, url: str) -> Path:
    """The file of torch.hub's folder that came from this address, or comes now."""
    import torch

    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except Exception as error:
        raise UserError(
            f"model.pretrained = true: the weights of {model.name} are not at {path} and cannot be fetched from {url} "
            f"({type(error).__name__}: {error}); put that file there, or name another folder with TORCH_HOME"
        ) from None
    return path


@lru_cache
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
