"""Reads `not_applicable.toml`: known tricks that are no file here, and what each is instead; it registers nothing."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator


class KnownName(BaseModel):
    """A name that people look for among the tricks; the file says what its fields mean."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    family: str = Field(min_length=1)
    kind: Literal["design", "condition", "metric", "detector", "not in one run", "not available", "not applicable"]
    reason: str = Field(pattern=r"\.$")
    command: str = ""

    @model_validator(mode="after")
    def _check(self) -> KnownName:
        if self.command.startswith("harness ") == self.kind.startswith("not "):
            raise ValueError(f"{self.name}: what is here has a command of harness that shows it, and nothing else has")
        return self


@lru_cache(maxsize=1)
def known_names() -> tuple[KnownName, ...]:
    """All of them, in the order of the file.

    Raises:
        pydantic.ValidationError: an entry lacks something, or has what no entry has.
    """
    text = Path(__file__).with_suffix(".toml").read_text("utf-8")
    entries = [{"name": name, **entry} for name, entry in tomllib.loads(text).items()]
    return TypeAdapter(tuple[KnownName, ...]).validate_python(tuple(entries))
