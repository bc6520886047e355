"""The one reader of pages that tests use: elements, text, tables, links and scripts, all in the order of the page."""

from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Cell(str):
    """The text of a cell with single spaces; `classes` are its own, and `plain` is its text without drawings."""

    def __new__(cls, attributes=(), pieces=()):
        cell = super().__new__(cls, " ".join("".join(text for text, _ in pieces).split()))
        cell.classes = (dict(attributes).get("class") or "").split()
        cell.plain = " ".join("".join(text for text, drawn in pieces if not drawn).split())
        return cell


class Page(HTMLParser):
    """A page as its reader gets it. It is an error when an element is not closed, or not in its turn.

    `tags` are (name, attributes) of all elements. `pieces` are the visible texts one by one, and `text` is all of them
    with single spaces. `rows` are the rows of all tables, as lists of `Cell`; `tables` are (attributes, rows).
    `links` are the values of href and src. `scripts` are the texts of script elements.
    """

    def __init__(self, html):
        super().__init__()
        self.tags, self.pieces, self.tables, self.scripts = [], [], [], []
        self._open, self._cell, self._named = [], None, {}
        self.feed(html)
        self.close()
        assert self._open == []
        self.text = " ".join("".join(self.pieces).split())

    @property
    def ids(self):
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    @property
    def links(self):
        return [a[name] for _, a in self.tags for name in ("href", "src") if name in a]

    @property
    def rows(self):
        return [row for _, rows in self.tables for row in rows]

    def row(self, first):
        """The first row that begins with this text."""
        return next(row for row in self.rows if row and row[0] == first)

    def text_of(self, id_):
        """The text inside an element, with a space where markup parts it."""
        return " ".join(" ".join(self._named[id_]).split())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag in VOID:
            return
        self._open.append((tag, attributes.get("id")))
        self._named.setdefault(attributes.get("id"), [])
        if tag == "table":
            self.tables.append((attributes, []))
        if tag == "tr":
            self.tables[-1][1].append([])
        if tag in ("td", "th"):
            self._cell = (attributes, [])
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self._open.pop()[0] == tag
        if tag in ("td", "th"):
            self.tables[-1][1][-1].append(Cell(*self._cell))
            self._cell = None

    def handle_data(self, data):
        inside = {tag for tag, _ in self._open}
        for _, name in self._open:
            self._named[name].append(data)
        if "script" in inside:
            self.scripts[-1] += data
        if not {"script", "style"} & inside:
            self.pieces.append(data)
        if self._cell is not None:
            self._cell[1].append((data, "svg" in inside))
