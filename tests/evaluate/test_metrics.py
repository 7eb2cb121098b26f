"""Metrics against answers worked out by hand and against plain loops."""

import json
import math

import numpy as np
import pytest
import scoringrules
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tftjax.errors import UserError
from tftjax.evaluate import metrics
from tftjax.evaluate.metrics import METRICS, central_intervals, evaluate_forecast

QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
THREE = (0.25, 0.5, 0.75)
# Three windows, two horizons.  The third window's first horizon crosses.
FORECAST = np.array(
    [
        [[-1.0, 0.0, 1.0], [-2.0, 1.0, 2.0]],
        [[0.0, 2.0, 3.0], [-3.0, -1.0, 0.0]],
        [[1.0, 0.5, 2.0], [0.0, 0.0, 0.0]],
    ]
)
TARGET = np.array([[1.0, 3.0], [2.0, -4.0], [0.0, -1.0]])


def random_case(windows=11, horizons=3, seed=0):
    rng = np.random.default_rng(seed)
    forecast = np.sort(rng.normal(size=(windows, horizons, len(QUANTILES))), axis=-1)
    return forecast, rng.normal(size=(windows, horizons))


def test_every_metric_by_hand():
    result = evaluate_forecast(FORECAST, TARGET, THREE)
    # Errors target - forecast, by quantile:
    #   0.25:  2  5  2 -1 -1 -1  ->  .5 1.25 .5 .75 .75 .75  = 4.5
    #   0.5:   1  2  0 -3 -.5 -1 ->  .5 1 0 1.5 .25 .5       = 3.75
    #   0.75:  0  1 -1 -4 -2 -1  ->  0 .75 .25 1 .5 .25      = 2.75
    assert result["pinball_by_quantile"] == pytest.approx(
        {"0.25": 4.5 / 6, "0.5": 3.75 / 6, "0.75": 2.75 / 6}
    )
    assert result["pinball"] == pytest.approx(11 / 18)
    # Twice the pinball losses 4.5 / 6, 3.75 / 6, 2.75 / 6, each a quarter of the levels wide.
    assert result["crps"] == pytest.approx(11 / 12)
    # Widths 2 4 3 3 1 0; outside of them 0 1 0 1 1 1, each counted 4 times.
    assert result["interval_score"] == pytest.approx({"50": (13 + 4 * 4) / 6})
    # Quantiles below the target: 2 3 1 0 0 0.
    assert result["pit_histogram"] == pytest.approx(
        {"0-0.25": 3 / 6, "0.25-0.5": 1 / 6, "0.5-0.75": 1 / 6, "0.75-1": 1 / 6}
    )
    # Inside: 1 in [-1, 1], 2 in [0, 3]; outside: 3, -4, 0 in [1, 2], -1 in [0, 0].
    assert result["coverage"] == pytest.approx({"50": 2 / 6})
    # Of normal tails with the spread of the lowest two quantiles, which are sorted: -1 0, 0 2, 0.5 1.
    # Normal quantile of 0.25 -0.674490, density there 0.317777: q - s (-0.674490) - s 0.317777 / 0.25.
    spread = np.array([1.0, 2.0, 0.5]) / 0.674490
    shortfall = np.array([-1.0, 0.0, 0.5]) + spread * (0.674490 - 0.317777 / 0.25)
    assert result["expected_shortfall"] == pytest.approx({"0.25": shortfall.mean()}, rel=1e-5)
    assert shortfall.max() > 0  # so that it has no joint score
    assert result["crossing_rate"] == pytest.approx(1 / 6)
    assert result["mae"] == pytest.approx(7.5 / 6)
    assert result["rmse"] == pytest.approx(math.sqrt((1 + 4 + 0 + 9 + 0.25 + 1) / 6))
    # Medians 0, 1, 2, -1, 0.5, 0.
    assert result["mu"] == pytest.approx(2.5 / 6)
    assert result["sigma"] == pytest.approx(math.sqrt((1 + 4 + 1 + 0.25) / 6 - (2.5 / 6) ** 2))
    assert result["share_positive"] == pytest.approx(3 / 4)  # of 1, 2, -1, 0.5: zero has no direction
    # Nonzero targets 1 3 2 -4 -1 with medians 0 1 2 -1 0: of the nonzero ones all hit.
    assert result["directional_accuracy"] == pytest.approx(3 / 3)
    assert result["directional_base_rate"] == pytest.approx(3 / 5)
    assert result["directional_excess"] == pytest.approx(1 - 2 / 3)  # of 3, 2, -4 two are above zero
    assert result["correlation"] == pytest.approx(
        np.corrcoef([0, 1, 2, -1, 0.5, 0], [1, 3, 2, -4, 0, -1])[0, 1]
    )
    assert list(result) == [name for name in METRICS if name != "fz0"]


