"""Dropout's statistics, and every layer against its equation in numpy: features last, in float64."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tftjax.model import layers
from tftjax.model.layers import Dropout, dropout

V, D, T, B, K, OUT = 3, 5, 7, 2, 11, 13
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


@pytest.fixture(params=["eager", "jit"])
def run(request):
    """Calls a function as it is, and compiled: what is made of small layers is only compiled."""
    return jax.jit if request.param == "jit" else lambda function: function


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape), jnp.float32)


def random_params(module, *args, seed=1):
    """Parameters of the module's shapes, none of them zero (biases are, when initialized)."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: (0.7 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)


def apply(run, module, params, *args):
    params, args = jax.tree.map(jnp.asarray, (params, args))
    return run(lambda params, *args: module.apply({"params": params}, *args))(params, *args)


def embedded(steps):
    """Variables in two groups, of 2 rows and of 3 rows, and their vectors."""
    rows = normal(V - 1, 2, steps, B, seed=3), normal(1, 3, steps, B, seed=4)
    matrices = normal(V - 1, 2, D, seed=5), normal(1, 3, D, seed=6)
    vectors = [np.einsum("vcd,vctb->vdtb", *pair) for pair in zip(matrices, rows, strict=True)]
    return layers.Embedded(rows, matrices), jnp.asarray(np.concatenate(vectors))


# The equations of the paper, on arrays with features last.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def elu(x):
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def linear(p, x):
    return x @ np.float64(p["kernel"]) + np.float64(p.get("bias", 0.0))


def layer_norm(p, x):
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-3) * p["scale"] + p["bias"]


def glu(p, x):
    return sigmoid(linear(p["gate"], x)) * linear(p["value"], x)


def gate_add_norm(p, x, skip):
    return layer_norm(p["norm"], skip + glu(p["glu"], x))


def grn(p, a, c=None):
    eta2 = elu(linear(p["w2"], a) + (0 if c is None else linear(p["w3"], c)))
    return gate_add_norm(p["gate"], linear(p["w1"], eta2), linear(p["skip"], a) if "skip" in p else a)


def variable_selection(p, x, c=None):
    """Returns the mixture and the weights of x, a list of each variable's [..., D]."""
    weights = softmax(grn(p["weights"], np.concatenate(x, axis=-1), c))
    each = [grn(jax.tree.map(lambda leaf, v=v: leaf[v], p["variables"]), x_v) for v, x_v in enumerate(x)]
    return sum(weights[..., [v]] * y for v, y in enumerate(each)), weights


def lstm(p, x, hidden, cell):
    """Runs over x, a list of [..., D] steps."""
    size, outputs = hidden.shape[-1], []
    for x_t in x:
        z = linear(p["input"], x_t) + hidden @ np.float64(p["recurrent_kernel"])
        i, f, g, o = (z[..., n * size : (n + 1) * size] for n in range(4))
        cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
    return outputs, hidden, cell


def last(x):
    """[D, T, B] to [T, B, D], and [V, D, T, B] to a list of those."""
    x = np.float64(x)
    return np.moveaxis(x, 0, -1) if x.ndim == 3 else [last(x_v) for x_v in x]


# Dropout.


def noise(rate=0.3, seed=5, window=None):
    window = np.arange(101) if window is None else window
    return Dropout(jnp.float32(rate), jnp.uint32(seed), jnp.asarray(window, jnp.int32))


def kept(shape=(67, 41, 101), site=("a",), **changes):
    """Which entries of an array of ones stay."""
    return np.asarray(dropout(jnp.ones(shape), noise(**changes), site)) != 0


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def test_no_dropout_without_noise():
    x = normal(D, B)
    assert dropout(x, None, ("a",)) is x


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.5, 0.9])
def test_share_and_mean_under_a_traced_rate(rate, run):
    x = jnp.ones((67, 41, 101))
    y = np.asarray(run(lambda rate: dropout(x, noise()._replace(rate=rate), ("a",)))(jnp.float32(rate)))
    deviation = np.sqrt(rate * (1 - rate) / y.size)
    assert abs((y != 0).mean() - (1 - rate)) < 4 * deviation
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)
    assert abs(y.mean() - 1) < 4 * deviation / (1 - rate)
    # Neither windows nor entries are treated alike, nor one of them better than others.
    assert abs((y != 0).mean(axis=(0, 1)) - (1 - rate)).max() < 5 * deviation * np.sqrt(101)
    assert abs((y != 0).mean(axis=2) - (1 - rate)).max() < 6 * deviation * np.sqrt(67 * 41)


