import pytest

from webpage import Page

HTML = """<body id="b"><style>p {}</style><p id="p">One <b>two</b>,<br> three</p><a href="#p">up</a>
<table class="t"><tr><th class="head">Arm</th><td> a
b <svg><title>drawn</title><path d=""/></svg></td></tr></table><script>alert(1)</script></body>"""


def test_text_tables_links_and_scripts_are_told_apart():
    page = Page(HTML)

    assert page.text == "One two, threeup Arm a b drawn"
    assert page.text_of("p") == "One two , three"
    assert page.rows == [["Arm", "a b drawn"]] == [page.row("Arm")]
    assert (page.rows[0][0].classes, page.rows[0][1].plain) == (["head"], "a b")
    assert (page.ids, page.links, page.scripts) == (["b", "p"], ["#p"], ["alert(1)"])
    assert [attributes for attributes, _ in page.tables] == [{"class": "t"}]


@pytest.mark.parametrize("html", ["<p>", "<b><i></b></i>", "<p></p></div>"])
def test_an_element_that_is_not_closed_in_its_turn_is_an_error(html):
    with pytest.raises((AssertionError, IndexError)):
        Page(html)
