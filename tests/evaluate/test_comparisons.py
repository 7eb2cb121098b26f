"""Many forecasts compared at once: cases whose answer is plain, chance, and the edges."""

import time

import numpy as np
import pytest
from arch.bootstrap import SPA

from tftjax.evaluate.comparisons import (
    block_length,
    confidence_set,
    not_told_from_best,
    superior_ability,
)
from tftjax.evaluate.significance import MIN_DAYS

DAYS = 211


def noise(days=DAYS, seed=0):
    return np.random.default_rng(seed).normal(size=days)


def test_a_forecast_that_is_worse_on_every_day_leaves_the_set():
    base = 10 + noise()
    found = confidence_set({"worse": base + 1 + 0.1 * noise(seed=1) ** 2, "best": base, "far": base + 3})
    assert found == {"worse": 0.0, "best": 1.0, "far": 0.0}  # "far" by the same amount on every day
    assert not_told_from_best(found) == ["best"]


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