def test_rate_zero_keeps_all():
    x = normal(31, 37, 101)
    np.testing.assert_array_equal(dropout(x, noise(rate=0.0), ("a",)), x)


def test_rate_zero_keeps_the_entry_with_the_highest_bits():
    # The seed with which entry 0 of window 0 gets 0xFFFFFFFF, from the inverse of the mixing function.
    h = 0xFFFFFFFF
    h ^= (h >> 15) ^ (h >> 30)
    h = h * pow(0x735A2D97, -1, 2**32) % 2**32
    h ^= (h >> 15) ^ (h >> 30)
    h = h * pow(0x21F0AAAD, -1, 2**32) % 2**32
    h ^= h >> 16
    assert int(layers._mix(jnp.uint32(h))) == 0xFFFFFFFF
    assert kept((1, 1), rate=0.0, seed=h ^ zlib.crc32(b"a"), window=[0]).all()


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"seed": 6}, "neighbouring steps"),
        ({"seed": 5 + 0x9E3779B9}, "a step apart by the constant that counts entries"),
        ({"site": ("b",)}, "sites"),
        ({"site": ("a", "glu")}, "a module and its child"),
        ({"window": np.arange(101, 202)}, "windows of two halves"),
        ({"window": np.arange(1, 102)}, "neighbouring windows"),
    ],
)
def test_no_correlation_between(other, what):
    a, b = kept(rate=0.5), kept(rate=0.5, **other)
    assert abs(correlation(a, b)) < 4 / np.sqrt(a.size), what


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("lag", [1, 2, 7])
def test_no_correlation_within(axis, lag):
    a = np.moveaxis(kept(rate=0.5), axis, 0)
    assert abs(correlation(a[lag:], a[:-lag])) < 4 / np.sqrt(a[lag:].size)


def test_seeds_do_not_shift_one_sequence():
    a = kept((4001, 3), rate=0.5, window=[0, 1, 2])
    for seed in range(6, 12):
        b = kept((4001, 3), rate=0.5, window=[0, 1, 2], seed=seed)
        for shift in range(-9, 10):
            assert abs(correlation(a, np.roll(b, shift, axis=0))) < 5 / np.sqrt(a.size)


def test_a_window_gets_the_same_bits_in_every_slice_of_the_batch(run):
    x = normal(V, D, 11)

    def part(first, stop):
        window = jnp.arange(stop - first)
        return run(lambda x, offset: dropout(x, noise(0.4, 5, offset + window), ("a",)))(
            x[..., first:stop], jnp.int32(first)
        )

    whole = part(0, 11)
    assert 0 < (whole == 0).sum() < whole.size
    np.testing.assert_array_equal(whole, np.concatenate([part(0, 4), part(4, 11)], axis=-1))
    assert not np.array_equal(whole[..., :4] == 0, part(4, 8) == 0)


# Layers.


def test_dense_by_hand(run):
    params = {"kernel": np.float32([[1, 10], [2, 20], [3, 30]]), "bias": np.float32([0.5, 7])}
    x = np.float32([[[1]], [[-1]], [[2]]])
    y = apply(run, layers.Dense(2), params, x)
    np.testing.assert_array_equal(y, [[[5.5]], [[57]]])


@pytest.mark.parametrize("use_bias", [True, False])
def test_dense(run, use_bias):
    module, x = layers.Dense(K, use_bias=use_bias), normal(D, T, B)
    params = random_params(module, x)
    assert set(params) == ({"kernel", "bias"} if use_bias else {"kernel"})
    y = apply(run, module, params, x)
    assert y.shape == (K, T, B)
    np.testing.assert_allclose(last(y), linear(params, last(x)), **CLOSE)


def test_stacked_dense_is_a_network_for_each_entry(run):
    module, x = layers.Dense(K, (V,)), normal(V, D, T, B)
    params = random_params(module, x)
    y = apply(run, module, params, x)
    for v in range(V):
        expected = linear({name: leaf[v] for name, leaf in params.items()}, last(x[v]))
        np.testing.assert_allclose(last(y[v]), expected, **CLOSE)


