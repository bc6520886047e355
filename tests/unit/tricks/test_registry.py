from importlib.metadata import EntryPoint

import pytest

from harness.errors import UserError
from harness.tricks import registry

PLUGIN = """
from typing import ClassVar
from harness.tricks.contract import Info, Trick

class Mine(Trick):
    info: ClassVar = Info(name="{name}", family="mine", summary="s", paper="p", formula="f", expect="e")
    strength: float = 1.0
"""


@pytest.fixture
def clean_plugins(monkeypatch):
    monkeypatch.setattr(registry, "_plugins", {})


@pytest.mark.parametrize("name", sorted(registry.builtin()))
def test_a_built_in_trick_is_named_like_its_file_and_lives_in_its_family(name):
    cls = registry.load(name)

    assert cls.info.name == name
    assert registry.builtin()[name].split(".")[2] == cls.info.family


def test_plugin_file_registers_its_tricks(tmp_path, clean_plugins):
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.format(name="mine"))

    assert registry.add_plugin(path) == ["mine"]
    assert registry.make("mine", {"strength": 2.0}).spec().params == {"strength": 2.0}
    assert "mine" in registry.names()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (PLUGIN.format(name="mixup"), "'mixup' exists already"),
        ("import nothing_like_this", "cannot be imported: ModuleNotFoundError"),
        ("x = 1", "defines no subclass"),
    ],
)
def test_a_bad_plugin_is_refused_with_its_path(tmp_path, clean_plugins, content, expected):
    path = tmp_path / "bad.py"
    path.write_text(content)

    with pytest.raises(UserError, match=expected) as error:
        registry.add_plugin(path)

    assert str(path) in str(error.value)


def test_a_missing_plugin_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        registry.add_plugin(tmp_path / "none.py")


@pytest.fixture
def entry_points(monkeypatch):
    def install(*points):
        monkeypatch.setattr(registry, "entry_points", lambda group: points)
        registry.installed.cache_clear()

    yield install
    registry.installed.cache_clear()


def test_entry_points_of_other_packages_are_tricks(entry_points):
    entry_points(EntryPoint("third_party", "harness.tricks.core.mixup:Mixup", registry.GROUP))

    assert "third_party" in registry.names()
    assert registry.load("third_party").__name__ == "Mixup"


def test_a_broken_entry_point_is_an_error_only_when_it_is_used(entry_points):
    entry_points(EntryPoint("broken", "no_such_package:X", registry.GROUP))

    assert "broken" in registry.names()
    with pytest.raises(UserError, match=r"no_such_package:X.*cannot be imported"):
        registry.load("broken")


def test_an_entry_point_cannot_take_a_built_in_name(entry_points):
    entry_points(EntryPoint("mixup", "evil:Mixup", registry.GROUP))

    with pytest.raises(UserError, match="evil:Mixup and by harness"):
        registry.installed()


def test_unknown_names_and_values_are_refused():
    with pytest.raises(UserError, match="did you mean 'mixup'"):
        registry.check("mixpu")
    with pytest.raises(UserError, match=r"alpha = -1\.0: input should be greater than 0"):
        registry.make("mixup", {"alpha": -1.0})
    with pytest.raises(UserError, match="alhpa: unknown key; did you mean 'alpha'"):
        registry.make("mixup", {"alhpa": 1.0})
