"""The building blocks of the Temporal Fusion Transformer (Lim et al. 2021, section 4).

Arrays are features first and batch last, `[D, T, B]`, and a stack of per-variable networks is `[V, D, T, B]`:
on a CPU every elementwise step then runs over long contiguous rows.
"""

import zlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

EPSILON = 1e-3  # of layer normalisation, as in the authors' code

zeros = nn.initializers.zeros
ones = nn.initializers.ones


def glorot(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Draws Glorot-uniform kernels, each network of a stack by its own two axes."""
    stack = tuple(range(len(shape) - 2))
    return nn.initializers.glorot_uniform(in_axis=-2, out_axis=-1, batch_axis=stack)(key, shape, dtype)


class Dropout(NamedTuple):
    """What dropout needs at one training step; None in its place means no dropout.

    Attributes:
      rate: share of entries dropped, in [0, 1).
      seed: random word of this step, the same on every device.
      window: position in the whole batch of each window held here, so that the bits that a window gets do not
        depend on how a batch is divided over devices.
    """

    rate: Float[Array, ""]
    seed: UInt32[Array, ""]
    window: Int[Array, " B"]


def dropout(x: Float[Array, "*D B"], noise: Dropout | None, site: tuple[str, ...]) -> Float[Array, "*D B"]:
    """Zeroes entries at random and scales the others up to keep the mean (inverted dropout).

    The bits are an integer hash of (step seed, site, entry, window): elementwise, so that XLA fuses it into
    the surrounding code, where a threefry draw a site would be a loop of its own. Mixing function: lowbias32
    with the constants found by Ettinger and Wellons (github.com/skeeto/hash-prospector).

    Args:
      x: array whose last axis is the window.
      noise: rate, seed and window positions; None returns `x` as it is.
      site: path of the calling module, so that no two sites share bits.
    """
    if noise is None:
        return x
    entry = jax.lax.iota(jnp.uint32, x[..., 0].size).reshape(*x.shape[:-1], 1)
    window = noise.window.astype(jnp.uint32).reshape((1,) * (x.ndim - 1) + (-1,))
    word = noise.seed ^ jnp.uint32(zlib.crc32("/".join(site).encode()))
    # The seed goes in between two rounds: sums of seed and counter would give shifted copies of one sequence.
    bits = _mix(_mix(entry * jnp.uint32(0x9E3779B9) + window * jnp.uint32(0x85EBCA6B)) ^ word)
    keep = 1.0 - noise.rate
    # 24 bits, which float32 holds exactly: 2**32 would not fit an integer at rate 0, where all must stay.
    return jnp.where(bits >> 8 < (keep * 2.0**24).astype(jnp.uint32), x / keep, 0.0)


def _mix(h: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    h = (h ^ (h >> 16)) * jnp.uint32(0x21F0AAAD)
    h = (h ^ (h >> 15)) * jnp.uint32(0x735A2D97)
    return h ^ (h >> 15)


class Dense(nn.Module):
    """`W x + b` over the feature axis, one network for each entry of `stack`.

    Attributes:
      features: size of the output.
      stack: leading axes over which networks are stacked, `()` or `(V,)`.
      use_bias: whether there is a `b`.
    """

    features: int
    stack: tuple[int, ...] = ()
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*stack D T B"]) -> Float[Array, "*stack features T B"]:
        kernel = self.param("kernel", glorot, (*self.stack, x.shape[-3], self.features))
        flat = x.reshape(*x.shape[:-2], -1)
        y = (kernel.swapaxes(-1, -2) @ flat).reshape(*x.shape[:-3], self.features, *x.shape[-2:])
        if self.use_bias:
            y += self.param("bias", zeros, (*self.stack, self.features))[..., None, None]
        return y


class LayerNorm(nn.Module):
    """Normalises over the feature axis, with a learned scale and offset."""

    stack: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Float[Array, "*stack D T B"]) -> Float[Array, "*stack D T B"]:
        shape = (*self.stack, x.shape[-3])
        scale = self.param("scale", ones, shape)[..., None, None]
        bias = self.param("bias", zeros, shape)[..., None, None]
        centered = x - x.mean(axis=-3, keepdims=True)
        variance = jnp.square(centered).mean(axis=-3, keepdims=True)
        return centered * jax.lax.rsqrt(variance + EPSILON) * scale + bias


class GatedLinearUnit(nn.Module):
    """`sigmoid(W4 x + b4) * (W5 x + b5)` (eq. 5): lets the network close a path that it does not need."""

    features: int
    stack: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Float[Array, "*stack D T B"]) -> Float[Array, "*stack features T B"]:
        value = Dense(self.features, self.stack, name="value")(x)
        gate = Dense(self.features, self.stack, name="gate")(x)
        return value * jax.nn.sigmoid(gate)


class GateAddNorm(nn.Module):
    """`LayerNorm(skip + GLU(dropout(x)))`: the gated skip connection around every block (eq. 17, 21, 22)."""

    stack: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self, x: Float[Array, "*stack K T B"], skip: Float[Array, "*stack D T B"], noise: Dropout | None
    ) -> Float[Array, "*stack D T B"]:
        gated = GatedLinearUnit(skip.shape[-3], self.stack, name="glu")(dropout(x, noise, self.path))
        return LayerNorm(self.stack, name="norm")(skip + gated)


class GatedResidualNetwork(nn.Module):
    """`LayerNorm(skip + GLU(dropout(W1 elu(W2 a + W3 c + b2) + b1)))` (eq. 2-4).

    Attributes:
      hidden_size: width inside.
      features: width of the output; where it differs from the input's, the skip path is a dense layer.
      stack: leading axes over which networks are stacked.
    """

    hidden_size: int
    features: int
    stack: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*stack D T B"],
        noise: Dropout | None,
        context: Float[Array, "K 1 B"] | None = None,
    ) -> Float[Array, "*stack features T B"]:
        skip = x if x.shape[-3] == self.features else Dense(self.features, self.stack, name="skip")(x)
        hidden = Dense(self.hidden_size, self.stack, name="w2")(x)
        if context is not None:
            hidden += Dense(self.hidden_size, self.stack, use_bias=False, name="w3")(context)
        hidden = Dense(self.hidden_size, self.stack, name="w1")(jax.nn.elu(hidden))
        return GateAddNorm(self.stack, name="gate")(hidden, skip, noise)


class RealEmbedding(nn.Module):
    """A linear map of its own for each real variable: `x_v * w_v + b_v`."""

    hidden_size: int

    @nn.compact
    def __call__(self, x: Float[Array, "V T B"]) -> Float[Array, "V D T B"]:
        num_variables = x.shape[0]
        kernel = self.param("kernel", glorot, (num_variables, 1, self.hidden_size))[:, 0, :, None, None]
        bias = self.param("bias", zeros, (num_variables, self.hidden_size))[..., None, None]
        return x[:, None] * kernel + bias


class CategoricalEmbedding(nn.Module):
    """A table of vectors for each categorical variable, all tables in one array.

    The look-up is a product with one-hot rows: its gradient is a product too, where that of a gather is a
    scatter, which a CPU does one element at a time.

    Attributes:
      cardinalities: number of codes of each variable, the slot for unseen categories (code 0) included.
    """

    hidden_size: int
    cardinalities: tuple[int, ...]

    @nn.compact
    def __call__(self, codes: Int[Array, "V T B"]) -> Float[Array, "V D T B"]:
        table = self.param(
            "embedding", nn.initializers.uniform(0.1), (sum(self.cardinalities), self.hidden_size)
        )
        first = 0
        vectors = []
        for variable, cardinality in enumerate(self.cardinalities):
            one_hot = jax.nn.one_hot(codes[variable], cardinality, axis=0)
            vectors.append(jnp.einsum("cd,ctb->dtb", table[first : first + cardinality], one_hot))
            first += cardinality
        return jnp.stack(vectors)


class VariableSelection(nn.Module):
    """Mixes the variables of each step with weights that the network chooses from all of them (eq. 6-8).

    A variable that is not `present` at a step gets no weight there; its vector in `x` must be zero. A
    `penalty` is taken off the logits (model/staleness.py).
    """

    hidden_size: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "V D T B"],
        noise: Dropout | None,
        context: Float[Array, "D 1 B"] | None = None,
        present: Bool[Array, "V T B"] | None = None,
        penalty: Float[Array, "V T B"] | None = None,
    ) -> tuple[Float[Array, "D T B"], Float[Array, "V T B"]]:
        num_variables, size, *steps = x.shape
        flat = x.reshape(num_variables * size, *steps)
        logits = GatedResidualNetwork(self.hidden_size, num_variables, name="weights")(flat, noise, context)
        if penalty is not None:
            logits -= penalty
        if present is not None:
            logits = jnp.where(present, logits, -jnp.inf)
        weights = jax.nn.softmax(logits, axis=0)
        processed = GatedResidualNetwork(
            self.hidden_size, self.hidden_size, (num_variables,), name="variables"
        )(x, noise)
        # Not a product summed over axis 0: jaxlib 0.10.2 on a CPU gets such a sum wrong, without a word, from
        # 32,769 outputs on (github.com/jax-ml/jax/issues/39103).
        return sum(w * y for w, y in zip(weights[:, None], processed, strict=True)), weights


class StaticContexts(NamedTuple):
    """The four vectors that static inputs give to the rest of the network (section 4.3), each `[D, 1, B]`."""

    selection: Float[Array, "D 1 B"]
    enrichment: Float[Array, "D 1 B"]
    lstm_hidden: Float[Array, "D 1 B"]
    lstm_cell: Float[Array, "D 1 B"]


class StaticEncoder(nn.Module):
    """Selects among the static inputs and makes the four contexts, each by a GRN of its own."""

    hidden_size: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "V D 1 B"], noise: Dropout | None
    ) -> tuple[StaticContexts, Float[Array, "V 1 B"]]:
        selected, weights = VariableSelection(self.hidden_size, name="selection")(x, noise)
        contexts = (
            GatedResidualNetwork(self.hidden_size, self.hidden_size, name=f"context_{name}")(selected, noise)
            for name in StaticContexts._fields
        )
        return StaticContexts(*contexts), weights


class LSTM(nn.Module):
    """A long short-term memory layer; gates in the order input, forget, candidate, output; forget bias 1."""

    hidden_size: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "D T B"],
        hidden: Float[Array, "D B"],
        cell: Float[Array, "D B"],
    ) -> tuple[Float[Array, "D T B"], Float[Array, "D B"], Float[Array, "D B"]]:
        size = self.hidden_size
        gates = Dense(4 * size, name="input")(x)
        recurrent = self.param("recurrent_kernel", nn.initializers.orthogonal(), (size, 4 * size))

        def step(carry, gates_t):
            hidden, cell = carry
            z = gates_t + jnp.einsum("io,ib->ob", recurrent, hidden)
            i, f, g, o = jnp.split(z, 4, axis=0)
            cell = jax.nn.sigmoid(f + 1.0) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
            return (hidden, cell), hidden

        (hidden, cell), outputs = jax.lax.scan(step, (hidden, cell), gates.swapaxes(0, 1))
        return outputs.swapaxes(0, 1), hidden, cell
