"""Published recipes as data: the files of `presets`, one for each, and the tricks and values that they stand for.

"preset:NAME" is written wherever tricks are named. What a recipe says in epochs, images or updates carries over as a
share or a multiple of what the baseline has (`Rule`), and what is said of it says how. Nothing here imports torch.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from harness.errors import UserError, did_you_mean
from harness.sections import Data, Recipe
from harness.values import Strict

FOLDER = Path(__file__).with_name("presets")
PREFIX = "preset:"

Status = Literal["S", "S2", "R", ""]
STATUS: Mapping[Status, str] = {
    "S": "read in the source",
    "S2": "read in a secondary source that quotes the first or ran it again",
    "R": "recalled, and seen in no source",
    "": "not found",
}
"""What is known of a published figure."""


class Rule(Strict):
    """A value that is `times` what the experiment has, since its number does not carry over.

    of: "epochs", "batch_size", "lr" and "weight_decay" of the recipe; or "half_life", a share of training in which an
    average forgets half, from which the decay for each update follows.
    """

    times: Annotated[float, Field(gt=0)]
    of: Literal["epochs", "batch_size", "lr", "weight_decay", "half_life"]

    def value(self, recipe: Recipe, data: Data, where: str) -> float | int:
        """The value for an experiment.

        Raises:
            UserError: it needs the number of training images, and the experiment does not say it.
        """
        if self.of == "batch_size":
            return max(1, round(self.times * recipe.batch_size))
        if self.of != "half_life":
            return round(self.times * float(getattr(recipe, self.of)), 10)
        if data.train_size is None:
            raise UserError(
                f"{where} is a share of training, and how many updates that has is not known before the data are read; "
                f"set data.train_size, or {where} itself with --set"
            )
        updates = recipe.epochs * max(1, int(data.train_size * data.fold_share) // recipe.batch_size)
        return float(round(0.5 ** (1 / max(1.0, self.times * updates)), 10))


Value = Annotated[Rule | bool | int | float | str, Field(union_mode="left_to_right")]


class Ingredient(Strict):
    """One step of a recipe, which is switched on and off as one.

    tricks: their names. values: of their hyperparameters, by trick; all else has its default. said: the values as the
    source has them, and how they carry over where they do not by number. published: the score with it, of a stack with
    all before it, or of it alone on the baseline.
    """

    tricks: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    values: dict[str, dict[str, Value]] = Field(default_factory=dict)
    said: Annotated[str, Field(min_length=1)]
    published: float | None = None
    status: Status = ""

    @model_validator(mode="after")
    def _check(self) -> Ingredient:
        if stray := sorted(self.values.keys() - {*self.tricks}):
            raise ValueError(f"values of {', '.join(stray)}, which the ingredient does not have")
        if (self.published is None) != (self.status == ""):
            raise ValueError("a published figure has a status, and nothing else has")
        return self

    @property
    def arm(self) -> str:
        """As designs take it."""
        return "+".join(sorted(self.tricks))


class Preset(Strict):
    """A published recipe.

    design: the one that its figures are of, or that it was meant for. metric: what the figures are, in points, larger
    is better. baseline, together: the score without and with all ingredients, where those have none. n_runs: runs
    behind each figure. sd: between runs. selection: which weights the figures are of. base: settings that are not
    ablated, which the experiment replaces by its own. left_out: ingredients that no trick here is, with the reason.
    """

    name: str
    title: str
    source: str
    design: Literal["cumulative", "leave_one_out", "one_at_a_time"]
    model: str
    data: str
    metric: str
    baseline: float | None = None
    status: Status = ""
    n_runs: Annotated[int, Field(ge=1)] | None = None
    sd: Annotated[float, Field(gt=0)] | None = None
    together: float | None = None
    together_status: Status = ""
    selection: Literal["best epoch", "last epoch", "median of the last 10 epochs", "not said"]
    base: dict[str, str]
    notes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    left_out: dict[str, str] = Field(default_factory=dict)
    ingredients: Annotated[tuple[Ingredient, ...], Field(strict=False, min_length=2)]

    @model_validator(mode="after")
    def _check(self) -> Preset:
        tricks = [trick for i in self.ingredients for trick in i.tricks]
        if self.design != "one_at_a_time" and len({*tricks}) < len(tricks):
            raise ValueError("a trick is in two ingredients")
        return self

    @property
    def steps(self) -> list[float | None]:
        """What each ingredient gained where it was published: over the stack before it, or over the baseline."""
        out: list[float | None] = []
        before = self.baseline
        for i in self.ingredients:
            known = before is not None and i.published is not None
            out.append(i.published - before if known else None)  # type: ignore[operator]
            before = i.published if self.design == "cumulative" else before
        return out

    @property
    def caution(self) -> str:
        """What must be known before its figures are read beside ours, in a sentence or two."""
        runs = {None: "an unknown number of runs", 1: "one run"}.get(self.n_runs, f"{self.n_runs} runs")
        spread = f", standard deviation {self.sd:g}" if self.sd else ""
        weights = {
            "last epoch": "the last weights, as ours",
            "not said": "weights that the source does not say; ours are the last",
        }.get(self.selection, f"the {self.selection}; ours are of the last weights")
        return f"{self.metric}, {self.model} on {self.data}: {runs} for each figure{spread}, of {weights}."


@dataclass
class Expanded:
    """Tricks as designs take them, the values that presets bring, and the presets by name."""

    tricks: list[str] = field(default_factory=list)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    presets: dict[str, Preset] = field(default_factory=dict)


def preset_names() -> list[str]:
    """The names of all presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def is_preset(word: str) -> bool:
    """Whether a word names a preset in the place of tricks."""
    return word.startswith(PREFIX)


