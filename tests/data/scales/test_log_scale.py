"""The regression of log volatility: its features by hand, its fit against scipy and on real data."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from tftjax.data.scales import log_scale
from tftjax.data.scales.garch import Garch

DAYS = pd.bdate_range("2001-01-03", periods=401)  # a Wednesday


def series(num_rows=401, seed=0):
    """Returns of Student's t whose log sigma is 0.6 times a column, known a row before, minus 4."""
    rng = np.random.default_rng(seed)
    column = rng.normal(size=num_rows)
    sigma = np.exp(np.append(0.0, 0.6 * column[:-1]) - 4)
    return sigma * rng.standard_t(5, num_rows), column


def test_features_by_hand():
    returns = np.array([0.02, -0.01, 0.03])
    garch = Garch(mu=0.0, omega=1e-4, alpha=0.5, gamma=0.5, beta=0.25, start=4e-4)
    found = log_scale.features(returns, DAYS[[0, 1, 2]], np.array([20.0, np.nan, 40.0]), garch)
    moving = np.sqrt(np.average(returns**2, weights=[0.94**2, 0.94, 1]))
    fast = np.sqrt(np.average(returns**2, weights=[0.8**2, 0.8, 1]))
    expected = {
        "log_mean_abs_1": np.log(0.03 + 0.1 * moving),
        "log_mean_abs_5": np.log(0.02 + 0.1 * moving),
        "log_semideviation_5": np.log(0.01 / np.sqrt(3) + 0.1 * moving),
        "log_ewma": np.log(moving),
        "log_fast_ewma": np.log(fast),
        "log_volatility": np.log(40),
        "log_volatility_21": np.log(20 * 20 * 40) / 3,
        "log_volatility_change_1": np.log(2),
        "return_1": 0.03 / 40,
        "loss_1": 0.0,
        "return_5": 0.04 / 40,
        # 1e-4 + 0.5 * 4e-4 + 0.25 * 4e-4 = 4e-4; then a loss; then a gain.
        "log_garch": np.log(1e-4 + 0.5 * 9e-4 + 0.25 * (1e-4 + 1e-4 + 0.25 * 4e-4)) / 2,
    }
    for name, value in expected.items():
        assert found[name][2] == pytest.approx(value), name
    assert found["loss_1"][1] == pytest.approx(-0.01 / 20)  # the last known value of a column stays
    assert np.isnan(found["log_volatility_change_5"]).all()


def test_the_next_date_is_known():
    # Wednesday 3, Thursday 4, Friday 5, Monday 8, ...; Tuesday 23 is a holiday.
    days = DAYS[:30].delete(14)
    found = log_scale.features(np.full(len(days), 0.01), days, None, None)
    assert found["monday"][:5].tolist() == [0, 0, 1, 0, 0]
    assert found["friday"][:5].tolist() == [0, 1, 0, 0, 0]
    assert np.flatnonzero(found["after_gap"][:-1]).tolist() == [13]
    assert all(np.isnan(found[name][-1]) for name in ("monday", "friday", "after_gap"))
    assert not any("volatility" in name for name in found)


def test_a_volatility_that_is_not_above_zero_is_missing():
    found = log_scale.features(np.full(3, 0.01), DAYS[:3], np.array([-1.0, 0.0, 20.0]), None)
    assert np.isnan(found["log_volatility"]).tolist() == [True, True, False]


def test_the_gradient_is_that_of_the_loss():
    returns, column = series(97)
    design = np.column_stack([column, np.abs(column)])
    at = np.array([0.3, 0.1, 0.7, -0.2, 0.4])
    numeric = optimize.approx_fprime(at, lambda x: log_scale._loss(x, design, 50 * returns, 10.0)[0], 1e-6)
    np.testing.assert_allclose(
        log_scale._loss(at, design, 50 * returns, 10.0)[1], numeric, rtol=1e-3, atol=1e-3
    )


def test_the_loss_is_the_likelihood_of_student_t():
    returns = np.array([0.5, -2.0, 1.0])
    design = np.array([[1.0], [0.0], [-1.0]])
    found, _ = log_scale._loss(np.array([0.2, 0.1, np.log(3.0), 0.4]), design, returns, 10.0)
    sigma = np.exp(0.2 + 0.4 * design[:, 0])
    density = stats.t.logpdf(returns / sigma - 0.1, 5) - np.log(sigma)
    assert found == pytest.approx(5 * 0.4**2 - density.sum())


@pytest.mark.parametrize("unit", [1.0, 100.0])
def test_the_fit_finds_what_was_simulated_in_any_unit(unit):
    returns, column = series(20_001)
    model = log_scale.fit(column[:-1, None], unit * returns[1:], ridge=0.0)
    assert model.weights[0] == pytest.approx(0.6, abs=0.02)
    low, high = log_scale.sigma(model, np.array([[-1.0], [1.0]])) / unit
    np.testing.assert_allclose([low, high], np.exp([-4.6, -3.4]), rtol=0.03)


def test_missing_and_constant_features_count_as_their_mean():
    returns, column = series()
    missing = np.where(np.arange(401) % 7 == 3, np.nan, column)[:-1]
    alone = log_scale.fit(missing[:, None], returns[1:])
    design = np.column_stack([missing, np.full(400, 7.3), np.full(400, np.nan)])
    model = log_scale.fit(design, returns[1:])
    np.testing.assert_allclose(model.weights, [alone.weights[0], 0, 0], atol=1e-4)
    sigma = log_scale.sigma(model, np.array([[np.nan, 8.0, 5.0], [np.nanmean(missing), 7.3, np.nan]]))
    np.testing.assert_allclose(sigma, np.exp(model.intercept), rtol=1e-12)


def test_sigma_does_not_explode_where_a_column_does():
    returns, column = series()
    model = log_scale.fit(column[:-1, None], returns[1:])
    seen = log_scale.sigma(model, column[:-1, None])
    wild = log_scale.sigma(model, np.array([[-1e9], [1e9]]))
    np.testing.assert_allclose(wild, [seen.min() / 10, seen.max() * 10])


def test_what_cannot_be_fitted_is_none():
    returns, column = series()
    assert log_scale.fit(column[:5, None], returns[1:6]) is not None
    assert log_scale.fit(column[:4, None], returns[1:5]) is None  # not more than its parameters
    assert log_scale.fit(column[:-1, None], np.zeros(400)) is None
    assert log_scale.fit(np.empty((0, 2)), np.empty(0)) is None


@pytest.mark.parametrize("zeros", [0.0, 0.4, 0.8])
def test_a_student_t_is_found_or_at_least_wide_enough(zeros):
    values = 0.02 + 0.3 * np.random.default_rng(4).standard_t(5, 4001)
    values[: int(zeros * len(values))] = 0.0
    location, log_spread, freedom = log_scale.fit_student_t(values)
    if not zeros:
        expected = stats.t.fit(values)
        np.testing.assert_allclose([freedom, location, np.exp(log_spread)], expected, rtol=0.01, atol=1e-3)
    assert np.exp(log_spread) >= 0.1 * np.sqrt(np.mean(values**2)) * (1 - 1e-9)
    assert 2.05 <= freedom <= 405.1


def test_what_is_usual_follows_from_the_dates_so_far():
    days = pd.bdate_range("2001-01-31", periods=200, freq="BME")
    whole = log_scale.features(np.full(200, 0.01), days, None, None)["after_gap"]
    cut = log_scale.features(np.full(61, 0.01), days[:61], None, None)["after_gap"]
    np.testing.assert_array_equal(whole[:60], cut[:60])
