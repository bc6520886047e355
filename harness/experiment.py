"""Experiments and runs as values: frozen, validated and hashed.

An experiment is a TOML file, strictly parsed. A `RunSpec` is one fully resolved training: data, model,
recipe, arm and seed. Its `run_id` is the first 16 hex digits of the sha256 of its canonical JSON. Nothing
here imports torch, so that a wrong experiment is refused at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from harness.errors import UserError, did_you_mean
from harness.names import Slug
from harness.sections import Augment as Augment
from harness.sections import Data as Data
from harness.sections import Model as Model
from harness.sections import Recipe as Recipe
from harness.values import (
    Keys,
    Origins,
    SearchRange,
    Seeds,
    Strict,
    canonical,
    explain,
    merged,
    plain,
    read_seeds,
    read_toml,
)

Plain = Annotated[Any, BeforeValidator(plain)]
"""A value of any type that is finite and can be printed."""


class Asked(Strict):
    """`[experiment]` of any kind: what is asked, and the smallest effect that would matter."""

    name: Slug
    question: str = ""
    margin: Annotated[float, Field(gt=0, description="points of the primary metric")] = 0.5


class Question(Asked):
    """`[experiment]` of the loop, whose metrics are those of images."""

    metric: Literal["test_accuracy", "test_top5"] = "test_accuracy"


class Study(Strict):
    """`[study]`: which arms, which blocks (a number of seeds, or a range as "10:20"), and the level of the tests.

    `base` are tricks that all runs have, those of the baseline too: the effects are then of adding to them.
    """

    design: str = "one_at_a_time"
    base: Annotated[tuple[str, ...], Field(strict=False)] = ()
    tricks: Annotated[tuple[str, ...], Field(strict=False)] = ()
    seeds: Seeds = 10
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05

    @property
    def blocks(self) -> range:
        """The seeds."""
        return read_seeds(self.seeds)


class Experiment(Strict):
    """One question: everything that the TOML file says.

    `tricks` holds hyperparameter overrides by trick. `search` holds ranges by the value's name, as "recipe.lr" or
    "mixup.alpha"; they change no run.
    """

    experiment: Question
    data: Data
    model: Model
    recipe: Recipe
    study: Study = Study()
    tricks: dict[str, dict[str, Plain]] = Field(default_factory=dict)
    search: dict[str, SearchRange] = Field(default_factory=dict)
    _origins: Origins = PrivateAttr(default_factory=Origins)

    @field_validator("search", mode="before")
    @classmethod
    def _flatten(cls, value: Any) -> Any:
        """Names may be written without quotes, which TOML reads as nested tables."""
        return flat_ranges(value) if isinstance(value, dict) else value

    @property
    def origins(self) -> Origins:
        """Where the values came from."""
        return self._origins

    def spec(self, arm: Arm, seed: int) -> RunSpec:
        """The run that trains an arm with a seed."""
        data = self.data.model_copy(update={"download": False})  # what is here by now decides no number
        return RunSpec(data=data, model=self.model, recipe=self.recipe, arm=arm, seed=seed)

    @classmethod
    def read(cls, tables: Mapping[str, Any], origins: Origins) -> Experiment:
        """The experiment that tables say.

        Raises:
            UserError: an unknown key, a wrong type or an impossible value; one line for each, which blames the origin.
        """
        try:
            made = cls.model_validate(tables)
        except ValidationError as error:
            raise UserError("\n".join(explain(error, cls, origins))) from None
        made.data.check(made.recipe.augment)
        made._origins = origins
        return made


def flat_ranges(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables of ranges as one, by dotted name."""
    out: dict[str, Any] = {}
    for key, value in tables.items():
        name = f"{prefix}{key}"
        nested = isinstance(value, dict) and "choices" not in value
        if nested and any(isinstance(v, dict | list) for v in value.values()):
            out |= flat_ranges(value, f"{name}.")
        else:
            out[name] = value
    return out


class TrickSpec(Strict):
    """One trick as it enters a run: name, version of its code, and every hyperparameter's value."""

    name: str
    version: int
    params: dict[str, Plain]


