"""How commands that judge end: an exit code by verdict, and a job's summary."""

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import UserError

ROWS = "method,seed,val_acc\n" + "\n".join(
    f"{method},{seed},{75 + gain + seed / 10 + seed % 2 * gain / 10}"
    for method, gain in (("base", 0), ("mixup", 2), ("sam", -2))
    for seed in range(6)
)


@pytest.fixture
def judge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    (tmp_path / "runs.csv").write_text(ROWS)
    return lambda *words: CliRunner().invoke(app, ["judge", "runs.csv", *words])


def test_a_verdict_ends_with_exit_code_3_where_it_is_named(judge):
    for words, code in (
        ((), 0),
        (("--fail-on", "hurts"), 3),
        (("--fail-on", "equivalent, hurts"), 3),
        (("--fail-on", "undecided"), 0),
        (("--fail-on", "hurts", "--json"), 3),
    ):
        assert judge(*words).exit_code == code
    assert "--fail-on hurts,helps: mixup: helps, sam: hurts" in judge("--fail-on", "hurts,helps").output


def test_the_summary_of_a_job_has_the_table_and_the_sentences(judge, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    assert judge("--summary", "github").exit_code == 0
    text = (tmp_path / "summary.md").read_text()

    assert text.startswith("before\n### Is any of 2 methods better than base?\n")
    assert "| mixup |" in text
    assert "\n* sam hurts" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--fail-on", "hurt"), "--fail-on hurt: no such verdict; did you mean 'hurts'"),
        (("--fail-on", " ,"), "it names no verdict"),
        (("--summary", "gitlab"), "--summary gitlab: github is the only one"),
        (("--summary", "github"), "GITHUB_STEP_SUMMARY is not set"),
    ],
)
def test_what_cannot_be_done_at_the_end_is_said_at_the_beginning(judge, tmp_path, words, said):
    done = judge(*words)
    assert isinstance(done.exception, UserError)
    assert said in str(done.exception)
    assert not (tmp_path / "results").exists()
