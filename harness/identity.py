"""What a number belongs to beside its spec: the images, the code of foreign tricks, and the version of this engine.

A `RunSpec` names what was asked. The same spec on other images, with an edited plug-in or with an engine that computes
otherwise is another run, so files, locks, checkpoints and stored weights are named by the run's *key*: its run id and
eight hex digits of its identity. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NUMBERS = 1
"""Version of the engine's numbers. It is bumped when the same spec gives other numbers than before, which the golden
losses of `tests/golden` tell; rows of another version are then neither reused nor paired."""

NETWORKS = 1
"""Version of what is made of a library's networks, bumped when they start or train otherwise than before. In version 1
all built-in tricks are off (`harness.models.plain`)."""

LIBRARIES = ("timm/", "torchvision/")
"""How the names of a library's networks begin."""

PLAIN_BEFORE = ("timm/resnet", "timm/resnext", "timm/wide_resnet", "timm/seresnet")
"""How the names of those begin that version 1 left as they were: their one trick was off already."""

BIT_VARIABLES = (
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
)
"""Environment variables by which the libraries below torch compute other bits, where torch itself does not tell."""

SHOWN = 8
"""Hex digits of a digest that a line shows."""


@dataclass(frozen=True)
class Identity:
    """What decides a run's numbers beside its spec and the machine.

    data: content digest of the data set. sources: for each trick and network that is not ours, its name and the sha256
    of its code. numbers: `NUMBERS` of the engine. network: as `network_version` gives it. weights: sha256 of the file
    of weights that the network starts from, as 16 hex digits; empty where they are drawn.
    """

    data: str
    sources: tuple[tuple[str, str], ...] = ()
    numbers: int = NUMBERS
    network: int = 0
    weights: str = ""
    stages: tuple[str, ...] = ()

    @property
    def json(self) -> str:
        """Canonical JSON of the parts; a part that does not exist is left out, so later ones change no old identity."""
        parts: dict[str, Any] = {"data": self.data, "numbers": self.numbers}
        parts |= {"sources": dict(self.sources)} if self.sources else {}
        parts |= {"network": self.network} if self.network else {}
        parts |= {"weights": self.weights} if self.weights else {}
        parts |= {"stages": list(self.stages)} if self.stages else {}
        return json.dumps(parts, sort_keys=True, separators=(",", ":"))

    @staticmethod
    def of(text: str) -> Identity:
        """The identity whose canonical JSON this is."""
        parts = json.loads(text)
        sources = tuple(sorted(parts.get("sources", {}).items()))
        network, weights = parts.get("network", 0), parts.get("weights", "")
        return Identity(parts["data"], sources, parts["numbers"], network, weights, tuple(parts.get("stages", ())))

    def implies(self, stage: Identity) -> bool:
        """Whether a stage of a run with this identity is of nothing but the same images and code."""
        return (
            stage.data == self.data
            and {*stage.sources} <= {*self.sources}
            and stage.network in (0, self.network)
            and stage.weights in ("", self.weights)
            and not stage.stages
        )

    @property
    def short(self) -> str:
        """Eight hex digits that tell this identity from others."""
        return hashlib.sha256(self.json.encode()).hexdigest()[:8]


def network_version(model: str) -> int:
    """`NETWORKS` for a library's network, and 0 for ours and for those that are as they always were."""
    return NETWORKS if model.startswith(LIBRARIES) and not model.startswith(PLAIN_BEFORE) else 0


def key_of(run_id: str, identity: str) -> str:
    """What files, locks, checkpoints and weights of a run are named by; old rows have no identity."""
    return f"{run_id}-{identity}" if identity else run_id


def difference(stored: str | None, wanted: Identity) -> str:
    """What differs between the JSON of a stored identity and the wanted one, in a few words; empty if nothing does."""
    if not stored:
        return "from a version that did not record their images and code"
    old, new = json.loads(stored), json.loads(wanted.json)
    said = []
    if old.get("data") != new["data"]:
        said.append(f"of other images ({old.get('data', 'unknown')[:SHOWN]}... -> {new['data'][:SHOWN]}...)")
    if old.get("numbers") != new["numbers"]:
        said.append(f"of another numbers version of the engine ({old.get('numbers')} -> {new['numbers']})")
    if old.get("network", 0) != new.get("network", 0):
        said.append("of a network with other built-in tricks, which are off in the baseline now")
    if old.get("weights", "") != new.get("weights", ""):
        said.append(f"of other weights to start from ({old.get('weights', 'none')} -> {new.get('weights', 'none')})")
    if old.get("stages", []) != new.get("stages", []):
        said.append("of runs before it on other images or code")
    was, now = old.get("sources", {}), new.get("sources", {})
    changed = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
    if changed:
        said.append(f"of other code of {', '.join(changed)}")
    return " and ".join(said)


def source_digest(files: Iterable[Path], root: Path | None = None) -> str:
    """sha256 over the names and bytes of source files, as 16 hex digits.

    Args:
        files: in any order.
        root: names are relative to it; by default only the last part counts.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update((path.relative_to(root).as_posix() if root else path.name).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two nested settings: "recipe.epochs was 80 and is 5"."""
    out = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            out.append(f"{prefix}{key} was {a} and is {b}")
    return out
