"""GARCH: the filter against arch's, later steps against simulation, parameters that are found again."""

import numpy as np
import pytest
from arch import arch_model

from tftjax.data.scales.garch import (
    KINDS,
    Garch,
    filter_variance,
    fit_garch,
    later_variances,
    residual_quantiles,
)

TRUE = Garch(mu=0.0004, omega=4e-6, alpha=0.03, gamma=0.12, beta=0.86, start=1e-4)


def simulate(garch, count, seed=0):
    shocks = np.random.default_rng(seed).normal(size=count)
    returns, variance = np.empty(count), garch.start
    for row, shock in enumerate(shocks):
        error = np.sqrt(variance) * shock
        returns[row] = garch.mu + error
        variance = garch.omega + (garch.alpha + garch.gamma * (error < 0)) * error**2 + garch.beta * variance
    return returns


def test_variance_by_hand():
    garch = Garch(mu=1.0, omega=0.5, alpha=0.1, gamma=0.2, beta=0.7, start=2.0)
    # Errors 2, -1, 0: 0.5 + 0.1 * 4 + 1.4; 0.5 + 0.3 * 1 + 0.7 * 2.3; 0.5 + 0.7 * 2.41.
    np.testing.assert_allclose(filter_variance(garch, np.array([3.0, 0.0, 1.0])), [2.0, 2.3, 2.41, 2.187])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("residuals", ["normal", "t", "skewt"])
def test_fit_and_filter_are_archs(kind, residuals):
    returns = simulate(TRUE, 3000)
    garch = fit_garch(returns, kind, residuals)
    scale = returns.std()
    model = arch_model(returns / scale, p=1, q=1, dist=residuals, rescale=False, **KINDS[kind].arguments)
    theirs = model.fit(disp="off")
    parameters = theirs.params
    expected = [parameters["mu"] * scale, parameters["alpha[1]"], parameters.get("gamma[1]", 0.0)]
    np.testing.assert_allclose([garch.mu, garch.alpha, garch.gamma], expected, rtol=1e-12)
    assert garch.start == pytest.approx(scale**2)
    if residuals != "normal":
        levels = (0.02, 0.5, 0.9)
        quantiles = model.distribution.ppf(np.array(levels), parameters.to_numpy()[-len(garch.shape) :])
        np.testing.assert_allclose(residual_quantiles(garch, levels), quantiles, rtol=1e-12)
    # Theirs begins with another variance, which is soon forgotten.
    sigma = theirs.conditional_volatility * scale
    np.testing.assert_allclose(np.sqrt(filter_variance(garch, returns))[500:-1], sigma[500:], rtol=1e-6)
    next_variance = theirs.forecast(horizon=1).variance.iloc[-1, 0] * scale**2
    assert filter_variance(garch, returns)[-1] == pytest.approx(next_variance)


def test_the_fit_finds_what_was_simulated_in_any_unit():
    returns = simulate(TRUE, 20_000)
    garch = fit_garch(returns, "gjr_garch")
    np.testing.assert_allclose(garch[:5], TRUE[:5], rtol=0.25)
    percent = fit_garch(100 * returns, "gjr_garch")
    np.testing.assert_allclose(percent[:6], np.array(garch[:6]) * [100, 1e4, 1, 1, 1, 1e4], rtol=1e-6)


def test_returns_without_a_spread_are_not_fitted():
    assert fit_garch(np.full(50, 0.01), "garch") is None


def test_egarch_by_hand():
    garch = Garch(mu=0.0, omega=0.1, alpha=0.2, gamma=-0.3, beta=0.5, start=4.0, kind="egarch")
    # The shock -6 is -3 sigmas: 0.1 + 0.2 (3 - sqrt(2 / pi)) + 0.3 * 3 + 0.5 log 4.
    size = np.sqrt(2 / np.pi)
    expected = np.exp(0.1 + 0.2 * (3 - size) + 0.9 + np.log(2))
    np.testing.assert_allclose(filter_variance(garch, np.array([-6.0])), [4.0, expected])
    shocks = np.array([-1.0, 2.0])  # mean 0.5, mean size 1.5
    ahead = later_variances(garch, np.array([4.0]), shocks, 2)
    np.testing.assert_allclose(ahead, [[4.0, np.exp(0.1 + 0.2 * (1.5 - size) - 0.15 + np.log(2))]])


def test_egarch_in_percent_is_the_same():
    returns = simulate(TRUE, 3000)
    decimal, percent = fit_garch(returns, "egarch"), fit_garch(100 * returns, "egarch")
    variances = filter_variance(decimal, returns), filter_variance(percent, 100 * returns)
    np.testing.assert_allclose(1e4 * variances[0], variances[1], rtol=1e-4)


def test_later_variances_are_those_of_many_futures():
    shocks = np.random.default_rng(0).standard_t(5, 400) * 0.8  # no mean square of 1, no symmetry
    shocks = np.where(shocks < 0, 1.2 * shocks, shocks)
    first, steps, futures = np.array([4e-4, 5e-5]), 5, 400_000
    expected = later_variances(TRUE, first, shocks, steps)
    rng = np.random.default_rng(1)
    for place in range(2):
        variance = np.full(futures, first[place])
        for step in range(steps):
            np.testing.assert_allclose(expected[place, step], variance.mean(), rtol=5e-3)
            error = np.sqrt(variance) * rng.choice(shocks, futures)
            weight = TRUE.alpha + TRUE.gamma * (error < 0)
            variance = TRUE.omega + weight * error**2 + TRUE.beta * variance
