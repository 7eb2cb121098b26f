"""Regimes by thresholds and router, gates that start neutral and by hand, the balance of a router."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model.test_layers import CLOSE, noise, normal, random_params
from model.test_tft import B, applied, build
from model.test_tft import parameters as random_parameters

from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import Config
from tftjax.config.model import AttentionConfig, RegimeConfig
from tftjax.model.attention import InterpretableAttention
from tftjax.model.regime import GATES, RegimeGates, Router, balance_penalty, by_thresholds

RATES = hyperparameters(Config())._replace(regime_gradient_scale=2.0)


def parameters(model, inputs):
    """Those of test_tft, as they are on a device."""
    return jax.tree.map(jnp.float32, random_parameters(model, inputs))


THRESHOLDS = {"by": "thresholds", "column": "VIX", "num_regimes": 3, "thresholds": (15.0, 25.0)}
ROUTER = {"by": "router", "num_regimes": 3}


def test_regimes_by_thresholds():
    values = jnp.array([10.0, 15.0, 15.1, 25.0, 40.0])
    rates = RATES._replace(regime_low=15.0, regime_high=25.0)
    np.testing.assert_array_equal(
        jax.jit(by_thresholds, static_argnums=1)(values, 3, rates),
        [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]],
    )
    one = by_thresholds(values, 2, RATES._replace(regime_low=15.0, regime_high=np.inf))
    np.testing.assert_array_equal(one, [[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]])


@pytest.mark.parametrize("num_heads", range(1, 8))
@pytest.mark.parametrize("renormalise", [False, True])
def test_gates_are_neutral_at_zero(num_heads, renormalise):
    gate = jax.jit(GATES[renormalise])(jnp.zeros((num_heads, 3)))
    np.testing.assert_array_equal(gate, np.ones((num_heads, 3)))


def test_gates_by_hand():
    z = jnp.array([[0.5, -3.0], [np.log(3.0), 0.0]])
    np.testing.assert_allclose(GATES[False](z), [[1.5, -2.0], [1 + np.log(3), 1.0]], rtol=1e-6)
    e = np.exp(z)
    np.testing.assert_allclose(GATES[True](z), 2 * e / e.sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(GATES[True](100 * z).sum(axis=0), 2, rtol=1e-6)


def test_gates_of_a_mixture_of_regimes():
    module = RegimeGates(RegimeConfig(**ROUTER), 2)
    gate = jnp.array([[0.0, 0.5], [1.0, -0.5], [2.0, 0.0]])
    regime = jnp.array([[1.0, 0.5], [0.0, 0.25], [0.0, 0.25]])
    found = module.apply({"params": {"gate": gate}}, regime, RATES)
    np.testing.assert_allclose(found, [[1.0, 2.5], [2.0, 1.25]], rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_gates_weigh_heads(compiled):
    d, p, t, b, h = 6, 2, 5, 3, 3
    module = InterpretableAttention(h)
    query, memory = normal(d, p, b), normal(d, t, b)
    params = random_params(module, query, memory, None)
    gates = normal(h, b, seed=2)

    def attend(params, gates):
        return module.apply({"params": params}, query, memory, None, None, gates)

    run = jax.jit(attend) if compiled else attend
    attended, weights = run(params, gates)
    mixed = np.einsum("hb,hptb->ptb", gates, weights) / h
    value = np.einsum("dk,dtb->ktb", params["value_kernel"], memory)
    expected = np.einsum("ptb,ktb,kd->dpb", mixed, value, params["output_kernel"])
    np.testing.assert_allclose(attended, expected, **CLOSE)
    np.testing.assert_allclose(run(params, -gates)[0], -expected, **CLOSE)
    np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-6)
    for found, plain in zip(run(params, jnp.ones((h, b))), run(params, None), strict=True):
        np.testing.assert_allclose(found, plain, rtol=0, atol=1e-7)  # jax 0.10.0 rounds a bit differently


def gated(settings, **changes):
    """A model with gates, the same without, a batch with a value of the regime's column."""
    changes |= {"known": ("real",), "static": (), "lstm_layers": 1}
    model, inputs = build(attention=AttentionConfig(regime=RegimeConfig(**settings)), **changes)
    plain, _ = build(**changes)
    return model, plain, inputs._replace(regime=jnp.array([14.0, 31.0]))


