"""Reads the pages that reports write."""

from html.parser import HTMLParser
from pathlib import Path

from browser import Browser

VOID = {"meta", "br", "wbr", "img", "link", "input", "hr"}


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
        if {"script", "style"} & set(self.open):
            return
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
        assert width == 390 or tab.evaluate(WIDE) == []
        tab.send("Emulation.setScriptExecutionDisabled", value=True)
        tab.open(path, width)
        tab.send("Emulation.setScriptExecutionDisabled", value=False)
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate(f"{shown}.length") > 0
        assert tab.evaluate("document.querySelectorAll('.chart, th button').length") == 0


# Tables that are wider than their place.
WIDE = (
    "[...document.querySelectorAll('.table > .scroll')].filter(it => it.scrollWidth > it.clientWidth + 2)"
    ".map(it => [it.ariaLabel, it.scrollWidth, it.innerText])"
)


def assert_works(tab: Browser, path: Path) -> None:
    """Asserts that the first table sorts, and the first figure says its values and zooms."""
    tab.open(path, 1280)

    def press(key, code):
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            tab.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
            )

    tab.evaluate("document.querySelectorAll('table thead th button')[1].focus()")
    column = (
        "[...document.querySelector('table').tBodies[0].rows].map(it => parseFloat(it.cells[1].innerText))"
    )
    written = tab.evaluate(column)
    for expected in (sorted(written), sorted(written)[::-1], written):
        press("Enter", 13)
        assert tab.evaluate(column) == expected
    assert tab.evaluate("document.querySelectorAll('th')[1].ariaSort") == "none"
    tab.evaluate("document.querySelector('.chart svg').focus()")
    said = "document.querySelector('.readout').textContent"
    press("ArrowLeft", 37)
    last = tab.evaluate(said)
    assert "; " in last
    press("ArrowLeft", 37)
    assert tab.evaluate(said)[:10] < last[:10]
    tab.evaluate(
        "document.querySelector('.chart svg').scrollIntoView({block: 'center', behavior: 'instant'})"
    )
    box = "document.querySelector('.chart svg').getBoundingClientRect()"
    left, top = (tab.evaluate(f"{box}.{side}") for side in ("left", "top"))
    dates = "[...document.querySelector('.chart svg').querySelectorAll('text')].map(it => it.textContent)"
    dates += ".filter(it => it.length > 9)"
    before = tab.evaluate(dates)
    for kind, x in (("mousePressed", 300), ("mouseMoved", 600), ("mouseReleased", 600)):
        place = {"x": left + x, "y": top + 100}
        tab.send("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **place)
    after = tab.evaluate(dates)
    assert before[0] < after[0] < after[-1] < before[-1]
    assert tab.complaints() == []
