"""The search command up to the point where it would train: input, plans, and the record of an early end."""

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import UserError
from harness.store.reader import read_search
from harness.workflow.settings import parse_settings

SEARCH = ("search", "mixup", "--trials", "3", "--name", "s")


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command line in this process, in a folder of its own; errors are returned in place of the output."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        result = CliRunner().invoke(app, list(arguments))
        if isinstance(result.exception, UserError):
            return str(result.exception)
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("search",), "name at least one trick"),
        (("search", "mixpu"), "did you mean 'mixup'?"),
        (("search", "mixup", "--workers", "ray"), "a search trains on this machine"),
        (("search", "mixup", "--timeout", "soon"), "--timeout soon: write a number and s, m or h"),
        (("search", "mixup", "--storage", "nosql://me:secret@host/db"), "--storage nosql:...: cannot be"),
        (("search", "mixup", "--storage", "journal:no/file"), "--storage journal:no/file: no such folder no"),
        (("search", "mixup", "--storage", "sqlite:///no/file.db"), "sqlite:///no/file.db: no such folder no"),
        (("search", "mixup", "--nuisance", "momentum"), "nothing says where to look for it"),
        (("search", "mixup", "--set", "mixup.alpha=-1"), "--set mixup.alpha=-1: input"),
        (("search", "mixup", "--sampler", "best"), "--sampler best: unknown"),
        (("search", "mixup", "--export", "no/best.toml"), "--export no/best.toml: no such folder no"),
        (("search", "mixup", "--name", "a/b"), "study name 'a/b'"),
    ],
)  # fmt: skip
def test_bad_input_says_what_is_wrong(command, arguments, expected):
    said = command(*arguments)

    assert expected in said
    assert "secret" not in said


def test_a_dry_run_shows_the_space_and_writes_nothing(command, tmp_path):
    said = command("search", "mixup", "--dry-run", "--trials", "7")

    assert "baseline: 7 trials, at most 59 runs" in said
    assert "mixup.alpha: 0.05 to 8 (log); default 0.2" in said
    assert "to train: at most 118 runs" in said
    assert "time: unknown" in said
    assert not list(tmp_path.iterdir())


def test_a_study_s_folder_is_not_taken(command, tmp_path):
    (tmp_path / "results" / "s").mkdir(parents=True)
    (tmp_path / "results" / "s" / "study.json").write_text("{}")

    assert "holds a study" in command(*SEARCH)


def test_time_that_is_up_leaves_a_record_and_a_page_that_can_be_written_again(command, tmp_path):
    said = command(*SEARCH, "--timeout", "0.001s", "--export", "best.toml")
    record = read_search(tmp_path / "results" / "s")
    page = tmp_path / "reports" / "s.html"
    page.unlink()

    assert record.comparisons == {}
    assert "baseline: no trial was completed (none was begun)" in said
    assert "best.toml is not written, because no arm with tricks has a winner" in said
    assert not (tmp_path / "best.toml").exists()
    assert command("report", "s").strip() == "report: reports/s.html"
    assert page.exists()
    assert "which has a page only" in command("report", "s", "--format", "csv")


def test_a_value_of_none_can_be_typed():
    typed = parse_settings(["bce_one_vs_rest.target_threshold=null", "batch_norm.norm=none"], "digits")

    assert typed["tricks", "bce_one_vs_rest", "target_threshold"][0] is None
    assert typed["tricks", "batch_norm", "norm"][0] == "none"


def test_the_stored_command_reproduces_the_search_and_names_no_password(command, tmp_path):
    options = ("--seeds", "3", "--nuisance", "lr", "--set", "recipe.epochs=2", "--storage", "journal:j.log")
    command(*SEARCH, *options, "--timeout", "0.001s")

    assert read_search(tmp_path / "results" / "s").command == (
        "harness search mixup --experiment digits-noisy --trials 3 --seeds 3 --nuisance lr --sampler tpe "
        "--objectives accuracy --name s --set recipe.epochs=2"
    )
