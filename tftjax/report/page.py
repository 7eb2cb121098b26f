"""A report's page: chapters of texts, tables and figures, made HTML by page.html.j2."""

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple

import jinja2

from tftjax.evaluate.tables import Table
from tftjax.evaluate.verdict import Verdict
from tftjax.plots.chart import packed
from tftjax.plots.theme import COLORS, GROUNDS, Picture
from tftjax.report.terms import terms_in

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif'
SHELL = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<title>{{ title }}: forecast report</title>
<style>{{ style | safe }}</style>
</head>
<body>
{{ body | safe }}
<script>{{ script | safe }}</script>
</body>
</html>
"""
MAX_CHARTS = 100  # in a choice: of a panel, see `run.fan_of`, 150 KB


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


class Since(NamedTuple):
    """A day; the page's script says how long ago it was."""

    day: str


Part = Text | Items | Facts | Code | Pair | Details | Since | Table | Picture | None  # None is nothing


class Chapter(NamedTuple):
    """Parts under a heading with an anchor."""

    anchor: str
    title: str
    parts: Sequence[Part]


class Page(NamedTuple):
    """A whole report.

    Attributes:
      title, subtitle: what it is about.
      verdict: what comes first; an index has none.
      answers: what a reader asks next, beside each other.
      picture: the last of the first screen.
      chapters: all the rest.
    """

    title: str
    subtitle: str
    verdict: Verdict | None
    answers: Sequence[Chapter]
    picture: Picture | None
    chapters: Sequence[Chapter]


def render(page: Page) -> str:
    """The page as one HTML file that needs no other; the same page gives the same text.

    Style and script stand in it with the hash that its content policy allows, and nothing else may run. So
    that no element has a style of its own, those of figures become classes, which takes half of their size.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"kind": lambda part: type(part).__name__, "charts": _charts}
    body = environment.from_string(_file("page.html.j2")).render(page=page, terms=terms_in)
    classes: dict[str, str] = {}

    def name(match: re.Match) -> str:
        return f'{match[1]} class="{classes.setdefault(match[2], f"s{len(classes)}")}"'

    body = re.sub(r'(<[^<>]*) style="([^"]*)"', name, body)
    rules = "".join(f".{name} {{ {html.unescape(style)} }}\n" for style, name in classes.items())
    style, script = f"{_colors()}{_file('page.css')}{rules}", _file("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none';"
        " form-action 'none'"
    )
    parts = {"title": page.title, "policy": policy, "style": style, "body": body, "script": script}
    return environment.from_string(SHELL).render(parts)


def _file(name: str) -> str:
    return resources.files("tftjax.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _colors() -> str:
    """The page's colours as variables of CSS, light and dark."""
    light, dark = (
        "".join(f" --{name}: {pair[side]};" for name, pair in (GROUNDS | COLORS).items()) for side in (0, 1)
    )
    return (
        f":root {{ --font: {FONT};{light} }}\n@media (prefers-color-scheme: dark) {{ :root {{{dark} }} }}\n"
    )


def _charts(picture: Picture) -> list[tuple[str, dict[str, Any]]]:
    """What the page's script draws, as JSON: a list, as JSON's keys are sorted and a script's too."""
    return [(name, packed(chart)) for name, chart in picture.charts.items()]
