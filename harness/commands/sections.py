"""`[command]`, `[metrics]`, `[curve]` and `[cost]`: what is run, and where its numbers are; strict TOML."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from harness.commands.words import AT_RUN, FLAGS, Style, names_in
from harness.errors import UserError
from harness.readers.names import direction, is_share, split_of
from harness.store.schema import MetricSpec
from harness.values import Strict, plain

FlagValue = Annotated[bool | int | float | str | list[Any], BeforeValidator(plain)]
Texts = Annotated[tuple[str, ...], Field(strict=False)]

STRIDE_OF_CARDS = 1000
"""Between the seeds of runs on several cards: programs add the rank to the seed, so neighbours would share streams."""

_OPERATORS = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "2>&1", "&>"})


def _words(value: Any) -> Any:
    """A command as its words; a text is split as a shell splits it, and no shell runs."""
    if not isinstance(value, str):
        return value
    try:
        found = shlex.split(value)
    except ValueError as error:
        raise ValueError(f"it cannot be split into words ({error}); write a list of words") from None
    for text in found:
        if re.search(r"\$[A-Za-z{(]|`", text):
            raise ValueError(f"'{text}' needs a shell, and none runs; put it into a script, or into env")
    return found


class Command(Strict):
    """`[command]`: the words of a training command, and what it needs.

    `run` is a list of words, or a text that is split into some. `cwd`, `data` and `python` are relative to the
    experiment file. `data` is a file or folder whose content is part of what a run is. `code` are patterns of the files
    that are the program, which a git checkout need not say. `flags` are merged with those of tricks and come where
    {flags} stands. {seed} is `first_seed` plus `seed_stride` times the block. `resume` are words that are added where
    an earlier attempt left the files in them, or one that `checkpoint` matches. `keep` are patterns of what stays of
    {out} when a run has ended well; everything by default. `probe` are the flags with which `harness check` shortens
    runs.
    """

    run: Annotated[tuple[str, ...], BeforeValidator(_words), Field(strict=False, min_length=1)]
    cwd: str = "."
    data: str | None = None
    code: Texts = ()
    python: str | None = None
    flags: dict[str, FlagValue] = Field(default_factory=dict)
    style: Style = "space"
    env: dict[str, str] = Field(default_factory=dict)
    first_seed: Annotated[int, Field(ge=0)] = 0
    seed_stride: Annotated[int | None, Field(ge=1)] = None
    resume: Texts = ()
    checkpoint: str | None = None
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    timeout: str | None = None
    keep: Texts = ()
    probe: dict[str, FlagValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Command:
        for text in self.run:
            if text in _OPERATORS or text == "~" or text.startswith("~/"):
                raise ValueError(f"run has '{text}', which only a shell understands, and none runs; use a script")
        try:
            used = {n for t in self._templates for n in names_in(t, "command")}
        except UserError as error:
            raise ValueError(str(error)) from None
        if self.flags and FLAGS not in used:
            raise ValueError('flags are given, and {flags} is nowhere in run; add "{flags}" where they belong')
        if any(FLAGS in names_in(t, "command") and t != "{flags}" for t in self.run):
            raise ValueError("{flags} is a word of its own in run, since it becomes several")
        if self.timeout is not None:
            seconds_of(self.timeout)
        return self

    @property
    def _templates(self) -> list[str]:
        listed = [v for value in self.flags.values() for v in (value if isinstance(value, list) else [value])]
        return [*self.run, *self.resume, *self.env.values(), *(v for v in listed if isinstance(v, str))]

    @property
    def seconds(self) -> float | None:
        """After which a run is ended; None for never."""
        return None if self.timeout is None else seconds_of(self.timeout)

    @property
    def stride(self) -> int:
        """Between the seeds of neighbouring blocks."""
        return self.seed_stride or (STRIDE_OF_CARDS if self.gpus > 1 else 1)


def seconds_of(text: str) -> float:
    """Seconds of a time such as "90s", "20m", "1.5h" or "2d".

    Raises:
        ValueError: not of that form.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd])", text)
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else 0.0
    if not seconds:
        raise ValueError(f"timeout {text}: write a number and s, m, h or d, for example 2h")
    return seconds


class Score(Strict):
    """`[metrics.NAME]`: where one score of a run is, and what it is.

    In a `file` of {out}: the `column` of a table (the last row, or the one that `row` names), or the `key` of a JSON
    file. Or what a regular expression finds last in what the command prints (`stdout`), in its group "value" or first
    one. `unit`, `better` and `split` may be left out where the name says them.
    """

    file: str | None = None
    column: str | None = None
    key: str | None = None
    stdout: str | None = None
    row: str = "last"
    unit: Literal["percent", "fraction", "none"] | None = None
    better: Literal["higher", "lower"] | None = None
    split: Literal["test", "val", "train", "unknown"] | None = None
    margin: PositiveFloat | None = None

    @model_validator(mode="after")
    def _check(self) -> Score:
        if self.stdout is not None:
            if self.file or self.column or self.key:
                raise ValueError("stdout is what the command prints, and file, column and key belong to a file")
            try:
                groups = re.compile(self.stdout).groups
            except re.error as error:
                raise ValueError(f"stdout is no regular expression: {error}") from None
            if not groups:
                raise ValueError("stdout needs a group around the number: 'acc: (?P<value>[0-9.]+)'")
        elif self.file is None or (self.column is None) == (self.key is None):
            raise ValueError("a score has a file with a column or a key, or stdout")
        how, _, column = self.row.partition(":")
        if (how != "last" or column) and (how not in ("max", "min") or not column):
            raise ValueError(f"row = {self.row}: it is last, max:COLUMN or min:COLUMN")
        return self

    @property
    def names(self) -> list[str]:
        """What the score is called in the files."""
        return [name for name in (self.column, self.key) if name]

    def declared(self, name: str) -> MetricSpec:
        """What a study declares of it.

        Raises:
            UserError: its names do not say its unit or its direction.
        """
        known = [name, *self.names]
        better = self.better or next((d for n in known if (d := direction(n))), None)
        if better is None:
            raise UserError(f'metrics.{name}: is higher or lower better? Add better = "higher" or "lower"')
        if self.unit is None and any(map(is_share, known)):
            raise UserError(f'metrics.{name}: in which unit is it? Add unit = "percent" or "fraction"')
        splits = [s for n in known if (s := split_of(n)) != "unknown"]
        return MetricSpec(
            unit=self.unit or "none",
            better=better,
            split=self.split or (splits[0] if splits else "unknown"),
            margin=self.margin,
        )


class Curve(Strict):
    """`[curve]`: a table of {out}, or the list under `key` of a JSON file, with a row for each epoch or step.

    A run whose last `step` is below `last` has failed: it ended early, though it said that all is well.
    """

    file: str
    step: str = "epoch"
    key: str | None = None
    last: Annotated[float, Field(ge=0)] | None = None


class Cost(Strict):
    """`[cost]`: what the program says of its training time, as `file` (by default that of the first score) says it."""

    seconds: str
    file: str | None = None


NAMES = (*AT_RUN, FLAGS)
"""What no hyperparameter may be called: placeholders of every command."""
