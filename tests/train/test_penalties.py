"""The penalties on the whole forecast: by hand, against sampling, at weight 0, under collapse."""

from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from train.test_losses import FORECAST, QL, QUANTILES, TARGET, hyper, total

from tftjax.train import losses

LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
Z = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
NEW = ("marginal", "directional", "crossing")


def moments(forecast, levels):
    """Mean and standard deviation of one forecast, given as a list."""
    mean, variance = jax.jit(losses.forecast_moments, static_argnums=1)(jnp.float32([[forecast]]), levels)
    return float(mean[0, 0]), float(variance[0, 0]) ** 0.5


@pytest.mark.parametrize("levels", [LEVELS, (0.1, 0.5, 0.9), (0.3, 0.5), (0.5, 0.501, 0.99)])
def test_a_normal_forecast_has_its_own_moments(levels):
    forecast = [0.003 + 0.02 * NormalDist().inv_cdf(level) for level in levels]
    np.testing.assert_allclose(moments(forecast, levels), [0.003, 0.02], rtol=1e-5)


def test_moments_by_hand():
    # Levels 0.5 and 0.8413447 are z = 0 and 1: g(Z) = 2 + 3 Z. A third level at z = -1, 4 below: g has slope
    # 4 below 0 and 3 above, so E g = 2 + (3 - 4) E Z+ = 2 - phi(0), and E (g - 2)^2 = (16 + 9) / 2.
    levels = (NormalDist().cdf(-1), 0.5, NormalDist().cdf(1))
    np.testing.assert_allclose(moments([2, 5], levels[1:]), [2, 3], rtol=1e-5)
    density = 1 / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(
        moments([-2, 2, 5], levels), [2 - density, np.sqrt(12.5 - density**2)], rtol=1e-5
    )
    assert moments([0.7], (0.5,)) == pytest.approx((0.7, 0.0), rel=1e-6)


def test_moments_of_a_skewed_forecast_by_sampling():
    forecast = np.array([-0.021, -0.011, -0.004, 0.001, 0.005, 0.012, 0.014])
    z = np.random.default_rng(0).normal(size=1_000_000)
    inside = np.interp(z, Z, forecast)
    slopes = np.diff(forecast) / np.diff(Z)
    sample = inside + slopes[0] * np.minimum(z - Z[0], 0) + slopes[-1] * np.maximum(z - Z[-1], 0)
    np.testing.assert_allclose(moments(forecast, LEVELS), [sample.mean(), sample.std()], atol=3e-5)


@pytest.mark.parametrize(
    ("scale", "marginal"),
    # Two normal forecasts, N(0.01, 0.02^2) and N(0.03, 0.04^2): mu = 0.02, and
    # sigma^2 = (0.0004 + 0.0016) / 2 + 0.01^2 = 0.0011. Targets 0.01 and 0.02.
    [
        ("return", 3 * (0.01**2 + (0.0011**0.5 - 0.02) ** 2)),
        ("standardized", 3 * 0.02 * (0.5**2 + (0.0011**0.5 / 0.02 - 1) ** 2)),
    ],
)
def test_marginal_by_hand(scale, marginal):
    forecast = np.float32([[0.01 + 0.02 * Z], [0.03 + 0.04 * Z]])
    hp = hyper(marginal_weight=3.0, target_mean=0.01, target_std=0.02)
    _, terms = total(forecast, TARGET, hp, scale, LEVELS)
    np.testing.assert_allclose(terms["marginal_penalty"], marginal, rtol=1e-4)


def test_a_calibrated_forecast_pays_no_marginal_and_much_std_penalty():
    # Returns 0.0003 + 0.006 a + 0.008 b, of which the forecaster knows a: N(0.0003 + 0.006 a, 0.008^2).
    known = NormalDist().inv_cdf
    centers = np.array([0.0003 + 0.006 * known((i + 0.5) / 997) for i in range(997)])
    forecast = np.float32(centers[:, None, None] + 0.008 * Z)
    hp = hyper(marginal_weight=1.0, std_weight=1.0)
    _, terms = total(forecast, centers[:, None].astype(np.float32), hp, quantiles=LEVELS)
    assert terms["marginal_penalty"] < 1e-8
    np.testing.assert_allclose(terms["std_penalty"], 0.004**2, rtol=0.02)
    # So does an unconditional forecast: the penalty does not work against collapse of the median.
    flat = np.broadcast_to(np.float32(0.0003 + 0.01 * Z), (997, 1, 7))
    _, terms = total(flat, centers[:, None].astype(np.float32), hp, quantiles=LEVELS)
    assert terms["marginal_penalty"] < 1e-8


