"""The tables of an experiment that decide a run's numbers: `[data]`, `[model]` and `[recipe]`, strictly parsed."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from harness import plugins
from harness.errors import did_you_mean
from harness.identity import LIBRARIES
from harness.invariance import Declared
from harness.values import Added, Strict, plain

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]


OWN = r"^[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*$"
"""The name of a part of one's own, as "mine.py:Net"."""


BUNDLED = ("digits", "cifar10", "cifar100")
ARRAYS = ("torchvision/FashionMNIST", "torchvision/STL10", "torchvision/SVHN")
FILES = tuple(f"torchvision/{name}" for name in ("DTD", "EuroSAT", "Flowers102", "Food101", "OxfordIIITPet"))
"""Torchvision's data sets of arrays and of image files."""

NAMES = (*BUNDLED, "folder", "csv", "npz", "hf", *ARRAYS, *FILES)
"""What `data.name` may be beside code of the user's."""

BELONGS = {
    "root": ("folder", "csv", "npz", "hf", "own"),
    "window": ("folder", "csv", "hf", "own"),
    "channels": ("folder", "csv", "hf", "own", *FILES),
    "group": ("csv", "hf"),
    "args": ("hf", "own", *ARRAYS, *FILES),
    "download": ("hf", *ARRAYS, *FILES),
}
"""The kinds of data sets that an option is for."""


def _pairs(value: Any) -> Any:
    """A table as pairs, which can be hashed."""
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


Args = Annotated[
    tuple[tuple[str, Annotated[bool | int | float | str, BeforeValidator(plain)]], ...],
    Field(strict=False),
    BeforeValidator(_pairs),
]


class Data(Declared):
    """`[data]`: which images, how many, and in what condition.

    `root` is the folder in the data root of a `folder` data set, the table of a `csv` one (columns path, label and
    perhaps split), the file of an `npz` one, or the folder or name of an `hf` one. `group` is a table's column of what
    several images share, such as a patient, whose images go to one split. `args` are for the function that loads data
    of one's own, for torchvision's class or for `datasets`; with `download` the latter two may fetch what is missing.
    `channels = 1` keeps one channel of files. `classes` keeps the first n classes, or the
    named ones. `window` is the grey values that are black and white in 16- and 32-bit files, which do not say it
    themselves; values beyond are clipped.

    What follows touches the training split only. `labels` is a file of labels in the data root, which replace those of
    the training images: .npy, or .csv and .parquet with the columns index and label; an index is the position of an
    image in the training part of the data set before it is split. `label_noise` is the exact fraction of training
    labels that are wrong: "uniform", of a wrong class drawn uniformly; "pair", of the next class; "class", in each
    class that `label_noise_to` names, such as {truck = "automobile"}. `imbalance` is the size of the smallest class
    over the largest (exponential profile, Cui et al. 2019). `labelled` is the share of the training images that
    keep their labels, repeated to the old number; the others are for tricks that learn without labels. `fold` is
    [k, K]: of the training images in K stratified folds, drawn by the seed, the run trains on all but fold k, which
    counts from 0; with `fold_alone`, on fold k alone. Labels are as without a fold.
    """

    name: str
    root: str | None = None
    train_size: Count | None = None
    val_size: Count
    test_size: Count | None = None
    classes: Annotated[
        Annotated[int, Field(ge=2)] | Annotated[tuple[str, ...], Field(strict=False, min_length=2)] | None,
        Field(union_mode="left_to_right"),
    ] = None
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    window: Annotated[tuple[float, float] | None, Field(strict=False), Added(None)] = None
    group: Annotated[str | None, Added(None)] = None
    channels: Annotated[Literal[1, 3] | None, Added(None)] = None
    args: Annotated[Args, Added(())] = ()
    download: Annotated[bool, Added(False)] = False
    label_noise: Fraction = 0.0
    imbalance: Annotated[float, Field(gt=0, le=1)] = 1.0
    label_noise_kind: Annotated[Literal["uniform", "pair", "class"], Added("uniform")] = "uniform"
    label_noise_to: Annotated[dict[str, str] | None, Added(None)] = None
    labelled: Annotated[float, Field(gt=0, le=1), Added(1.0)] = 1.0
    labels: Annotated[str | None, Added(None)] = None
    fold: Annotated[tuple[int, int] | None, Field(strict=False), Added(None)] = None
    fold_alone: Annotated[bool, Added(False)] = False

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name in NAMES or re.match(OWN, name) or name in plugins.names(plugins.DATASETS):
            return name
        raise ValueError(
            f"unknown data set{did_you_mean(name, NAMES)} Known: {', '.join(NAMES)}; FILE.py:FUNCTION; or an entry "
            f"point in the group {plugins.DATASETS}"
        )

    @model_validator(mode="after")
    def _check(self) -> Data:
        if self.kind in ("folder", "csv", "hf") and not (self.root and self.image_size):
            raise ValueError(f"a {self.name} data set needs root (its name) and image_size (pixels)")
        if self.name == "npz" and not self.root:
            raise ValueError("an npz data set needs root (the file)")
        if self.name in FILES and not self.image_size:
            raise ValueError(f"{self.name} needs image_size (pixels)")
        for option, kinds in BELONGS.items():
            if getattr(self, option) not in (None, (), False) and self.kind not in kinds:
                raise ValueError(f"{option} belongs to {', '.join(kinds)} data sets, and this is {self.name}")
        if self.declared and self.kind in BUNDLED:
            raise ValueError(f"{', '.join(self.declared)} belongs to data of one's own, and this is {self.name}")
        if (self.label_noise_kind == "class") != bool(self.label_noise_to):
            raise ValueError(
                'label_noise_kind = "class" needs label_noise_to, a table of classes, and no other kind does'
            )
        same = [old for old, new in (self.label_noise_to or {}).items() if old == new]
        if same:
            raise ValueError(f"label_noise_to: {same[0]} becomes itself, which is no noise; name another class")
        if self.labels is not None and self.classes is not None:
            raise ValueError("labels count all images of the data set, and classes leaves some out; set one of the two")
        if self.fold is not None and not 0 <= self.fold[0] < self.fold[1] > 1:
            raise ValueError(f"fold is [k, K] with 0 <= k < K and K > 1, and it is {list(self.fold)}")
        if self.fold_alone and self.fold is None:
            raise ValueError("fold_alone = true needs fold, which says which one")
        if self.window is not None and self.window[0] >= self.window[1]:
            raise ValueError(f"window is [black, white] with black below white, and it is {list(self.window)}")
        return self

    @property
    def kind(self) -> str:
        """The name, or "own" of code of the user's."""
        return self.name if self.name in NAMES else "own"

    @property
    def from_files(self) -> bool:
        """Whether the images are files, which are listed and decoded once."""
        return self.kind in ("folder", "csv", *FILES)

    @property
    def fold_share(self) -> float:
        """The part of the training images that a run with this fold trains on."""
        if self.fold is None:
            return 1.0
        return 1 / self.fold[1] if self.fold_alone else 1 - 1 / self.fold[1]

    @property
    def images(self) -> Data:
        """The table with what does not decide the images set to its default, so that runs on them share the arrays."""
        decides = ("name", "root", "classes", "image_size", "window", "group", "channels", "args", "labels")
        return Data(val_size=1, **{name: getattr(self, name) for name in decides})