def test_against_plain_loops():
    forecast, target = random_case()
    losses, inside = [], []
    for n, p in np.ndindex(target.shape):
        for q, level in enumerate(QUANTILES):
            error = target[n, p] - forecast[n, p, q]
            losses.append(level * error if error > 0 else (1 - level) * -error)
        inside.append(forecast[n, p, 1] <= target[n, p] <= forecast[n, p, 5])
    result = evaluate_forecast(forecast, target, QUANTILES)
    assert result["pinball"] == pytest.approx(sum(losses) / len(losses), rel=1e-12)
    assert result["pinball_by_quantile"]["0.98"] == pytest.approx(sum(losses[6::7]) / target.size, rel=1e-12)
    assert result["coverage"]["80"] == sum(inside) / len(inside)
    assert list(result["coverage"]) == ["50", "80", "96"]


def test_scores_against_scoringrules():
    forecast, target = random_case()
    result = evaluate_forecast(forecast, target, QUANTILES)
    for low, high, percent in central_intervals(QUANTILES):
        share = 1 - float(percent) / 100
        theirs = scoringrules.interval_score(target, forecast[..., low], forecast[..., high], share)
        assert result["interval_score"][percent] == pytest.approx(theirs.mean(), rel=1e-12)
    # Of equally spaced levels, theirs gives each the weight 1 / Q, ours the distance 1 / (Q + 1).
    levels = np.arange(1, 12) / 12
    forecast = np.quantile(np.random.default_rng(1).normal(size=(23, 11, 3)), levels, axis=0).transpose(
        1, 2, 0
    )
    theirs = scoringrules.crps_quantile(target, forecast, levels).mean()
    assert metrics.crps(forecast, target, levels.tolist()) == pytest.approx(theirs * 11 / 12, rel=1e-12)
    # And of many levels, what the whole distribution would score.
    levels = np.arange(1, 1000) / 1000
    normal = np.broadcast_to(stats.norm.ppf(levels), (11, 3, 999))
    theirs = scoringrules.crps_normal(target, 0.0, 1.0).mean()
    assert metrics.crps(normal, target, levels.tolist()) == pytest.approx(theirs, rel=1e-3)


def normal_forecast(levels, mean=0.1, sigma=2.0, windows=5):
    return np.broadcast_to(mean + sigma * stats.norm.ppf(levels), (windows, 2, len(levels)))


@pytest.mark.parametrize(
    ("levels", "level"),
    [
        (QUANTILES, 0.1),
        ((0.01, 0.05, 0.5, 0.95, 0.99), 0.05),
        ((0.01, 0.02, 0.025, 0.1, 0.5), 0.025),
        ((0.2, 0.5), 0.2),
    ],
)
def test_a_normal_forecast_has_its_exact_shortfall(levels, level):
    exact = 0.1 - 2 * stats.norm.pdf(stats.norm.ppf(level)) / level
    found, value_at_risk, shortfall = metrics.tail_of(normal_forecast(levels), levels)
    assert found == level
    np.testing.assert_allclose(value_at_risk, 0.1 + 2 * stats.norm.ppf(level))
    np.testing.assert_allclose(shortfall, exact)
    target = np.zeros((5, 2))
    assert metrics.expected_shortfall(normal_forecast(levels), target, levels) == pytest.approx(
        {f"{level:g}": exact}
    )


def test_the_shortfall_of_any_quantiles_is_an_integral():
    levels = (0.005, 0.01, 0.02, 0.1, 0.5)
    values = np.array([-9.0, -4.0, -3.5, -1.0, 0.2])
    z = np.linspace(-12, stats.norm.ppf(0.1), 400_001)
    scores = stats.norm.ppf(levels)
    curve = np.interp(z, scores, values)
    curve[z < scores[0]] = -9 + (z[z < scores[0]] - scores[0]) * 5 / (scores[1] - scores[0])
    expected = np.trapezoid(curve * stats.norm.pdf(z), z) / 0.1
    shuffled = values[[1, 0, 2, 4, 3]][None, None]  # quantiles that cross are sorted
    _, value_at_risk, shortfall = metrics.tail_of(shuffled, levels)
    assert value_at_risk == -1
    assert shortfall == pytest.approx(expected, rel=1e-6)


