"""What a search may change and how far: ranges of cards, recipe and experiment file; not how values are chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, overload

import optuna
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from harness.commands.kinds import AnyExperiment
from harness.errors import UserError, did_you_mean
from harness.experiment import Arm, Experiment, Recipe
from harness.study.kinds import trick_of, with_base
from harness.tricks import registry
from harness.tricks.contract import Choice, DataInfo, NotApplicable, Search, Trick
from harness.tricks.stack import Stack
from harness.tuning.commands import settle_command
from harness.tuning.values import DIGITS, Params, Value
from harness.values import SearchRange, explain

RECIPE = "recipe"

AROUND = {"lr": (0.1, 10.0), "weight_decay": (0.03, 30.0)}
"""The recipe's values that are searched unless told otherwise: from and to, in multiples of the recipe's own value."""

WITHOUT_DECAY = (0.0, 0.01)
"""Where to look for a weight decay when the recipe has none; linear, because the recipe's 0 must be inside."""


def space_of(
    experiment: Experiment, tricks: Sequence[Trick], nuisance: Sequence[str] | None, data: DataInfo
) -> tuple[list[Value], list[str]]:
    """The values that a search of one arm may change, and sentences about them that a reader must know.

    Args:
        experiment: with all overrides; its `search` ranges take the place of the cards' and add to them.
        tricks: of the arm, with the experiment's hyperparameters.
        nuisance: numbers of the recipe to search beside those of the tricks; None for the rate, the decay and
            whatever of the recipe has a range in the experiment.
        data: what tricks that change the recipe want to know.

    Raises:
        UserError: a name, a range or an end of a range that is not possible; one line for each range.
    """
    check_ranges(experiment)
    notes: list[str] = []
    found = []
    for name in _nuisance(experiment, nuisance):
        value = _recipe_value(experiment, name)
        if _replaced(value, experiment.recipe, tricks, data):
            arm = "+".join(t.name for t in tricks)
            notes.append(f"{value.name} is not searched for {arm}, which sets its own.")
        else:
            found.append(value)
    found += [value for trick in tricks for value in _trick_values(experiment, trick)]
    space = [_with_default(value, notes) for value in found]
    return [v for v in space if v.levels > 1], notes


def check_ranges(experiment: Experiment) -> None:
    """Refuse ranges of the experiment that belong to nothing, or that leave the domain of what they belong to.

    Raises:
        UserError: one line for each.
    """
    wrong = []
    for name, wanted in experiment.search.items():
        try:
            _ranged(experiment, name, wanted)
        except UserError as error:
            wrong += str(error).splitlines()
    if wrong:
        raise UserError("\n".join(wrong))


def suggest(space: Iterable[Value], trial: optuna.Trial) -> dict[str, Any]:
    """The values of a trial. The default trial leaves out those whose default no range holds."""
    default = trial.user_attrs.get("default", False)
    return {v.name: v.suggest(trial) for v in space if v.holds_default or not default}


def defaults(space: Iterable[Value]) -> dict[str, Any]:
    """The values of the default trial."""
    return {v.name: v.default for v in space if v.holds_default}


def picked(space: Iterable[Value], params: Params) -> dict[str, Any]:
    """The values of a trial as its sampler would have picked them."""
    return {v.picked_as: v.picked(params[v.name]) for v in space if v.name in params}


@overload
def settle(experiment: Experiment, names: Sequence[str], params: Params) -> tuple[Experiment, Arm]: ...
@overload
def settle(experiment: AnyExperiment, names: Sequence[str], params: Params) -> tuple[AnyExperiment, Arm]: ...
def settle(experiment: AnyExperiment, names: Sequence[str], params: Params) -> tuple[AnyExperiment, Arm]:
    """The experiment with the given values, and the arm of the named tricks in it.

    Raises:
        UserError: the recipe or a trick does not take these values together.
    """
    if not isinstance(experiment, Experiment):
        return settle_command(experiment, names, params)
    tables = experiment.model_dump(exclude_unset=True)
    for name, value in params.items():
        section, *nested, key = name.split(".")
        target = tables[RECIPE] if section == RECIPE else tables.setdefault("tricks", {}).setdefault(section, {})
        for part in nested:
            target = target.setdefault(part, {})
        target[key] = value
    try:
        changed = Experiment.model_validate(tables)
    except ValidationError as error:
        raise UserError("; ".join(explain(error, Experiment, "these values"))) from None
    return changed, with_base(changed, Arm(tricks=tuple(trick_of(changed, n).spec() for n in names)))


def _nuisance(experiment: Experiment, asked: Sequence[str] | None) -> list[str]:
    """Names inside the recipe, without "recipe."."""
    if asked is not None:
        return list(dict.fromkeys(asked))
    ranged = [n.removeprefix(f"{RECIPE}.") for n in experiment.search if n.startswith(f"{RECIPE}.")]
    return list(dict.fromkeys([*AROUND, *ranged]))


