"""What holds for the tests themselves, on a suite of four that uses the real conftest.py."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SUITE = """
import pytest

@pytest.fixture
def browser():
    pytest.skip("no browser")

@pytest.mark.gpu
@pytest.mark.skipif(True, reason="no CUDA device")
def test_gpu(): ...

def test_mount():
    pytest.skip("unshare is refused here")

@pytest.mark.xfail
def test_known():
    raise AssertionError

def test_page(browser): ...
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    monkeypatch.delenv("HARNESS_TEST_NO_SKIPS", raising=False)
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makeini("[pytest]\nmarkers = gpu\n")
    return pytester


def test_a_test_may_be_skipped_with_its_reason(suite):
    suite.makepyfile(SUITE)
    suite.runpytest_inprocess("-p", "no:xdist").assert_outcomes(skipped=3, xfailed=1)


def test_where_no_skips_are_allowed_only_those_of_a_gpu_and_a_refused_unshare_are(suite, monkeypatch):
    monkeypatch.setenv("HARNESS_TEST_NO_SKIPS", "1")
    suite.makepyfile(SUITE)
    found = suite.runpytest_inprocess("-p", "no:xdist")
    found.assert_outcomes(skipped=2, xfailed=1, errors=1)
    found.stdout.fnmatch_lines("*test_page: no test may be skipped here, but this was: Skipped: no browser")


def test_where_no_skips_are_allowed_a_file_that_skips_itself_is_an_error(suite, monkeypatch):
    monkeypatch.setenv("HARNESS_TEST_NO_SKIPS", "1")
    suite.makepyfile("import pytest\npytest.importorskip('no_such_package')\ndef test_one(): ...\n")
    found = suite.runpytest_inprocess("-p", "no:xdist")
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines("*no test may be skipped here, but this was: *no_such_package*")


def test_waiting_ends_when_the_process_that_is_waited_for_has_ended(wait_until):
    class Ended:
        returncode = 3

        def poll(self):
            return self.returncode

    assert wait_until(lambda: "found", Ended()) == "found", "it may end right after"
    with pytest.raises(AssertionError, match="ended with 3"):
        wait_until(lambda: None, Ended())


def test_the_oldest_packages_are_those_of_pyproject():
    """Every package that users install has a lower bound, and `make test-oldest` takes exactly that version."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, root / ".ci" / "oldest.py"], capture_output=True, text=True, check=True)
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]

    assert {"torch==2.11", "pydantic==2.7", "ray==2.40"} <= set(done.stdout.split())
    assert len(done.stdout.split()) == len(project["dependencies"]) + 2
