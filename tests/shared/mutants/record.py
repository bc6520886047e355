"""A plug-in of pytest that notes which test runs which line, and how long it takes; also in the processes of xdist.

What a fixture of a wider scope runs counts for every test that uses it, and what the code keeps in a cache is forgotten
before each test: a line runs for a test even where another test was the first to need it.
"""

import functools
import json
import os
import sys
import time
from pathlib import Path

import coverage
import pytest

FOLDER, PACKAGES = "MUTANTS_FOLDER", "MUTANTS_PACKAGES"
"""Variables of the environment: where notes go, and the folders of the code, parted by the system's separator."""


def key(fixture):
    """The name under which lines of a fixture are noted."""
    return f"fixture {fixture.baseid}::{fixture.argname}"


def forget(packages):
    """Clear the caches of functions of these packages."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in packages:
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()


class Recorder:
    """Notes lines by test."""

    def __init__(self, folder, packages):
        self.folder, self.stack, self.tests = folder, [""], {}
        self.tops = {Path(p).parts[0] for p in packages}
        self.cover = coverage.Coverage(
            data_file=str(folder / "lines"),
            data_suffix=f"{os.getpid()}",
            include=[f"{p}/*" for p in packages],
            config_file=False,
        )
        self.cover.start()

    def enter(self, context):
        self.stack.append(context)
        self.cover.switch_context(context)

    def leave(self):
        self.stack.pop()
        self.cover.switch_context(self.stack[-1])

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item):
        forget(self.tops)
        wide = {key(f) for fs in item._fixtureinfo.name2fixturedefs.values() for f in fs if f.scope != "function"}
        note = self.tests[item.nodeid] = {"passed": False, "fixtures": sorted(wide)}
        self.enter(item.nodeid)
        start = time.perf_counter()
        try:
            return (yield)
        finally:
            note["seconds"] = round(time.perf_counter() - start, 4)
            self.leave()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        if fixturedef.scope == "function":
            return (yield)
        self.enter(key(fixturedef))
        try:
            return (yield)
        finally:
            self.leave()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        if report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
            self.tests[item.nodeid]["passed"] = True
        return report

    def pytest_unconfigure(self):
        self.cover.stop()
        self.cover.save()
        (self.folder / f"tests.{os.getpid()}.json").write_text(json.dumps(self.tests))


def pytest_configure(config):
    """Start to note, if a folder is named."""
    if os.environ.get(FOLDER):
        config.pluginmanager.register(Recorder(Path(os.environ[FOLDER]), os.environ[PACKAGES].split(os.pathsep)))
