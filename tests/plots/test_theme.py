"""The two themes: a page's colours, ids and readable text; a file that is the same twice."""

import struct

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from tftjax.errors import UserError
from tftjax.plots import theme
from tftjax.plots.theme import COLORS, GROUNDS, LIGHT, NARROW_PAGE, PAGE, PNG, Key, themed


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def drawn_in(size, function, **arrays):
    """A figure with what a function draws in a theme."""
    figure = Figure(figsize=(size.width / 72, 1))
    function(figure, size, **arrays)
    return figure


def dots(figure, size):
    size.set_height(figure, 600, 900)
    figure.subplots().plot([1, 2], [3, 4], "o", color=LIGHT["blue"])


def test_a_figure_is_as_high_as_its_content_and_a_file_at_least_as_a_screen():
    heights = {size: 72 * drawn_in(size, dots).get_figheight() for size in (PNG, PAGE, NARROW_PAGE)}
    assert heights == pytest.approx({PNG: 670, PAGE: 600, NARROW_PAGE: 900})
    figure = Figure()
    PNG.set_height(figure, 100)
    assert 72 * figure.get_figheight() == pytest.approx(504)


def test_the_same_picture_is_the_same_file(tmp_path):
    legend = [Key("a $5_", "blue", "dot"), Key("b", "red", "band", 0.2), Key("c", "ink", "dashed")]
    for name in ("a", "b"):
        theme.save(tmp_path / f"{name}.png", theme.Drawing(dots, "twice", legend))
    assert png_size(tmp_path / "a.png") == (1200, 930)  # 670 of 72 an inch, at 100 an inch
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}


def test_text_of_data_is_drawn_as_it_is(tmp_path):
    """As a formula it could not be drawn."""
    name = r"A&B, $\nonsense{$"

    def named(figure, size):
        dots(figure, size)
        theme.name_rows(figure.axes[0], [name, name])
        figure.axes[0].set_title(name)

    with matplotlib.rc_context({"text.usetex": True}):  # which a user may have set
        theme.save(tmp_path / "a.png", theme.Drawing(named, name, [Key(name, "blue")]))
        assert theme.drawn(named, PAGE).count(r"$\nonsense{$") == 3
    theme.figure_of(theme.Drawing(named, name, [Key(name, "blue")])).savefig(tmp_path / "b.png")


@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_name_with_characters_of_control_is_drawn():
    def named(figure, size):
        figure.subplots().set_title("a\0b\x0bc\u20acd\U0001f4c8")

    assert ">a\ufffdb\ufffdc\u20acd\U0001f4c8</text>" in themed(theme.drawn(named, PAGE), "a", "alt")


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match=r"absent/a\.png: cannot be written \(No such file"):
        theme.save(tmp_path / "absent" / "a.png", theme.Drawing(dots, "a"))


def test_more_lines_than_colours_differ_in_style():
    keys = theme.series_keys(range(24))
    assert len({(key.color, key.shape) for key in keys}) == 24
    assert keys[0].line == {"color": LIGHT["blue"], "linestyle": "solid"}


SVG = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
 width="9pt" viewBox="0 0 9 9">
<metadata/><defs><style>*{a:b}</style><path id="m1" d="M 1.23456 2"/></defs>
<g id="axes_1"><use xlink:href="#m1" style="fill: #1f5fa8"/></g><text style="font: 10px 'A', serif">x</text>
<text style="font-family: 'A', serif; fill: #1b2026">y</text>
<g clip-path="url(#p1)"/><clipPath id="p1"/></svg>"""
THEMED = (
    '<svg viewBox="0 0 9 9" role="img" aria-label="a &quot;b&quot;">',
    '<defs><path d="M 1.23 2" id="fan-m1" /></defs>',
    '<g><use style="fill: var(--blue)" href="#fan-m1" /></g>',
    '<text style="font: 10px var(--font)">x</text>',
    '<text style="font-family: var(--font); fill: var(--ink)">y</text>',
    '<g clip-path="url(#fan-p1)" /><clipPath id="fan-p1" /></svg>',
)


def test_figures_take_the_pages_colours_and_ids_of_their_own():
    assert themed(SVG, "fan", 'a "b"').replace("\n", "") == "".join(THEMED)
    with pytest.raises(KeyError):
        themed(SVG.replace("#1f5fa8", "#123456"), "fan", "")


def contrast(a, b):
    """Of two colours, as WCAG 2 defines it."""

    def luminance(color):
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_read_on_both_pages():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    for name, pair in COLORS.items():
        for side, color in enumerate(pair):
            page, box = (GROUNDS[ground][side] for ground in ("page", "raised"))
            tint = _mixed(page, COLORS["muted"][side], 0.06)  # under the rows of models, see page.css
            for ground in (page, box, tint):
                assert name == "grid" or contrast(color, ground) >= 4.5, (name, color, ground)


def _mixed(ground, color, share):
    parts = [[int(hue[place : place + 2], 16) for place in (1, 3, 5)] for hue in (ground, color)]
    return "#" + "".join(f"{round((1 - share) * a + share * b):02x}" for a, b in zip(*parts, strict=True))


@pytest.mark.parametrize("months", [2, 11, 25, 30, 35, 50])
def test_dates_of_any_span_have_ticks(months):
    """matplotlib warns, which is an error here, where no interval of ticks fits."""
    for size in (PAGE, NARROW_PAGE):
        figure = Figure()
        axes = figure.subplots()
        axes.plot(pd.date_range("2015-08-27", periods=months * 30), np.zeros(months * 30))
        theme.date_axis(axes, size)
        assert 2 <= len(axes.get_xticks()) <= 9
