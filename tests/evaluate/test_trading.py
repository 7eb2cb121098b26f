"""Sharpe ratios by hand and their intervals."""

import math

import numpy as np
import pytest

from tftjax.evaluate.scoring import Windows, trade
from tftjax.evaluate.significance import MIN_DAYS
from tftjax.evaluate.trading import POSITIONS, sharpe_ratio, sharpe_ratios, trades


def test_what_is_traded_by_hand():
    first = np.array([True, False, False, True, False])
    np.testing.assert_array_equal(trades(np.array([1.0, -1, -1, 3, 0]), first), [1, 2, 0, 3, 3])


def test_positions():
    median = np.array([0.2, -0.1, 0.0])
    taken = {name: take(median).tolist() for name, take in POSITIONS.items()}
    assert taken == {"sign": [1, -1, 0], "scaled": [0.2, -0.1, 0.0], "buy_and_hold": [1, 1, 1]}


def test_sharpe_ratio_by_hand():
    # Means 2 and -1, sample variances (1 + 1 + 4) / 2 and (1 + 4 + 9) / 2; the third is still.
    net = np.array([[1.0, 0.0, 0.1], [1.0, 1.0, 0.1], [4.0, -4.0, 0.1]])
    ratios = sharpe_ratio(net.mean(axis=0), np.square(net).mean(axis=0), 3, 252.0)
    np.testing.assert_allclose(ratios[:2], np.sqrt(252) * np.array([2 / math.sqrt(3), -1 / math.sqrt(7)]))
    assert np.isnan(ratios[2])


def two_series(count=37):
    """Windows of two series on the same days, the second without the last day."""
    rng = np.random.default_rng(0)
    target = rng.normal(0.001, 0.01, (2 * count - 1, 1))
    day = np.concatenate([np.arange(count), np.arange(count - 1)])
    return Windows(target, day, [slice(0, count), slice(count, 2 * count - 1)])


def test_a_portfolio_is_the_mean_of_its_series_after_costs():
    windows = two_series()
    middle = np.random.default_rng(1).normal(size=73)
    net = np.zeros(37)
    for day in range(37):
        gains = []
        for own in windows.series:
            if own.start + day < own.stop:
                now, before = np.sign(middle[own][day]), np.sign(middle[own][day - 1]) if day else 0.0
                gains.append(now * windows.target[own, 0][day] - 0.002 * abs(now - before))
        net[day] = np.mean(gains)
    found = trade(windows, middle, 0.002, 252.0)
    assert found["cost"] == 0.002
    assert found["sign"]["sharpe"] == pytest.approx(net.mean() / net.std(ddof=1) * math.sqrt(252))
    assert found["buy_and_hold"]["turnover"] == pytest.approx(2 / 73)
    free = trade(windows, middle, 0.0, 252.0)
    assert free["sign"]["sharpe"] > found["sign"]["sharpe"]
    excess = found["scaled"]["sharpe"] - found["buy_and_hold"]["sharpe"]
    assert found["scaled"]["excess"] == pytest.approx(excess)


def test_scaled_positions_do_not_depend_on_the_scale():
    windows, middle = two_series(), np.random.default_rng(1).normal(size=73)
    one, other = (trade(windows, middle * factor, 0.002, 252.0)["scaled"] for factor in (1.0, 1e-4))
    assert one == pytest.approx(other)


def test_a_median_of_zero_holds_nothing():
    windows = Windows(np.array([[0.01], [0.02], [-0.03]]), np.arange(3), [slice(0, 3)])
    found = trade(windows, np.array([0.5, 0.0, -0.5]), 0.002, 252.0)["sign"]
    # Bought, sold, sold short: three trades of one, on two held positions; after costs 0.8 %, -0.2 %, 2.8 %.
    assert found["turnover"] == pytest.approx(3 / 2)
    net = np.array([0.008, -0.002, 0.028])
    assert found["sharpe"] == pytest.approx(net.mean() / net.std(ddof=1) * math.sqrt(252))


def test_nothing_traded_is_undefined():
    found = trade(two_series(), np.zeros(73), 0.002, 252.0)
    assert set(found["sign"].values()) == {None}
    assert set(found["scaled"].values()) == {None}
    assert None not in found["buy_and_hold"].values()


def test_intervals():
    rng = np.random.default_rng(2)
    market = rng.normal(0.05, 1.0, 2000)
    net = {"sign": market + rng.normal(0.5, 0.1, 2000), "buy_and_hold": market}
    found = sharpe_ratios(net, 1.0)
    # Of independent returns the standard error is that of Lo 2002: sqrt((1 + S^2 / 2) / T).
    for values in found.values():
        half = 1.96 * math.sqrt((1 + values["sharpe"] ** 2 / 2) / 2000)
        expected = values["sharpe"] - half, values["sharpe"] + half
        np.testing.assert_allclose((values["low"], values["high"]), expected, atol=0.2 * half)
    assert 0.45 < found["sign"]["excess_low"] < 0.5 < found["sign"]["excess_high"] < 0.55
    assert sharpe_ratios(net, 1.0) == found
    # Blocks keep what one day says of the next: returns that persist have wider intervals.
    persistent = np.repeat(market[:500], 4)
    wide, narrow = (
        sharpe_ratios({"buy_and_hold": values}, 1.0)["buy_and_hold"]
        for values in (persistent, rng.permutation(persistent))
    )
    assert wide["high"] - wide["low"] > 1.4 * (narrow["high"] - narrow["low"])


@pytest.mark.parametrize("count", [0, 1, 2, MIN_DAYS - 1])
def test_too_few_days_have_no_interval(count):
    net = {"sign": np.arange(count) / 7, "buy_and_hold": np.arange(count) % 2 - 0.3}
    found = sharpe_ratios(net, 252.0)
    assert {found["sign"][bound] for bound in ("low", "high", "excess_low", "excess_high")} == {None}
    assert (found["sign"]["sharpe"] is None) == (count < 2)