class Model(Strict):
    """`[model]`: one of ours (`width` in channels of the first stage), or another one with its `args`.

    Others are "timm/<name>", "torchvision/<name>", "mine.py:Net" and an entry point in the group `harness.models`.
    `pretrained` starts from the weights that timm or torchvision offer, with a new last layer. `weights` is a file of
    safetensors to start from, such as a kept one of an earlier run; a path from the current folder.
    """

    name: Annotated[str, StringConstraints(pattern=rf"^(timm/|torchvision/)?[A-Za-z0-9_.-]+$|{OWN}")]
    width: Annotated[int, Field(ge=1, le=65_536)] | None = None
    args: dict[str, Annotated[bool | int | float | str, BeforeValidator(plain)]] = Field(default_factory=dict)
    pretrained: Annotated[bool, Added(False)] = False
    weights: Annotated[str | None, Added(None)] = None

    @model_validator(mode="after")
    def _check(self) -> Model:
        if self.weights is not None and not self.weights.endswith(".safetensors"):
            raise ValueError(f"weights is a file of safetensors, FILE.safetensors, and this is {self.weights}")
        if self.weights is not None and self.pretrained:
            raise ValueError("pretrained = true and weights both say what the network starts from; leave one out")
        if self.pretrained and not self.name.startswith(LIBRARIES):
            raise ValueError(f"pretrained = true is for networks of timm and torchvision, and this is {self.name}")
        return self


class Augment(Strict):
    """The baseline's augmentation, drawn per image. All sizes are fractions of the image side.

    `shift`: random translation with zero padding (pad and crop; 0.125 is 4 pixels of 32). `flip`:
    horizontal mirror with probability one half. `rotation`: degrees, uniform in ±. `scale_min`: smallest
    area of a random resized crop with aspect ratio 3/4 to 4/3 (1 is off).
    """

    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    flip: bool = False
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale_min: Annotated[float, Field(gt=0, le=1)] = 1.0


class Recipe(Strict):
    """`[recipe]`: the baseline's training recipe, with every library default that is a trick switched off.

    `lr` is the peak learning rate; `schedule` multiplies it: "constant", "step" (times `gamma` at each of
    `milestones`, fractions of training) or "cosine" (to zero). The last incomplete batch of an epoch is
    dropped. `evaluations` is the number of points on the validation curves. `head_lr` is the peak rate of the network's
    last layer, where that starts anew and the rest does not.
    """

    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Count
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)]
    head_lr: Annotated[float | None, Field(gt=0), Added(None)] = None
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "step", "cosine"] = "step"
    milestones: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(strict=False)] = (0.5, 0.75)
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    augment: Augment = Augment()
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    compile: bool = False
    evaluations: Count = 20

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0:
            said = "" if "nesterov" in self.model_fields_set else " (the default of recipe.nesterov is true)"
            raise ValueError(f"nesterov needs momentum > 0{said}; set nesterov = false")
        return self
