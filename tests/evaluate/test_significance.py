"""Tests of forecasts against other libraries, against plain counting, and at their edges."""

import itertools
import math
import time

import numpy as np
import pytest
import statsmodels.api
from arch.bootstrap import MCS, SPA, StationaryBootstrap
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from tftjax.evaluate.significance import (
    MIN_DAYS,
    block_length,
    confidence_set,
    diebold_mariano,
    long_run_variance,
    mean_interval,
    not_told_from_best,
    pesaran_timmermann,
    pit_test,
    resampled_means,
    superior_ability,
    value_at_risk_tests,
    wilson_interval,
)


def autocorrelated(count, mean=0.1, seed=0):
    noise = np.random.default_rng(seed).normal(size=count + 1)
    return mean + noise[1:] + 0.6 * noise[:-1]


@pytest.mark.parametrize(("count", "horizon", "lags"), [(53, 1, 3), (211, 1, 4), (211, 11, 10)])
def test_diebold_mariano_is_a_regression_on_a_constant(count, horizon, lags):
    differences = autocorrelated(count)
    found = diebold_mariano(differences, horizon)
    fitted = statsmodels.api.OLS(differences, np.ones(count)).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False}, use_t=True
    )
    assert found.lags == lags
    assert found.difference == pytest.approx(fitted.params[0])
    assert found.t == pytest.approx(fitted.tvalues[0])
    assert found.p == pytest.approx(fitted.pvalues[0])
    np.testing.assert_allclose([found.low, found.high], fitted.conf_int()[0])


