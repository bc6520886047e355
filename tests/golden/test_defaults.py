"""Default values of the tricks, which are what a name of a trick stands for: another default is another version.

If a test fails because the change was meant, bump the trick's `Info.version`, so that stored results are not mistaken
for new ones. `make cards` adds new tricks and versions to the file; what it holds already never changes.
"""

import json
from pathlib import Path

import pytest

from harness.tricks import registry
from harness.tricks.index import indexed

FILE = Path(__file__).with_name("defaults.json")


def defaults(name):
    """The default of each hyperparameter, as JSON has it."""
    fields = registry.load(name).model_fields
    return json.loads(json.dumps({field: info.default for field, info in fields.items()}))


def with_new(known, current):
    """The defaults by trick and version, {name: {version: values}}, with those that are not there yet."""
    found = {name: dict(versions) for name, versions in known.items()}
    for name, (version, values) in current.items():
        if found.setdefault(name, {}).setdefault(version, values) != values:
            raise SystemExit(f"the defaults of {name} changed: bump its Info.version, now {version}, first")
    return {name: found[name] for name in sorted(found)}


KNOWN = json.loads(FILE.read_text()) if FILE.exists() else {}
PINNED = [name for name in registry.builtin() if str(indexed()[name]["version"]) in KNOWN.get(name, {})]


@pytest.mark.parametrize("name", PINNED)
def test_defaults_are_those_of_the_version(name):
    assert defaults(name) == KNOWN[name][str(indexed()[name]["version"])]


def test_most_tricks_are_pinned():
    assert len(PINNED) > 100


def test_a_default_changes_only_with_the_version():
    known = {"a": {"1": {"x": 0.1}}}

    assert with_new(known, {"a": ("1", {"x": 0.1}), "b": ("3", {})}) == {**known, "b": {"3": {}}}
    assert with_new(known, {"a": ("2", {"x": 0.2})}) == {"a": {"1": {"x": 0.1}, "2": {"x": 0.2}}}
    with pytest.raises(SystemExit, match=r"bump its Info\.version"):
        with_new(known, {"a": ("1", {"x": 0.2})})


if __name__ == "__main__":
    current = {name: (str(indexed()[name]["version"]), defaults(name)) for name in registry.builtin()}
    FILE.write_text(json.dumps(with_new(KNOWN, current), indent=1) + "\n")
