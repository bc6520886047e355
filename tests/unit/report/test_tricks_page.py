import re
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import UserError
from harness.report.tricks_page import render_tricks, write_tricks

EVIL = '<script>alert("1")</script>'


def trick(name, family="losses", **changed):
    return {
        "kind": "trick", "name": name, "family": family, "summary": f"{name} in short", "formula": "L = x",
        "paper": "A 2020, arXiv:2001.00001", "expect": "little", "differs": "nothing", "cost": 1.25, "excludes": {},
        "version": 3, "hooks": ["batch"], "parameters": [],
    } | changed  # fmt: skip


def parameter(**changed):
    return {"name": "alpha", "default": 1.0, "domain": "> 0", "search": [0.05, 8.0, "log"]} | changed


def other(name, **changed):
    return {"name": name, "family": "text", "kind": "protocol", "reason": "Because.", "command": ""} | changed


class Text(HTMLParser):
    """Text by element id, ids in order, and links."""

    def __init__(self):
        super().__init__()
        self.ids, self.links, self.text, self.open = [], [], {}, []

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        if tag in ("meta", "input"):
            return
        self.open.append(a.get("id"))
        if "id" in a:
            self.ids.append(a["id"])
        if "href" in a or "src" in a:
            self.links.append(a.get("href", a.get("src")))

    def handle_endtag(self, tag):
        if self.open:
            self.open.pop()

    def handle_data(self, data):
        for name in filter(None, self.open):
            self.text[name] = " ".join(f"{self.text.get(name, '')} {data}".split())


def read(cards):
    parsed = Text()
    parsed.feed(render_tricks(cards))
    return parsed


def test_every_part_of_a_card_is_on_the_page():
    page = read([trick("focal", parameters=[parameter()], excludes={"mixup": "one target"}, differs="the sign")])

    shown = page.text["focal"]
    for part in (
        "focal in short", "L = x", "arXiv:2001.00001", "the sign", "little", "mixup: one target", "1.25 times",
        "batch", "alpha 1 > 0 0.05 to 8, log",
    ):  # fmt: skip
        assert part in shown


def test_families_and_tricks_have_anchors_in_order():
    page = read([trick("b", "mixing"), trick("z"), trick("a")])

    assert [i for i in page.ids if i in ("family-losses", "family-mixing", "a", "b", "z")] == [
        "family-losses", "a", "z", "family-mixing", "b",
    ]  # fmt: skip
    assert page.links == ["#family-losses", "#family-mixing"]


def test_other_names_stand_in_a_section_of_their_own():
    page = read([other("adv", reason="See `pgd`, not `gone`.", command="harness ablate pgd"), trick("pgd")])

    assert page.text["adv"] == "adv protocol See pgd , not gone. harness ablate pgd"
    assert page.links == ["#family-losses", "#other-names", "#pgd"]
    assert page.ids.index("other-names") > page.ids.index("pgd")


def test_without_other_names_there_is_no_such_section():
    assert "other-names" not in read([trick("a")]).ids


def test_conflicts_with_one_reason_are_told_once_and_link_to_cards():
    page = read([trick("a", excludes={"b": "both mix", "c": "both mix", "d": "slow"}), trick("b"), trick("c")])

    assert page.text["a"].count("both mix") == 1
    assert page.text["a"].count("slow") == 1
    assert page.links[-2:] == ["#b", "#c"], "d has no card here"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (parameter(default=1.6666666666666667), "alpha 1.667 > 0 0.05 to 8, log"),
        (parameter(default=None, domain="number or none"), "alpha none number or none 0.05 to 8, log"),
        (parameter(default=False, domain="boolean", search=[False, True]), "alpha false boolean false, true"),
        (parameter(default=2, search=None), "alpha 2 > 0 not searched"),
        (parameter(default=(0.5, 0.75), domain=""), "alpha 0.5, 0.75 – 0.05 to 8, log"),
        (parameter(search=[None, 0.2]), "alpha 1 > 0 none, 0.2"),
    ],
)
def test_values_are_written_as_one_types_them(given, expected):
    assert expected in read([trick("a", parameters=[given])]).text["a"]


def test_text_of_cards_is_escaped():
    html = render_tricks(
        [
            trick("a", EVIL, summary=EVIL, formula=EVIL, excludes={EVIL: EVIL}, parameters=[parameter(name=EVIL)]),
            other("b", reason=EVIL, command=EVIL),
        ]
    )

    assert "alert(&#34;1&#34;)" in html
    assert "<script>alert" not in html


def test_the_page_asks_for_nothing_from_outside():
    html = render_tricks([trick("a"), other("b")])

    assert "default-src 'none'" in html
    assert not re.search(r"https?://|@import|url\(", html)


def test_a_page_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another path for --html"):
        write_tricks([trick("a")], tmp_path / "file" / "tricks.html")


def test_the_command_writes_every_card(tmp_path):
    page = tmp_path / "reports" / "tricks.html"
    out = CliRunner().invoke(app, ["tricks", "--html", str(page)])
    html = page.read_text()

    assert out.output == f"tricks: {page}\n"
    assert 'id="mixup"' in html
    assert 'id="wgan_critic"' in html


def test_one_card_and_the_page_together_are_refused(tmp_path):
    out = CliRunner().invoke(app, ["tricks", "mixup", "--html", str(tmp_path / "x.html")])

    assert isinstance(out.exception, UserError)
    assert not (tmp_path / "x.html").exists()
