"""Figures of selection and attention on tables by hand."""

import numpy as np
import pandas as pd
import pytest
from plots.test_theme import drawn_in

from tftjax.plots import interpretation, theme
from tftjax.plots.theme import LIGHT, NARROW_PAGE, PNG

IMPORTANCE = pd.DataFrame(
    [
        ("test", "encoder", "a_$", 0.2, 0.1, 0.3),
        ("test", "encoder", "b", 0.8, 0.7, 0.9),
        ("test", "decoder", "c", 1, 1, 1),
    ],
    columns=["split", "kind", "variable", "mean", "p10", "p90"],
)
ATTENTION = pd.DataFrame(
    {"split": "test", "horizon": [1, 1, 2], "step": [0, 1, 0], "mean": [0.25, 0.75, 1.0]}
)
ATTENTION = ATTENTION.assign(p10=0.125, p90=0.875)


@pytest.mark.parametrize("size", [PNG, NARROW_PAGE])
def test_importance(size):
    encoder, decoder = drawn_in(size, interpretation.importance, table=IMPORTANCE).axes
    assert [label.get_text() for label in encoder.get_yticklabels()] == ["a_$", "b"]  # the heaviest on top
    assert [bar.get_width() for bar in encoder.patches] == [20, 80]
    assert [bar.get_width() for bar in decoder.patches] == [100]
    assert len(encoder.collections) == 1  # no regimes, no marks


@pytest.mark.parametrize("size", [PNG, NARROW_PAGE])
def test_all_bars_are_of_one_width(size):
    figure = theme._figure(lambda *given: interpretation.importance(*given, table=IMPORTANCE), size)
    figure.draw_without_rendering()
    heights = [bar.get_window_extent().height for axes in figure.axes for bar in axes.patches]
    assert heights == pytest.approx([heights[0]] * 3, rel=1e-3)


def test_marks_are_those_of_the_last_division_of_regimes():
    table = IMPORTANCE.assign(**{"VIX: low": 0.5, "router: x": [0.25, 0.5, 1], "router: y": 0.75})
    encoder, _ = drawn_in(PNG, interpretation.importance, table=table).axes
    _, x, y = encoder.collections
    assert x.get_offsets().tolist() == [[25, 0], [50, 1]]
    assert y.get_offsets().tolist() == [[75, 0], [75, 1]]
    keys = interpretation.regime_keys(["router: x", "router: y"])
    assert [(key.label, key.shape) for key in keys] == [("router: x", "dot"), ("router: y", "square")]


@pytest.mark.parametrize("heads", [0, 2])
def test_attention_by_lag_of_the_first_horizon(heads):
    table = ATTENTION.assign(**{f"head {number}": 0.5 / number for number in range(1, heads + 1)})
    (axes,) = drawn_in(PNG, interpretation.attention_by_lag, table=table).axes
    mean, *others = axes.get_lines()
    np.testing.assert_array_equal(mean.get_xydata(), [[0, 25], [1, 75]])
    assert [line.get_ydata().tolist() for line in others] == [[50, 50], [25, 25]][:heads]
    keys = interpretation.head_keys(table)
    assert [line.get_color() for line in others] == [LIGHT[key.color] for key in keys]
    assert [key.label for key in keys] == ["head 1", "head 2"][:heads]


def test_attention_over_time_is_averaged_where_windows_are_many(monkeypatch):
    monkeypatch.setattr(interpretation, "MAX_COLUMNS", 2)
    dates = pd.bdate_range("2020-01-01", periods=4)
    table = pd.DataFrame(
        {"date": dates, "split": "test", "-1": [0.2, 0.4, 0.6, 0.8], "0": [0.8, 0.6, 0.4, 0.2]}
    )
    axes, bar = drawn_in(PNG, interpretation.attention_over_time, table=table).axes
    np.testing.assert_allclose(axes.collections[0].get_array(), [[0.3, 0.7], [0.7, 0.3]])
    assert bar.get_ylabel() == "attention"
