"""GARCH: the filter against arch's, later steps against simulation, parameters that are found again."""

import numpy as np
import pytest
from arch import arch_model

from tftjax.evaluate.baselines import Garch, filter_variance, fit_garch, later_variances

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


@pytest.mark.parametrize("asymmetric", [False, True])
def test_fit_and_filter_are_archs(asymmetric):
    returns = simulate(TRUE, 3000)
    garch = fit_garch(returns, asymmetric=asymmetric)
    scale = returns.std()
    theirs = arch_model(returns / scale, p=1, o=int(asymmetric), q=1, rescale=False).fit(disp="off")
    expected = [theirs.params["mu"] * scale, theirs.params["omega"] * scale**2, theirs.params["alpha[1]"]]
    expected += [theirs.params.get("gamma[1]", 0.0), theirs.params["beta[1]"], scale**2]
    np.testing.assert_allclose(garch, expected, rtol=1e-12)
    # Theirs begins with another variance, which is soon forgotten.
    sigma = theirs.conditional_volatility * scale
    np.testing.assert_allclose(np.sqrt(filter_variance(garch, returns))[500:-1], sigma[500:], rtol=1e-6)
    next_variance = theirs.forecast(horizon=1).variance.iloc[-1, 0] * scale**2
    assert filter_variance(garch, returns)[-1] == pytest.approx(next_variance)


def test_the_fit_finds_what_was_simulated_in_any_unit():
    returns = simulate(TRUE, 20_000)
    garch = fit_garch(returns, asymmetric=True)
    np.testing.assert_allclose(garch[:5], TRUE[:5], rtol=0.25)
    percent = fit_garch(100 * returns, asymmetric=True)
    np.testing.assert_allclose(percent, np.array(garch) * [100, 1e4, 1, 1, 1, 1e4], rtol=1e-6)


def test_returns_without_a_spread_are_not_fitted():
    assert fit_garch(np.full(50, 0.01), asymmetric=False) is None


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