CASES = {
    "thresholds": THRESHOLDS,
    "thresholds, renormalised": THRESHOLDS | {"renormalise": True},
    "router": ROUTER,
    "router, renormalised": ROUTER | {"renormalise": True},
}


@pytest.mark.slow
@pytest.mark.parametrize(("case", "num_heads"), list(zip(CASES, (2, 3, 2, 3), strict=True)))
def test_a_model_starts_as_the_model_without_gates(case, num_heads):
    model, plain, inputs = gated(CASES[case], num_heads=num_heads)
    tree = parameters(model, inputs)
    tree["attention_gates"] = {"gate": jnp.zeros((3, num_heads))}  # as they start
    shared = {n: value for n, value in tree.items() if n not in ("attention_gates", "attention_router")}
    some = noise(0.3, 5, np.arange(B))
    rates = RATES._replace(regime_low=15.0, regime_high=25.0)

    baseline, output = applied(plain, shared, inputs, some), applied(model, tree, inputs, some, rates)
    for name in ("quantiles", "attention", "encoder_selection", "decoder_selection"):
        found, expected = getattr(output, name), getattr(baseline, name)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(output.regime.sum(axis=1), 1, atol=1e-6)
    assert output.regime.shape == (B, 3)
    if "thresholds" in case:
        np.testing.assert_array_equal(output.regime, [[1, 0, 0], [0, 0, 1]])
    # One window's gate is another's business only in the same regime.
    tree["attention_gates"] = {"gate": jnp.zeros((3, num_heads)).at[0].set(1.0).at[0, 0].set(-2.0)}
    moved = applied(model, tree, inputs, some, rates).quantiles - output.quantiles
    moved = np.abs(moved).max(axis=(1, 2))
    assert moved[0] > 1e-4
    assert (moved[1] > 0) == ("router" in case)


def test_the_router_learns_once_a_gate_has_moved():
    router, gates = Router(3), RegimeGates(RegimeConfig(**ROUTER), 2)
    encoded, context = normal(5, B), normal(5, 1, B)
    params = random_params(router, encoded, context)

    def total(params, gate):
        regime = router.apply({"params": params}, encoded, context)
        return (gates.apply({"params": {"gate": gate}}, regime, RATES) * normal(2, B)).sum()

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)))
    start, moved = gradient(params, jnp.zeros((3, 2))), gradient(params, normal(3, 2))
    assert not np.any(start[0]["logits"]["kernel"])
    assert np.abs(start[1]).min() > 0
    assert np.abs(moved[0]["logits"]["kernel"]).min() > 0


def test_the_router_does_without_static_inputs():
    model, inputs = build(static=(), attention=AttentionConfig(regime=RegimeConfig(**ROUTER)))
    assert parameters(model, inputs)["attention_router"]["logits"]["kernel"].shape == (6, 3)
    model, inputs = build(attention=AttentionConfig(regime=RegimeConfig(**ROUTER)))
    assert parameters(model, inputs)["attention_router"]["logits"]["kernel"].shape == (12, 3)


def test_balance_by_hand():
    even = jnp.array([[0.9, 0.1], [0.1, 0.9]])
    np.testing.assert_allclose(balance_penalty(even), 0, atol=1e-6)
    np.testing.assert_allclose(balance_penalty(jnp.array([[1.0, 0, 0], [1.0, 0, 0]])), 2, rtol=1e-6)
    # Means 0.6 and 0.4: 2 * (0.36 + 0.16) - 1.
    uneven = jnp.array([[0.9, 0.1], [0.3, 0.7]])
    np.testing.assert_allclose(jax.jit(balance_penalty)(uneven), 0.04, rtol=1e-5)
    gradient = jax.grad(balance_penalty)(uneven)
    np.testing.assert_allclose(gradient, [[1.2, 0.8], [1.2, 0.8]], rtol=1e-5)
