"""Pages and their templates fit: what a page holds is shown, and what a template names is there."""

from dataclasses import fields
from importlib.resources import files

import pytest
from jinja2 import meta, nodes

from harness.errors import UserError
from harness.report.pages import compare, frame, index, search, study, tricks
from harness.report.pages.writing import write_page

PAGES = {
    "study.html.j2": study.StudyPage,
    "search.html.j2": search.SearchPage,
    "compare.html.j2": compare.ComparisonPage,
    "tricks.html.j2": tricks.TricksPage,
    "trick.html.j2": tricks.TrickPage,
    "index.html.j2": index.IndexPage,
}
OUTSIDE = {"_macros.html.j2", "_card.html.j2"}
"""Imported without a page's variables."""


def named(template):
    """The variables that a template and what it includes or extends take from the page."""
    tree = frame.environment.parse(files("harness.report").joinpath("templates", template).read_text(encoding="utf-8"))
    found = meta.find_undeclared_variables(tree) - set(frame.environment.globals)
    # Neither blocks nor branches show that these are of the template itself.
    found -= {macro.name for macro in tree.find_all(nodes.Macro)}
    found -= {a.target.name for a in tree.find_all(nodes.Assign) if isinstance(a.target, nodes.Name)}
    found -= {name if isinstance(name, str) else name[1] for f in tree.find_all(nodes.FromImport) for name in f.names}
    for other in meta.find_referenced_templates(tree):
        if other.endswith(".j2") and other not in OUTSIDE:
            found |= named(other)
    return found


@pytest.mark.parametrize("template", PAGES)
def test_a_page_has_the_variables_of_its_template_and_no_others(template):
    assert named(template) == {f.name for f in fields(PAGES[template])}


def test_macros_take_no_variables_from_pages():
    assert {name for template in OUTSIDE for name in named(template)} <= {"caller"}


def test_every_template_belongs_to_a_page():
    folder = files("harness.report").joinpath("templates")
    whole = {p.name for p in folder.iterdir() if p.name.endswith(".j2") and not p.name.startswith("_")}
    assert whole == set(PAGES)


def test_a_file_that_cannot_be_written_is_refused_with_its_path_and_the_option(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^\S+file/page.html cannot be written: .*; choose another place with --html$"):
        write_page(tmp_path / "file" / "page.html", "x", "--html")


def test_a_page_is_utf8_and_its_folder_is_made(tmp_path):
    assert write_page(tmp_path / "a" / "b.html", "±").read_bytes() == "±".encode()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.html"]
