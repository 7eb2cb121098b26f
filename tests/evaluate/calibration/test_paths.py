"""Sample paths: their steps are the forecast's, their dependence is that of the past."""

import numpy as np
from scipy import stats

from tftjax.evaluate.calibration.levels import normal_scores, quantiles_at
from tftjax.evaluate.calibration.paths import path_levels, path_ranks, shuffled

LEVELS = (0.05, 0.3, 0.5, 0.9)


def test_ranks_by_hand():
    """All three past windows are drawn, once each: their ranks, in whatever order."""
    past = np.array([[0.1, 7.0], [0.3, 5.0], [0.2, 6.0]])
    ranks = path_ranks(past, 3, np.random.default_rng(0))
    assert sorted(ranks.tolist()) == [[0, 2], [1, 1], [2, 0]]


def test_every_step_has_each_rank_once_however_many_paths():
    past = np.random.default_rng(0).normal(size=(7, 3))
    for count in (1, 5, 7, 23):
        ranks = path_ranks(past, count, np.random.default_rng(1))
        np.testing.assert_array_equal(np.sort(ranks, axis=0), np.arange(count)[:, None] * np.ones((1, 3)))


def test_each_step_has_the_forecast_s_quantiles():
    forecast = np.sort(np.random.default_rng(2).normal(size=(3, 4)), axis=-1)
    samples = quantiles_at(forecast, LEVELS, path_levels(1000))
    past = np.random.default_rng(3).normal(size=(97, 3))
    paths = shuffled(samples, path_ranks(past, 1000, np.random.default_rng(4)))
    np.testing.assert_array_equal(np.sort(paths, axis=0), samples.T)
    found = np.quantile(paths, LEVELS, axis=0, method="hazen").T
    np.testing.assert_allclose(found, forecast, atol=0.02)


def test_sums_over_correlated_steps_are_as_wide_as_they_are():
    """Normal steps with an autocorrelation of 0.8, forecast without a word of it: the paths know."""
    rng, steps, rho = np.random.default_rng(5), 5, 0.8
    matrix = rho ** np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    past = rng.multivariate_normal(np.zeros(steps), matrix, size=4001)
    spreads = np.array([1.0, 2.0, 0.5, 1.0, 1.5])
    normal = stats.norm.ppf(LEVELS)
    own = np.broadcast_to(spreads[:, None] * normal, (*past.shape, len(LEVELS)))
    found = normal_scores(own, LEVELS, past * spreads)
    np.testing.assert_allclose(found, past, atol=1e-9)
    samples = quantiles_at(spreads[:, None] * normal, LEVELS, path_levels(4001))
    paths = shuffled(samples, path_ranks(found, 4001, rng))
    sd = np.sqrt(spreads @ matrix @ spreads)
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    sums = np.quantile(paths.sum(axis=1), levels)
    np.testing.assert_allclose(sums, sd * stats.norm.ppf(levels), atol=0.05 * sd)
    # Steps that are drawn each by itself give a sum that is a third too narrow.
    apart = rng.permuted(paths, axis=0).sum(axis=1).std()
    assert apart < 0.75 * sd
