"""Interpretable multi-head attention (Lim et al. 2021, section 4.4) and its masks."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from tftjax.model.layers import Dropout, dropout, glorot, multiply


def causal(encoder_length: int, prediction_length: int) -> Bool[np.ndarray, "P T"]:
    """Steps (columns) that each prediction step (row) may look at: all up to itself, as in the paper.

    >>> causal(encoder_length=3, prediction_length=2).astype(int).tolist()
    [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    """
    return np.tri(prediction_length, encoder_length + prediction_length, encoder_length, dtype=bool)


def strict(encoder_length: int, prediction_length: int) -> Bool[np.ndarray, "P T"]:
    """All steps before the prediction step.

    >>> strict(encoder_length=3, prediction_length=2).astype(int).tolist()
    [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]
    """
    return np.tri(prediction_length, encoder_length + prediction_length, encoder_length - 1, dtype=bool)


def unmasked(encoder_length: int, prediction_length: int) -> Bool[np.ndarray, "P T"]:
    """Every step, later prediction steps too (their inputs are all known beforehand)."""
    return np.ones((prediction_length, encoder_length + prediction_length), dtype=bool)


MASKS = {"causal": causal, "strict": strict, "none": unmasked}


class InterpretableAttention(nn.Module):
    """Heads that share one value projection, so that the mean of their weights is the attention (eq. 13-16).

    Only prediction steps ask: nothing after this layer reads the output at encoder steps. A `penalty` is
    taken off the logits of each step (model/staleness.py); `gates` multiply what a head contributes, not the
    weights that are returned (model/regime.py). Steps that are not `seen` get no weight.

    Attributes:
      num_heads: H; each head has hidden_size / H features.
      mask: a name of `MASKS`.
      dtype: see `multiply`; the softmax is of float32.
    """

    num_heads: int
    mask: str = "causal"
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "D P B"],
        memory: Float[Array, "D T B"],
        noise: Dropout | None,
        penalty: Float[Array, "H T B"] | None = None,
        gates: Float[Array, "H B"] | None = None,
        seen: Bool[Array, "T B"] | None = None,
    ) -> tuple[Float[Array, "D P B"], Float[Array, "H P T B"]]:
        size, prediction_length, _ = query.shape
        encoder_length = memory.shape[1] - prediction_length
        head_size = size // self.num_heads
        w_query = self.param("query_kernel", glorot, (self.num_heads, size, head_size))
        w_key = self.param("key_kernel", glorot, (self.num_heads, size, head_size))
        w_value = self.param("value_kernel", glorot, (size, head_size))
        w_output = self.param("output_kernel", glorot, (head_size, size))

        def einsum(equation, *factors):
            return multiply(self.dtype, partial(jnp.einsum, equation), *factors)

        q = einsum("hdk,dpb->hkpb", w_query, query)
        k = einsum("hdk,dtb->hktb", w_key, memory)
        v = einsum("dk,dtb->ktb", w_value, memory)
        logits = einsum("hkpb,hktb->hptb", q, k) / np.sqrt(head_size)
        if penalty is not None:
            logits -= penalty[:, None]
        allowed = MASKS[self.mask](encoder_length, prediction_length)[None, :, :, None]
        if seen is not None:
            allowed = allowed & seen[None, None]
        weights = jax.nn.softmax(jnp.where(allowed, logits, -jnp.inf), axis=2)
        heads = dropout(weights, noise, self.path)
        if gates is None:
            mixed = heads.mean(axis=0)
        else:  # not a product summed over axis 0: see VariableSelection
            mixed = sum(gate * head for gate, head in zip(gates[:, None, None], heads, strict=True))
            mixed /= self.num_heads
        attended = einsum("ptb,ktb->kpb", mixed, v)
        return einsum("kd,kpb->dpb", w_output, attended), weights
