"""A report's page: chapters of texts, tables and figures, made HTML by page.html.j2."""

from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

import jinja2

from tftjax.evaluate.tables import Table
from tftjax.evaluate.verdict import Verdict
from tftjax.plots.theme import COLORS, Picture


class Text(NamedTuple):
    """A paragraph; `link` is a relative address that it leads to."""

    text: str
    link: str = ""


class Items(NamedTuple):
    """A list of sentences; nothing without any."""

    sentences: Sequence[str]


class Facts(NamedTuple):
    """Names and values."""

    title: str
    facts: Sequence[tuple[str, str]]


class Code(NamedTuple):
    """Text as a terminal or an editor shows it."""

    code: str


class Pair(NamedTuple):
    """Two figures side by side where there is room."""

    pictures: Sequence[Picture]


class Details(NamedTuple):
    """Parts that the reader unfolds."""

    summary: str
    parts: Sequence["Part"]


Part = Text | Items | Facts | Code | Pair | Details | Table | Picture | None  # None is nothing


class Chapter(NamedTuple):
    """Parts under a heading with an anchor."""

    anchor: str
    title: str
    parts: Sequence[Part]


class Page(NamedTuple):
    """A whole report; `verdict` comes first."""

    title: str
    subtitle: str
    verdict: Verdict
    chapters: Sequence[Chapter]


def render(page: Page) -> str:
    """The page as one HTML file that needs no other; the same page gives the same text."""
    template = resources.files("tftjax.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["kind"] = lambda part: type(part).__name__
    return environment.from_string(template).render(page=page, colors=COLORS)
