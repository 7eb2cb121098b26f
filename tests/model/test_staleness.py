"""Penalties by age: by hand, against the equations, and that a weight of zero is no penalty."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model.test_attention import reference as attention_reference
from model.test_layers import CLOSE, embedded, noise, normal, random_params, softmax
from model.test_tft import OBSERVED, B, D, E, H, P, T, applied, build
from model.test_tft import parameters as random_parameters

from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import Config
from tftjax.config.model import AttentionConfig, StalenessConfig
from tftjax.model.attention import MASKS, InterpretableAttention
from tftjax.model.layers import VariableSelection
from tftjax.model.parameters import init_parameters, parameter_layout, to_tree
from tftjax.model.staleness import DECAYS, StepStaleness, VariableStaleness, learned_weight

AGES = [0.0, 0.5, 1.0, 3.0]
BY_HAND = {
    "linear": [0, 0.5, 1, 3],
    "exponential": [0, 1 - 0.5**0.5, 0.5, 0.875],
    "log": [0, 0.405465, 0.693147, 1.386294],
    "step": [0, 0, 0, 1],
}
RATES = hyperparameters(Config())._replace(
    staleness_weight=0.7, staleness_gradient_scale=3.0, staleness_scale=2.0
)


def parameters(model, inputs):
    """Those of test_tft, as they are on a device."""
    return jax.tree.map(jnp.float32, random_parameters(model, inputs))


def config(**settings):
    return StalenessConfig(**{"mode": "attention"} | settings)


@pytest.mark.parametrize("name", sorted(DECAYS))
def test_decays_by_hand(name):
    np.testing.assert_allclose(jax.jit(DECAYS[name])(jnp.array(AGES)), BY_HAND[name], rtol=1e-5)


def test_every_decay_is_written_out_here():
    assert set(DECAYS) == set(BY_HAND)


def test_a_learned_weight_is_positive_and_starts_as_set():
    raw = jnp.array([0.0, -1.0, 1.0, -60.0])
    expected = 0.7 * np.log1p(np.exp(3 * np.array([0, -1, 1, -60]))) / np.log(2)
    np.testing.assert_allclose(learned_weight(raw, RATES), expected, rtol=1e-5, atol=1e-30)
    fixed = RATES._replace(staleness_gradient_scale=0.0)
    np.testing.assert_array_equal(learned_weight(raw, fixed), np.full(4, np.float32(0.7)))
    gradient = jax.grad(lambda raw, rates: learned_weight(raw, rates).sum())
    np.testing.assert_allclose(gradient(jnp.zeros(1), RATES), 0.7 * 3 * 0.5 / np.log(2), rtol=1e-6)
    np.testing.assert_array_equal(gradient(jnp.ones(1), fixed), 0)


@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_attention_with_penalised_steps_against_the_equations(per_head, compiled):
    d, p, t, b = 6, 3, 7, 5
    attention = InterpretableAttention(2)
    staleness = StepStaleness(config(decay="log", per_head=per_head), 2, p)
    query, memory = 2 * normal(d, p, b), 2 * normal(d, t, b)
    age = 10 * jnp.abs(normal(1, t - p, b))
    params = random_params(attention, query, memory, None)
    own = random_params(staleness, age, RATES)
    assert own["raw_weight"].shape == ((2,) if per_head else (1,))

    def attend(params, own, query, memory, age):
        penalty = staleness.apply({"params": own}, age, RATES)
        return attention.apply({"params": params}, query, memory, None, penalty)

    attended, weights = (jax.jit(attend) if compiled else attend)(params, own, query, memory, age)
    w = np.broadcast_to(0.7 * np.log1p(np.exp(3.0 * own["raw_weight"])) / np.log(2), 2)
    cost = np.concatenate([np.log1p(np.asarray(age)[0] / 2.0), np.zeros((p, b))])
    params = jax.tree.map(np.float64, params)
    mask = MASKS["causal"](t - p, p)
    for window in range(b):
        q, m = np.float64(query[:, :, window].T), np.float64(memory[:, :, window].T)
        for head in range(2):
            logits = (q @ params["query_kernel"][head]) @ (m @ params["key_kernel"][head]).T / np.sqrt(3)
            logits -= w[head] * cost[:, window]
            expected = softmax(np.where(mask, logits, -np.inf))
            np.testing.assert_allclose(weights[head, :, :, window], expected, **CLOSE)
        heads = np.float64(weights[..., window]).mean(axis=0)
        expected = heads @ (m @ params["value_kernel"]) @ params["output_kernel"]
        np.testing.assert_allclose(attended[:, :, window].T, expected, **CLOSE)
    plain, _ = attention_reference(params, q, m, mask)
    assert np.abs(plain - expected).max() > 0.01


def test_selection_of_variables_against_the_equation():
    selection, staleness = VariableSelection(D), VariableStaleness(config(mode="variable_selection"))
    x, _ = embedded(7)
    num_variables, steps = x.num_variables, (7, x.rows[0].shape[-1])
    aged = jnp.abs(normal(num_variables - 1, *steps))
    age = jnp.concatenate([jnp.ones((1, *steps)), aged])  # the first variable has no age
    params = jax.tree.map(jnp.asarray, random_params(selection, x, None))
    own = random_params(staleness, age, RATES)
    _, before = applied(selection, params, x, None)
    penalty = staleness.apply({"params": own}, age, RATES)
    _, after = applied(selection, params, x, None, None, None, penalty)
    w = 0.7 * np.log1p(np.exp(3.0 * own["raw_weight"])) / np.log(2)
    cost = w[:, None, None] * (np.asarray(age) / 2.0 - 0.5)
    cost[0] = 0
    np.testing.assert_allclose(penalty, cost, **CLOSE)
    expected = softmax((np.log(np.float64(before)) - cost).transpose(1, 2, 0)).transpose(2, 0, 1)
    np.testing.assert_allclose(after, expected, **CLOSE)


@pytest.mark.parametrize("decay", sorted(DECAYS))
def test_a_variable_without_age_costs_nothing_and_learns_nothing(decay):
    staleness = VariableStaleness(config(mode="variable_selection", decay=decay))
    age = jnp.stack([jnp.full((7, 3), 1.0), jnp.full((7, 3), 2.3)])
    params = {"raw_weight": jnp.array([0.3, 0.3])}

    def penalty(params, scale):
        rates = RATES._replace(staleness_scale=scale)
        return staleness.apply({"params": params}, age, rates)

    gradient = jax.jit(jax.grad(lambda params, scale: penalty(params, scale).sum()))(params, 1.7)
    assert not np.any(penalty(params, 1.7)[0])
    assert np.all(penalty(params, 1.7)[1] > 0)
    assert gradient["raw_weight"][0] == 0
    assert gradient["raw_weight"][1] > 0


FEW_INPUTS = {"known": ("real",), "static": ()}


def aged(mode, **settings):
    """A model with staleness, the same without, and a batch with ages."""
    variant = AttentionConfig(staleness=StalenessConfig(mode=mode, **settings))
    model, inputs = build(**FEW_INPUTS, attention=variant, lstm_layers=1)
    plain, _ = build(**FEW_INPUTS, lstm_layers=1)
    age = jnp.abs(normal(1 if mode == "attention" else OBSERVED, E, B)) * 20
    return model, plain, inputs._replace(age=age)


MODES = [("attention", {}), ("attention", {"per_head": True}), ("variable_selection", {"decay": "log"})]


def test_a_weight_of_zero_is_no_penalty_and_none_changes_no_bit():
    """Of the modules, one operation after the other: compiled, XLA may round models differently."""
    off = RATES._replace(staleness_weight=0.0)
    selection, attention, (x, _) = VariableSelection(D), InterpretableAttention(2), embedded(7)
    query, memory = normal(6, 3, B), normal(6, 7, B)
    cases = [
        (selection, (x, None, None, None), VariableStaleness(config(mode="variable_selection")), (7, B)),
        (attention, (query, memory, None), StepStaleness(config(), 2, 3), (4, B)),
    ]
    for module, arguments, staleness, steps in cases:
        age = 20 * jnp.abs(normal(x.num_variables if module is selection else 1, *steps))
        own = random_params(staleness, age, RATES)
        penalty = staleness.apply({"params": own}, age, off)
        assert not np.any(penalty)
        assert np.any(staleness.apply({"params": own}, age, RATES))
        params = jax.tree.map(jnp.asarray, random_params(module, *arguments))
        plain, penalised = (module.apply({"params": params}, *arguments, p) for p in (None, penalty))
        jax.tree.map(np.testing.assert_array_equal, penalised, plain)


@pytest.mark.parametrize(("mode", "settings"), MODES)
def test_with_a_weight_of_zero_the_outputs_are_the_baselines(mode, settings):
    model, plain, inputs = aged(mode, **settings)
    tree = parameters(model, inputs)
    shared = {name: value for name, value in tree.items() if "staleness" not in name}
    assert len(shared) == len(tree) - 1
    some = noise(0.3, 5, np.arange(B))
    baseline = applied(plain, shared, inputs, some)
    off, on = (
        applied(model, tree, inputs, some, RATES._replace(staleness_weight=weight)) for weight in (0.0, 2.0)
    )
    for expected, found in zip(jax.tree.leaves(baseline), jax.tree.leaves(off), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    changed = "attention" if mode == "attention" else "encoder_selection"
    assert np.abs(getattr(on, changed) - getattr(baseline, changed)).max() > 0.01


def test_weights_come_from_the_config_where_no_rates_are_given():
    model, _, inputs = aged("attention", weight=0.9, scale=3.0)
    tree = parameters(model, inputs)
    rates = RATES._replace(staleness_weight=0.9, staleness_gradient_scale=10.0, staleness_scale=3.0)
    given, own = (
        jax.jit(lambda tree, rates=rates: model.apply({"params": tree}, inputs, None, rates).quantiles)(tree)
        for rates in (rates, None)
    )
    np.testing.assert_array_equal(given, own)


@pytest.mark.parametrize(("mode", "settings"), MODES)
def test_parameters_start_at_zero_and_leave_the_others_as_they_were(mode, settings):
    model, plain, inputs = aged(mode, **settings)
    layouts = parameter_layout(model, inputs), parameter_layout(plain, inputs)
    tree, without = (to_tree(init_parameters(layout, 3), layout) for layout in layouts)
    (name,) = tree.keys() - without.keys()
    raw = tree.pop(name)["raw_weight"]
    assert raw.shape == {"attention": (H,) if settings else (1,), "variable_selection": (OBSERVED,)}[mode]
    assert not raw.any()
    jax.tree.map(np.testing.assert_array_equal, tree, without)


def test_prediction_steps_are_never_old():
    model, _, inputs = aged("attention")
    rates = RATES._replace(staleness_weight=50.0, staleness_scale=1.0)
    tree, inputs = parameters(model, inputs), inputs._replace(age=inputs.age + 5)
    output = applied(model, tree, inputs, noise(0.0, 5, np.arange(B)), rates)
    for p in range(P):
        np.testing.assert_allclose(output.attention[:, :, p, E : E + p + 1].sum(axis=-1), 1, atol=1e-6)
    assert output.attention.shape == (B, H, P, T)
