"""Values that people write, before they mean anything: what may be one, and what is to blame when one is wrong.

Nothing here imports torch.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.errors import UserError, did_you_mean

LARGEST = 2**53
"""Whole numbers up to here are exact in every reader of JSON, and nothing that is counted here comes near."""

MOST_SEEDS = 10_000
"""Of a study. Far fewer find any effect that matters."""

SHOWN = 100
"""Characters of a value that an error repeats."""

Keys = tuple[str, ...]
"""Where a value stands: the keys that lead to it, from the outermost."""


def plain(value: Any) -> Any:
    """A value as it may enter a model: its numbers are finite and its text can be printed; -0.0 is 0.0.

    Tables are left as they are: the models and annotations of what they hold look at that one by one.

    Raises:
        ValueError: the value, or one in a list of values, may not enter.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("input should be a finite number")
        return value + 0.0
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError("whole numbers go up to 2^53")
    if isinstance(value, str) and not readable(value):
        raise ValueError("text may not hold control characters")
    if isinstance(value, list):
        return [plain(v) for v in value]
    if type(value) is tuple:
        return tuple(plain(v) for v in value)
    return value


def readable(text: str) -> bool:
    """Whether text can be printed and stored: valid Unicode, and no control characters but tabs and newlines."""
    return all((c in "\t\n" or ord(c) >= 32) and not (127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000) for c in text)


@dataclass(frozen=True)
class Added:
    """Marks an option that came after its model had been hashed for the first time.

    While it holds `neutral`, the value that behaves as the code did before the option existed, it is left
    out of the canonical JSON, so old run ids stay. `neutral` never changes, even when the default does.
    """

    neutral: Any


SCALES: Mapping[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "linear": (float, float),
    "log": (math.log, math.exp),
    "log1m": (lambda x: -math.log1p(-x), lambda u: -math.expm1(-u)),
}
"""How far apart two values of a range are, by the scale's name: a map along which values are even, and its inverse.

"log1m" is for what acts by its distance to one, such as the decay of a mean that remembers 1 / (1 - x) steps.
"""

SCALE_WORDS = {"linear": "linear", "log": "log", "log1m": "log(1 - x)"}
"""Each scale as a reader is told of it."""


def scale_of(log: bool, log1m: bool) -> str:
    """The name of a scale that is stored as two switches, of which at most one is on."""
    return "log1m" if log1m else "log" if log else "linear"


