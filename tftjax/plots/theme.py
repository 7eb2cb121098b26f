"""Figures as SVG inside a page: two widths of each, colours that follow the page, text that stays text.

A figure is drawn with the light colours of COLORS; in the SVG each becomes the variable of its name, which
the page sets for light and for dark. Import it where it is needed: matplotlib takes half a second.
"""

import io
import re
from collections.abc import Callable
from typing import NamedTuple
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

# Name of a colour -> on a light page, on a dark one. All have a contrast of 3 to the page, text 4.5.
COLORS = {
    "ink": ("#1b2026", "#e8eaed"),
    "muted": ("#59636e", "#a6afba"),
    "grid": ("#dde2e7", "#343b44"),
    "blue": ("#1f5fa8", "#74b3f6"),
    "orange": ("#b4550a", "#f3a04b"),
    "green": ("#2f7a40", "#74cc8a"),
    "purple": ("#7f3f97", "#cb98ec"),
    "red": ("#b03a37", "#ff8f87"),
}
LIGHT = {name: light for name, (light, _) in COLORS.items()}
SERIES = ("blue", "orange", "green", "purple", "red", "muted")  # of lines that stand side by side

WIDE, NARROW = 860, 340  # px
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tftjax",  # the same figure is the same text
    "font.size": 11,
    "text.color": LIGHT["ink"],
    "text.parse_math": False,
    "axes.edgecolor": LIGHT["muted"],
    "axes.facecolor": "none",
    "axes.labelcolor": LIGHT["muted"],
    "axes.labelsize": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.8,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 10,
    "path.simplify": True,
    "path.simplify_threshold": 0.3,
}
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"


class Key(NamedTuple):
    """A line of a figure's legend, which is the page's: `shape` is "line", "dash", "band" or "dot"."""

    label: str
    color: str
    shape: str = "line"
    opacity: float = 1.0


class Picture(NamedTuple):
    """A figure for the page.

    Attributes:
      title: heading.
      alt: what it shows, in words.
      wide, narrow: SVG elements.
      legend: what the colours mean.
      caption: how to read it.
    """

    title: str
    alt: str
    wide: str
    narrow: str
    legend: tuple[Key, ...] = ()
    caption: str = ""


def picture(
    name: str,
    draw: Callable[[Figure, bool], None],
    *,
    title: str,
    alt: str,
    heights: tuple[int, int] = (300, 250),
    legend: tuple[Key, ...] = (),
    caption: str = "",
) -> Picture:
    """Draws a figure for wide and for narrow screens.

    Args:
      name: unique in the page.
      draw: draws on a figure; is told whether it is the narrow one.
      heights: of the wide and the narrow one, px.
    """
    parts = []
    for narrow, width, height in ((False, WIDE, heights[0]), (True, NARROW, heights[1])):
        svg = drawn(draw, narrow, (width / 72, height / 72))
        parts.append(themed(svg, f"{name}-{'narrow' if narrow else 'wide'}", alt))
    return Picture(title, alt, *parts, legend, caption)


def drawn(draw: Callable[[Figure, bool], None], narrow: bool, size: tuple[float, float]) -> str:
    """Matplotlib's SVG of a figure of that size in inches: most of the time that a page takes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure, narrow)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def themed(svg: str, prefix: str, alt: str) -> str:
    """Makes of matplotlib's SVG an element of a page: its own ids, the page's colours and font.

    Raises:
      KeyError: a colour that is not in COLORS.
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            # A style element would reach the whole page; the page has what it says.
            if child.tag in (f"{_SVG}style", f"{_SVG}metadata"):
                parent.remove(child)
    text = ElementTree.tostring(root, encoding="unicode")
    linked = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        own = element.attrib.pop("id", None)
        if own in linked:
            element.set("id", f"{prefix}-{own}")
        if _LINK in element.attrib:
            element.set("href", element.attrib.pop(_LINK))
        for key, value in element.attrib.items():
            element.set(key, _shorter(key, _colored(value)))
        element.tail = None
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    text = ElementTree.tostring(root, encoding="unicode")
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", text)


def _colored(value: str) -> str:
    names = {light: name for name, light in LIGHT.items()}
    value = re.sub(r"#[0-9a-fA-F]{6}\b", lambda found: f"var(--{names[found[0].lower()]})", value)
    # Text has the font of the page; matplotlib gives the family alone, or in one with the size.
    return re.sub(r"(font-family: |font: [^;']*px )[^;]*", r"\1var(--font)", value)


def _shorter(key: str, value: str) -> str:
    """A hundredth of a pixel is enough, and halves a figure's size."""
    if key in ("d", "x", "y", "transform", "points"):
        value = re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split()))
    return value


def date_axis(axes: Axes, narrow: bool) -> None:
    """Few dates, the year said once."""
    locator = AutoDateLocator(minticks=3, maxticks=5 if narrow else 9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.margins(x=0.01)
