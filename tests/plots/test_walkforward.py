"""The figure of a walk-forward on numbers by hand."""

import matplotlib.dates
import numpy as np
import pandas as pd
import pytest
from plots.test_theme import drawn_in

from tftjax.plots.theme import LIGHT, NARROW_PAGE, PNG
from tftjax.plots.walkforward import Gains, gain_by_fold, gain_charts, gain_keys, gain_picture


def gains(days, stormy=None):
    """One forecast with half the baseline's loss in the first fold, and twice in the second."""
    dates = pd.bdate_range("2005-01-03", periods=days)
    half = days // 2
    losses = pd.DataFrame({"a": [1.0] * half + [4.0] * (days - half), "best": 2.0}, dates)
    spans = pd.DataFrame(
        {"test_from": dates[[0, half]], "test_to": dates[[half - 1, -1]]}, ["x", "y"]
    ).astype(str)
    return Gains("best", losses, {"a": pd.Series([50.0, -100.0], ["x", "y"])}, spans, stormy)


@pytest.mark.parametrize("size", [PNG, NARROW_PAGE])
def test_folds_are_bars_over_their_days_and_the_line_is_the_skill_of_half_of_all_days(size):
    given = gains(40, stormy=np.arange(40) % 20 < 3)
    (axes,) = drawn_in(size, gain_by_fold, gains=given).axes
    bars = [patch for patch in axes.patches if patch.get_alpha() == 0.4]
    assert [bar.get_height() for bar in bars] == [50, -100]
    assert [bar.get_facecolor() for bar in bars] == [
        matplotlib.colors.to_rgba(LIGHT[c], 0.4) for c in ("green", "red")
    ]
    starts = [matplotlib.dates.date2num(pd.Timestamp(day)) for day in given.spans["test_from"]]
    assert [bar.get_x() for bar in bars] == starts
    assert len(axes.patches) - len(bars) == 2  # stretches of stormy days
    skill = axes.get_lines()[0].get_ydata()
    assert len(skill) == 21
    assert (skill[0], skill[-1]) == (50, -100)
    # 1 of 80 is gained on each of 20 days, then 2 are lost on each of 20.
    so_far = axes.get_lines()[1].get_ydata()
    np.testing.assert_allclose(so_far[[0, 19, 39]], [1.25, 25, -25])
    assert [key.label for key in gain_keys(given)][2:] == [
        "rolling 20 dates",
        "so far, % of the whole loss",
        "stormy",
    ]


def test_the_chart_has_the_numbers_of_the_figure():
    chart = gain_charts(gains(40, stormy=np.arange(40) % 20 < 3))["a"]
    rolling, so_far, fold = (line.values for line in chart.lines)
    assert np.isnan(rolling[:19]).all()
    assert (rolling[19], rolling[-1]) == (50, -100)
    np.testing.assert_allclose(so_far[[0, 19, 39]], [1.25, 25, -25])
    assert fold.tolist() == [50.0] * 20 + [-100.0] * 20
    assert chart.shaded == [(0, 3), (20, 23)]
    assert [len(line.values) for line in gain_charts(gains(10))["a"].lines] == [10, 10]


def test_few_days_have_no_rolling_line():
    (axes,) = drawn_in(PNG, gain_by_fold, gains=gains(10)).axes
    assert len(axes.get_lines()) == 2  # so far, and zero
    assert gain_picture(gains(10)).alt == "Better than best, of 2 folds: a in 1."
