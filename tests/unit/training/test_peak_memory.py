"""Peak memory where Linux does not say it."""

import sys
from types import SimpleNamespace

import pytest

from harness.training.execute import _resident_peak


@pytest.mark.parametrize(("platform", "peak"), [("linux", 7 * 1024), ("darwin", 7)])
def test_the_unit_is_that_of_the_system(monkeypatch, platform, peak):
    usage = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=7))
    monkeypatch.setitem(sys.modules, "resource", usage)
    monkeypatch.setattr(sys, "platform", platform)

    assert _resident_peak() == peak


def test_a_system_that_does_not_say_it_stops_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)

    assert _resident_peak() == 0
