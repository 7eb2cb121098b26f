"""The wiring: against the paper written out in numpy, causality by gradient, shapes, parameter counts."""

import math
import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model.test_attention import reference as attention_reference
from model.test_layers import CLOSE, gate_add_norm, grn, linear, lstm, noise, normal, variable_selection

from tftjax.config.model import ModelConfig
from tftjax.data.windows import Inputs
from tftjax.model.attention import MASKS
from tftjax.model.parameters import init_parameters, parameter_layout, to_tree
from tftjax.model.tft import TemporalFusionTransformer

E, P, B, D, H = 5, 3, 2, 6, 2
T = E + P
QUANTILES = (0.1, 0.5, 0.75, 0.9)
OBSERVED, KNOWN_REAL, STATIC_REAL = 3, 2, 2
KNOWN_CODES, STATIC_CODES = (3, 5), (4,)
KINDS = [(), ("real",), ("categorical",), ("real", "categorical")]
BOTH = KINDS[-1]


def config(**changes):
    sizes = {"hidden_size": D, "num_heads": H, "encoder_length": E, "prediction_length": P}
    return ModelConfig(**sizes | {"quantiles": QUANTILES, "lstm_layers": 2} | changes)


def build(known=BOTH, static=BOTH, **changes):
    """A model and one batch of its inputs."""
    known_codes = KNOWN_CODES if "categorical" in known else ()
    static_codes = STATIC_CODES if "categorical" in static else ()
    rng = np.random.default_rng(7)

    def codes(cardinalities, *steps):
        drawn = [rng.integers(0, cardinality, (*steps, B)) for cardinality in cardinalities]
        return jnp.asarray(np.array(drawn).reshape(len(cardinalities), *steps, B), jnp.int32)

    model_config = config(**changes)
    steps = model_config.encoder_length + model_config.prediction_length
    inputs = Inputs(
        observed=normal(OBSERVED, model_config.encoder_length, B),
        known_real=normal(KNOWN_REAL if "real" in known else 0, steps, B),
        known_categorical=codes(known_codes, steps),
        static_real=normal(STATIC_REAL if "real" in static else 0, B),
        static_categorical=codes(static_codes),
        center=jnp.zeros(B),
        scale=jnp.ones(B),
    )
    return TemporalFusionTransformer(model_config, known_codes, static_codes), inputs


def parameters(model, inputs):
    """Initial parameters with noise, so that no bias is zero and no scale is one."""
    layout = parameter_layout(model, inputs)
    vector = init_parameters(layout, 3)
    return to_tree(vector + 0.1 * np.random.default_rng(4).normal(size=vector.shape), layout)


@partial(jax.jit, static_argnums=0)
def applied(model, params, *arguments):
    """The outputs of a model, compiled once for a model and the shapes of its arguments."""
    return model.apply({"params": params}, *arguments)


@cache
def ran(known, static):
    """A batch, the parameters and what the compiled model made of them."""
    model, inputs = build(known, static)
    params = jax.tree.map(jnp.float32, parameters(model, inputs))
    return inputs, params, applied(model, params, inputs)


@pytest.mark.parametrize("known", KINDS, ids="+".join)
@pytest.mark.parametrize("static", KINDS, ids="+".join)
def test_shapes(known, static):
    model, inputs = build(known, static)
    output, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), inputs)
    num_known = KNOWN_REAL * ("real" in known) + len(KNOWN_CODES) * ("categorical" in known)
    num_static = STATIC_REAL * ("real" in static) + len(STATIC_CODES) * ("categorical" in static)
    assert output.quantiles.shape == (B, P, len(QUANTILES))
    assert output.attention.shape == (B, H, P, T)
    assert output.encoder_selection.shape == (B, E, OBSERVED + num_known)
    if num_known:
        assert output.decoder_selection.shape == (B, P, num_known)
    if num_static:
        assert output.static_selection.shape == (B, num_static)
    assert (output.decoder_selection is None) == (not num_known)
    assert (output.static_selection is None) == (not num_static)

    modules = variables["params"]
    embeddings = {name for name in modules if name.startswith("embedding")}
    wanted = {f"embedding_known_{kind}" for kind in known} | {f"embedding_static_{kind}" for kind in static}
    assert embeddings == {"embedding_observed"} | wanted
    assert ("decoder_selection" in modules) == bool(num_known)
    assert ("static_encoder" in modules) == bool(num_static)
    assert ("w3" in modules["static_enrichment"]) == bool(num_static)
    assert ("w3" in modules["encoder_selection"]["weights"]) == bool(num_static)
    assert {f"lstm_{part}_{layer}" for part in ("encoder", "decoder") for layer in (0, 1)} <= set(modules)


