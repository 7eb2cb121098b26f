"""The building blocks of the Temporal Fusion Transformer (Lim et al. 2021, section 4).

Arrays are features first and batch last, `[D, T, B]`, and a stack of per-variable networks is `[V, D, T, B]`:
on a CPU every elementwise step then runs over long contiguous rows.
"""

import zlib
from collections.abc import Callable, Sequence
from functools import partial
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
    """Dropout of one training step; None in its place is no dropout.

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


def multiply(dtype: str, product: Callable[..., Array], *factors: Float[Any, "..."]) -> Float[Array, "..."]:
    """A product of arrays that are rounded to a type before it; the result has their own type again.

    Args:
      dtype: `model.dtype`.
      product: the product, such as `jnp.matmul`.
    """
    if dtype == "float32":
        return product(*factors)
    return product(*(factor.astype(dtype) for factor in factors)).astype(factors[-1].dtype)


class Embedded(NamedTuple):
    """Embedded variables, not multiplied out: variable v of group g is `matrices[g][v].T @ rows[g][v]`.

    A vector is a linear map of a few rows (a real value and 1; the indicators of a category), so a linear
    layer upon it is one as well, `(matrix @ kernel).T @ rows`: a sum over those rows, where that over the
    vector's entries would be the longest computation of the network.

    Attributes:
      rows: what is known of each variable, by group.
      matrices: the embedding, by group.
    """

    rows: tuple[Float[Array, "_V _C T B"], ...]
    matrices: tuple[Float[Array, "_V _C D"], ...]

    @property
    def num_variables(self) -> int:
        """V, over all groups."""
        return sum(len(matrix) for matrix in self.matrices)

    @property
    def size(self) -> int:
        """D."""
        return self.matrices[0].shape[-1]

    def steps(self, first: int, stop: int | None) -> "Embedded":
        """The same variables at some of the steps."""
        return self._replace(rows=tuple(rows[:, :, first:stop] for rows in self.rows))

    def vectors(self, dtype: str = "float32") -> Float[Array, "V D T B"]:
        """The vectors of all variables, group after group; `dtype` as in `multiply`, here and below."""
        product = partial(jnp.einsum, "vcd,vctb->vdtb")
        pairs = zip(self.matrices, self.rows, strict=True)
        return jnp.concatenate([multiply(dtype, product, *pair) for pair in pairs])

    def through(self, kernel: Float[Array, "V D K"], dtype: str = "float32") -> Float[Array, "V K T B"]:
        """A linear layer of its own upon each variable's vector."""
        return self._replace(matrices=self._times(kernel, dtype)).vectors(dtype)

    def mixed(self, kernel: Float[Array, "VD K"], dtype: str = "float32") -> Float[Array, "K T B"]:
        """One linear layer upon all variables' vectors, laid end to end."""
        matrices = self._times(kernel.reshape(self.num_variables, self.size, -1), dtype)
        matrix = jnp.concatenate([part.reshape(-1, part.shape[-1]) for part in matrices])
        rows = jnp.concatenate([part.reshape(-1, *part.shape[2:]) for part in self.rows])
        return multiply(dtype, partial(jnp.einsum, "ck,ctb->ktb"), matrix, rows)

    def _times(self, kernel: Float[Array, "V D K"], dtype: str) -> tuple[Float[Array, "_V _C K"], ...]:
        first, products, product = 0, [], partial(jnp.einsum, "vcd,vdk->vck")
        for matrix in self.matrices:
            products.append(multiply(dtype, product, matrix, kernel[first : first + len(matrix)]))
            first += len(matrix)
        return tuple(products)


def join(parts: Sequence[Embedded]) -> Embedded:
    """The variables of all parts, in this order."""
    return Embedded(*(sum(groups, ()) for groups in zip(*parts, strict=True)))


class Dense(nn.Module):
    """`W x + b` over the feature axis, one network for each entry of `stack`.

    Attributes:
      features: size of the output.
      stack: leading axes over which networks are stacked, `()` or `(V,)`.
      use_bias: whether there is a `b`.
      dtype: see `multiply`; so in all modules below.
    """

    features: int
    stack: tuple[int, ...] = ()
    use_bias: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "*stack D T B"] | Embedded) -> Float[Array, "*stack features T B"]:
        kernel = self.param("kernel", glorot, (*self.stack, _width(x, self.stack), self.features))
        if isinstance(x, Embedded):
            y = x.through(kernel, self.dtype) if self.stack else x.mixed(kernel, self.dtype)
        else:
            flat = x.reshape(*x.shape[:-2], -1)
            y = multiply(self.dtype, jnp.matmul, kernel.swapaxes(-1, -2), flat)
            y = y.reshape(*x.shape[:-3], self.features, *x.shape[-2:])
        if self.use_bias:
            y += self.param("bias", zeros, (*self.stack, self.features))[..., None, None]
        return y


