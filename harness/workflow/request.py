"""What a study is asked for. Each option stands here once: the command line, Python and the stored request follow."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from harness.errors import UserError, did_you_mean
from harness.experiment import MOST_SEEDS

MOST_WORKERS = 1024


class Flag(NamedTuple):
    """How the command line has an option.

    `names` are its flags, by default the field's name. `reproduces` says whether the command that reproduces the
    numbers has it: where rows lie and what is printed changes none. `default` is what leaves it out of that command.
    """

    names: tuple[str, ...] = ()
    reproduces: bool = True


def _told(*names: str) -> Flag:
    return Flag(names, reproduces=False)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A study that is asked for; the fields are the options of `harness ablate`, with its words and limits."""

    tricks: Annotated[
        tuple[str, ...] | None, Field(description="Trick names; join names with + to make one arm of them.")
    ] = None
    experiment: Annotated[
        str, Field(description="Bundled experiment name or .toml path."), Flag(("--experiment", "-e"))
    ] = "digits"
    design: Annotated[
        str | None,
        Field(
            description="Which arms to make: one_at_a_time, leave_one_out, cumulative, greedy, pairs, factorial, "
            "fractional, sweep (mixup.alpha=0.2,1) or aa (the baseline against itself)."
        ),
    ] = None
    seeds: Annotated[
        str | int | None, Field(description="Number of seeds (blocks), or auto: enough to find the margin.")
    ] = None
    until_decided: Annotated[
        bool, Field(description="Look at 5, 10, 20, ... seeds and stop when every arm is decided.")
    ] = False
    max_seeds: Annotated[
        int | None,
        Field(ge=5, le=MOST_SEEDS, description="Most seeds of --until-decided and --seeds auto; 20 by default."),
    ] = None
    max_arms: Annotated[
        int | None, Field(ge=2, le=10_000, description="Most arms of a factorial or fractional design.")
    ] = None
    cross: Annotated[
        str | None, Field(description="Repeat the study under conditions: data.label_noise=0,0.2,0.5.")
    ] = None
    margin: Annotated[float | None, Field(description="Smallest effect that matters, in points.")] = None
    budget: Annotated[str | None, Field(description="Most time for --seeds auto, for example 20m.")] = None
    settings: Annotated[
        tuple[str, ...],
        Field(description="TRICK.PARAM=VALUE, or recipe.epochs=5; may be repeated."),
        Flag(("--set",)),
    ] = ()
    device: Annotated[str, Field(description="auto, cpu or cuda.")] = "auto"
    cuda_graphs: Annotated[
        bool, Field(description="On a GPU, capture training steps and replay them, where the tricks allow it.")
    ] = False
    workers: Annotated[
        str | int | None,
        Field(
            description="Runs at a time (default: CPU cores, or what a GPU's memory holds; 1 for timings that "
            "compare), ray, or ray://HOST:PORT."
        ),
        _told(),
    ] = None
    threads: Annotated[int, Field(ge=1, le=1024, description="CPU threads of each run; part of the fingerprint.")] = 1
    results: Annotated[Path, Field(description="Folder of all studies' rows."), _told()] = Path("results")
    reports: Annotated[Path, Field(description="Folder of the HTML reports."), _told()] = Path("reports")
    data_root: Annotated[
        Path | None, Field(description="Folder of the data sets; default $HARNESS_DATA or ~/.cache/harness.")
    ] = None
    name: Annotated[str | None, Field(description="Name of the study; made from experiment and tricks by default.")] = (
        None
    )
    plugins: Annotated[
        tuple[Path, ...],
        Field(description="Python file with tricks of your own. Runs its code: use files you trust."),
        Flag(("--plugin",)),
    ] = ()
    verify: Annotated[bool, Field(description="Verify the tricks' contract at every step (slower)."), _told()] = False
    declared: bool = field(default=False, metadata={"internal": True})
    """The tricks are those that the experiment file declares (`harness run`)."""

    @property
    def asked(self) -> dict[str, Any]:
        """The request as plain values, for the declaration of a study: what the command that reproduces it says."""
        options: dict[str, Any] = {}
        for option in OPTIONS:
            value = getattr(self, option.field)
            if option.flag.reproduces and option.field != "tricks" and (value != option.default or option.always):
                options[option.name] = _plain(value)
        return {"verb": "ablate", "tricks": list(self.tricks or ()), "options": options}


class Option(NamedTuple):
    """One option: the field, its type, its default, its words and limits, and its flags."""

    field: str
    type: Any
    default: Any
    info: Any
    flag: Flag

    @property
    def name(self) -> str:
        """As the command line calls it, without dashes before it."""
        return (self.flag.names[0] if self.flag.names else "--" + self.field.replace("_", "-")).removeprefix("--")

    @property
    def always(self) -> bool:
        """Whether the reproducing command names it even where it has its default."""
        return self.field == "experiment"


def _options() -> tuple[Option, ...]:
    hints = typing.get_type_hints(Request, include_extras=True)
    out = []
    for f in dataclasses.fields(Request):
        if f.metadata.get("internal"):
            continue
        kind, *extra = typing.get_args(hints[f.name])
        flag = next((e for e in extra if isinstance(e, Flag)), Flag())
        out.append(Option(f.name, kind, f.default, extra[0], flag))
    return tuple(out)


OPTIONS = _options()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def make_request(values: Mapping[str, Any]) -> Request:
    """A request of values by name, as Python gives them.

    Raises:
        UserError: there is no such option, or a value is none that it takes; names the option and the rule.
    """
    known = [option.field for option in OPTIONS]
    for name in values:
        if name not in known:
            raise UserError(f"unknown option '{name}'{did_you_mean(name, known)} Known: {', '.join(known)}")
    try:
        return TypeAdapter(Request).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        rule = first["msg"][:1].lower() + first["msg"][1:]
        raise UserError(f"{first['loc'][0]} = {first['input']!r}: {rule}") from None
