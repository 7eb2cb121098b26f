"""Quantile heads: worked out by hand, never crossing, and neutral where nothing is asked of them."""

import math
from functools import cache
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import t

from tftjax.data.windows import Classical
from tftjax.model.heads import HEADS

LEVELS = (0.1, 0.25, 0.5, 0.9)
P, B = 3, 5


@cache
def compiled(name, levels):
    return jax.jit(lambda x: HEADS[name].quantiles(x, levels))


def head(name, raw, levels=LEVELS):
    return compiled(name, levels)(jnp.asarray(raw, jnp.float32))


def raw(scale=1.0, levels=LEVELS, seed=3):
    return (scale * np.random.default_rng(seed).normal(size=(len(levels), P, B))).astype(np.float32)


def test_independent_changes_no_bit():
    np.testing.assert_array_equal(head("independent", raw()), raw())


def test_monotone_by_hand():
    x = raw().astype(np.float64)
    z = [NormalDist().inv_cdf(level) for level in LEVELS]
    step = [np.log1p(np.exp(number)) / math.log(2) for number in x]
    median = x[2]
    second = median - (z[2] - z[1]) * step[1]
    expected = [second - (z[1] - z[0]) * step[0], second, median, median + (z[3] - z[2]) * step[3]]
    np.testing.assert_allclose(head("monotone", raw()), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("levels", [(0.5,), (0.3, 0.5), (0.5, 0.6), LEVELS, (0.02, 0.1, 0.5, 0.501, 0.98)])
def test_zeros_are_the_standard_normal(levels):
    quantiles = head("monotone", np.zeros((len(levels), P, B)), levels)
    expected = [NormalDist().inv_cdf(level) for level in levels]
    for number, value in zip(quantiles, expected, strict=True):
        np.testing.assert_allclose(number, np.full((P, B), value), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_monotone_never_crosses(scale):
    levels = tuple((np.arange(1, 40) / 40).tolist())
    x = raw(scale, levels)
    x[levels.index(0.5)] *= 1e3  # steps far below the last bit of the median
    quantiles = np.asarray(head("monotone", x, levels))
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=0) >= 0).all()
    np.testing.assert_array_equal(quantiles[levels.index(0.5)], x[levels.index(0.5)])
    assert (np.diff(np.asarray(head("independent", x, levels)), axis=0) < 0).any()


def test_the_median_moves_all_and_a_step_those_beyond_it():
    jacobian = jax.jit(jax.jacrev(lambda x: HEADS["monotone"].quantiles(x[:, None, None], LEVELS)[:, 0, 0]))(
        jnp.zeros(4)
    )
    assert (np.asarray(jacobian) != 0).tolist() == [
        [True, True, True, False],
        [False, True, True, False],
        [False, False, True, False],
        [False, False, True, True],
    ]


CLASSICAL = Classical(
    shocks=np.float32([[-2.0, -3.0], [0.1, 0.0], [1.0, 2.0]]),
    density=np.float32([[0.2, 0.0], [0.0, math.log(2.0)], [5.0, 4.0]]),
)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_correction_by_hand(wrap):
    numbers = jnp.array([math.log(2.0), 0.5, 0.25, 0.0, -1.0])[:, None, None] * jnp.ones((5, 2, 1))
    quantiles = wrap(lambda x: HEADS["correction"].quantiles(x, (0.1, 0.5, 0.9), CLASSICAL))
    found = quantiles(numbers)
    np.testing.assert_allclose(found[:, 0, 0], [-4 + 0.75, 0.2 + 0.5, 2 - 0.5], rtol=1e-6)
    np.testing.assert_allclose(found[:, 1, 0], [-6 + 0.75, 0.5, 4 - 0.5], rtol=1e-6)
    np.testing.assert_array_equal(quantiles(0 * numbers)[:, :, 0], CLASSICAL.shocks)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_student_t_by_hand(wrap):
    levels = (0.01, 0.3, 0.5, 0.975)
    numbers = jnp.array([math.log(3.0), -0.5, math.log(2.0)])[:, None, None] * jnp.ones((3, 2, 5))
    quantiles = wrap(lambda x: HEADS["student_t"].quantiles(x, levels, CLASSICAL))
    # Factors of 3 on location and scale, and of 2 on the degrees of freedom above 2: 8 and 6.
    expected = [0.6 - 0.5 + 3 * t.ppf(levels, 8), -0.5 + 6 * t.ppf(levels, 6)]
    np.testing.assert_allclose(quantiles(numbers)[:, :, 4].T, expected, rtol=1e-4, atol=1e-5)
    start = [0.2 + t.ppf(levels, 5), 2 * t.ppf(levels, 4)]
    np.testing.assert_allclose(quantiles(0 * numbers)[:, :, 0].T, start, rtol=1e-4, atol=1e-5)


def test_quantiles_of_student_t_never_cross_however_wild_the_numbers():
    numbers = 50.0 * np.random.default_rng(3).normal(size=(3, 2, 101)).astype(np.float32)
    numbers[0] = np.clip(numbers[0], -5, 5)
    quantiles = np.asarray(HEADS["student_t"].quantiles(numbers, (0.02, 0.1, 0.5, 0.6), CLASSICAL))
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=0) >= 0).all()
