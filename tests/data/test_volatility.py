"""Volatilities by hand, and what counts as stormy."""

import numpy as np
import pandas as pd

from tftjax.data.panel import make_panel
from tftjax.data.volatility import (
    ewma_volatility,
    known_volatility,
    storminess,
    stormy_days,
)


def test_moving_volatility_by_hand():
    volatility = ewma_volatility(np.array([0.0, 0.03, -0.01, np.nan, 0.02]))
    second = 0.03**2 / (1 + 0.94)
    third = (0.94 * 0.03**2 + 0.01**2) / (1 + 0.94 + 0.94**2)
    np.testing.assert_allclose(volatility[:3], [1e-8, np.sqrt(second), np.sqrt(third)], rtol=1e-12)
    assert np.isnan(volatility[3:]).all()


def test_moving_volatility_agrees_with_the_recursion():
    returns = np.random.default_rng(2).normal(0, 0.01, 5003)
    returns[1000:1500] = 0.0
    expected, total, weight = [], 0.0, 0.0
    for value in returns:
        total, weight = 0.94 * total + value**2, 0.94 * weight + 1.0
        expected.append(np.sqrt(total / weight))
    np.testing.assert_allclose(ewma_volatility(returns), np.maximum(expected, 1e-8), rtol=1e-12)


def test_the_known_volatility_is_by_series():
    rows = pd.DataFrame(
        {"name": ["a", "a", "a", "b", "b"], "r": [0.02, 0, 0, 0.03, 0], "VIX": [9, np.nan, 7, np.nan, 5]},
        pd.bdate_range("2005-01-03", periods=3).append(pd.bdate_range("2005-01-03", periods=2)),
    )
    panel = make_panel(
        rows, target="r", observed=("r", "VIX"), static_categorical=("name",), id_column="name"
    )
    np.testing.assert_array_equal(known_volatility(panel, "VIX"), [9, 9, 7, np.nan, 5])
    np.testing.assert_allclose(known_volatility(panel)[[0, 3]], [0.02, 0.03])


def test_storminess_counts_quantiles():
    reference = np.array([4.0, 1.0, np.nan, 3.0, 2.0])  # thirds at 2 and 3, median 2.5
    volatility = np.array([2.0, 2.6, 3.0, 3.1, np.nan])
    assert storminess(volatility, reference, (1 / 3, 2 / 3)).tolist() == [0, 1, 1, 2, 0]
    assert storminess(volatility, reference, (2 / 3,)).tolist() == [0, 0, 0, 1, 0]
    assert storminess(volatility, reference, (0.5,)).tolist() == [0, 1, 1, 1, 0]


def test_stormy_days_look_at_the_days_before():
    """The volatility jumps with the return of row 20: row 20 itself could not know it."""
    days = pd.bdate_range("2001-01-01", periods=30, name="date")
    returns = np.where(np.arange(30) % 2, 0.001, -0.001)
    returns[20] = 0.05
    panel = make_panel(pd.DataFrame({"r": returns}, index=days), target="r", observed=("r",))
    stormy = stormy_days(panel, days[15:], days < days[10])
    assert not stormy[:6].any()
    assert stormy[6:].all()
