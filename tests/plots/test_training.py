"""The course of a training as a figure: what is drawn is what the lines say."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from plots.test_theme import drawn_in, png_size
from tiny import HEALTHY

from tftjax.plots import theme, training
from tftjax.plots.theme import NARROW_PAGE, PAGE, PNG


def records(epochs, warned=()):
    """Lines of metrics.jsonl with numbers that differ from epoch to epoch and from name to name."""
    names = [*HEALTHY, *(n.replace("gradient", "update") for n in HEALTHY if "norm" in n)]
    names += ["loss", "val/loss", "sigma", "share_positive", "output_to_encoder_gradient"]
    return [
        {name: (place + 1) * 0.1**epoch for place, name in enumerate(names)}
        | {"epoch": epoch, "warnings": {"few": "3 of 9"} if epoch in warned else {}}
        for epoch in range(1, epochs + 1)
    ]


@pytest.mark.parametrize(("size", "columns"), [(PNG, 3), (PAGE, 3), (NARROW_PAGE, 1)])
def test_every_quantity_has_its_line_in_its_unit(size, columns):
    lines = records(3, warned=(2,))
    figure = drawn_in(size, training.course, records=lines, best_epoch=2)
    assert figure.axes[0].get_gridspec().ncols == columns
    drawn = 0
    for axes, subplot in zip(figure.axes, training.SUBPLOTS, strict=False):
        assert axes.get_title(loc="left") + axes.get_title() == subplot.title
        found = {line.get_label(): line for line in axes.get_lines()}
        for name, (label, factor) in subplot.lines.items():
            np.testing.assert_allclose(found[label].get_ydata(), [factor * line[name] for line in lines])
            np.testing.assert_array_equal(found[label].get_xdata(), [1, 2, 3])
            drawn += 1
        assert len(axes.patches) == 1  # the epoch with a warning
        assert list(axes.get_lines()[-1].get_xdata()) == [2, 2]  # the best epoch
    assert drawn == 20
    assert not any(axes.get_visible() for axes in figure.axes[8:])


@pytest.mark.parametrize("size", [PNG, NARROW_PAGE])
def test_no_legend_lies_over_a_line_or_a_title(size):
    figure = drawn_in(size, training.course, records=records(5), best_epoch=5)
    figure.draw_without_rendering()
    legends = [axes for axes in figure.axes if axes.get_legend() is not None]
    assert len(legends) == 6
    for axes in legends:
        box = axes.get_legend().get_window_extent()
        titles = (axes.title, axes._left_title)
        (title,) = (text.get_window_extent() for text in titles if text.get_text())
        assert axes.bbox.y1 <= box.y0
        assert box.y1 <= title.y0 + 2
        assert box.x1 <= figure.bbox.x1


def test_the_picture_of_an_interrupted_training_of_an_earlier_version(tmp_path):
    old = [{"epoch": epoch, "loss": 0.002, "val/loss": 0.003} for epoch in (1, 2)]
    for name in ("a.png", "b.png"):
        theme.save(tmp_path / name, training.course_drawing(old, 1, "old"))
    assert png_size(tmp_path / "a.png") == (1200, 993)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_title_names_warnings(tmp_path, monkeypatch):
    titles, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda figure, *a, **k: (titles.append(figure.get_suptitle()), savefig(figure, *a, **k)),
    )
    for warned in ((2,), ()):
        theme.save(tmp_path / "a.png", training.course_drawing(records(2, warned), 1, "a_$b"))
    keys = [training.course_drawing(records(2, warned), 1, "").legend for warned in ((2,), ())]
    assert [[key.label for key in own] for own in keys] == [
        ["best epoch", "epoch with a warning"],
        ["best epoch"],
    ]
    assert titles == ["a_$b: course of training, warnings: few", "a_$b: course of training, no warnings"]
