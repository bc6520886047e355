"""Experiments and runs that are commands, as values: frozen, validated and hashed like those of the loop."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, field_validator

from harness.commands.sections import NAMES, Command, Cost, Curve, Score
from harness.commands.words import (
    AT_RUN,
    FLAGS,
    fill,
    fill_value,
    flag_words,
    hidden,
    hidden_values,
    is_secret,
    names_in,
)
from harness.errors import UserError, did_you_mean
from harness.experiment import Arm, Asked, Plain, Study, TrickSpec, flat_ranges
from harness.metrics import COLUMNS
from harness.store.schema import MetricSpec
from harness.tricks.kinds import KINDS, TrickKind
from harness.values import Origins, SearchRange, Strict, canonical, explain, merged

VERSION = 1
"""Of what a command's spec means. It is bumped when the same experiment starts another command than before."""

RESERVED = ("flags", "env", "summary", "kind")
"""What a trick's table holds beside its hyperparameters."""


class CommandQuestion(Asked):
    """`[experiment]` of commands: `metric` is one of `[metrics]`, and may be left out where there is one."""

    metric: str = ""


class CommandSpec(Strict):
    """One arm trained with one seed by a command: everything that decides the resulting numbers, and nothing else.

    `run` and `env` hold the values of flags and hyperparameters; placeholders of what only a run has, such as {out},
    stay. Secret values are hidden. `cwd` is relative to the root of the code. `number` is what {seed} is.
    """

    kind: Literal["command"] = "command"
    version: int = VERSION
    run: Annotated[tuple[str, ...], Field(strict=False)]
    env: dict[str, str]
    cwd: str
    gpus: int
    arm: Arm
    seed: Annotated[int, Field(ge=0)]
    number: int

    @property
    def canonical_json(self) -> str:
        """Sorted, compact JSON of all fields."""
        return json.dumps(canonical(self), sort_keys=True, separators=(",", ":"))

    @property
    def run_id(self) -> str:
        """16 hex digits that name this run for ever."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Switch:
    """A trick that is flags and variables: what it sets, with the values of its hyperparameters."""

    name: str
    params: Mapping[str, Any]
    flags: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    kind: TrickKind = "addition"
    cost: float = 1.0

    def spec(self) -> TrickSpec:
        """The trick as it enters a run."""
        return TrickSpec(name=self.name, version=VERSION, params=dict(self.params))


def clashes(switches: Sequence[Switch]) -> list[str]:
    """Every reason why these cannot be one arm: two of them give one flag, or one variable, different values."""
    said = []
    for what, tables in (("flag", [s.flags for s in switches]), ("variable", [s.env for s in switches])):
        for key in dict.fromkeys(k for table in tables for k in table):
            owners = [(s.name, t[key]) for s, t in zip(switches, tables, strict=True) if key in t]
            if len({repr(value) for _, value in owners}) > 1:
                said.append(f"{' and '.join(name for name, _ in owners)} each want to own the {what} {key}")
    return said


class CommandExperiment(Strict):
    """One question whose runs are commands: everything that the TOML file says.

    `tricks` holds for each its flags, variables and hyperparameters. `search` holds ranges by name, as "mixup.alpha" or
    "flags.--lr"; they change no run.
    """

    experiment: CommandQuestion
    command: Command
    metrics: Annotated[dict[str, Score], Field(min_length=1)]
    curve: Curve | None = None
    cost: Cost | None = None
    study: Study = Study()
    tricks: dict[str, dict[str, Plain]] = Field(default_factory=dict)
    search: dict[str, SearchRange] = Field(default_factory=dict)
    _origins: Origins = PrivateAttr(default_factory=Origins)
    _folder: Path = PrivateAttr(default_factory=Path)

    @field_validator("search", mode="before")
    @classmethod
    def _flatten(cls, value: Any) -> Any:
        return flat_ranges(value) if isinstance(value, dict) else value

    @classmethod
    def read(cls, tables: Mapping[str, Any], origins: Origins) -> CommandExperiment:
        """The experiment that tables say.

        Raises:
            UserError: an unknown key, a wrong type or an impossible value; one line for each, which blames the origin.
        """
        try:
            made = cls.model_validate(tables)
        except ValidationError as error:
            raise UserError("\n".join(explain(error, cls, origins))) from None
        made._origins, made._folder = origins, Path(origins.file).absolute().parent
        made._check()
        return made

    def _check(self) -> None:
        for name in self.tricks:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise UserError(
                    f"{self.file}: tricks.{name}: a name is letters, digits and _, and begins with a letter"
                )
            self.switch(name)
        if self.declared[self.metric_name].split == "train":
            raise UserError(
                f"{self.file}: experiment.metric = {self.metric_name} is of training data; judge another one"
            )
        words = [*self.baseline.run, *self.baseline.env.values()]
        if not any("seed" in names_in(text, "command") for text in words):
            raise UserError(
                f"{self.file}: [command] never uses {{seed}}: all runs would be one run. Put it into run, flags or env "
                '(a script that reads HARNESS_SEED says env = { HARNESS_SEED = "{seed}" }); a program that cannot be '
                "told its seed makes runs that do not pair, so add the option to it"
            )
        if any("data" in names_in(text, "command") for text in words) and self.command.data is None:
            raise UserError(f'{self.file}: [command] uses {{data}} and has no data; add data = "FOLDER"')

    @property
    def origins(self) -> Origins:
        """Where the values came from."""
        return self._origins

    @property
    def file(self) -> str:
        """The experiment file."""
        return self._origins.file

    def path(self, text: str) -> Path:
        """A path of the file: ~ is the home folder, and others are relative to the file."""
        return (self._folder / Path(text).expanduser()).resolve()

    @property
    def cwd(self) -> Path:
        """Where the command runs."""
        return self.path(self.command.cwd)

    @property
    def metric_name(self) -> str:
        """The metric that the question is about.

        Raises:
            UserError: it is none of `[metrics]`, or none is named and there are several.
        """
        asked, known = self.experiment.metric, list(self.metrics)
        if not asked and len(known) == 1:
            return known[0]
        if asked not in self.metrics:
            what = f"experiment.metric = {asked}: no such metric{did_you_mean(asked, known)}" if asked else (
                "experiment.metric is missing: several metrics are given."
            )  # fmt: skip
            raise UserError(f"{self.file}: {what} Known: {', '.join(known)}")
        return asked

    @property
    def declared(self) -> dict[str, MetricSpec]:
        """What a study declares of each metric.

        Raises:
            UserError: the names do not say unit or direction.
        """
        try:
            return {name: score.declared(name) for name, score in self.metrics.items()}
        except UserError as error:
            raise UserError(f"{self.file}: {error}") from None

    @property
    def scores(self) -> dict[str, MetricSpec]:
        """Those that no column of the runs table holds."""
        return {name: spec for name, spec in self.declared.items() if name not in COLUMNS}

    @property
    def scope(self) -> str:
        """The workload in a few words: the program and its data."""
        words = self.command.run
        program = next((word for word in words if word.endswith((".py", ".sh"))), words[0])
        data = f" on {Path(self.command.data).name}" if self.command.data is not None else ""
        return f"{Path(program).name}{data}"

    @property
    def secrets(self) -> list[str]:
        """Values that must not be stored, the longest first."""
        c = self.command
        tables = [c.env, c.flags, *(t.get(part, {}) for t in self.tricks.values() for part in ("env", "flags"))]
        found = {str(v) for table in tables for k, v in table.items() if is_secret(k)}
        found |= {a.partition("=")[2] or a for a, b in zip(c.run, hidden(c.run), strict=True) if a != b}
        return sorted(filter(None, found), key=len, reverse=True)

    @property
    def baseline(self) -> CommandSpec:
        """The baseline's run with the first seed."""
        return self.spec(Arm(), 0)

    def switch(self, name: str, params: Mapping[str, Any] | None = None) -> Switch:
        """A trick with its hyperparameters, and over them those of one arm.

        Raises:
            UserError: unknown trick or hyperparameter, or a table that is wrong.
        """
        if name not in self.tricks:
            known = list(self.tricks)
            raise UserError(
                f"unknown trick '{name}'{did_you_mean(name, known)} {self.file} has {', '.join(known) or 'none'}; a "
                f"trick of a command is a table [tricks.{name}] there"
            )
        table, where = self.tricks[name], f"{self.file}: tricks.{name}"
        own = {k: v for k, v in table.items() if k not in RESERVED}
        params = params or {}
        for key in params:
            if key not in own:
                raise UserError(f"{where}: unknown value {key}{did_you_mean(key, own)} Known: {', '.join(own)}")
            if _sort(params[key]) != _sort(own[key]):
                raise UserError(f"{where}.{key} = {params[key]!r}: it must be {_sort(own[key])}, as {own[key]!r} is")
        values = {**own, **params}
        wrong = [k for k in values if k in NAMES or isinstance(values[k], dict)]
        if wrong:
            raise UserError(f"{where}.{wrong[0]}: a hyperparameter is a value, and no placeholder of every command")
        flags, env, kind = table.get("flags", {}), table.get("env", {}), table.get("kind", "addition")
        if not (isinstance(flags, dict) and isinstance(env, dict) and (flags or env)):
            raise UserError(f"{where}: a trick has flags or env, which are tables: what it adds to the command")
        if not all(isinstance(v, str) for v in env.values()):
            raise UserError(f"{where}.env: variables are texts; write them in quotes")
        if kind not in KINDS:
            raise UserError(f"{where}.kind = {kind}: unknown{did_you_mean(str(kind), KINDS)} Known: {', '.join(KINDS)}")
        filled = {key: fill_value(value, values, where, AT_RUN) for key, value in flags.items()}
        variables = {key: fill(value, values, where, AT_RUN) for key, value in env.items()}
        used = {n for v in (*_texts(flags), *env.values()) for n in names_in(v, where)}
        idle = [key for key in own if key not in used]
        if idle:
            raise UserError(f"{where}.{idle[0]}: no flag and no variable of the trick uses {{{idle[0]}}}")
        summary = str(table.get("summary", "")) or " ".join(flag_words(flags, self.command.style)) or ", ".join(env)
        return Switch(name, values, filled, variables, summary, kind)

    def template(self, arm: Arm) -> tuple[list[str], dict[str, str]]:
        """The words and variables of an arm's command, secrets and all; what only a run has stays a placeholder."""
        c = self.command
        switches = [self.switch(t.name, t.params) for t in arm.tricks]
        where = f"{self.file}: command"
        flags = {k: fill_value(v, {}, where, AT_RUN) for k, v in c.flags.items()}
        env = {k: fill(v, {}, where, AT_RUN) for k, v in c.env.items()}
        for switch in switches:
            flags, env = {**flags, **switch.flags}, {**env, **switch.env}
        words: list[str] = []
        for text in c.run:
            words += flag_words(flags, c.style) if text == f"{{{FLAGS}}}" else [fill(text, {}, where, AT_RUN)]
        return words, env

    def spec(self, arm: Arm, seed: int) -> CommandSpec:
        """The run that trains an arm with a seed."""
        words, env = self.template(arm)
        return CommandSpec(
            run=hidden(words),
            env=hidden_values(env),
            cwd=self.command.cwd if not Path(self.command.cwd).expanduser().is_absolute() else self.cwd.name,
            gpus=self.command.gpus,
            arm=arm,
            seed=seed,
            number=self.command.first_seed + self.command.stride * seed,
        )

    def probed(self) -> CommandExperiment:
        """The same with the flags that shorten its runs."""
        flags = merged(self.command.flags, self.command.probe)
        changes = {
            "command": self.command.model_copy(update={"flags": flags}),
            "curve": self.curve and self.curve.model_copy(update={"last": None}),
        }
        return self.model_copy(update=changes)


def _sort(value: Any) -> str:
    """What sort of value this is: a trick takes no other than the file has."""
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, int | float) else "a list" if isinstance(value, list | tuple) else "a text"


def _texts(flags: Mapping[str, Any]) -> list[str]:
    listed = [v for value in flags.values() for v in (value if isinstance(value, list) else [value])]
    return [v for v in listed if isinstance(v, str)]