class Strict(BaseModel):
    """Base of everything that is parsed: unknown keys, wrong types and numbers that are not finite are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return plain(value)


class SearchRange(Strict):
    """Where a search may look for a value: from `low` to `high`, on a log scale if `log`, or among `choices`.

    With `log1m` the scale is the logarithm of 1 - x, for what acts by its distance to one. A file may also write a
    range as [low, high], [low, high, "log"] or [low, high, "log1m"].
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    log1m: bool = False
    choices: Annotated[tuple[bool | int | float | str, ...], Field(strict=False, min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _unfold(cls, value: Any) -> Any:
        match value:
            case [low, high]:
                return {"low": low, "high": high}
            case [low, high, ("log" | "log1m") as scale]:
                return {"low": low, "high": high, scale: True}
            case dict() | SearchRange():
                return value
        raise ValueError('a range is [low, high], [low, high, "log"], [low, high, "log1m"] or {choices = [...]}')

    @model_validator(mode="after")
    def _check(self) -> SearchRange:
        if self.choices is not None:
            if (self.low, self.high, self.log, self.log1m) != (None, None, False, False):
                raise ValueError("choices have neither ends nor a scale")
            if len(set(map(repr, self.choices))) < len(self.choices):
                raise ValueError(f"a choice is named twice: {', '.join(map(str, self.choices))}")
            return self
        if self.low is None or self.high is None:
            raise ValueError("a range needs low and high, or choices")
        if self.low >= self.high:
            raise ValueError(f"low must be below high, and {self.low:g} is not below {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a log scale needs low > 0, and it is {self.low:g}")
        if self.log and self.log1m:
            raise ValueError("log and log1m are two scales; choose one")
        if self.log1m and self.high >= 1:
            raise ValueError(f"the scale log1m needs high < 1, and it is {self.high:g}")
        return self


def canonical(model: BaseModel) -> dict[str, Any]:
    """The fields that identify `model`, as plain JSON values (see `Added`)."""
    values = model.model_dump(mode="json")
    out = {}
    for name, declared in type(model).model_fields.items():
        value = getattr(model, name)
        if any(isinstance(m, Added) and value == m.neutral for m in declared.metadata):
            continue
        out[name] = canonical(value) if isinstance(value, BaseModel) else values[name]
    return out


def read_toml(text: str, where: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        UserError: it is none; `where` begins the sentence.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UserError(f"{where}: not valid TOML: nested too deeply") from None
    except ValueError as error:  # also for a whole number of more digits than Python reads
        raise UserError(f"{where}: not valid TOML: {error}") from None


def read_value(text: str, where: str) -> Any:
    """A typed value as TOML reads it; what is no TOML is a string, as a bare word is.

    Raises:
        UserError: it is a number or a nesting that nothing can read, or several lines; `where` begins the sentence.
    """
    if "\n" in text or "\r" in text:
        raise UserError(f"{where}: a value is one line")
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except RecursionError:
        raise UserError(f"{where}: nested too deeply") from None
    except ValueError:
        raise UserError(f"{where}: whole numbers go up to 2^53") from None


def read_values(text: str, where: str) -> list[Any]:
    """Typed values separated by commas, each as `read_value` reads it, and none twice; a list may hold commas itself.

    Raises:
        UserError: as in `read_value`.
    """
    values = read_value(f"[{text}]", where)
    if not isinstance(values, list):
        values = [read_value(part.strip(), where) for part in text.split(",") if part.strip()]
    told = [(isinstance(v, bool), v) for v in values]  # since True == 1
    return [v for i, v in enumerate(values) if told[i] not in told[:i]]


def shown(value: Any) -> str:
    """A value for an error: on one line, and cut where it is very long."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


@dataclass(frozen=True, eq=False)
class Origins:
    """Where the values of an experiment came from. It is no part of an experiment: all origins are equal.

    `file` holds what no option gave. `options` are the options that gave a value, as they were typed, by its keys.
    """

    file: str = ""
    options: Mapping[Keys, str] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origins)

    __hash__ = object.__hash__

    def given(self, options: Mapping[Keys, str]) -> Origins:
        """The same with values that further options gave."""
        return replace(self, options={**self.options, **options})

    def blame(self, keys: Keys, value: str) -> str:
        """The beginning of a sentence about a value: where it came from, its keys, and " = value" where told."""
        for length in range(len(keys), 0, -1):
            option = self.options.get(keys[:length])
            if option is not None:
                return option if length == len(keys) else f"{option}: {'.'.join(keys)}{value}"
        inside = [option for at, option in self.options.items() if at[: len(keys)] == keys]
        said = f"{self.file} with {' '.join(inside)}" if inside else self.file
        return ": ".join(filter(None, [said, f"{'.'.join(keys)}{value}"]))


def explain(error: ValidationError, root: type[BaseModel], where: str | Origins, at: Keys = ()) -> list[str]:
    """One line for each thing wrong: where the value came from, its keys, the value, and the rule.

    Args:
        error: of pydantic.
        root: the model that was validated.
        where: what was read, or where the values came from.
        at: the keys that lead to `root`.
    """
    origins = where if isinstance(where, Origins) else Origins(where)
    lines = []
    for item in error.errors(include_url=False):
        loc = [str(part) for part in item["loc"] if not str(part).startswith(("function-", "constrained-", "tuple["))]
        value = "" if isinstance(item["input"], dict | BaseModel) else f" = {shown(item['input'])}"
        if item["type"] == "extra_forbidden":
            known = _fields_at(root, loc[:-1])
            value, rule = "", f"unknown key{did_you_mean(loc[-1], known)} Allowed: {', '.join(known)}"
        elif item["type"] == "missing":
            value, rule = "", "missing, and it has no default"
        else:
            rule = item["msg"].removeprefix("Value error, ")
            rule = rule[:1].lower() + rule[1:]
        lines.append(f"{origins.blame((*at, *loc), value)}: {rule}")
    return lines


def _fields_at(root: type[BaseModel], path: list[str]) -> list[str]:
    """Field names of the (nested) model at `path`."""
    model = root
    for part in path:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def whole(text: str) -> int | None:
    """A whole number in plain digits, or None: Python would also read those of other scripts, and has limits."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


SEEDS_RULE = f"a number of seeds from 1 to {MOST_SEEDS}, or a range such as 10:20, which is seeds 10 to 19"


def read_seeds(value: Any) -> range:
    """The seeds that somebody asks for: a number n is the seeds 0 to n - 1, and "a:b" is a to b - 1.

    Raises:
        ValueError: it is neither, or these are no seeds or more than `MOST_SEEDS`; says the rule.
    """
    first, colon, last = str(value).rpartition(":")
    start, stop = whole(first) if colon else 0, whole(last)
    known = isinstance(value, int | str) and start is not None and stop is not None
    if not known or not 1 <= len(range(start or 0, stop or 0)) <= MOST_SEEDS:
        raise ValueError(SEEDS_RULE)
    return range(start or 0, stop or 0)


def _seeds(value: Any) -> Any:
    read_seeds(value)
    return value


Seeds = Annotated[int | str, BeforeValidator(_seeds)]
"""What `read_seeds` reads, as it was written."""


def seeds_word(seeds: Sequence[int]) -> int | str | None:
    """What `read_seeds` reads as these seeds; None where they are no unbroken range."""
    if not seeds or tuple(seeds) != tuple(range(seeds[0], seeds[-1] + 1)):
        return None
    return f"{seeds[0]}:{seeds[-1] + 1}" if seeds[0] else len(seeds)


def parted(text: str) -> list[str]:
    """Labels of arms that commas part; commas inside parentheses belong to the label of one arm."""
    return [label.strip() for label in re.split(r",(?![^(]*\))", text) if label.strip()]


def merged(old: Any, new: Any) -> Any:
    """Tables over tables, key by key; any other value replaces what was there."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