def reference(p, inputs, known, static, b):
    """The forecast of window b as in sections 4.1 to 4.6 of the paper; arrays have features last."""
    p = jax.tree.map(np.float64, p)

    def embed(group, real, categorical, cardinalities):
        """A list of each variable's vectors; real and categorical are [V, ...]."""
        vectors = []
        for v, x in enumerate(np.float64(real)):
            table = p[f"embedding_{group}"] if group == "observed" else p[f"embedding_{group}_real"]
            vectors.append(x[..., None] * table["kernel"][v, 0] + table["bias"][v])
        first = 0
        for codes, cardinality in zip(np.asarray(categorical), cardinalities, strict=True):
            vectors.append(p[f"embedding_{group}_categorical"]["embedding"][first + codes])
            first += cardinality
        return vectors

    observed = embed("observed", inputs.observed[..., b], (), ())
    codes = KNOWN_CODES if "categorical" in known else ()
    known = embed("known", inputs.known_real[..., b], inputs.known_categorical[..., b], codes)
    contexts = dict.fromkeys(["selection", "enrichment", "lstm_hidden", "lstm_cell"])
    if static:
        codes = STATIC_CODES if "categorical" in static else ()
        vectors = embed("static", inputs.static_real[..., b], inputs.static_categorical[..., b], codes)
        selected, _ = variable_selection(p["static_encoder"]["selection"], vectors)
        contexts = {name: grn(p["static_encoder"][f"context_{name}"], selected) for name in contexts}

    def repeated(context):
        return None if context is None else np.tile(context, (T, 1))

    context = repeated(contexts["selection"])
    c = (None, None) if context is None else (context[:E], context[E:])
    past, _ = variable_selection(p["encoder_selection"], observed + [x[:E] for x in known], c[0])
    future = np.zeros((P, D))
    if known:
        future, _ = variable_selection(p["decoder_selection"], [x[E:] for x in known], c[1])

    start = [contexts[name] if static else np.zeros(D) for name in ("lstm_hidden", "lstm_cell")]
    encoded, decoded = past, future
    for layer in range(2):
        encoded, hidden, cell = lstm(p[f"lstm_encoder_{layer}"], encoded, *start)
        decoded, _, _ = lstm(p[f"lstm_decoder_{layer}"], decoded, hidden, cell)
    temporal = gate_add_norm(
        p["lstm_gate"], np.concatenate([encoded, decoded]), np.concatenate([past, future])
    )

    enriched = grn(p["static_enrichment"], temporal, repeated(contexts["enrichment"]))
    attended, heads = attention_reference(p["attention"], enriched[E:], enriched, MASKS["causal"](E, P))
    attended = gate_add_norm(p["attention_gate"], attended, enriched[E:])
    decoded = grn(p["position_wise"], attended)
    return linear(p["output"], gate_add_norm(p["output_gate"], decoded, temporal[E:])), heads


@pytest.mark.parametrize(("known", "static"), [(BOTH, BOTH), ((), ()), (("categorical",), ())])
def test_against_the_paper(known, static):
    inputs, params, output = ran(known, static)
    for b in range(B):
        quantiles, heads = reference(params, inputs, known, static, b)
        np.testing.assert_allclose(output.quantiles[b], quantiles, **CLOSE)
        np.testing.assert_allclose(output.attention[b], heads, **CLOSE)


def test_weights_sum_to_one():
    _, _, output = ran(BOTH, BOTH)
    for weights in (output.attention, output.encoder_selection, output.decoder_selection):
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(output.static_selection.sum(axis=-1), 1, atol=1e-6)


def test_every_mask_is_checked_for_causality():
    assert {mask for mask, _, _ in CAUSAL} == set(MASKS)


# The wiring of all inputs under the usual mask; the others make another attention alone.
CAUSAL = [("causal", BOTH, ("real",)), ("strict", ("real",), ()), ("none", ("real",), ())]


@pytest.mark.parametrize(("mask", "known", "static"), CAUSAL)
def test_causality_by_gradient(mask, known, static):
    model, inputs = build(known, static, attention_mask=mask, lstm_layers=1)
    params = parameters(model, inputs)

    def forecast(known_real, observed, params):
        inputs_ = inputs._replace(known_real=known_real, observed=observed)
        return model.apply({"params": params}, inputs_).quantiles.sum(axis=2)  # [B, P]

    jacobian = jax.jit(jax.jacrev(forecast, argnums=(0, 1)))
    known, observed = jacobian(inputs.known_real, inputs.observed, params)
    assert known.shape == (B, P, KNOWN_REAL, T, B)
    other = ~np.eye(B, dtype=bool)
    # No window sees another one.
    assert not np.moveaxis(known, 4, 1)[other].any()
    assert not np.moveaxis(observed, 4, 1)[other].any()
    own = np.stack([known[b, ..., b] for b in range(B)])  # [B, P, V, T]
    expected = np.ones((P, T), bool)
    if mask != "none":
        # The LSTM and a step's own skip connections see the step itself, also under `strict`.
        expected = np.array([[t <= E + p for t in range(T)] for p in range(P)])
    for b in range(B):
        for v in range(KNOWN_REAL):
            np.testing.assert_array_equal(own[b, :, v] != 0, expected)
        assert (np.asarray(observed)[b, ..., b] != 0).all()