@pytest.mark.parametrize("spread", [1.0, 0.01])  # at 0.01 the epsilon of 1e-3 is most of the denominator
def test_layer_norm(run, spread):
    module, x = layers.LayerNorm(), spread * normal(D, T, B) + np.float32(3)
    params = random_params(module, x)
    np.testing.assert_allclose(last(apply(run, module, params, x)), layer_norm(params, last(x)), **CLOSE)


def test_stacked_layer_norm(run):
    module, x = layers.LayerNorm((V,)), normal(V, D, T, B)
    params = random_params(module, x)
    y = apply(run, module, params, x)
    for v in range(V):
        expected = layer_norm({name: leaf[v] for name, leaf in params.items()}, last(x[v]))
        np.testing.assert_allclose(last(y[v]), expected, **CLOSE)


def test_gated_linear_unit(run):
    module, x = layers.GatedLinearUnit(K), normal(D, T, B)
    params = random_params(module, x)
    np.testing.assert_allclose(last(apply(run, module, params, x)), glu(params, last(x)), **CLOSE)
    # A gate that is shut lets nothing through.
    params["gate"]["bias"] = np.full(K, -200, np.float32)
    assert not np.any(apply(run, module, params, x))


def test_gate_add_norm(run):
    module, x, skip = layers.GateAddNorm(), normal(K, T, B), normal(D, T, B)
    params = random_params(module, x, skip, None)
    y = apply(run, module, params, x, skip, None)
    np.testing.assert_allclose(last(y), gate_add_norm(params, last(x), last(skip)), **CLOSE)


@pytest.mark.parametrize("with_context", [True, False])
@pytest.mark.parametrize("features", [D, OUT])
def test_gated_residual_network(features, with_context):
    module = layers.GatedResidualNetwork(K, features)
    x, context = normal(D, T, B), normal(2, 1, B) if with_context else None
    params = random_params(module, x, None, context)
    names = (
        {"w1", "w2", "gate"} | ({"w3"} if with_context else set()) | ({"skip"} if features != D else set())
    )
    assert set(params) == names
    if with_context:
        assert set(params["w3"]) == {"kernel"}
    y = apply(jax.jit, module, params, x, None, context)
    assert y.shape == (features, T, B)
    expected = grn(params, last(x), last(context) if with_context else None)
    np.testing.assert_allclose(last(y), expected, **CLOSE)


def test_gated_residual_network_drops_before_the_gate():
    module, x = layers.GatedResidualNetwork(K, D), normal(D, T, B)
    params = random_params(module, x, None)
    some = noise(0.5, 5, [0, 1])
    y = apply(jax.jit, module, params, x, some)
    hidden = linear(params["w1"], elu(linear(params["w2"], last(x))))
    mask = last(dropout(jnp.ones((K, T, B)), some, ("gate",)))
    expected = gate_add_norm(params["gate"], hidden * mask, last(x))
    np.testing.assert_allclose(last(y), expected, **CLOSE)


def test_real_embedding(run):
    module, x = layers.RealEmbedding(D), normal(V, T, B)
    params = random_params(module, x)
    present = np.random.default_rng(0).random((V, T, B)) < 0.5
    y = apply(run, module, params, x).vectors()
    masked = apply(run, module, params, x, present).vectors()
    assert y.shape == (V, D, T, B)
    for v in range(V):
        for d in range(D):
            expected = x[v] * params["kernel"][v, 0, d] + params["bias"][v, d]
            np.testing.assert_allclose(y[v, d], expected, **CLOSE)
            np.testing.assert_allclose(masked[v, d], np.where(present[v], expected, 0), **CLOSE)


@pytest.mark.parametrize("features", [D, K, V * D])
@pytest.mark.parametrize("stacked", [True, False])
def test_a_network_upon_embedded_variables_is_that_upon_their_vectors(stacked, features):
    x, vectors = embedded(T)
    module = layers.GatedResidualNetwork(K, features, (V,) if stacked else ())
    multiplied_out = vectors if stacked else vectors.reshape(V * D, T, B)
    params = random_params(module, multiplied_out, None)
    expected = apply(jax.jit, module, params, multiplied_out, None)
    np.testing.assert_allclose(apply(jax.jit, module, params, x, None), expected, **CLOSE)
    parts = layers.join([x.steps(0, 2), x.steps(0, 2)])
    np.testing.assert_allclose(parts.vectors(), jnp.concatenate([vectors[:, :, :2]] * 2), **CLOSE)