def _recipe_value(experiment: Experiment, key: str) -> Value:
    name = f"{RECIPE}.{key}"
    if name in experiment.search:
        return _ranged(experiment, name, experiment.search[name])
    _, own = _field(experiment, name)
    if key not in AROUND:
        raise UserError(
            f"--nuisance {key}: nothing says where to look for it; give the experiment file "
            f'[search] with "{name}" = [low, high], [low, high, "log"] or [low, high, "log1m"]'
        )
    if own == 0:
        return Value(name, own, *WITHOUT_DECAY)
    low, high = (float(f"{own * factor:.{DIGITS}g}") for factor in AROUND[key])
    return Value(name, own, low, high, log=True)


def _trick_values(experiment: Experiment, trick: Trick) -> list[Value]:
    """What the card says may be searched, and what the experiment has a range for."""
    values = []
    for key, field in type(trick).model_fields.items():
        name = f"{trick.name}.{key}"
        search = next((m for m in field.metadata if isinstance(m, Search)), None)
        choice = next((m for m in field.metadata if isinstance(m, Choice)), None)
        default = getattr(trick, key)
        if name in experiment.search:
            values.append(_ranged(experiment, name, experiment.search[name]))
        elif search is not None:
            integer = _number(field.annotation) is int
            values.append(Value(name, default, search.low, search.high, search.log, integer, search.log1m))
        elif choice is not None:
            values.append(Value(name, default, choices=tuple(choice)))
    return values


def _ranged(experiment: Experiment, name: str, wanted: SearchRange) -> Value:
    """A value with the range that the experiment gives it, checked against the value's own domain."""
    field, default = _field(experiment, name)
    kind = _number(field.annotation)
    if name.startswith(f"{RECIPE}.") and kind is None:
        raise UserError(f"search.{name}: of the recipe, a search changes numbers only")
    if wanted.choices is not None:
        for option in wanted.choices:
            _check_domain(name, field, option)
        return Value(name, default, choices=wanted.choices)
    if kind is None:
        raise UserError(f"search.{name}: is not a number; write {{choices = [...]}} instead of a range")
    low, high = wanted.low or 0.0, wanted.high or 0.0  # None belongs to choices only
    for end in (low, high):
        _check_domain(name, field, int(end) if kind is int and end.is_integer() else end)
    return Value(name, default, low, high, wanted.log, kind is int, wanted.log1m)


def _field(experiment: Experiment, name: str) -> tuple[FieldInfo, Any]:
    """The declaration of what a name stands for, and its value in the experiment.

    Raises:
        UserError: it stands for nothing.
    """
    section, _, rest = name.partition(".")
    owner: BaseModel = experiment.recipe
    if section != RECIPE:
        registry.check(section)
        owner = registry.make(section, experiment.tricks.get(section, {}))
    *nested, key = rest.split(".")
    for part in nested:
        inner = getattr(owner, part, None)
        if not isinstance(inner, BaseModel):
            raise UserError(f"search.{name}: {section} has no '{part}' with values of its own")
        owner = inner
    known = type(owner).model_fields
    if key not in known:
        raise UserError(f"search.{name}: unknown value{did_you_mean(key, known)} Known: {', '.join(known)}")
    return known[key], getattr(owner, key)


def _check_domain(name: str, field: FieldInfo, value: Any) -> None:
    domain: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    try:
        TypeAdapter(domain, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError as error:
        rule = error.errors()[0]["msg"]
        raise UserError(f"search.{name}: {value!r} is not possible: {rule[:1].lower() + rule[1:]}") from None


def _number(annotation: Any) -> type | None:
    """`int` or `float` where an annotation is one of them, perhaps with constraints or None; else None."""
    if get_origin(annotation) is Annotated:
        return _number(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        kinds = {_number(a) for a in get_args(annotation) if a is not NoneType}
        return kinds.pop() if len(kinds) == 1 else None
    return annotation if annotation in (int, float) else None


def _replaced(value: Value, recipe: Recipe, tricks: Sequence[Trick], data: DataInfo) -> bool:
    """Whether the tricks set a value of the recipe themselves, so that searching it would change nothing."""
    path = value.name.split(".")[1:]

    def effective(share: float) -> Any:
        changed: Any = recipe.model_copy(update={path[0]: value.at(share)})
        changed = Stack(tricks).fold("recipe", changed, data)
        return getattr(changed, path[0])

    if len(path) > 1:
        return False  # no trick replaces a single value of the nested augmentation
    try:
        return bool(effective(0.0) == effective(1.0))
    except NotApplicable:
        return False


def _with_default(value: Value, notes: list[str]) -> Value:
    """The value with a range that holds its default where that is possible; trial 0 is always the default."""
    default = value.default
    if value.holds_default:
        return value
    if value.choices:
        notes.append(f"{value.name}: the default {default} is tried beside the choices given.")
        return replace(value, choices=(default, *value.choices))
    if default is None or (value.log and default <= 0) or (value.log1m and default >= 1):
        notes.append(f"{value.name}: its default, {default}, is not in the range, so only trial 0 has it.")
        return value
    notes.append(f"{value.name}: the range is widened to hold the default, {default:g}.")
    return replace(value, low=min(value.low, default), high=max(value.high, default))