def _width(x: Float[Array, "*stack D T B"] | Embedded, stack: tuple[int, ...]) -> int:
    """Features that a layer upon x sees: of one variable where there is a layer for each, of all else."""
    if not isinstance(x, Embedded):
        return x.shape[-3]
    return x.size if stack else x.num_variables * x.size


@jax.custom_jvp
def elu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x` above zero, `exp(x) - 1` below (Clevert et al. 2016).

    `jax.nn.elu` keeps its digits where x is tiny, which no network needs, and takes three times as long on a
    CPU; its derivative is not written in terms of the result, which spares a second exponential here.
    """
    return jnp.where(x > 0, x, jnp.exp(jnp.minimum(x, 0.0)) - 1.0)


@elu.defjvp
def _elu_jvp(primals, tangents):
    y = elu(*primals)
    return y, (jnp.minimum(y, 0.0) + 1.0) * tangents[0]


@jax.custom_vjp
def standardize(x: Float[Array, "*stack D T B"]) -> Float[Array, "*stack D T B"]:
    """Subtracts the mean over the feature axis and divides by the standard deviation (Ba et al. 2016).

    Its gradient is written out: in terms of the result it reads fewer arrays than the one that JAX derives.
    """
    return _standardize(x)[0]


def _feature_mean(x: Float[Array, "*stack D T B"]) -> Float[Array, "*stack 1 T B"]:
    if jax.default_backend() != "cpu":  # there a sum is fused, and a product is of fewer digits
        return x.mean(axis=-3, keepdims=True)
    # A product: a CPU's sum over an axis that is not the last is slower, and lays out whatever it adds.
    weights = jnp.full((*x.shape[:-3], 1, x.shape[-3]), 1 / x.shape[-3], x.dtype)
    return (weights @ x.reshape(*x.shape[:-2], -1)).reshape(*x.shape[:-3], 1, *x.shape[-2:])


def _standardize(x):
    centered = x - _feature_mean(x)
    factor = jax.lax.rsqrt(_feature_mean(jnp.square(centered)) + EPSILON)
    y = centered * factor
    return y, (y, factor)


def _standardize_gradient(saved, g):
    y, factor = saved
    return (factor * (g - _feature_mean(g) - y * _feature_mean(g * y)),)


standardize.defvjp(_standardize, _standardize_gradient)


class LayerNorm(nn.Module):
    """Normalises over the feature axis, with a learned scale and offset."""

    stack: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Float[Array, "*stack D T B"]) -> Float[Array, "*stack D T B"]:
        shape = (*self.stack, x.shape[-3])
        scale = self.param("scale", ones, shape)[..., None, None]
        bias = self.param("bias", zeros, shape)[..., None, None]
        return standardize(x) * scale + bias


class GatedLinearUnit(nn.Module):
    """`sigmoid(W4 x + b4) * (W5 x + b5)` (eq. 5): lets the network close a path that it does not need."""

    features: int
    stack: tuple[int, ...] = ()
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "*stack D T B"]) -> Float[Array, "*stack features T B"]:
        value = Dense(self.features, self.stack, dtype=self.dtype, name="value")(x)
        gate = Dense(self.features, self.stack, dtype=self.dtype, name="gate")(x)
        return value * jax.nn.sigmoid(gate)


class GateAddNorm(nn.Module):
    """`LayerNorm(skip + GLU(dropout(x)))`: the gated skip connection around every block (eq. 17, 21, 22)."""

    stack: tuple[int, ...] = ()
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "*stack K T B"], skip: Float[Array, "*stack D T B"], noise: Dropout | None
    ) -> Float[Array, "*stack D T B"]:
        unit = GatedLinearUnit(skip.shape[-3], self.stack, self.dtype, name="glu")
        gated = unit(dropout(x, noise, self.path))
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
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*stack D T B"] | Embedded,
        noise: Dropout | None,
        context: Float[Array, "K 1 B"] | None = None,
    ) -> Float[Array, "*stack features T B"]:
        dense = partial(Dense, stack=self.stack, dtype=self.dtype)
        if _width(x, self.stack) != self.features:
            skip = dense(self.features, name="skip")(x)
        elif isinstance(x, Embedded):
            vectors = x.vectors(self.dtype)
            skip = vectors if self.stack else jnp.concatenate(vectors)
        else:
            skip = x
        hidden = dense(self.hidden_size, name="w2")(x)
        if context is not None:
            hidden += dense(self.hidden_size, use_bias=False, name="w3")(context)
        hidden = dense(self.hidden_size, name="w1")(elu(hidden))
        return GateAddNorm(self.stack, self.dtype, name="gate")(hidden, skip, noise)


class RealEmbedding(nn.Module):
    """A linear map of its own for each real variable: `x_v * w_v + b_v`; zero where it is not `present`.

    Attributes:
      indicator: whether a variable has a vector of its own in place of zero, that of a missing value.
    """

    hidden_size: int
    indicator: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "V T B"], present: Bool[Array, "V T B"] | None = None) -> Embedded:
        num_variables = x.shape[0]
        kernel = self.param("kernel", glorot, (num_variables, 1, self.hidden_size))
        bias = self.param("bias", zeros, (num_variables, self.hidden_size))
        one = jnp.ones_like(x) if present is None else present.astype(x.dtype)
        rows, matrices = [x * one, one], [kernel, bias[:, None]]
        if self.indicator:
            missing = self.param("missing", zeros, (num_variables, self.hidden_size))
            rows, matrices = [*rows, 1.0 - one], [*matrices, missing[:, None]]
        return Embedded((jnp.stack(rows, axis=1),), (jnp.concatenate(matrices, axis=1),))


class CategoricalEmbedding(nn.Module):
    """A table of vectors for each categorical variable, all in one array; zero where it is not `present`.

    The look-up is a product with one-hot rows: its gradient is a product too, where that of a gather is a
    scatter, which a CPU does one element at a time.

    Attributes:
      cardinalities: number of codes of each variable, the slot for unseen categories (code 0) included.
    """

    hidden_size: int
    cardinalities: tuple[int, ...]

    @nn.compact
    def __call__(self, codes: Int[Array, "V T B"], present: Bool[Array, "V T B"] | None = None) -> Embedded:
        table = self.param(
            "embedding", nn.initializers.uniform(0.1), (sum(self.cardinalities), self.hidden_size)
        )
        first = 0
        rows, matrices = [], []
        for variable, cardinality in enumerate(self.cardinalities):
            indicators = jax.nn.one_hot(codes[variable], cardinality, axis=0)
            rows.append((indicators if present is None else indicators * present[variable, None])[None])
            matrices.append(table[None, first : first + cardinality])
            first += cardinality
        return Embedded(tuple(rows), tuple(matrices))


class VariableSelection(nn.Module):
    """Mixes the variables of each step with weights that the network chooses from all of them (eq. 6-8).

    A variable that is not `present` at a step gets no weight there; its vector in `x` must be zero. A
    `penalty` is taken off the logits (model/staleness.py).
    """

    hidden_size: int
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Embedded,
        noise: Dropout | None,
        context: Float[Array, "D 1 B"] | None = None,
        present: Bool[Array, "V T B"] | None = None,
        penalty: Float[Array, "V T B"] | None = None,
    ) -> tuple[Float[Array, "D T B"], Float[Array, "V T B"]]:
        num_variables = x.num_variables
        network = partial(GatedResidualNetwork, self.hidden_size, dtype=self.dtype)
        logits = network(num_variables, name="weights")(x, noise, context)
        if penalty is not None:
            logits -= penalty
        if present is not None:
            logits = jnp.where(present, logits, -jnp.inf)
        weights = jax.nn.softmax(logits, axis=0)
        processed = network(self.hidden_size, (num_variables,), name="variables")(x, noise)
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
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Embedded, noise: Dropout | None) -> tuple[StaticContexts, Float[Array, "V 1 B"]]:
        selected, weights = VariableSelection(self.hidden_size, self.dtype, name="selection")(x, noise)
        network = partial(GatedResidualNetwork, self.hidden_size, self.hidden_size, dtype=self.dtype)
        contexts = (network(name=f"context_{name}")(selected, noise) for name in StaticContexts._fields)
        return StaticContexts(*contexts), weights


class LSTM(nn.Module):
    """A long short-term memory layer; gates in the order input, forget, candidate, output; forget bias 1.

    A step that is not `seen` leaves the state as it is.
    """

    hidden_size: int
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "D T B"],
        hidden: Float[Array, "D B"],
        cell: Float[Array, "D B"],
        seen: Bool[Array, "T B"] | None = None,
    ) -> tuple[Float[Array, "D T B"], Float[Array, "D B"], Float[Array, "D B"]]:
        size = self.hidden_size
        gates = Dense(4 * size, dtype=self.dtype, name="input")(x)
        product = partial(multiply, self.dtype, partial(jnp.einsum, "io,ib->ob"))
        recurrent = self.param("recurrent_kernel", nn.initializers.orthogonal(), (size, 4 * size))

        def step(carry, inputs_t):
            (hidden, cell), (gates_t, seen_t) = carry, inputs_t
            z = gates_t + product(recurrent, hidden)
            i, f, g, o = jnp.split(z, 4, axis=0)
            cell = jax.nn.sigmoid(f + 1.0) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
            if seen_t is not None:
                hidden, cell = (jnp.where(seen_t, *pair) for pair in zip((hidden, cell), carry, strict=True))
            return (hidden, cell), hidden

        seen = None if seen is None else seen[:, None]
        (hidden, cell), outputs = jax.lax.scan(step, (hidden, cell), (gates.swapaxes(0, 1), seen))
        return outputs.swapaxes(0, 1), hidden, cell
