import importlib
import sys
from importlib.metadata import EntryPoint

import pytest

from harness import sources
from harness.errors import UserError
from harness.identity import source_digest
from harness.study.asked import request_of
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
    monkeypatch.setattr(registry, "_sources", {})


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
        ("x = 1", "defines nothing"),
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
def folder(tmp_path, monkeypatch):
    """A folder on Python's path; what is imported from it is forgotten at the end."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def digest_of(path):
    importlib.invalidate_caches()
    registry.add_plugin(path)
    return registry.source("mine")


def test_a_plugin_that_imports_only_installed_code_is_its_file(folder, clean_plugins):
    path = folder / "mine.py"
    path.write_text("import json, numpy, torch, harness.rng\n" + PLUGIN.format(name="mine"))

    assert digest_of(path) == source_digest([path])


@pytest.mark.parametrize(
    "statement",
    [
        "import deep_help",
        "from deep_help import EPS",
        "import importlib\nimportlib.import_module('deep_help')",
        "def later():\n    import deep_help",
        "import over_help",
        "from pack_help.inner import EPS",
        "from loose_help.inner import EPS",
    ],
)
def test_a_plugin_is_also_what_its_author_wrote_and_it_imports(folder, clean_plugins, statement):
    (folder / "deep_help.py").write_text("EPS = 1")
    (folder / "over_help.py").write_text("from deep_help import EPS")
    for package in ("pack_help", "loose_help"):
        (folder / package).mkdir()
        (folder / package / "inner.py").write_text("from deep_help import EPS")
    (folder / "pack_help" / "__init__.py").touch()
    path = folder / "mine.py"
    path.write_text(f"{statement}\n{PLUGIN.format(name='mine')}")
    first = digest_of(path)

    assert digest_of(path) == first, "also when the modules were imported before"
    (folder / "deep_help.py").write_text("EPS = 2")
    assert digest_of(path) != first


@pytest.fixture
def entry_points(monkeypatch):
    def install(*points):
        monkeypatch.setattr(registry, "entry_points", lambda group: points)
        registry.installed.cache_clear()
        sources.package_digest.cache_clear()

    yield install
    registry.installed.cache_clear()
    sources.package_digest.cache_clear()


def test_entry_points_of_other_packages_are_tricks(entry_points):
    entry_points(EntryPoint("third_party", "harness.tricks.core.mixup:Mixup", registry.GROUP))

    assert "third_party" in registry.names()
    assert registry.load("third_party").__name__ == "Mixup"


def test_a_broken_entry_point_is_an_error_only_when_it_is_used(entry_points):
    entry_points(EntryPoint("broken", "no_such_package:X", registry.GROUP))

    assert "broken" in registry.names()
    with pytest.raises(UserError, match=r"no_such_package:X.*cannot be imported"):
        registry.load("broken")


def test_a_package_without_an_init_file_is_the_files_of_all_its_folders(folder, entry_points, monkeypatch):
    for part in ("one", "two"):
        (folder / part / "acme_test" / "aug").mkdir(parents=True)
        (folder / part / "acme_test" / "aug" / f"{part}.py").write_text("EPS = 1")
        monkeypatch.syspath_prepend(folder / part)
    point = EntryPoint("noise", "acme_test.aug.one:Noise", registry.GROUP)
    entry_points(point)
    first = registry.source("noise")
    asked = request_of({}, "", "")

    (folder / "two" / "acme_test" / "aug" / "two.py").write_text("EPS = 2")
    entry_points(point)
    assert len(first) == 16
    assert registry.source("noise") != first
    assert None not in (asked, request_of({}, "", ""))


def test_a_stale_entry_point_is_no_error_of_requests_that_do_not_use_it(folder, entry_points):
    (folder / "left_over_test" / "__pycache__").mkdir(parents=True)  # what uninstalling may leave
    for package in ("no_such_package", "left_over_test"):
        entry_points(EntryPoint("broken", f"{package}:X", registry.GROUP))
        assert request_of({}, "", "") is None
        with pytest.raises(UserError, match=f"'{package}', which a part comes from, cannot be found"):
            registry.source("broken")


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
