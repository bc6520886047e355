"""Data sets of Hugging Face's `datasets`: a folder that it saved, or a name on the hub; the extra is called `hf`."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.data.disk import expand, shown
from harness.data.given import Given, Split, given
from harness.errors import UserError, did_you_mean
from harness.experiment import Data

SPLIT_NAMES = {"train": "train", "validation": "val", "val": "val", "test": "test"}
"""How its splits are called, and ours."""


def load_hub(data: Data, data_root: Path) -> Given:
    """The data set that `data.root` names; `data.args` may say `image`, `label` and `config`.

    The columns are the first of images and the first of classes where they are not named. A folder is taken before a
    name on the hub, which is read from the library's own cache unless `data.download` allows more.

    Raises:
        UserError: the library or the data set is missing, or a column is.
    """
    return _load(data.images, data_root, data.download)


@lru_cache(maxsize=2)
def _load(data: Data, data_root: Path, download: bool) -> Given:
    try:
        import datasets
    except ImportError:
        raise UserError("data.name = 'hf' needs the package datasets: pip install 'harness[hf]'") from None
    what = f"data.root = '{data.root}' (hf)"
    args = dict(data.args)
    for key in args:
        if key not in ("image", "label", "config"):
            near = did_you_mean(key, ("image", "label", "config"))
            raise UserError(f"{what}: data.args has {key}{near} Known: image, label, config")
    found = _read(datasets, data, data_root, args.get("config"), download, what)
    splits, names = {}, None
    for name, part in found.items():
        if name not in SPLIT_NAMES:
            continue
        image, label = _columns(datasets, part, args, data.group, what)
        names = getattr(part.features[label], "names", None)
        splits[SPLIT_NAMES[name]] = _split(datasets, part, image, label, data.group)
    if "train" not in splits:
        raise UserError(f"{what}: it has no split train; it has {', '.join(found)}")
    return given(data, splits, names, what)


def _read(datasets: Any, data: Data, data_root: Path, config: Any, download: bool, what: str) -> Mapping[str, Any]:
    folder = data_root / expand(data.root or "")
    try:
        if folder.is_dir():
            saved = (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()
            found = datasets.load_from_disk(str(folder)) if saved else datasets.load_dataset(str(folder), config)
        else:
            with contextlib.nullcontext() if download else _offline():
                found = datasets.load_dataset(data.root, config)
    except Exception as error:  # the library raises errors of a dozen libraries
        said = (" ".join(str(error).split()) or type(error).__name__)[:300]
        allowed = "" if download else ", or say download = true in [data], which lets it be fetched from the hub"
        raise UserError(
            f"{what}: there is no folder {shown(folder)} that `datasets` can read, nor such a name in its cache "
            f"({said}); put it there{allowed}"
        ) from None
    return found if isinstance(found, dict) else {"train": found}


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Nothing is asked of the hub, which otherwise is even for what lies in the cache."""
    import datasets
    from huggingface_hub import constants

    places: tuple[Any, ...] = (datasets.config, constants)
    was = [place.HF_HUB_OFFLINE for place in places]
    try:
        for place in places:
            place.HF_HUB_OFFLINE = True
        yield
    finally:
        for place, value in zip(places, was, strict=True):
            place.HF_HUB_OFFLINE = value


def _columns(datasets: Any, part: Any, args: Mapping[str, Any], group: str | None, what: str) -> tuple[str, str]:
    """The names of the columns of images and labels."""
    features = part.features
    for key, name in (("data.args.image", args.get("image")), ("data.args.label", args.get("label")), ("group", group)):
        if name is not None and name not in features:
            raise UserError(
                f"{what}: {key} = '{name}': no such column{did_you_mean(str(name), features)} It has: "
                f"{', '.join(features)}"
            )
    kinds = {"image": datasets.Image, "label": datasets.ClassLabel}
    out = []
    for key, kind in kinds.items():
        name = args.get(key) or next((c for c, feature in features.items() if isinstance(feature, kind)), None)
        if name is None:
            raise UserError(
                f"{what}: no column is of type {kind.__name__}; say which is the {key} with data.args.{key}; it has: "
                f"{', '.join(features)}"
            )
        out.append(str(name))
    return out[0], out[1]


def _split(datasets: Any, part: Any, image: str, label: str, group: str | None) -> Split:
    raw = part.cast_column(image, datasets.Image(decode=False))
    marks = []
    for value in raw[image]:
        body = value["bytes"] if value["bytes"] is not None else Path(value["path"]).read_bytes()
        marks.append(hashlib.sha256(body).hexdigest())
    groups = None if group is None else [str(value) for value in part[group]]
    return Split(list(part[label]), marks, lambda i: part[i][image], groups=groups)