def test_the_joint_score_by_hand():
    # Value at risk -1, shortfall -2 at 0.1: -1 / -2 + log 2 - 1, and 2 / (0.1 x 2) more 2 below it.
    found = metrics.fz0_scores(np.array([0.0, -1.0, -3.0]), np.full(3, -1.0), np.full(3, -2.0), 0.1)
    np.testing.assert_allclose(found, [math.log(2) - 0.5, math.log(2) - 0.5, math.log(2) + 9.5])
    # Twice the unit adds log 2 to all.
    twice = metrics.fz0_scores(np.array([0.0, -2.0, -6.0]), np.full(3, -2.0), np.full(3, -4.0), 0.1)
    np.testing.assert_allclose(twice - found, math.log(2))


def test_the_joint_score_is_least_for_what_is_true():
    target = stats.norm.ppf((np.arange(5000) + 0.5) / 5000)
    level, true = 0.1, (stats.norm.ppf(0.1), -stats.norm.pdf(stats.norm.ppf(0.1)) / 0.1)

    def mean(value_at_risk, shortfall):
        return metrics.fz0_scores(
            target, np.full(5000, value_at_risk), np.full(5000, shortfall), level
        ).mean()

    for step in (-0.05, 0.05):
        assert mean(true[0] + step, true[1]) > mean(*true)
        assert mean(true[0], true[1] + step) > mean(*true)


def test_the_joint_score_is_of_the_first_step_and_of_shortfalls_below_zero():
    forecast, target = normal_forecast(QUANTILES, windows=3), np.array([[0.0, 9.0], [-9.0, 9.0], [1.0, 9.0]])
    level, value_at_risk, shortfall = metrics.tail_of(forecast, QUANTILES)
    scores = metrics.fz0_scores(target[:, 0], value_at_risk, shortfall, level)
    assert metrics.fz0(forecast, target, QUANTILES) == pytest.approx({"0.1": scores.mean()})
    above = forecast + np.array([0.0, 9.0, 0.0])[:, None, None]
    assert metrics.fz0(above, target, QUANTILES) is None
    assert metrics.expected_shortfall(above, target, QUANTILES) is not None
    for levels in ((0.5,), (0.01, 0.5, 0.9)):
        without = forecast[..., : len(levels)]
        assert metrics.fz0(without, target, levels) is None
        assert metrics.expected_shortfall(without, target, levels) is None


def test_pit_counts_by_hand():
    forecast = np.broadcast_to([-1.0, 0.0, 1.0], (6, 1, 3))
    target = np.array([[-2.0], [-1.0], [-0.5], [1.0], [1.5], [9.0]])
    np.testing.assert_array_equal(metrics.pit_counts(forecast, target), [2, 1, 1, 2])


def test_a_median_of_zero_is_no_direction():
    medians, target = np.array([0.0, -0.0, 1.0, -1.0, 2.0]), np.array([3.0, -1.0, 2.0, 2.0, 0.0])
    forecast = medians[:, None, None] + np.array([-1.0, 0.0, 1.0])
    result = evaluate_forecast(forecast, target[:, None], THREE)
    assert result["directional_accuracy"] == pytest.approx(1 / 2)  # 1 is right, -1 wrong, the rest is no case
    assert result["directional_base_rate"] == pytest.approx(3 / 4)
    assert result["directional_excess"] == pytest.approx(1 / 2 - 1)
    assert result["share_positive"] == pytest.approx(2 / 3)
    flat = evaluate_forecast(0 * medians[:, None, None] + np.array([-1.0, 0.0, 1.0]), target[:, None], THREE)
    assert {"directional_accuracy", "directional_excess", "share_positive", "correlation"}.isdisjoint(flat)
    assert flat["directional_base_rate"] == pytest.approx(3 / 4)


def test_excess_over_the_base_rate():
    forecast = np.broadcast_to([[-2.0, -1.0, 0.0]], (5, 1, 3))
    target = np.array([[1.0], [2.0], [3.0], [-1.0], [0.0]])
    assert metrics.directional_excess(forecast, target, THREE) == pytest.approx(1 / 4 - 3 / 4)


def test_the_bounds_of_an_interval_belong_to_it():
    forecast = np.broadcast_to([-1.0, 0.0, 1.0], (5, 1, 3))
    target = np.array([[-1.0], [1.0], [-1.001], [1.001], [0.0]])
    assert metrics.coverage(forecast, target, THREE) == {"50": 3 / 5}


