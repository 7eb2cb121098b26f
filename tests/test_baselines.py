"""Baselines: hand-computed quantiles, shapes, and no use of rows beyond the train split."""

import numpy as np
import pandas as pd
import pytest

from tftjax.baselines import BASELINES, unconditional_quantiles
from tftjax.config import UserError


def test_unconditional_quantiles_by_hand():
    # Sorted 0 1 2 4; level q lies at position 3 q: 0.25 -> 0.75, 0.5 -> 1.5, 0.9 -> 2.7.
    result = unconditional_quantiles(np.array([4.0, 0.0, 2.0, 1.0]), (0.25, 0.5, 0.9), 5, 2)
    assert result.shape == (5, 2, 3)
    np.testing.assert_allclose(result, np.broadcast_to([0.75, 1.5, 2 + 0.7 * 2], (5, 2, 3)), rtol=1e-12)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_have_the_shape_of_the_model_and_ascend(name):
    returns = np.random.default_rng(3).normal(0, 0.01, 53)
    rows = np.arange(41, 48)[:, None] + np.arange(3)
    forecast = BASELINES[name](returns, range(31), rows, (0.1, 0.5, 0.9))
    assert forecast.shape == (7, 3, 3)
    assert forecast.dtype == np.float64
    assert (np.diff(forecast, axis=-1) > 0).all()


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_are_causal(name):
    returns = np.random.default_rng(3).normal(0, 0.01, 53)
    rows = np.arange(41, 48)[:, None] + np.arange(3)
    forecast = BASELINES[name](returns, range(31), rows, (0.1, 0.5, 0.9))
    changed = returns.copy()
    changed[44:] = 9.0  # the first target rows 41 .. 44 have only older returns to go by
    np.testing.assert_array_equal(
        BASELINES[name](changed, range(31), rows, (0.1, 0.5, 0.9))[:4], forecast[:4]
    )


def test_unconditional_looks_at_train_rows_only():
    returns = np.array([7.0, 1.0, 2.0, 3.0, 100.0, 100.0])
    forecast = BASELINES["unconditional"](returns, range(1, 4), np.array([[4], [5]]), (0.5,))
    np.testing.assert_array_equal(forecast, [[[2.0]], [[2.0]]])


def test_missing_train_returns_are_refused():
    with pytest.raises(UserError, match="row 1 of them is nan"):
        unconditional_quantiles(np.array([0.1, np.nan]), (0.5,), 1, 1)
    with pytest.raises(UserError, match="there are none"):
        unconditional_quantiles(np.array([]), (0.5,), 1, 1)


def test_ewma_scaled_by_hand():
    # Weights of the squares: 1; 0.94, 1; 0.94^2, 0.94, 1; ...
    returns = np.array([2.0, -2.0, 3.0, 1.0, -5.0, 7.0])
    forecast = BASELINES["ewma_scaled"](returns, range(0, 4), np.array([[4], [5]]), (0.5,))
    before_3 = (0.94**2 * 4 + 0.94 * 4 + 9) / (0.94**2 + 0.94 + 1)
    before_4 = (0.94 * (0.94**2 * 4 + 0.94 * 4 + 9) + 1) / (0.94**3 + 0.94**2 + 0.94 + 1)
    before_5 = (0.94**4 * 4 + 0.94**3 * 4 + 0.94**2 * 9 + 0.94 + 25) / sum(0.94**n for n in range(5))
    scaled = np.median([3.0 / 2.0, 1.0 / np.sqrt(before_3)])  # the first half of the train rows is left out
    np.testing.assert_allclose(forecast[:, 0, 0], scaled * np.sqrt([before_4, before_5]), rtol=1e-12)


def test_ewma_scaled_agrees_with_pandas():
    returns = np.random.default_rng(5).normal(0, 0.01, 97)
    rows = np.arange(71, 97)[:, None]
    forecast = BASELINES["ewma_scaled"](returns, range(71), rows, (0.1, 0.5))
    volatility = np.sqrt(pd.Series(returns**2).ewm(alpha=0.06, adjust=True).mean().to_numpy())
    levels = np.quantile(returns[20:71] / volatility[19:70], (0.1, 0.5))
    np.testing.assert_allclose(forecast[:, 0], levels * volatility[70:96, None], rtol=1e-12)
