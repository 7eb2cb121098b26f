"""Parameters: the vector and its tree, and that numpy draws what the modules declare."""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model.test_layers import normal
from model.test_tft import build

from tftjax.config.train import TrainConfig
from tftjax.errors import UserError
from tftjax.model import layers
from tftjax.model.attention import InterpretableAttention
from tftjax.model.parameters import (
    Layout,
    control_vectors,
    init_parameters,
    parameter_layout,
    part_slices,
    to_tree,
    to_vector,
)
from tftjax.model.parts import PARTS


@cache
def layout(**changes):
    return parameter_layout(*build(**changes))


def paths(tree):
    """Leaves by path, as text."""
    return {
        "/".join(key.key for key in path): np.asarray(leaf)
        for path, leaf in jax.tree.flatten_with_path(tree)[0]
    }


def test_tree_by_hand():
    small = Layout((("a", "bias"), ("b", "c", "kernel")), ((2,), (2, 3)))
    assert small.size == 8
    tree = to_tree(np.arange(8.0), small)
    np.testing.assert_array_equal(tree["a"]["bias"], [0, 1])
    np.testing.assert_array_equal(tree["b"]["c"]["kernel"], [[2, 3, 4], [5, 6, 7]])
    backwards = {"b": tree["b"], "a": tree["a"]}
    np.testing.assert_array_equal(to_vector(backwards, small), np.arange(8.0))


@pytest.mark.parametrize("compiled", [False, True])
def test_round_trip(compiled):
    vector = jnp.asarray(np.random.default_rng(0).normal(size=layout().size), jnp.float32)
    there = (jax.jit if compiled else lambda f: f)(lambda v: to_tree(v, layout()))(vector)
    model, inputs = build()
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)["params"]
    assert jax.tree.map(jnp.shape, there) == jax.tree.map(jnp.shape, shapes)
    np.testing.assert_array_equal(to_vector(there, layout()), vector)


# Every module that has parameters of its own, and what it is called with.
MODULES = {
    "dense": (layers.Dense(53), [normal(37, 2, 1)]),
    "stacked_dense": (layers.Dense(23, (5,)), [normal(5, 17, 2, 1)]),
    "layer_norm": (layers.LayerNorm(), [normal(37, 2, 1)]),
    "real_embedding": (layers.RealEmbedding(307), [normal(3, 2, 1)]),
    "categorical_embedding": (layers.CategoricalEmbedding(101, (3, 7)), [jnp.zeros((2, 2, 1), jnp.int32)]),
    "lstm": (layers.LSTM(32), [normal(32, 2, 1), normal(32, 1), normal(32, 1)]),
    "attention": (InterpretableAttention(3), [normal(51, 2, 1), normal(51, 5, 1), None]),
}


@cache
def drawn(name):
    """The numpy draw of a module's parameters and the module's own, by path."""
    module, arguments = MODULES[name]
    flax = jax.jit(module.init)(jax.random.key(5), *arguments)["params"]
    leaves, _ = jax.tree.flatten_with_path(flax)
    one = Layout(
        tuple(tuple(key.key for key in path) for path, _ in leaves), tuple(leaf.shape for _, leaf in leaves)
    )
    return paths(to_tree(init_parameters(one, 5), one)), paths(flax)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_distributions_are_those_that_the_modules_declare(name):
    ours, flax = drawn(name)
    assert ours.keys() == flax.keys()
    for path, leaf in ours.items():
        expected = flax[path]
        assert leaf.dtype == expected.dtype == np.float32
        if path.endswith(("bias", "scale")):
            np.testing.assert_array_equal(leaf, expected, err_msg=path)
            continue
        assert leaf.size > 500
        # The standard error of a uniform sample's deviation is below 0.45 of it / sqrt(n).
        assert leaf.std() == pytest.approx(expected.std(), rel=3 / math.sqrt(leaf.size)), path
        assert abs(leaf.mean() - expected.mean()) < 6 * leaf.std() / math.sqrt(leaf.size), path
        if not path.endswith("recurrent_kernel"):
            assert leaf.max() == pytest.approx(expected.max(), rel=0.03), path
            assert leaf.min() == pytest.approx(expected.min(), rel=0.03, abs=0.002), path


def test_every_kind_of_parameter_is_compared():
    compared = {(path.split("/")[-1], leaf.ndim) for name in MODULES for path, leaf in drawn(name)[0].items()}
    # Stacked biases and scales are constants as the plain ones are.
    compared |= {("bias", 2), ("scale", 2)}
    assert {(path[-1], len(shape)) for path, shape in zip(*layout(), strict=True)} <= compared