def test_a_coverage_has_an_interval_where_targets_are_independent():
    forecast = np.broadcast_to([-1.0, 0.0, 1.0], (10, 1, 3))
    target = np.array([0.5, -0.5, 0.0, 1.0, -1.0, 2.0, -2.0, 3.0, 4.0, 5.0])[:, None]
    found = evaluate_forecast(forecast, target, THREE, one_series=True)
    # Wilson's of 5 of 10: 0.5 -+ z sqrt(0.025 + z^2 / 400) / (1 + z^2 / 10), z = 1.96.
    assert found["coverage_low"] == pytest.approx({"50": 0.236593}, abs=1e-6)
    assert found["coverage_high"] == pytest.approx({"50": 0.763407}, abs=1e-6)
    several = evaluate_forecast(forecast, target, THREE)
    steps = evaluate_forecast(forecast.reshape(5, 2, 3), target.reshape(5, 2), THREE, one_series=True)
    assert several["coverage"] == steps["coverage"] == found["coverage"] == {"50": 0.5}
    assert set(found) - set(several) == set(found) - set(steps) == {"coverage_low", "coverage_high"}
    lone = evaluate_forecast(forecast[..., 1:2], target, (0.5,), one_series=True)
    assert lone["coverage"] == lone["coverage_low"] == lone["coverage_high"] == {}


def test_central_intervals_skip_levels_without_a_partner():
    assert central_intervals(QUANTILES) == [(2, 4, "50"), (1, 5, "80"), (0, 6, "96")]
    assert central_intervals((0.005, 0.3, 0.5, 0.9, 0.995)) == [(0, 4, "99")]
    assert central_intervals((0.5,)) == []


@settings(max_examples=60, deadline=None)
@given(
    sample=st.lists(st.integers(-50, 50), min_size=1, max_size=23),
    level=st.sampled_from(QUANTILES),
    other=st.integers(-60, 60),
)
def test_pinball_is_least_at_the_sample_quantile(sample, level, other):
    target = np.array(sample, dtype=np.float64)[:, None]
    # The order statistic number ceil(n q): a minimiser by the sign of the slope on either side.
    best = sorted(sample)[math.ceil(len(sample) * level - 1e-9) - 1]

    def loss(value):
        return metrics.pinball(np.full((*target.shape, 1), float(value)), target, (level,))

    assert loss(best) <= loss(other) + 1e-12
    low, high = np.quantile(target, level, method="lower"), np.quantile(target, level, method="higher")
    assert loss(best) <= min(loss(low), loss(high)) + 1e-12


def test_pinball_away_from_the_sample_quantile_is_worse():
    target = np.arange(7.0)[:, None]
    losses = [metrics.pinball(np.full((7, 1, 1), value), target, (0.25,)) for value in np.arange(7.0)]
    assert int(np.argmin(losses)) == 1  # the second of seven: ceil(7 / 4)
    assert sorted(losses)[1] > min(losses) + 1e-3


def test_undefined_metrics_are_left_out():
    _, target = random_case()
    constant = np.full((*target.shape, len(QUANTILES)), 0.1)
    result = evaluate_forecast(constant, target, QUANTILES)
    assert "correlation" not in result
    assert result["sigma"] < 1e-15
    forecast, _ = random_case()
    result = evaluate_forecast(forecast, np.zeros_like(target), QUANTILES)
    undefined = {"correlation", "directional_accuracy", "directional_base_rate", "directional_excess"}
    assert not undefined & result.keys()
    json.dumps(result, allow_nan=False)


def test_correlation_of_tiny_forecasts_is_exact_and_bounded():
    forecast, target = random_case()
    plain = evaluate_forecast(forecast, target, QUANTILES)["correlation"]
    assert plain == pytest.approx(np.corrcoef(forecast[..., 3].ravel(), target.ravel())[0, 1], rel=1e-12)
    tiny = evaluate_forecast(forecast * 1e-200, target, QUANTILES)["correlation"]
    assert tiny == pytest.approx(plain, rel=1e-12)


def test_same_input_same_bits_whatever_the_layout_and_json_holds_numbers_only():
    forecast, target = random_case(windows=401)
    first = evaluate_forecast(forecast, target, QUANTILES)
    assert evaluate_forecast(np.asfortranarray(forecast), np.asfortranarray(target), QUANTILES) == first
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert all(type(value) in (float, dict) for value in first.values())


def test_float32_input_is_evaluated_in_float64():
    forecast, target = (array.astype(np.float32) for array in random_case())
    wide = evaluate_forecast(forecast.astype(np.float64), target.astype(np.float64), QUANTILES)
    assert evaluate_forecast(forecast, target, QUANTILES) == wide


def test_input_that_cannot_be_evaluated_is_refused():
    forecast, target = random_case()
    with pytest.raises(ValueError, match=r"forecast \(11, 3, 7\)"):
        evaluate_forecast(forecast, target, QUANTILES[:5])
    with pytest.raises(UserError, match="no window"):
        evaluate_forecast(forecast[:0], target[:0], QUANTILES)
    forecast[5, 1, 2] = np.nan
    with pytest.raises(UserError, match=r"forecast is not a finite number in 1 of 231 places.* 5, horizon 2"):
        evaluate_forecast(forecast, target, QUANTILES)
