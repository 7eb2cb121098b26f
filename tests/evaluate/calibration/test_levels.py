"""Quantiles at any level, and the level of any value."""

from statistics import NormalDist

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tftjax.evaluate.calibration.levels import normal_scores, quantiles_at

LEVELS = (0.05, 0.3, 0.5, 0.9)


def test_a_normal_forecast_has_its_exact_quantiles_everywhere():
    own, wanted = NormalDist(0.3, 2.0), (0.001, 0.05, 0.1, 0.42, 0.9, 0.999)
    forecast = np.array([own.inv_cdf(level) for level in LEVELS])
    np.testing.assert_allclose(
        quantiles_at(forecast, LEVELS, wanted), [own.inv_cdf(level) for level in wanted], rtol=1e-12
    )


def test_levels_of_the_forecast_are_left_as_they_are():
    forecast = np.random.default_rng(7).normal(size=(3, 2, 4)).cumsum(axis=-1)
    assert (quantiles_at(forecast, LEVELS, LEVELS) == forecast).all()


@given(
    st.lists(st.floats(0, 10), min_size=4, max_size=4),
    st.lists(st.floats(0.001, 0.999), min_size=2, max_size=5, unique=True),
)
def test_quantiles_of_ascending_levels_ascend(steps, levels):
    found = quantiles_at(np.cumsum(steps), LEVELS, sorted(levels))
    assert (np.diff(found) >= -1e-9).all()


def test_a_value_has_the_level_whose_quantile_it_is():
    forecast = np.random.default_rng(3).normal(size=(5, 3, 4)).cumsum(axis=-1)
    forecast.sort(axis=-1)
    for level in (0.001, 0.05, 0.2, 0.7, 0.995):
        values = quantiles_at(forecast, LEVELS, [level])[..., 0]
        np.testing.assert_allclose(
            normal_scores(forecast, LEVELS, values), NormalDist().inv_cdf(level), atol=1e-9
        )


def test_a_value_on_equal_quantiles_has_one_of_their_levels():
    forecast = np.array([[1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 2.0, 2.0], [1.0, 2.0, 2.0, 2.0]])
    found = normal_scores(forecast, LEVELS, np.array([1.0, 2.0, 2.5]))
    levels = [NormalDist().cdf(score) for score in found]
    np.testing.assert_allclose(levels, [0.3, 0.5, 1.0], atol=1e-9)