def test_the_interval_over_seeds_by_hand():
    # 1, 2, 3: standard deviation 1, standard error 1 / sqrt(3); t of 2 degrees of freedom is 4.30265.
    mean, low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (mean, low, high) == pytest.approx((2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    # 0, 2: standard error 1; of one degree of freedom 12.7062.
    assert mean_interval(np.array([0.0, 2.0])) == pytest.approx((1, 1 - 12.706205, 1 + 12.706205))
    assert mean_interval(np.array([2.0])) == (2.0, None, None)


def test_long_run_variance_by_hand():
    # Around the mean 2: -1, 1, 2, -2.  Autocovariances: 10 / 4, (-1 + 2 - 4) / 4, (-2 - 2) / 4.
    values = np.array([1.0, 3.0, 4.0, 0.0])
    assert long_run_variance(values, 0) == pytest.approx(10 / 4)
    assert long_run_variance(values, 2) == pytest.approx((10 + 2 * (2 / 3 * -3 + 1 / 3 * -4)) / 4)


def test_diebold_mariano_finds_a_difference_as_often_as_it_says():
    """Without a difference, 5 % of autocorrelated samples are significant; plain errors would find 15 %."""
    p = [diebold_mariano(autocorrelated(400, mean=0.0, seed=seed)).p for seed in range(400)]
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.10


def test_what_cannot_be_tested_has_no_p():
    few = diebold_mariano(autocorrelated(MIN_DAYS - 1))
    assert few.difference == pytest.approx(autocorrelated(MIN_DAYS - 1).mean())
    assert few[1:5] == (None,) * 4
    assert diebold_mariano(autocorrelated(MIN_DAYS)).p is not None
    assert diebold_mariano(np.zeros(100)) == (0.0, None, None, None, None, 4)
    # Some of these have a mean that is rounded.
    for constant, dtype in itertools.product((0.1, 1 / 3, -2e-4), (np.float32, np.float64)):
        same = diebold_mariano(np.full(101, constant, dtype))
        assert same == (pytest.approx(constant), None, None, None, None, 4)
    assert diebold_mariano(np.empty(0)).p is None
    short = value_at_risk_tests(np.arange(MIN_DAYS - 1) % 7 == 0, 0.1)
    assert short == {
        "violations": 5,
        "expected": pytest.approx(2.9),
        "kupiec_p": None,
        "independence_p": None,
        "coverage_p": None,
    }
    assert pit_test(np.array([9, 10, 10]), (0.3, 0.6)) == {"chi2": None, "p": None}
    nothing = {"statistic": None, "p": None}
    sign = np.where(np.arange(29) % 2, 1.0, -1.0)
    assert pesaran_timmermann(sign, sign) == nothing
    for constant in (np.ones(100), np.zeros(100)):
        target = np.random.default_rng(0).normal(size=100)
        assert pesaran_timmermann(constant, target) == nothing
        assert pesaran_timmermann(target, constant) == nothing


def test_forecasts_of_zero_have_no_direction():
    rng = np.random.default_rng(3)
    forecast, target = rng.normal(size=101), rng.normal(size=101)
    expected = pesaran_timmermann(forecast[::2], target[::2])
    forecast[1::2] = 0.0
    assert pesaran_timmermann(forecast, target) == expected
    assert expected["p"] is not None


def test_kupiec_is_a_ratio_of_binomial_likelihoods():
    violations = np.zeros(250, bool)
    violations[[3, 17, 18, 90, 91, 92, 200]] = True
    found = value_at_risk_tests(violations, 0.01)
    ratio = 2 * (stats.binom.logpmf(7, 250, 7 / 250) - stats.binom.logpmf(7, 250, 0.01))
    assert (found["violations"], found["expected"]) == (7, 2.5)
    assert found["kupiec_p"] == pytest.approx(stats.chi2.sf(ratio, 1))
    # The textbook's example: 7 of 250 at 1 % is rejected, with a statistic of 5.497.
    assert ratio == pytest.approx(5.497, abs=5e-4)


def test_christoffersen_by_counting():
    violations = np.zeros(250, bool)
    violations[[3, 17, 18, 90, 91, 92, 200]] = True
    # Of 242 days after a quiet one 4 are violations, of 7 after a violation 3.
    separate = 4 * math.log(4 / 242) + 238 * math.log(238 / 242) + 3 * math.log(3 / 7) + 4 * math.log(4 / 7)
    joint = 7 * math.log(7 / 249) + 242 * math.log(242 / 249)
    kupiec = 2 * (7 * math.log(7 / 250 / 0.01) + 243 * math.log(243 / 250 / 0.99))
    found = value_at_risk_tests(violations, 0.01)
    independence = 2 * (separate - joint)
    assert found["independence_p"] == pytest.approx(stats.chi2.sf(independence, 1))
    assert found["coverage_p"] == pytest.approx(stats.chi2.sf(independence + kupiec, 2))


@pytest.mark.parametrize("all_days", [False, True])
def test_violations_on_no_day_or_every_day(all_days):
    found = value_at_risk_tests(np.full(100, all_days), 0.02)
    power = 0.02 if all_days else 0.98
    assert found["kupiec_p"] == pytest.approx(stats.chi2.sf(-2 * 100 * math.log(power), 1))
    assert found["independence_p"] is None
    assert found["coverage_p"] is None


def test_pit_test_is_pearsons():
    counts = np.array([5, 13, 40, 42])
    expected = np.array([0.1, 0.15, 0.25, 0.5]) * 100
    found = pit_test(counts, (0.1, 0.25, 0.5))
    other = stats.chisquare(counts, expected)
    assert (found["chi2"], found["p"]) == pytest.approx((other.statistic, other.pvalue))


def test_pesaran_timmermann_by_hand():
    # 40 days: both up 15, only the forecast 9, only the target 4, neither 12.
    forecast = np.repeat([1.0, 1.0, -1.0, -1.0], [15, 9, 4, 12])
    target = np.repeat([1.0, -1.0, 1.0, -1.0], [15, 9, 4, 12])
    up, said, right = 19 / 40, 24 / 40, 27 / 40
    chance = up * said + (1 - up) * (1 - said)
    spread = chance * (1 - chance) / 40
    by_chance = (0.05**2 * said * (1 - said) + 0.2**2 * up * (1 - up)) / 40
    by_chance += 4 * up * said * (1 - up) * (1 - said) / 1600
    expected = (right - chance) / math.sqrt(spread - by_chance)
    found = pesaran_timmermann(forecast, target)
    assert found["statistic"] == pytest.approx(expected)
    assert found["p"] == pytest.approx(stats.norm.sf(expected))
    # Large samples: the square is Pearson's statistic of the two-by-two table.
    table = np.array([[15, 9], [4, 12]]) * 50
    large = pesaran_timmermann(np.repeat(forecast, 50), np.repeat(target, 50))
    pearson = stats.chi2_contingency(table, correction=False).statistic
    assert large["statistic"] ** 2 == pytest.approx(pearson, rel=1e-3)
    assert pesaran_timmermann(-forecast, target)["p"] > 0.95


# ---- Many forecasts at once -----------------------------------------------------------------------------

DAYS = 211


def noise(days=DAYS, seed=0):
    return np.random.default_rng(seed).normal(size=days)


def test_a_forecast_that_is_worse_on_every_day_leaves_the_set():
    base = 10 + noise()
    found = confidence_set({"worse": base + 1 + 0.1 * noise(seed=1) ** 2, "best": base, "far": base + 3})
    assert found == {"worse": 0.0, "best": 1.0, "far": 0.0}  # "far" by the same amount on every day
    assert not_told_from_best(found) == ["best"]


@pytest.mark.parametrize("count", [2, 3, 7, 13])
def test_the_set_is_that_of_arch(count):
    table = np.column_stack([10 + noise() + 0.02 * k + 0.5 * noise(seed=k + 1) for k in range(count)])
    table[:, -1] += 3
    other = MCS(table, 0.05, 1000, block_length(table - table.mean(axis=1, keepdims=True)), "max", seed=0)
    other.compute()
    found = confidence_set({str(k): table[:, k] for k in range(count)})
    assert found == {str(k): p for k, p in other.pvalues["Pvalue"].items()}
    assert max(found.values()) == 1
    assert found[str(count - 1)] == 0


def test_resampled_means_are_those_of_arch():
    table = np.column_stack([noise(53), noise(53, 1) ** 2, np.arange(53)])
    other = StationaryBootstrap(5, table, seed=0).apply(lambda rows: rows.mean(axis=0), 1000)
    for values in (table, np.asfortranarray(table)):
        np.testing.assert_array_equal(resampled_means(values, 5), other)
    assert not np.array_equal(resampled_means(table, 6), other)


def test_wilson_interval_is_that_of_statsmodels():
    share = np.array([0, 1, 2, 50, 96, 97]) / 97
    for found, expected in zip(
        wilson_interval(share, 97), proportion_confint(97 * share, 97, method="wilson"), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-16)
        assert ((found >= 0) & (found <= 1)).all()


def test_equal_forecasts_stay_together():
    base = 10 + noise()
    assert confidence_set({"a": base, "b": base.copy()}) == {"a": 1.0, "b": 1.0}
    rounded = base * (1 + 1e-15)
    assert confidence_set({"a": base, "b": rounded, "c": base + 2}) == {"a": 1.0, "b": 1.0, "c": 0.0}
    found = confidence_set({"a": base, "b": base + 0.3 * noise(seed=1), "c": base.copy()})
    assert found["a"] == found["c"]
    swings = np.tile([1.0, 2.0], 53)  # of one mean, but apart on each day
    assert not_told_from_best(confidence_set({"a": swings, "b": 3 - swings})) == ["a", "b"]


def test_the_p_values_order_who_leaves_and_the_best_has_one():
    base = 10 + noise()
    losses = {str(k): base + k * 0.03 + 0.5 * noise(seed=k + 1) for k in range(7)}
    found = confidence_set(losses)
    assert found == confidence_set(losses)  # the same input, the same bits
    best, *_, worst = sorted(losses, key=lambda name: losses[name].mean())
    assert found[best] == 1 == max(found.values())
    assert found[worst] == min(found.values()) < 0.05
    assert not_told_from_best(found)[0] == best
    assert 1 < len(not_told_from_best(found)) < 7


def test_the_set_holds_the_best_as_often_as_it_says():
    """All of five equally good forecasts are in a set of 95 % in at least nine of ten samples or so."""
    counts = [
        len(not_told_from_best(confidence_set({str(k): noise(97, 5 * seed + k) for k in range(5)})))
        for seed in range(60)
    ]
    assert 0.85 < np.mean(np.array(counts) == 5) < 1


def test_too_little_says_nothing():
    few = {"a": noise(MIN_DAYS - 1), "b": noise(MIN_DAYS - 1, 1)}
    assert confidence_set(few) == confidence_set({"a": noise()}) == {}
    assert superior_ability(few["a"], {"b": few["b"]}) is None
    enough = {"a": noise(MIN_DAYS), "b": noise(MIN_DAYS, 1)}
    assert set(confidence_set(enough)) == {"a", "b"}
    assert superior_ability(enough["a"], {"b": enough["b"]}) is not None
    broken = noise()
    broken[3] = np.nan
    assert confidence_set({"a": noise(), "b": broken, "c": noise(seed=1)}) == {}
    assert superior_ability(broken, {"a": noise()}) is None
    assert superior_ability(noise(), {"a": noise(), "b": noise() + 1}) is None  # constant differences
    constant = np.full(DAYS, 2.0)
    assert confidence_set({"a": constant, "b": constant, "c": constant + 1}) == {"a": 1, "b": 1, "c": 0}
    few_days_apart = constant + (np.arange(DAYS) < 2)
    assert confidence_set({"a": constant, "b": few_days_apart})["a"] == 1


def test_superior_ability():
    benchmark = 10 + noise()
    better, worse = (benchmark + shift + 0.5 * noise(seed=1) for shift in (-0.3, 0.3))
    assert superior_ability(benchmark, {"better": better, "worse": worse}) < 0.01
    assert superior_ability(benchmark, {"worse": worse}) == 1
    # The more forecasts are tried, the less the best of them says.
    tries = {str(k): benchmark + 0.5 * noise(seed=k + 1) for k in range(40)}
    best = max(tries, key=lambda name: (benchmark - tries[name]).mean())
    alone, among = superior_ability(benchmark, {best: tries[best]}), superior_ability(benchmark, tries)
    assert 5 * alone < among
    assert among == superior_ability(benchmark, tries)


def test_superior_ability_of_one_forecast_is_a_plain_bootstrap_of_its_mean():
    benchmark, other = noise(), noise(seed=1) - 0.1
    block = block_length((benchmark - other)[:, None])
    plain = SPA(benchmark, other, block, 1000, seed=0)  # of one difference, its unit does not matter
    plain.compute()
    assert superior_ability(benchmark, {"other": other}) == plain.pvalues["consistent"]


def test_blocks_are_longer_where_losses_persist():
    assert block_length(noise(216)[:, None]) == 6  # the cube root of 216
    persistent = np.convolve(noise(400), np.ones(20), "valid")
    assert block_length(np.column_stack([noise(len(persistent)), persistent])) > 12


def test_eight_forecasts_of_ten_years_take_less_than_a_second():
    losses = {str(k): np.abs(noise(2500)) + 0.1 * noise(2500, k + 1) for k in range(8)}
    confidence_set(losses)  # imports
    start = time.perf_counter()
    confidence_set(losses)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("count", [2, 3, 5])
def test_names_keep_their_order(count):
    losses = {f"{count - k}": noise(53, k) for k in range(count)}
    assert list(confidence_set(losses)) == list(losses)


def test_a_forecast_that_explodes_makes_no_others_equal():
    rng = np.random.default_rng(2)
    base = 1 + 0.1 * rng.normal(size=211)
    losses = {"a": base, "b": base + 0.5 + 0.01 * rng.normal(size=211)}
    wild = {"wild": 1e12 * (1 + rng.random(211))}
    p = confidence_set({**losses, **wild})
    assert p["b"] < 0.05
    assert p["a"] == 1