def test_windows_are_treated_alike():
    inputs, params, output = ran(BOTH, BOTH)
    model, _ = build()
    swapped = jax.tree.map(lambda leaf: leaf[..., ::-1], inputs)
    again = applied(model, params, swapped)
    assert not np.allclose(output.quantiles[0], output.quantiles[1])
    for before, after in zip(jax.tree.leaves(output), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(after, before[::-1], rtol=1e-5, atol=1e-6)


def test_noise_is_all_that_is_random():
    inputs, params, output = ran(BOTH, BOTH)
    model, _ = build()

    def forecast(rate, seed):
        return applied(model, params, inputs, noise(rate, seed, [0, 1])).quantiles

    runs = {(rate, seed): forecast(rate, seed) for rate in (0.0, 0.3) for seed in (1, 2)}
    without = output.quantiles
    np.testing.assert_array_equal(forecast(0.3, 1), runs[0.3, 1])
    np.testing.assert_array_equal(applied(model, params, inputs).quantiles, without)
    assert not np.allclose(runs[0.3, 1], runs[0.3, 2])
    for seed in (1, 2):
        np.testing.assert_allclose(runs[0.0, seed], without, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "heads"), [(6, 2), (8, 1), (15, 3), (16, 2), (20, 5)])
@pytest.mark.parametrize("levels", [(0.5,), QUANTILES])
def test_number_of_parameters_of_the_core(size, heads, levels):
    model, inputs = build(hidden_size=size, num_heads=heads, lstm_layers=1, quantiles=levels)
    layout = parameter_layout(model, inputs)
    outside = ("embedding", "encoder_selection", "decoder_selection", "static_encoder/selection/")
    core = sum(
        math.prod(shape)
        for path, shape in zip(layout.paths, layout.shapes, strict=True)
        if not "/".join(path).startswith(outside)
    )
    assert heads * core == (49 * heads + 2) * size**2 + heads * (56 * size + len(levels) * (size + 1))


def test_products_of_bfloat16_are_near_those_of_float32():
    """Forecast, weights and gradient; the sums that are of float32 hold to its last digits."""
    of_float32, inputs = build(("real",), ("real",), lstm_layers=1)  # every module that multiplies
    model = build(("real",), ("real",), lstm_layers=1, dtype="bfloat16")[0]
    params = jax.tree.map(jnp.float32, parameters(of_float32, inputs))

    def forecast(model, p):
        output = model.apply({"params": p}, inputs)
        return jnp.square(output.quantiles).sum(), output

    def both(p):
        return [jax.value_and_grad(partial(forecast, m), has_aux=True)(p) for m in (model, of_float32)]

    ((_, output), gradient), ((_, exact), exact_gradient) = jax.jit(both)(params)
    leaves = jax.tree.leaves((output, gradient))
    assert {str(leaf.dtype) for leaf in leaves} == {"float32"}
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    error = np.abs(output.quantiles - exact.quantiles).max()
    assert 1e-4 < error < 0.05 * np.abs(exact.quantiles).max()
    np.testing.assert_allclose(output.attention, exact.attention, atol=0.02)
    for weights in (output.attention, output.encoder_selection, output.decoder_selection):
        np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=3e-7)
    rounded, whole = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(g)]) for g in (gradient, exact_gradient)
    )
    assert 0.99 < rounded @ whole / np.sqrt(rounded @ rounded * (whole @ whole)) < 0.9999999


def test_which_products_are_of_bfloat16():
    """All but the output layer's, and the sums that a CPU makes normalisation's means of."""
    model, inputs = build(dtype="bfloat16")
    params = jax.tree.map(jnp.float32, parameters(model, inputs))
    text = str(jax.make_jaxpr(lambda p: model.apply({"params": p}, inputs).quantiles)(params))
    products = [line for line in text.splitlines() if "= dot_general[" in line]
    of_float32 = [line for line in products if ":f32" in line.partition(" = ")[0]]
    assert len(products) > 40
    assert any(f":f32[{len(QUANTILES)}," in line for line in of_float32)
    means = [line for line in of_float32 if f":f32[{len(QUANTILES)}," not in line]
    assert all(re.search(r":f32\[(\d+,)?1,\d+\] ", line) for line in means), means