class Arm(Strict):
    """A set of tricks; the baseline is the empty arm. Sorted by name, so the order of asking never matters."""

    tricks: Annotated[tuple[TrickSpec, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _sort(self) -> Arm:
        names = [t.name for t in self.tricks]
        if len(set(names)) < len(names):
            raise ValueError(f"a trick is named twice: {', '.join(names)}")
        object.__setattr__(self, "tricks", tuple(sorted(self.tricks, key=lambda t: t.name)))
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Trick names in sorted order."""
        return tuple(t.name for t in self.tricks)

    @property
    def label(self) -> str:
        """How tables and files call the arm: "baseline" or names joined by "+"."""
        return "+".join(self.names) or BASELINE


BASELINE = "baseline"

PREMISES = ("data", "model", "recipe")
"""The sections that an experiment's question rests on."""

COMMAND = "command"
"""The section that they are in where runs are commands (`harness.commands`)."""


class RunSpec(Strict):
    """One arm trained with one seed: everything that decides the resulting numbers, and nothing else."""

    data: Data
    model: Model
    recipe: Recipe
    arm: Arm
    seed: Annotated[int, Field(ge=0)]

    @property
    def canonical_json(self) -> str:
        """Sorted, compact JSON of all fields but the unused ones of `Added`."""
        return json.dumps(canonical(self), sort_keys=True, separators=(",", ":"))

    @property
    def run_id(self) -> str:
        """16 hex digits that name this run for ever."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()[:16]


def spec_of(experiment: Experiment, arm: Arm, seed: int) -> RunSpec:
    """The run that trains `arm` with `seed` on `experiment`."""
    return experiment.spec(arm, seed)


def experiments_dir() -> Path:
    """Where the bundled experiment files are: beside the package in a checkout, inside it in a wheel."""
    inside = Path(__file__).parent / "experiments"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "experiments"


def find_experiment(name_or_path: str) -> Path:
    """The TOML file of a bundled experiment name or of a path.

    Raises:
        UserError: neither exists; the message lists the bundled ones.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" or os.sep in name_or_path:
        if not path.is_file():
            raise UserError(f"experiment file {name_or_path} does not exist")
        return path
    known = sorted(p.stem for p in experiments_dir().glob("*.toml"))
    if name_or_path not in known:
        raise UserError(
            f"unknown experiment '{name_or_path}'{did_you_mean(name_or_path, known)} Known: {', '.join(known)}; "
            "or give the path of a .toml file"
        )
    return experiments_dir() / f"{name_or_path}.toml"


EXTENDS = "extends"
"""The key by which a file takes over another one: a bundled name, or a path that starts at the file's folder."""


def text_of(name_or_path: str) -> str:
    """The text of an experiment file, with what it extends written out; raises as `find_experiment`."""
    path = find_experiment(name_or_path)
    tables, whole = _read(path)
    if whole:
        return path.read_text(encoding="utf-8")
    import tomli_w

    return f"# {path.name} and what it extends\n{tomli_w.dumps(tables)}"


def _read(path: Path, above: tuple[Path, ...] = ()) -> tuple[dict[str, Any], bool]:
    """The tables of a file over those of what it extends, and whether it extends nothing.

    A file that gives itself no name is called like the file, and not like what it extends.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    tables = read_toml(text, str(path))
    if EXTENDS not in tables:
        return tables, True
    base = tables.pop(EXTENDS)
    if not isinstance(base, str) or not base:
        raise UserError(f"{path}: {EXTENDS} = {base!r}: the name of an experiment, or the path of a .toml file")
    under = find_experiment(str(path.parent / base) if base.endswith(".toml") else base)
    if under.resolve() in (here.resolve() for here in (*above, path)):
        raise UserError(f"{path}: {EXTENDS} = '{base}' leads back to {under.name}; let one of them extend nothing")
    found, _ = _read(under, (*above, path))
    if isinstance(found.get("experiment"), dict):
        found["experiment"] = found["experiment"] | {"name": path.stem}
    return merged(found, tables), False


def load_experiment(
    name_or_path: str,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    options: Mapping[Keys, str] | None = None,
) -> Experiment:
    """The experiment of a file; the arguments and what it raises are those of `experiment_tables`."""
    return Experiment.read(*experiment_tables(name_or_path, overrides, options))


def experiment_tables(
    name_or_path: str,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    options: Mapping[Keys, str] | None = None,
) -> tuple[dict[str, Any], Origins]:
    """The tables of an experiment file of any kind, and where their values came from.

    The question, which is the title of the page, ends with what `overrides` change of its premises: of data, model and
    recipe, or of the command.

    Args:
        name_or_path: a bundled experiment's name or a .toml path.
        overrides: values that replace those of the file, by section and key, as `--set` gives them.
        options: the options that gave them, as they were typed, by the keys of the value.

    Raises:
        UserError: broken TOML, an unknown key, a wrong type or an impossible value; one line for each, with
            where the value came from, its keys and what is allowed.
    """
    path = find_experiment(name_or_path)
    tables, _ = _read(path)
    other = [] if "question" in (overrides or {}).get("experiment", {}) else _premises(tables, overrides or {})
    for section, values in (overrides or {}).items():
        tables[section] = merged(tables.get(section), values)
    asked = tables.get("experiment")
    if other and isinstance(asked, dict) and isinstance(asked.get("question"), str) and asked["question"]:
        tables["experiment"] = asked | {"question": f"{asked['question']} (with {', '.join(other)})"}
    return tables, Origins(str(path), options or {})


def _premises(old: Any, new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What of data, model and recipe, or of the command, is other than in the file: "recipe.epochs = 6"."""
    out: list[str] = []
    for key, value in new.items():
        was = old.get(key) if isinstance(old, Mapping) else None
        if isinstance(value, Mapping):
            out += _premises(was, value, f"{prefix}{key}.") if prefix or key in (*PREMISES, COMMAND) else []
        elif was != value:
            out.append(f"{prefix}{key} = {str(value).lower() if isinstance(value, bool) else value}")
    return out
