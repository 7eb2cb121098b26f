"""The two themes of every figure: a PNG file, and SVG inside a page, wide or narrow.

A figure is a function `f(figure, theme, arrays...) -> None`. It draws with the colours of LIGHT and sets its
height; a file has title and legend in the picture, a page around it. In a page's SVG each colour becomes the
variable of its name, which the page sets for light and for dark, and text stays text. Import it where a
picture is made, not at the top of an entry point: matplotlib takes half a second. Figures are made without
pyplot, so that nothing global is left behind.
"""

import io
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from xml.etree import ElementTree

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tftjax import files

# By name, the colour on a light page and on a dark one. All have a contrast of 3 to the page, text 4.5.
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
# Of a page alone: its ground, that of a box, lines, and the shadow at the side of what scrolls.
GROUNDS = {
    "page": ("#ffffff", "#14181d"),
    "raised": ("#f4f6f8", "#1f252c"),
    "line": ("#cfd6dd", "#3d4651"),
    "shadow": ("#b0b9c2", "#56616d"),
}
LIGHT = {name: light for name, (light, _) in COLORS.items()}
SERIES = ("blue", "orange", "green", "purple", "red", "muted")  # colours of lines side by side
LINES = ("solid", "dashed", "dotted", "dashdot")  # styles of more lines than colours
MARKERS = {"dot": "o", "square": "s", "triangle": "^", "diamond": "D"}
LEGEND_WIDTH = 150  # characters in a row of a file's legend

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tftjax",  # the same figure is the same text
    "figure.autolayout": False,  # a layout is made once, whatever a user's settings say
    "figure.constrained_layout.use": False,
    "font.size": 11,
    "text.color": LIGHT["ink"],
    "text.usetex": False,
    "text.parse_math": False,  # names of columns and series are drawn as they are, $ and all
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
    "figure.titlesize": 12,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "path.simplify": True,
    "path.simplify_threshold": 0.3,
}
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"


class Theme(NamedTuple):
    """The place of a figure: a file, or a wide or narrow page.

    Attributes:
      width: width in px, of which 72 are an inch.
      min_height: least height in px.
      margin: height of title and legend in px.
      narrow: whether subplots stand below each other only.
      paper: colour of the ground.
    """

    width: int
    min_height: int = 0
    margin: int = 0
    narrow: bool = False
    paper: str = "none"

    def set_height(self, figure: Figure, wide: int, narrow: int | None = None) -> None:
        """Sets a figure's height to that of its content, in px."""
        height = narrow if self.narrow and narrow is not None else wide
        figure.set_figheight(max(self.min_height, height + self.margin) / 72)


PNG = Theme(864, min_height=504, margin=70, paper="#ffffff")  # 1200 x 700 pixels or more, at 100 an inch
PAGE, NARROW_PAGE = Theme(860), Theme(340, narrow=True)

Draw = Callable[[Figure, Theme], None]


class Key(NamedTuple):
    """A line of a figure's legend.

    Attributes:
      shape: one of LINES, "band", or a name in MARKERS.
    """

    label: str
    color: str
    shape: str = "solid"
    opacity: float = 1.0

    @property
    def line(self) -> dict[str, str]:
        """Colour and style of the line, for matplotlib."""
        return {"color": LIGHT[self.color], "linestyle": self.shape}


class Picture(NamedTuple):
    """A figure for the page.

    Attributes:
      title: heading.
      alt: the picture's content in words.
      wide, narrow: SVG elements.
      legend: meaning of the colours.
      caption: help for reading.
      charts: what the page's script draws in its place, `plots.chart.Chart`s by name: one, or a choice.
      of_first: whether title, alt and caption are about the first chart alone, as the figure is.
    """

    title: str
    alt: str
    wide: str
    narrow: str
    legend: tuple[Key, ...] = ()
    caption: str = ""
    charts: Mapping[str, Any] = MappingProxyType({})
    of_first: bool = False


class Drawing(NamedTuple):
    """A figure that stands alone, with its title and the meaning of its colours."""

    draw: Draw
    title: str
    legend: Sequence[Key] = ()


