"""Reads the pages that reports write."""

from html.parser import HTMLParser
from pathlib import Path

from browser import Browser

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Reader(HTMLParser):
    """Reads a page: its elements balanced, its ids, links, and the rows of its tables by the first cell."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.tags, self.rows, self.said = [], [], [], [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href", "src") if name in values]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, name):
        """The first row with that heading."""
        return next(row for row in self.rows if row and row[0] == name)

    @property
    def text(self):
        return " ".join(" ".join(self.said).split())


def assert_shown(tab: Browser, path: Path) -> None:
    """Asserts that a browser shows a page, on phone and desk, light and dark, and asks for nothing else."""
    shown = "[...document.querySelectorAll('svg')].filter(it => it.getBoundingClientRect().width)"
    for width in (390, 1280):
        grounds = []
        for scheme in ("light", "dark"):
            tab.open(path, width, scheme=scheme)
            tab.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)")
            assert tab.evaluate("document.documentElement.scrollWidth") == width
            assert tab.evaluate("innerWidth") == width
            figures = tab.evaluate(f"{shown}.length")
            assert figures == len(set(tab.evaluate(f"{shown}.map(it => it.ariaLabel)"))) > 0
            # A label has the colour and the font of the page.
            label = f"getComputedStyle({shown}[0].querySelector('text'))"
            grounds.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
            grounds.append(tab.evaluate(f"{label}.fill"))
            assert "system-ui" in tab.evaluate(f"{label}.fontFamily")
            assert tab.requests() == [path.as_uri()]
            assert tab.complaints() == []
        assert len(set(grounds)) == 4
        assert tab.evaluate("document.title").endswith(": forecast report")
