import pytest

from harness.errors import UserError
from harness.report.load import preface


def test_a_preface_is_the_text_beside_the_study_or_nothing(tmp_path):
    assert preface(tmp_path) == ""
    (tmp_path / "preface.txt").write_text("Erwartet: größer.\n\nGefunden: kleiner.\n", encoding="utf-8")
    assert preface(tmp_path) == "Erwartet: größer.\n\nGefunden: kleiner.\n"


def test_bytes_that_are_no_text_do_not_stop_a_report(tmp_path):
    (tmp_path / "preface.txt").write_bytes(b"Expected \xff more.")
    assert preface(tmp_path) == "Expected \ufffd more."


def test_a_preface_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "preface.txt").mkdir()
    with pytest.raises(UserError, match=r"preface\.txt cannot be read: .*it must be a text file"):
        preface(tmp_path)
