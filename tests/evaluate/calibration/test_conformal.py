"""Conformal calibration: ranks by hand, guarantees that hold for any numbers, and causality."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tftjax.config.evaluation import conformal_rows
from tftjax.errors import UserError
from tftjax.evaluate.calibration.conformal import (
    MEMORY,
    scores,
    shifted,
    split_shifts,
    spreads,
    tracked_shifts,
)

LEVELS = (0.2, 0.5, 0.8)
WIDTH = 2 * NormalDist().inv_cdf(0.8)  # of a forecast with a spread of 1


def forecasts(count, steps=1, seed=5, levels=LEVELS):
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0.5, 3, (count, steps, 1))
    normal = np.array([NormalDist().inv_cdf(level) for level in levels])
    return rng.normal(size=(count, steps, 1)) + spread * normal, spread


def test_shifts_by_hand():
    """Of four scores: rank floor(5 * 0.2) = 1, ceil(5 * 0.5) = 3 and ceil(5 * 0.8) = 4."""
    spread = np.array([1.0, 2.0, 1.0, 0.5])
    forecast = spread[:, None, None] * np.array([-0.5, 0.0, 0.5]) * WIDTH
    target = np.array([[3.0], [-2.0], [1.0], [-0.25]])  # in spreads: 3, -1, 1, -0.5
    np.testing.assert_allclose(spreads(forecast, LEVELS)[:, 0, 0], spread)
    expected = [-1 + WIDTH / 2, 1.0, 3 - WIDTH / 2]
    np.testing.assert_allclose(split_shifts(forecast, target, LEVELS), [expected])
    # In another unit they are the same numbers of spreads, and a spread of 2 moves twice as far.
    np.testing.assert_allclose(split_shifts(100 * forecast, 100 * target, LEVELS), [expected])
    moved = shifted(forecast, np.array([expected]), LEVELS) - forecast
    np.testing.assert_allclose(moved[1], 2 * moved[0])


def test_the_guarantee_holds_exactly_where_each_row_in_turn_is_the_next_one():
    """Of 11 rows, each by the other 10: the shares of outcomes below are those that the ranks promise."""
    forecast, _ = forecasts(11)
    target = np.random.default_rng(8).standard_t(2, (11, 1)) * 3 + 1
    below = []
    for row in range(11):
        others = np.arange(11) != row
        shifts = split_shifts(forecast[others], target[others], LEVELS)
        below.append(target[row, 0] <= forecast[row, 0] + shifts[0] * spreads(forecast, LEVELS)[row, 0])
    np.testing.assert_allclose(np.mean(below, axis=0), [2 / 11, 6 / 11, 9 / 11])


def test_steps_have_shifts_of_their_own_and_rows_without_a_scale_have_no_score():
    forecast, _ = forecasts(9, steps=2)
    target = np.random.default_rng(1).normal(size=(9, 2))
    both = split_shifts(forecast, target, LEVELS)
    np.testing.assert_array_equal(both[1:], split_shifts(forecast[:, 1:], target[:, 1:], LEVELS))
    flat = np.concatenate([forecast, np.zeros((1, 2, 3))])
    np.testing.assert_array_equal(split_shifts(flat, np.concatenate([target, [[9.0, 9.0]]]), LEVELS), both)
    assert (shifted(flat, both, LEVELS)[-1] == 0).all()
    crossing = forecast[..., ::-1]
    np.testing.assert_array_equal(split_shifts(crossing, target, LEVELS), both)


@pytest.mark.parametrize(("levels", "needed"), [((0.02, 0.5, 0.9), 49), ((0.1, 0.5, 0.9), 9), ((0.5,), 1)])
def test_as_many_rows_as_the_outermost_level_needs(levels, needed):
    assert conformal_rows(levels) == needed
    forecast, _ = forecasts(needed, levels=levels)
    target = np.random.default_rng(2).normal(size=(needed, 1))
    found = split_shifts(forecast, target, levels)
    # The lowest level's shift is the least score, and of one row alone there is no other.
    assert found[0, 0] == scores(forecast, target, levels)[:, 0, 0].min()
    with pytest.raises(
        UserError, match=f"found {needed - 1} validation windows.*at least {needed} for the q"
    ):
        split_shifts(forecast[1:], target[1:], levels)


@given(
    st.lists(st.floats(-5, 5), min_size=3, max_size=3),
    st.lists(st.floats(-5, 5), min_size=3, max_size=3),
)
def test_levels_ascend_after_any_shift(values, shifts):
    found = shifted(np.array([[values]]), np.array([shifts]), LEVELS)
    assert (np.diff(found) >= 0).all()


# ---- Tracking ---------------------------------------------------------------------------------------------

START = np.array([[-0.1, 0.0, 0.2]])
DENSITY = np.array([NormalDist().pdf(NormalDist().inv_cdf(level)) for level in LEVELS])


def daily(count, steps=1):
    """Windows of one series: made after row k, their outcomes known after the rows k + 1, k + 2, ..."""
    made = np.arange(count)
    return made, made[:, None] + np.arange(1, steps + 1)


def test_a_step_by_hand():
    """A miss of level q moves it up by q paces, a hit down by 1 - q; a window's own outcome is not used."""
    found = np.array([[[5.0, 5.0, 5.0]], [[-5.0, -5.0, 5.0]], [[0.0, 0.0, 0.0]]])
    shifts = tracked_shifts(START, found, *daily(3), LEVELS)
    levels, pace = np.array(LEVELS), 1 / DENSITY / MEMORY
    np.testing.assert_array_equal(shifts[0], START)
    np.testing.assert_allclose(shifts[1, 0], START[0] + pace * levels)
    np.testing.assert_allclose(shifts[2, 0], shifts[1, 0] + pace * (levels - [1, 1, 0]))