@pytest.mark.parametrize("scale", losses.SCALES)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_directional_by_hand(scale, sign):
    # In units of a hundredth of target_std, 2e-4: medians 3, 1, -2, 5; sigmoids .9525741, .7310586, .1192029,
    # .9933071: mean 0.6990357, or of the negative ones' share the rest.
    medians = sign * 2e-4 * np.array([3, 1, -2, 5])
    forecast = np.float32(np.stack([medians - 0.01, medians, medians + 0.01], axis=1)[:, None])
    hp = hyper(directional_weight=7.0, directional_threshold=0.6, target_std=0.02)
    _, terms = total(forecast, np.zeros((4, 1), np.float32), hp, scale)
    np.testing.assert_allclose(terms["directional_penalty"], 7 * 0.02 * 0.0990357**2, rtol=1e-4)
    _, terms = total(
        forecast, np.zeros((4, 1), np.float32), hp._replace(directional_threshold=0.7), scale, jit=True
    )
    assert terms["directional_penalty"] == 0


def test_directional_pushes_the_least_certain_medians_over():
    medians = np.float32([0.0001, 0.0002, 0.01])
    forecast = jnp.asarray(np.stack([medians - 0.01, medians, medians + 0.01], axis=1)[:, None])
    hp = hyper(directional_weight=1.0)
    gradient = jax.grad(lambda f: losses.directional_penalty(f, QUANTILES, hp))(forecast)
    assert gradient[0, 0, 1] > gradient[1, 0, 1] > gradient[2, 0, 1] >= 0  # descent lowers them
    assert not gradient[:, :, ::2].any()


@pytest.mark.parametrize("scale", losses.SCALES)
def test_crossing_by_hand(scale):
    # Steps: 0.02, -0.03; -0.01, 0.005: two of four cross, by 0.03 and 0.01.
    forecast = np.float32([[[0.0, 0.02, -0.01]], [[0.01, 0.0, 0.005]]])
    _, terms = total(forecast, TARGET, hyper(crossing_weight=5.0), scale)
    np.testing.assert_allclose(terms["crossing_penalty"], 5 * 0.04 / 4, rtol=1e-5)
    _, terms = total(FORECAST, TARGET, hyper(crossing_weight=5.0), scale)
    assert terms["crossing_penalty"] == 0
    _, terms = total(
        forecast[:, :, :1], TARGET, hyper(crossing_weight=5.0), scale, quantiles=(0.5,), jit=True
    )
    assert terms["crossing_penalty"] == 0


def test_at_weight_zero_they_change_no_bit(monkeypatch):
    rng = np.random.default_rng(5)
    forecast = jnp.asarray(rng.normal(0.001, 0.01, (7, 3, 3)), jnp.float32)  # quantiles cross
    target = rng.normal(0, 0.01, (7, 3)).astype(np.float32)
    hp = hyper(mean_weight=3.0, std_weight=5.0)

    def run():
        # Not jitted: which products and sums of a larger program are rounded as one is the compiler's choice.
        return jax.device_get(
            jax.value_and_grad(lambda f: total(f, target, hp, "standardized", jit=False)[0])(forecast)
        )

    with_them = run()
    for name in NEW:
        monkeypatch.delitem(losses.PENALTIES, name)
    jax.tree.map(np.testing.assert_array_equal, with_them, run())


@pytest.mark.parametrize("scale", losses.SCALES)
@pytest.mark.parametrize("name", NEW)
def test_gradients_are_finite_under_collapse(scale, name):
    # All quantiles of all forecasts are one number: no spread in a forecast, none between them.
    hp = hyper(**{f"{name}_weight": 1.0})
    compiled = jax.jit(jax.value_and_grad(lambda f: total(f, jnp.zeros((5, 2)), hp, scale)[0]))
    for value in (0.0, 0.1):
        loss, gradient = compiled(jnp.full((5, 2, 3), value))
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("scale", losses.SCALES)
def test_gradients_against_finite_differences(scale):
    rng = np.random.default_rng(11)
    forecast = rng.normal(0, 0.01, (5, 2, 7)).cumsum(axis=2)
    hp = hyper(marginal_weight=7.0, directional_weight=2.0, directional_threshold=0.5, crossing_weight=3.0)

    def penalties(f):
        terms = total(f, np.zeros((5, 2), np.float32), hp, scale, LEVELS)[1]
        return sum(terms[f"{name}_penalty"] for name in NEW)

    gradient = jax.jit(jax.grad(penalties))(jnp.float32(forecast))
    with jax.enable_x64(True):
        compiled = jax.jit(penalties)
        for index in [(0, 0, 0), (1, 1, 3), (4, 0, 6), (2, 1, 2), (3, 0, 3)]:
            step = np.zeros_like(forecast)
            step[index] = 1e-7
            numeric = (compiled(jnp.asarray(forecast + step)) - compiled(jnp.asarray(forecast - step))) / 2e-7
            np.testing.assert_allclose(gradient[index], numeric, rtol=2e-3, atol=1e-6)


def test_the_loss_is_the_sum_of_its_terms():
    hp = hyper(
        **{f"{name}_weight": 2.0 for name in losses.PENALTIES}, directional_threshold=0.6, target_std=0.02
    )
    loss, terms = total(FORECAST, TARGET, hp)
    added = [terms[f"{name}_penalty"] for name in losses.PENALTIES]
    np.testing.assert_allclose(terms["quantile_loss"], QL, rtol=1e-6)
    np.testing.assert_allclose(loss, QL + sum(map(float, added)), rtol=1e-6)
    assert sum(value > 0 for value in added) == 4  # none crosses
