"""Contact sheets beside the cards: which are drawn, which go, and which a page shows."""

import base64
import io

import pytest
from PIL import Image

from harness.report.evidence import TrickEvidence
from harness.report.pages import tricks as pages
from harness.report.pages.sheets import FOLDER, embedded, place
from harness.tricks.index import indexed
from harness.workflow import sheets
from webpage import Page

POLICY = "http-equiv"


def page_of(card):
    page = Page(pages.render_trick(card, TrickEvidence(), {card["name"]}))
    (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and POLICY in a]
    return [a for tag, a in page.tags if tag == "img"], policy


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "embedded", lambda card: embedded(card, tmp_path))
    return tmp_path


def test_a_page_holds_the_sheet_of_its_version_and_allows_such_pictures_alone(folder):
    card = indexed()["cutout"]
    place(card, folder).write_bytes(b"picture")
    ((image,), policy) = page_of(card)

    assert image["src"] == "data:image/webp;base64," + base64.b64encode(b"picture").decode()
    assert "cutout" in image["alt"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def test_a_sheet_of_another_version_is_not_shown(folder):
    card = indexed()["cutout"]
    place({**card, "version": card["version"] + 1}, folder).write_bytes(b"picture")
    images, policy = page_of(card)

    assert images == []
    assert "img-src" not in policy


def test_what_is_missing_is_drawn_what_is_old_goes_and_the_rest_stays(tmp_path):
    cards = [indexed()[name] for name in ("cutout", "random_flip", "adam")]
    flip, kept = place(cards[1], tmp_path), place(cards[0], tmp_path)
    old = place({**cards[1], "version": 99}, tmp_path)
    for path in (kept, old):
        path.write_bytes(b"picture")

    assert sheets.draw_missing(cards, tmp_path) == ["random_flip"]
    assert set(tmp_path.iterdir()) == {flip, kept}
    assert kept.read_bytes() == b"picture"
    with Image.open(io.BytesIO(flip.read_bytes())) as image:
        assert image.format == "WEBP"
        assert image.width > 400
    assert sheets.draw_missing(cards, tmp_path) == []


def test_a_trick_that_changes_no_stored_image_has_no_sheet(tmp_path):
    card = {**indexed()["label_smoothing"], "family": "mixing"}

    assert sheets.draw_missing([card], tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_bundled_sheets_are_small_and_of_known_tricks():
    found = sorted(FOLDER.glob("*.webp"))

    assert len(found) > 15
    assert {path.name.split(".")[0] for path in found} <= set(indexed())
    assert max(path.stat().st_size for path in found) < 100_000
