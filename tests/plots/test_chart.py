"""The numbers of figures, and plotly's figures of them."""

import sys

import numpy as np
import pandas as pd
import pytest
from plots.test_forecasts import case
from plots.test_interpretation import ATTENTION, IMPORTANCE
from plots.test_training import records

from tftjax.errors import UserError
from tftjax.evaluate.formatting import RETURNS, Unit
from tftjax.plots import forecasts, interpretation, training
from tftjax.plots.chart import Band, Chart, Line, opacities, plotly_figure
from tftjax.plots.theme import Key


def test_bands_are_as_dark_together_as_their_keys_say():
    bands = [Band(Key("", "blue", "band", opacity), *np.zeros((2, 1))) for opacity in (0.2, 0.6)]
    assert opacities(bands) == pytest.approx([0.2, 0.5])  # 1 - 0.8 x 0.5 = 0.6


def test_a_fan_of_plotly_has_the_numbers_of_the_other():
    arrays = case(307)
    figure = plotly_figure([forecasts.fan_data(**arrays)], "a <b>")
    assert figure.layout.title.text == "a <b>"
    assert figure.layout.yaxis.title.text == "return, %"
    traces = {trace.name: trace for trace in figure.data}
    assert [*traces] == ["80 %, lower", "80 %, upper", "50 %, lower", "50 %, upper", "median", "actual"]
    for name, column in (("80 %, lower", 0), ("50 %, upper", 3), ("median", 2)):
        np.testing.assert_allclose(traces[name].y, 100 * arrays["forecast"][-252:, column])
    np.testing.assert_allclose(traces["actual"].y, 100 * arrays["actual"][-252:])
    assert pd.DatetimeIndex(traces["actual"].x).equals(arrays["dates"][-252:].rename(None))
    assert [traces[name].fill for name in ("80 %, lower", "80 %, upper")] == [None, "tonexty"]
    assert traces["actual"].mode == "markers"


def test_levels_are_drawn_in_their_own_unit():
    arrays = case(5)
    chart = forecasts.fan_data(**arrays, unit=Unit(1.0, "level", ".6g"))
    np.testing.assert_array_equal(chart.lines[1].values, arrays["actual"])
    assert chart.y_title == "level"


def test_other_figures_of_plotly():
    course = plotly_figure(training.course_data(records(3)), "course")
    loss = next(trace for trace in course.data if trace.name == "train")
    np.testing.assert_allclose(loss.y, [1e3 * record["loss"] for record in records(3)])
    assert len(course.data) == 20
    assert course.layout.yaxis6.type == "log"
    encoder, *_, decoder = plotly_figure(interpretation.importance_data(IMPORTANCE), "importance").data
    assert (list(encoder.x), list(encoder.y)) == (["b", "a_$"], [80, 20])
    assert list(decoder.y) == [100]
    low, _, mean = plotly_figure([interpretation.attention_data(ATTENTION)], "attention").data
    assert (list(mean.x), list(mean.y), list(low.y)) == ([0, 1], [25, 75], [12.5, 12.5])
    shares = {"model": np.array([0.2, 0.5]), "other": np.array([0.1, 0.6])}
    chart = forecasts.calibration_data(shares, (0.1, 0.5))
    model, other = plotly_figure([chart], "calibration").data
    np.testing.assert_allclose([model.y, other.y], [[10, 0], [0, 10]], atol=1e-12)
    shaded = Chart(
        [1, 2, 3], "y", [Line(Key("a", "ink"), np.zeros(3))], shaded=[(1, 2)], shade=forecasts.STORMY
    )
    (area,) = plotly_figure([shaded], "").layout.shapes
    assert (area.x0, area.x1) == (2, 3)


def test_plotly_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.subplots", None)
    with pytest.raises(UserError, match=r"plotly is not installed.*tftjax\[plots\]"):
        plotly_figure([], "")


def test_a_number_has_the_unit_of_the_data():
    assert RETURNS.text(0.02) == "+2.00 %"
    assert Unit(1.0, "level", ".6g").text(1234.5678) == "1234.57"
