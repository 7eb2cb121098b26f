"""Masks written out by hand, and interpretable attention against equations 13 to 16 in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model.test_layers import CLOSE, noise, normal, random_params, softmax

from tftjax.model.attention import MASKS, InterpretableAttention
from tftjax.model.layers import dropout

E, P, T, B, D, H = 4, 3, 7, 5, 6, 2
BY_HAND = {
    "causal": ["1111100", "1111110", "1111111"],
    "strict": ["1111000", "1111100", "1111110"],
    "none": ["1111111", "1111111", "1111111"],
}


def reference(p, query, memory, mask):
    """One window: query [P, D], memory [T, D]; returns [P, D] and each head's weights."""
    heads = []
    for w_query, w_key in zip(p["query_kernel"], p["key_kernel"], strict=True):
        logits = (query @ w_query) @ (memory @ w_key).T / np.sqrt(D // H)
        heads.append(softmax(np.where(mask, logits, -np.inf)))
    return np.mean(heads, axis=0) @ (memory @ p["value_kernel"]) @ p["output_kernel"], np.stack(heads)


@pytest.fixture(params=sorted(BY_HAND))
def case(request):
    """Module, parameters, query, memory and the mask."""
    module = InterpretableAttention(H, request.param)
    query, memory = 2 * normal(D, P, B), 2 * normal(D, T, B)
    mask = np.array([[step == "1" for step in row] for row in BY_HAND[request.param]])
    return module, random_params(module, query, memory, None), query, memory, mask


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_masks_by_hand(name):
    rows = ["".join("01"[int(step)] for step in row) for row in MASKS[name](E, P)]
    assert rows == BY_HAND[name]


def test_every_mask_is_written_out_here():
    assert set(MASKS) == set(BY_HAND)


def test_parameters_have_one_value_for_all_heads_and_no_bias(case):
    shapes = {name: leaf.shape for name, leaf in case[1].items()}
    assert shapes == {
        "query_kernel": (H, D, D // H),
        "key_kernel": (H, D, D // H),
        "value_kernel": (D, D // H),
        "output_kernel": (D // H, D),
    }


@pytest.mark.parametrize("compiled", [False, True])
def test_against_the_equations(case, compiled):
    module, params, query, memory, mask = case

    def attend(params, query, memory):
        return module.apply({"params": params}, query, memory, None)

    attended, weights = (jax.jit(attend) if compiled else attend)(params, query, memory)
    assert attended.shape == (D, P, B)
    assert weights.shape == (H, P, T, B)
    np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(weights) == 0, ~np.tile(mask[None, :, :, None], (H, 1, 1, B)))
    params = jax.tree.map(np.float64, params)
    for b in range(B):
        expected, heads = reference(params, np.float64(query[:, :, b].T), np.float64(memory[:, :, b].T), mask)
        np.testing.assert_allclose(attended[:, :, b].T, expected, **CLOSE)
        np.testing.assert_allclose(weights[..., b], heads, **CLOSE)


def test_what_is_masked_has_no_gradient_and_no_nan(case):
    module, params, query, memory, mask = case

    def total(memory):
        # One prediction step at a time, over its windows and features.
        return module.apply({"params": params}, query, memory, None)[0].sum(axis=(0, 2))

    influence = jax.jit(jax.jacrev(total))(memory)  # [P, D, T, B]
    np.testing.assert_array_equal(np.any(influence != 0, axis=(1, 3)), mask)
    assert np.isfinite(influence).all()


def test_large_logits_stay_finite(case):
    module, params, query, memory, _ = case
    attended, weights = module.apply({"params": params}, 1e4 * query, 1e4 * memory, None)
    assert np.isfinite(attended).all()
    np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-6)


def test_dropout_acts_on_the_weights_but_those_returned_are_whole(case):
    module, params, query, memory, _ = case
    some = noise(0.5, 3, np.arange(B))
    attended, weights = module.apply({"params": params}, query, memory, some)
    _, without = module.apply({"params": params}, query, memory, None)
    np.testing.assert_array_equal(weights, without)
    kept = dropout(jnp.ones((H, P, T, B)), some, ())
    mixed = np.asarray(weights * kept).mean(axis=0)
    value = np.einsum("dk,dtb->ktb", params["value_kernel"], memory)
    expected = np.einsum("ptb,ktb,kd->dpb", mixed, value, params["output_kernel"])
    np.testing.assert_allclose(attended, expected, **CLOSE)