def figure_of(drawing: Drawing) -> Figure:
    """The figure of a drawing, with its title and legend."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(drawing.draw, PNG)
        figure.suptitle(drawing.title)
        if drawing.legend:
            width = max(len(key.label) for key in drawing.legend) + 7  # with the key and room between two
            columns = max(1, min(len(drawing.legend), LEGEND_WIDTH // width))
            handles = [_handle(key) for key in drawing.legend]
            figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    return figure


def save(path: Path, drawing: Drawing) -> None:
    """Writes a drawing as a PNG file; the same picture is the same file, whatever matplotlib's version.

    Raises:
      UserError: the file cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        figure = figure_of(drawing)
        # Of itself savefig draws twice, the first time for the layout alone.
        if engine := figure.get_layout_engine():
            engine.execute(figure)
            figure.set_layout_engine(None)
        files.replace_file(
            path, lambda new: figure.savefig(new, format="png", dpi=100, metadata={"Software": None})
        )


def save_each(drawings: Iterable[tuple[Path, Drawing]]) -> None:
    """Writes drawings; see `save`."""
    for path, drawing in drawings:
        save(path, drawing)


def series_keys(labels: Iterable[Any], colors: Sequence[str] = SERIES) -> list[Key]:
    """A line each, told apart by colour, and where these do not suffice by style."""
    styles = itertools.cycle(itertools.product(LINES, colors))
    return [Key(str(label), color, line) for label, (line, color) in zip(labels, styles, strict=False)]


class ShownFigure(Figure):
    """A figure that a notebook shows, whether or not pyplot is in use there."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=100)
        return file.getvalue()


def _figure(draw: Draw, theme: Theme) -> Figure:
    figure = ShownFigure(figsize=(theme.width / 72, 1), facecolor=theme.paper, layout="constrained")
    draw(figure, theme)
    return figure


def _handle(key: Key) -> Artist:
    color = LIGHT[key.color]
    style = {"color": color, "alpha": key.opacity, "label": key.label}
    if key.shape == "band":
        return Patch(linewidth=0, **style)
    if key.shape in MARKERS:
        return Line2D([], [], linestyle="none", marker=MARKERS[key.shape], **style)
    return Line2D([], [], linestyle=key.shape, **style)


def picture(
    name: str, draw: Draw, *, title: str, alt: str, legend: Sequence[Key] = (), caption: str = ""
) -> Picture:
    """Draws a figure for wide and for narrow pages.

    Args:
      name: unique in the page.
    """
    wide, narrow = (
        themed(drawn(draw, theme), f"{name}-{width}", alt)
        for theme, width in ((PAGE, "wide"), (NARROW_PAGE, "narrow"))
    )
    return Picture(title, alt, wide, narrow, tuple(legend), caption)


def drawn(draw: Draw, theme: Theme) -> str:
    """Matplotlib's SVG of a figure, which takes most of the time of a page."""
    with matplotlib.rc_context(STYLE):
        file = io.StringIO()
        _figure(draw, theme).savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    # Characters of control, which a name may have and XML may not.
    return re.sub("[^\t\n\r -\ufffd\U00010000-\U0010ffff]", "\ufffd", file.getvalue())


def themed(svg: str, prefix: str, alt: str) -> str:
    """Makes an element of a page from matplotlib's SVG, with unique ids and the page's colours and font.

    Raises:
      KeyError: a colour that is not in COLORS.
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            # A style element would reach the whole page, which has the same rules.
            if child.tag in (f"{_SVG}style", f"{_SVG}metadata"):
                parent.remove(child)
    text = ElementTree.tostring(root, encoding="unicode")
    linked = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        identity = element.attrib.pop("id", None)
        if identity in linked:
            element.set("id", f"{prefix}-{identity}")
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
    value = re.sub(r"#[0-9a-fA-F]{6}\b", lambda match: f"var(--{names[match[0].lower()]})", value)
    # Text has the font of the page; matplotlib gives the family alone, or in one with the size.
    return re.sub(r"(font-family: |font: [^;']*px )[^;]*", r"\1var(--font)", value)


def _shorter(key: str, value: str) -> str:
    """Rounds coordinates to a hundredth of a pixel, which halves a figure's size."""
    if key in ("d", "x", "y", "transform", "points"):
        value = re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split()))
    return value


def date_axis(axes: Axes, theme: Theme) -> None:
    """Writes few dates, the year once."""
    # With 3 and 5 no interval fits 25 to 35 months.
    locator = AutoDateLocator(minticks=2 if theme.narrow else 3, maxticks=5 if theme.narrow else 9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.margins(x=0.01)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names the rows at 0, 1, ... from the bottom up, without ticks and lines across."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(False, axis="y")