@pytest.mark.parametrize("draw", [0, 1], ids=["numpy", "flax"])
def test_glorot_limit_is_of_one_network_of_a_stack(draw):
    kernel = drawn("stacked_dense")[draw]["kernel"]
    assert kernel.shape == (5, 17, 23)
    limit = math.sqrt(6 / (17 + 23))
    for network in kernel:
        assert 0.97 * limit < abs(network).max() <= limit


@pytest.mark.parametrize("draw", [0, 1], ids=["numpy", "flax"])
def test_categories_start_small(draw):
    table = drawn("categorical_embedding")[draw]["embedding"]
    assert 0 <= table.min() < 0.001
    assert 0.099 < table.max() <= 0.1


@pytest.mark.parametrize("draw", [0, 1], ids=["numpy", "flax"])
def test_recurrent_kernels_are_orthogonal(draw):
    kernel = np.float64(drawn("lstm")[draw]["recurrent_kernel"])
    assert kernel.shape == (32, 128)
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(32), atol=1e-5)


def test_orthogonal_draw_has_no_preferred_sign():
    # A bare QR leaves the sign of R's diagonal to LAPACK, and with it a bias in the first column.
    small = Layout((("lstm", "recurrent_kernel"),), ((2, 3),))
    first = np.array([init_parameters(small, seed)[0] for seed in range(400)])
    assert abs(np.sign(first).mean()) < 4 / math.sqrt(400)


def test_seeds():
    first, again, other = (init_parameters(layout(), seed) for seed in (0, 0, 1))
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    random = first != np.round(first)
    assert random.mean() > 0.5
    assert (first[random] != other[random]).all()


def test_every_parameter_has_a_stream_of_its_own():
    with_static, without = layout(), layout(static=())
    ours = paths(to_tree(init_parameters(with_static, 3), with_static))
    fewer = paths(to_tree(init_parameters(without, 3), without))
    assert set(fewer) < set(ours)
    for name, leaf in fewer.items():
        np.testing.assert_array_equal(leaf, ours[name], err_msg=name)
    same_shape = [leaf for name, leaf in ours.items() if name.endswith("w1/kernel") and leaf.ndim == 2]
    assert len({leaf.tobytes() for leaf in same_shape}) == len(same_shape) > 5


@pytest.mark.parametrize("kinds", [{}, {"known": (), "static": ()}])
def test_parts_cover_every_parameter_once(kinds):
    covered = np.zeros(layout(**kinds).size, int)
    owner = np.full(layout(**kinds).size, np.nan)
    for part, slices in part_slices(layout(**kinds)).items():
        assert part in PARTS
        for first, stop in slices:
            covered[first:stop] += 1
            owner[first:stop] = list(PARTS).index(part)
    assert (covered == 1).all()
    by_path = paths(to_tree(owner, layout(**kinds)))
    for name, part in {
        "embedding_observed/kernel": "embeddings",
        "encoder_selection/weights/w1/kernel": "variable_selection",
        "lstm_gate/norm/scale": "lstm",
        "attention_gate/norm/scale": "attention",
        "output/kernel": "output",
    }.items():
        assert (by_path[name] == list(PARTS).index(part)).all()


SMALL = Layout((("a", "bias"), ("a", "kernel"), ("lstm", "c", "kernel")), ((2,), (1, 2), (3,)))


def control(**train):
    return control_vectors(SMALL, TrainConfig(**train))


def test_control_by_hand():
    scale, multiplier = control(
        freeze=("*/bias",), lr_multipliers={"lstm*": 0.5, "*kernel": 0.2}, gradient_scales={"a/*": 3.0}
    )
    np.testing.assert_allclose(scale, [0, 0, 3, 3, 1, 1, 1])
    np.testing.assert_allclose(multiplier, [0, 0, 0.2, 0.2, 0.1, 0.1, 0.1])
    assert scale.dtype == multiplier.dtype == np.float32


def test_where_nothing_is_set_there_is_no_vector():
    assert control() == (None, None)
    assert control(lr_multipliers={"*": 1.0}, gradient_scales={"a*": 1.0}) == (None, None)
    scale, multiplier = control(lr_multipliers={"a*": 2.0})
    assert scale is None
    assert multiplier is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("freeze", ("a*", "embeding*")),
        ("lr_multipliers", {"embeding*": 1.0}),
        ("gradient_scales", {"embeding*": 0.0, "a*": 1.0}),
    ],
)
def test_a_pattern_without_parameters_is_refused(key, value):
    with pytest.raises(UserError, match=rf"train\.{key}: .*'embeding\*' matches no.*stand: a, lstm\."):
        control(**{key: value})
