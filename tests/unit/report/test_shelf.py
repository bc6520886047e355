"""`ls`, `show` and `rm`: what lies in the results folder."""

import json

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import UserError
from harness.store.locks import StudyLock
from harness.testing import make_manifest, make_study


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, created in (("first", "2026-01-02T03:04:05+00:00"), ("second", "2026-02-02T03:04:05+00:00")):
        manifest = make_manifest(["baseline", "mixup"], study=name, seeds=3, created=created)
        make_study(tmp_path / "results" / name, manifest)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "first.html").write_text("page")
    return lambda *words, **options: CliRunner().invoke(app, list(words), **options)


def test_studies_are_listed_the_newest_first(call):
    listed = json.loads(call("ls", "--json").stdout)
    assert [(e["name"], e["arms"], e["seeds"], e["stored"], e["runs"]) for e in listed] == [
        ("second", 2, 3, 6, 6),
        ("first", 2, 3, 6, 6),
    ]
    assert all(e["bytes"] > 1000 for e in listed)

    lines = call("ls").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["study", "second", "first"]
    assert "2026-01-02 03:04" in lines[2]
    assert "6 of 6" in lines[2]
    assert call("ls", "first").stdout.count("first") == 1


def test_a_study_is_shown_as_its_command_showed_it(call):
    said = call("show", "first").stdout
    assert said.splitlines()[1].startswith("no verdict on mixup on digits, 100 training images from 3 seeds")


def test_a_study_is_deleted_with_its_page_after_a_question(call, tmp_path):
    kept = call("rm", "first", input="n\n")
    assert "Delete first with 6 stored runs" in kept.stdout
    assert (tmp_path / "results" / "first").is_dir()

    assert "deleted first" in call("rm", "first", "--yes").stdout
    assert not (tmp_path / "results" / "first").exists()
    assert not (tmp_path / "reports" / "first.html").exists()
    assert (tmp_path / "results" / "second").is_dir()


def test_a_study_that_is_being_written_is_not_deleted(call, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.store.locks.PATIENCE", 0)
    lock = StudyLock(tmp_path / "results" / "first")
    assert lock.take()
    refused = call("rm", "first", "--yes")
    lock.release()

    assert "another command works on it" in str(refused.exception)
    assert (tmp_path / "results" / "first" / "study.json").is_file()


def test_what_is_not_there_or_published_is_refused(call, tmp_path):
    (tmp_path / "results" / "published").mkdir()
    (tmp_path / "results" / "first").rename(tmp_path / "results" / "published" / "first")
    for words, said in ((("rm", "firts"), "did you mean 'first'"), (("rm", "first", "-y"), "published in")):
        refused = call(*words)
        assert isinstance(refused.exception, UserError)
        assert said in str(refused.exception)