def test_elu_and_its_gradient(run):
    x = jnp.float32([-200, -2, -1e-3, 0, 1e-3, 3])
    np.testing.assert_allclose(run(layers.elu)(x), jax.nn.elu(x), **CLOSE)
    np.testing.assert_allclose(
        run(jax.vmap(jax.grad(layers.elu)))(x), jax.vmap(jax.grad(jax.nn.elu))(x), **CLOSE
    )


@pytest.mark.parametrize("backend", ["cpu", "gpu"])  # which only choose how a mean is written
def test_the_gradient_of_standardize_is_the_derived_one(backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    weights = normal(V, D, T, B, seed=1)

    def plain(x):
        centered = x - x.mean(axis=1, keepdims=True)
        return centered / jnp.sqrt((centered**2).mean(axis=1, keepdims=True) + layers.EPSILON)

    @jax.jit
    def gradients(x):
        return [jax.grad(lambda x, f=f: (weights * f(x)).sum())(x) for f in (layers.standardize, plain)]

    for spread in (1.0, 0.01):
        got, expected = gradients(spread * normal(V, D, T, B) + np.float32(3))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 / spread)


def test_categorical_embedding(run):
    cardinalities = (3, 7)
    codes = np.random.default_rng(0).integers(0, cardinalities, (T, B, 2)).transpose(2, 0, 1).astype(np.int32)
    codes[:, 0, 0] = 0, 6  # the unseen category of the first, the last of the second
    codes[:, 1, 0] = 2, 0
    module = layers.CategoricalEmbedding(D, cardinalities)
    table = random_params(module, codes)["embedding"]
    assert table.shape == (10, D)
    y = apply(run, module, {"embedding": table}, codes).vectors()
    for v, first in enumerate([0, 3]):
        np.testing.assert_array_equal(last(y[v]), table[first + codes[v]])


def test_only_the_row_of_its_code_learns():
    codes = np.int32([[[0, 2]], [[1, 1]]])
    module = layers.CategoricalEmbedding(D, (3, 4))
    params = random_params(module, codes)

    def total(params):
        return module.apply({"params": params}, jnp.asarray(codes)).vectors().sum()

    gradient = jax.jit(jax.grad(total))(params)["embedding"]
    np.testing.assert_array_equal(gradient[:, 0], [1, 0, 1, 0, 2, 0, 0])


@pytest.mark.parametrize("with_context", [True, False])
def test_variable_selection(with_context):
    module, (x, vectors) = layers.VariableSelection(D), embedded(T)
    context = normal(D, 1, B) if with_context else None
    params = random_params(module, x, None, context)
    mixed, weights = apply(jax.jit, module, params, x, None, context)
    assert weights.shape == (V, T, B)
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-6)
    expected, expected_weights = variable_selection(
        params, last(vectors), last(context) if with_context else None
    )
    np.testing.assert_allclose(last(mixed), expected, **CLOSE)
    np.testing.assert_allclose(last(weights), expected_weights, **CLOSE)


def test_static_encoder():
    module, (x, vectors) = layers.StaticEncoder(D), embedded(1)
    params = random_params(module, x, None)
    contexts, weights = apply(jax.jit, module, params, x, None)
    selected, expected_weights = variable_selection(params["selection"], last(vectors))
    np.testing.assert_allclose(last(weights), expected_weights, **CLOSE)
    fields = {"selection", "enrichment", "lstm_hidden", "lstm_cell"}
    assert set(contexts._fields) == fields
    for name in fields:
        expected = grn(params[f"context_{name}"], selected)
        np.testing.assert_allclose(last(getattr(contexts, name)), expected, **CLOSE)


def test_lstm():
    module, x, hidden, cell = layers.LSTM(D), normal(D, T, B), normal(D, B, seed=1), normal(D, B, seed=2)
    params = random_params(module, x, hidden, cell)
    got = apply(jax.jit, module, params, x, hidden, cell)
    outputs, last_hidden, last_cell = lstm(params, last(x), np.float64(hidden.T), np.float64(cell.T))
    np.testing.assert_allclose(last(got[0]), outputs, **CLOSE)
    np.testing.assert_allclose(got[1].T, last_hidden, **CLOSE)
    np.testing.assert_allclose(got[2].T, last_cell, **CLOSE)
    np.testing.assert_array_equal(got[0][:, -1], got[1])
