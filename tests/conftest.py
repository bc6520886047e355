"""Shared fixtures, and what holds for all tests: no network, no data root of the machine, no clock.

A slow machine must fail no test. So commands, waits and browsers have no time limits of their own, tests wait for what
has happened and not for a time, and one guard ends a test that hangs (`timeout` in pyproject.toml).
"""

import os
import random
import socket
import time

# Before torch is imported anywhere: a test process computes with one thread, like a worker.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch

torch.set_num_threads(1)

hypothesis.settings.register_profile(
    "harness", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("harness")

MAY_SKIP = ("unshare",)
"""Words of the reasons for which a test may be skipped even where HARNESS_TEST_NO_SKIPS is set."""


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch, tmp_path_factory):
    if not os.environ.get("HARNESS_TEST_REAL_DATA"):
        monkeypatch.setenv("HARNESS_DATA", str(tmp_path_factory.getbasetemp() / "no-data"))


def refuse(report):
    """Turn a skip into a failure, but where its reason is one of the few that are allowed."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(word in reason for word in MAY_SKIP):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: no test may be skipped here, but this was: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    strict = os.environ.get("HARNESS_TEST_NO_SKIPS") and not item.get_closest_marker("gpu")
    return refuse(report) if strict and report.skipped and not hasattr(report, "wasxfail") else report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    return refuse(report) if os.environ.get("HARNESS_TEST_NO_SKIPS") and report.skipped else report


@pytest.fixture(scope="session")
def wait_until():
    """Wait for a condition and return what it found; fails when the process that brings it about ended without."""

    def wait(condition, process=None):
        while True:
            ended = process is not None and process.poll() is not None
            if found := condition():
                return found
            assert not ended, f"ended with {process.returncode} before it happened"
            time.sleep(0.05)

    return wait


@pytest.fixture(scope="session")
def free_port():
    """Find a port of this machine that nobody listens on, outside the ranges that systems hand out by themselves."""

    def find():
        draw = random.SystemRandom()
        while True:
            port = draw.randrange(20_000, 32_000)
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) != 0:
                    return port

    return find