def test_series_of_one_day_count_together():
    found = np.array([[[5.0] * 3], [[-5.0] * 3], [[0.0] * 3], [[0.0] * 3]])
    made = np.array([0, 0, 1, 1])
    shifts = tracked_shifts(START, found, made, made[:, None] + 1, LEVELS)
    np.testing.assert_array_equal(shifts[2], shifts[3])
    np.testing.assert_allclose(shifts[2, 0], START[0] + (np.array(LEVELS) - 0.5) / DENSITY / MEMORY)


def test_the_share_below_comes_to_the_level_whatever_the_outcomes_are():
    """What an outcome moves adds up: the shift's whole way is the share's whole error, times the pace."""
    count = 2003
    found = 3 + np.random.default_rng(4).normal(size=(count, 1, 1)) * np.ones(3)
    shifts = tracked_shifts(START, found, *daily(count), LEVELS)
    error = np.array(LEVELS) - (found[:-1, 0] <= shifts[:-1, 0]).mean(axis=0)
    np.testing.assert_allclose(shifts[-1, 0] - START[0], error * (count - 1) / DENSITY / MEMORY, rtol=1e-9)
    still = np.array(LEVELS) - (found[:, 0] <= START[0]).mean(axis=0)
    assert (np.abs(error) < np.abs(still) / 2).all()


@given(st.integers(0, 16), st.integers(0, 2), st.integers(0, 1000))
def test_nothing_that_is_not_known_yet_moves_a_shift(window, step, seed):
    """Any change of one outcome: the forecasts made before it was known stay, to the last bit."""
    count, steps = 17, 3
    found = np.random.default_rng(seed).normal(size=(count, steps, 3))
    made, known = daily(count, steps)
    before = tracked_shifts(np.repeat(START, steps, 0), found, made, known, LEVELS)
    changed = found.copy()
    changed[window, step] = np.where(found[window, step] <= before[window, step], 9.0, -9.0)
    after = tracked_shifts(np.repeat(START, steps, 0), changed, made, known, LEVELS)
    early = made < known[window, step]
    np.testing.assert_array_equal(after[early], before[early])
    assert (after[~early][:1, step] != before[~early][:1, step]).all()
    others = np.arange(steps) != step
    np.testing.assert_array_equal(after[:, others], before[:, others])


def test_an_unknown_outcome_moves_nothing():
    found = np.array([[[np.nan] * 3], [[5.0] * 3], [[np.nan] * 3], [[np.nan] * 3]])
    shifts = tracked_shifts(START, found, *daily(4), LEVELS)
    np.testing.assert_array_equal(shifts[1], START)
    np.testing.assert_array_equal(shifts[3], shifts[2])
    assert (shifts[2] > START).all()