@lru_cache
def preset(word: str) -> Preset:
    """The preset of a name, or of "preset:NAME".

    Raises:
        UserError: there is none.
        pydantic.ValidationError: its file lacks something, or has what no preset has.
    """
    name, known = word.removeprefix(PREFIX), preset_names()
    if name not in known:
        raise UserError(f"unknown preset '{name}'{did_you_mean(name, known)} Known: {', '.join(known)}")
    return TypeAdapter(Preset).validate_python({"name": name, **tomllib.loads(text_of(name))})


def text_of(name: str) -> str:
    """The text of a preset's file."""
    return (FOLDER / f"{name}.toml").read_text(encoding="utf-8")


def check(words: Iterable[str]) -> None:
    """Refuse words that name presets which there are not; raises as `preset`."""
    for word in words:
        if is_preset(word):
            preset(word)


def expand(words: Sequence[str], recipe: Recipe, data: Data, given: Mapping[str, Any] | None = None) -> Expanded:
    """Words that name tricks or presets, with each preset's ingredients in its place, in its order.

    Args:
        words: as typed: tricks, combinations joined by "+", and "preset:NAME".
        recipe: of the experiment, of which rules take their multiples.
        data: of the experiment.
        given: values by trick and hyperparameter that were given otherwise, which no rule is asked for.

    Raises:
        UserError: as `preset` and `Rule.value`; or two presets have different values for one trick.
    """
    out = Expanded()
    for word in words:
        if not is_preset(word):
            out.tricks.append(word)
            continue
        found = preset(word)
        out.presets[found.name] = found
        for ingredient in found.ingredients:
            out.tricks.append(ingredient.arm)
            for trick in ingredient.tricks:
                own = _values(trick, ingredient, recipe, data, (given or {}).get(trick, {}))
                before = out.values.setdefault(trick, own)
                if before != own:
                    raise UserError(
                        f"{', '.join(PREFIX + name for name in out.presets)}: they have different values of {trick} "
                        f"({before} and {own}); take them in studies of their own, or set all of them with --set"
                    )
    out.tricks = list(dict.fromkeys(out.tricks))
    return out


def _values(trick: str, ingredient: Ingredient, recipe: Recipe, data: Data, given: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in ingredient.values.get(trick, {}).items():
        if key not in given:
            out[key] = value.value(recipe, data, f"{trick}.{key}") if isinstance(value, Rule) else value
    return out
