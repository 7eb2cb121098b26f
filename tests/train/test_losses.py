"""Losses against numbers worked out by hand, float64 numpy, and finite differences."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tftjax.config.hyperparameters import Hyperparameters
from tftjax.train import losses

QUANTILES = (0.1, 0.5, 0.9)
# B = 2, P = 1.  Medians 0.01 and 0.03: mu 0.02, sigma 0.01.
FORECAST = np.array([[[-0.01, 0.01, 0.02]], [[0.0, 0.03, 0.05]]], np.float32)
TARGET = np.array([[0.02], [-0.01]], np.float32)
# q (y - f) above, (1 - q) (f - y) below
PINBALL = np.array([[[0.003, 0.005, 0.0]], [[0.009, 0.02, 0.006]]])
QL = 0.043 / 6


def hyper(**changes):
    zeros = dict.fromkeys(Hyperparameters._fields, 0.0)
    return Hyperparameters(**{**zeros, "target_mean": 0.0003, "target_std": 0.01, **changes})


COMPILED = jax.jit(losses.total_loss, static_argnums=(2, 4))


def total(forecast, target, hp, scale="return", quantiles=QUANTILES, jit=True):
    function = COMPILED if jit else losses.total_loss
    return function(jnp.asarray(forecast), jnp.asarray(target), quantiles, hp, scale)


def reference(forecast, target, hp, scale):
    """The formula in float64, written apart from the code under test."""
    q = np.asarray(QUANTILES)
    error = target[..., None] - forecast
    pinball = np.where(error >= 0, q * error, (q - 1) * error).mean()
    median = forecast[..., 1]
    mean_error, std_error = median.mean() - hp.target_mean, median.std() - hp.target_std
    penalty = hp.mean_weight * mean_error**2 + hp.std_weight * std_error**2
    return pinball + (penalty / hp.target_std if scale == "standardized" else penalty)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("levels", [QUANTILES, jnp.asarray(QUANTILES)])
def test_quantile_loss_by_hand(jit, levels):
    def function(forecast, target):
        return losses.quantile_loss(forecast, target, levels)

    function = jax.jit(function) if jit else function
    np.testing.assert_allclose(function(jnp.asarray(FORECAST), jnp.asarray(TARGET)), PINBALL, atol=1e-8)


@pytest.mark.parametrize(
    ("forecast", "target", "count"),
    [((2, 3, 5), (2, 1), 5), ((2, 3, 5), (3, 2), 5), ((2, 3, 5), (2, 3), 3), ((2, 3, 5), (2, 3), 1)],
)
def test_quantile_loss_refuses_to_broadcast(forecast, target, count):
    levels = tuple(np.linspace(0.1, 0.9, count).tolist())
    # The checker of the array shapes sees some of these first; without it the function itself must refuse.
    with pytest.raises(Exception, match="quantile_loss"):
        losses.quantile_loss(jnp.zeros(forecast), jnp.zeros(target), levels)
    bare = losses.quantile_loss
    while hasattr(bare, "__wrapped__"):
        bare = bare.__wrapped__
    with pytest.raises(ValueError, match="it needs"):
        bare(jnp.zeros(forecast), jnp.zeros(target), levels)


@pytest.mark.parametrize("level", [0.02, 0.25, 0.5, 0.9])
def test_pinball_is_least_at_the_sample_quantile(level):
    sample = np.random.default_rng(3).normal(size=101).astype(np.float32)
    candidates = np.sort(sample)
    forecast = jnp.asarray(np.tile(candidates[None, None, :], (101, 1, 1)))
    cost = losses.quantile_loss(forecast, jnp.asarray(sample[:, None]), (level,) * 101).mean((0, 1))
    assert candidates[int(jnp.argmin(cost))] == np.quantile(sample, level, method="inverted_cdf")


@pytest.mark.parametrize("extreme", [1e30, -1e30, 1e-30, 0.0])
def test_quantile_loss_extreme_values(extreme):
    out = losses.quantile_loss(jnp.full((2, 1, 3), extreme, jnp.float32), jnp.zeros((2, 1)), QUANTILES)
    expected = np.where(extreme > 0, (1 - np.asarray(QUANTILES)) * extreme, np.asarray(QUANTILES) * -extreme)
    np.testing.assert_allclose(out, np.broadcast_to(expected, (2, 1, 3)), rtol=1e-6)


@pytest.mark.parametrize(
    "values", [[1.0, 2.0, 3.0, 6.0], [0.01, 0.0100001, 0.02], [1e25, -1e25], [1e-30, 3e-30]]
)
def test_safe_std_value(values):
    values = np.asarray(values, np.float32)
    np.testing.assert_allclose(
        jax.jit(losses.safe_std)(jnp.asarray(values)), values.astype(np.float64).std(), rtol=2e-6
    )


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3e-4, 1e20])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (64, 1)])
def test_safe_std_of_equal_values_is_zero_with_zero_gradient(value, shape):
    # 7 x 0.1 summed in float32 is not 0.7: a mean that is off by a bit must not pass as spread.
    out, gradient = jax.jit(jax.value_and_grad(losses.safe_std))(jnp.full(shape, value, jnp.float32))
    assert out == 0
    np.testing.assert_array_equal(gradient, np.zeros(shape))


def test_safe_std_gradient_by_hand():
    # d sigma / d x_i = (x_i - mean) / (N sigma); here mean 3, sigma sqrt(3.5).
    x = np.array([1.0, 2.0, 3.0, 6.0], np.float32)
    gradient = jax.jit(jax.grad(losses.safe_std))(jnp.asarray(x))
    np.testing.assert_allclose(gradient, (x - 3) / (4 * np.sqrt(3.5)), rtol=1e-5, atol=1e-7)


def test_safe_std_gradient_near_collapse_is_a_unit_direction():
    near = jnp.asarray([0.1, np.nextafter(np.float32(0.1), np.float32(1))])
    gradient = jax.jit(jax.grad(losses.safe_std))(near)
    np.testing.assert_allclose(gradient, [-0.5, 0.5], rtol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(
    ("scale", "mean_penalty", "std_penalty"),
    # mu - target_mean = 0.01, sigma - target_std = -0.01; standardized: -1/2 and 1/2 squared, times 0.02
    [("return", 3 * 1e-4, 5 * 1e-4), ("standardized", 3 * 0.25 * 0.02, 5 * 0.25 * 0.02)],
)
def test_total_loss_by_hand(jit, scale, mean_penalty, std_penalty):
    hp = hyper(mean_weight=3.0, std_weight=5.0, target_mean=0.01, target_std=0.02)
    loss, terms = total(FORECAST, TARGET, hp, scale, jit=jit)
    expected = {
        "quantile_loss": QL,
        "mean_penalty": mean_penalty,
        "std_penalty": std_penalty,
        "marginal_penalty": 0.0,
        "directional_penalty": 0.0,
        "crossing_penalty": 0.0,
        "mu": 0.02,
        "sigma": 0.01,
        "share_positive": 1.0,
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(loss, QL + mean_penalty + std_penalty, rtol=1e-5)


@pytest.mark.parametrize("scale", losses.SCALES)
def test_without_weights_the_loss_is_the_pinball_loss(scale):
    loss, terms = total(FORECAST, TARGET, hyper(), scale)
    np.testing.assert_allclose(loss, QL, rtol=1e-6)
    assert all(terms[f"{name}_penalty"] == 0 for name in losses.PENALTIES)


def test_standardized_is_the_formula_in_pure_numbers():
    # The same data in another unit: loss / target_std does not change, with the same weights.
    decimals = hyper(mean_weight=0.3, std_weight=0.1)
    percent = decimals._replace(target_mean=0.03, target_std=1.0)
    a, _ = total(FORECAST, TARGET, decimals, "standardized")
    b, _ = total(FORECAST * 100, TARGET * 100, percent, "standardized")
    np.testing.assert_allclose(a / 0.01, b / 1.0, rtol=1e-5)


def test_moments_are_those_of_the_whole_batch_and_all_horizons():
    rng = np.random.default_rng(5)
    forecast = rng.normal(0.001, 0.01, (7, 3, 3)).astype(np.float32)
    _, terms = total(forecast, np.zeros((7, 3), np.float32), hyper())
    np.testing.assert_allclose(terms["mu"], forecast[:, :, 1].mean(), rtol=1e-4)
    np.testing.assert_allclose(terms["sigma"], forecast[:, :, 1].std(), rtol=1e-5)
    np.testing.assert_allclose(terms["share_positive"], (forecast[:, :, 1] > 0).mean(), rtol=1e-6)


SPREAD = """
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from tftjax.config.hyperparameters import Hyperparameters
from tftjax.train.losses import total_loss
forecast = np.random.default_rng(5).normal(0.001, 0.01, (6, 3, 3)).astype(np.float32)
forecast[:3] += 0.1  # the devices' means differ: moments within a device are not those of the batch
rows = NamedSharding(jax.make_mesh((2,), ("batch",)), PartitionSpec("batch"))
put = lambda x: jax.device_put(x, rows)
loss = jax.jit(total_loss, static_argnums=(2, 4))
hp = Hyperparameters(**{**dict.fromkeys(Hyperparameters._fields, 0.0), "std_weight": 1.0})
_, terms = loss(put(forecast), put(np.zeros((6, 3), np.float32)), (0.1, 0.5, 0.9), hp, "return")
assert len(put(forecast).sharding.device_set) == 2
np.testing.assert_allclose(terms["mu"], forecast[:, :, 1].mean(), rtol=1e-5)
np.testing.assert_allclose(terms["sigma"], forecast[:, :, 1].std(), rtol=1e-5)
"""


@pytest.mark.slow
def test_moments_of_a_batch_spread_over_two_devices():
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    out = subprocess.run(
        [sys.executable, "-c", SPREAD],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert out.returncode == 0, out.stderr


@pytest.mark.parametrize("scale", losses.SCALES)
def test_gradient_against_finite_differences(scale):
    rng = np.random.default_rng(11)
    forecast, target = rng.normal(0, 0.01, (5, 2, 3)), rng.normal(0, 0.01, (5, 2))
    hp = hyper(mean_weight=7.0, std_weight=11.0)
    numeric = np.zeros_like(forecast)
    for index in np.ndindex(*forecast.shape):
        step = np.zeros_like(forecast)
        step[index] = 1e-7
        above, below = (reference(forecast + s, target, hp, scale) for s in (step, -step))
        numeric[index] = (above - below) / 2e-7
    f32 = jnp.asarray(forecast, jnp.float32)
    gradient = jax.jit(jax.grad(lambda f: total(f, target.astype(np.float32), hp, scale)[0]))(f32)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scale", losses.SCALES)
@pytest.mark.parametrize("batch", [1, 5])
def test_gradient_is_finite_under_collapse(scale, batch):
    forecast, target = jnp.full((batch, 1, 3), 0.1), jnp.zeros((batch, 1))
    hp = hyper(**{f"{name}_weight": 1.0 for name in losses.PENALTIES})
    gradient = jax.jit(jax.grad(lambda f: total(f, target, hp, scale)[0]))(forecast)
    assert bool(jnp.isfinite(gradient).all())
    assert bool((gradient != 0).all())  # the pinball and mean terms still pull


def test_gradient_by_hyperparameter_and_vmap_over_members():
    hp = hyper(mean_weight=jnp.asarray([0.0, 3.0]), std_weight=jnp.asarray([5.0, 0.0]))
    hp = hp._replace(**{k: jnp.full(2, v) for k, v in hp._asdict().items() if not hasattr(v, "shape")})
    both, _ = jax.jit(jax.vmap(lambda h: total(FORECAST, TARGET, h)))(hp)
    for member in range(2):
        alone, _ = total(FORECAST, TARGET, jax.tree.map(lambda x, m=member: x[m], hp))
        np.testing.assert_allclose(both[member], alone, rtol=1e-6)
    assert both[0] != both[1]


def test_the_median_is_found_by_its_level():
    _, terms = total(FORECAST, TARGET, hyper(), quantiles=(0.5, 0.7, 0.9))
    np.testing.assert_allclose(terms["mu"], -0.005, rtol=1e-5)


def test_a_penalty_is_one_function_and_one_line(monkeypatch):
    monkeypatch.setitem(losses.PENALTIES, "dropout_rate", lambda forecast, quantiles, hp: forecast[1, 0, 1])
    monkeypatch.setattr(Hyperparameters, "dropout_rate_weight", 2.0, raising=False)
    loss, terms = total(FORECAST, TARGET, hyper(), jit=False)  # what was compiled before has no such penalty
    np.testing.assert_allclose(terms["dropout_rate_penalty"], 0.06, rtol=1e-6)
    np.testing.assert_allclose(loss, QL + 0.06, rtol=1e-6)


def test_refusals():
    with pytest.raises(ValueError, match=r"'percent'.*return, standardized"):
        total(FORECAST, TARGET, hyper(), "percent")
    with pytest.raises(ValueError, match=r"0\.5"):
        total(FORECAST, TARGET, hyper(), quantiles=(0.1, 0.4, 0.9))
