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
    kind: Literal["protocol", "not in one run", "not applicable"]
    reason: str = Field(pattern=r"\.$")
    command: str = ""

    @model_validator(mode="after")
    def _check(self) -> KnownName:
        if self.command and (self.kind != "protocol" or not self.command.startswith("harness ")):
            raise ValueError(f"{self.name}: a command is one of harness, and only a protocol has one")
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
