"""Parameters: made on the host, and one flat vector in training.

A vector keeps programs small: the optimizer, the clipping and the sum over devices are then one operation
each, not one a parameter, and less is compiled. The tree of names exists at the edges: in the model's
functions and in checkpoints.
"""

import fnmatch
import math
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from tftjax.config.functions import NO_FUNCTIONS, Functions, check_at_hand
from tftjax.config.loading import Config
from tftjax.config.train import TrainConfig
from tftjax.data.windows import Inputs
from tftjax.errors import UserError
from tftjax.model.parts import PARTS
from tftjax.model.tft import CORRECTION, TemporalFusionTransformer
from tftjax.runtime import remembered

Tree = Mapping[str, Any]


class Layout(NamedTuple):
    """The place of each parameter in the flat vector: hashable, a constant of compiled programs.

    Attributes:
      paths: module names down to the parameter's own, in the order of the vector.
      shapes: the parameters' shapes, in the same order.
    """

    paths: tuple[tuple[str, ...], ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(map(math.prod, self.shapes))


def build_model(
    config: Config,
    observed_cardinalities: tuple[int, ...],
    known_cardinalities: tuple[int, ...],
    static_cardinalities: tuple[int, ...],
    functions: Functions = NO_FUNCTIONS,
) -> TemporalFusionTransformer:
    """Builds the model of a config.

    Args:
      observed_cardinalities: numbers of codes, the slot for unseen categories included.
      known_cardinalities, static_cardinalities: the same for known and for static columns.
      functions: functions that were handed in; of them the head is the model's.

    Raises:
      UserError: the config's head was handed in, and is not at hand.
    """
    check_at_hand(config.functions, functions, ("head",))
    (head,) = functions.head.values() or (None,)
    return TemporalFusionTransformer(
        config.model, known_cardinalities, static_cardinalities, head, observed_cardinalities
    )


def parameter_layout(model: TemporalFusionTransformer, inputs: Inputs) -> Layout:
    """Names and shapes of the model's parameters for inputs, arrays or only shapes; computes nothing."""

    def make():
        leaves, _ = jax.tree.flatten_with_path(
            jax.eval_shape(model.init, jax.random.key(0), inputs)["params"]
        )
        return [[key.key for key in path] for path, _ in leaves], [leaf.shape for _, leaf in leaves]

    of = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(inputs)], str(jax.tree.structure(inputs))
    paths, shapes = remembered(make, type(model), model.config, model.head, model.cardinalities, of)
    return Layout(tuple(map(tuple, paths)), tuple(map(tuple, shapes)))


def _glorot_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    limit = math.sqrt(6.0 / (shape[-2] + shape[-1]))
    return rng.uniform(-limit, limit, shape)


def _orthogonal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = shape
    q, r = np.linalg.qr(rng.normal(size=(columns, rows)))
    return (q * np.sign(np.diag(r))).T


def _initializer(module: str, name: str):
    if module == CORRECTION:
        return lambda rng, shape: np.zeros(shape)
    if name.endswith("recurrent_kernel"):
        return _orthogonal
    if name.endswith("kernel"):
        return _glorot_uniform
    if name == "embedding":
        return lambda rng, shape: rng.uniform(0.0, 0.1, shape)
    constants = {"scale": 1.0, "bias": 0.0, "missing": 0.0, "raw_weight": 0.0, "gate": 0.0}
    return lambda rng, shape: np.full(shape, constants[name])


def init_parameters(layout: Layout, seed: int) -> Float32[np.ndarray, " N"]:
    """Draws the parameters with numpy, from the distributions that the modules declare.

    On the host, because a compiled program with an orthogonal initializer calls LAPACK, which can hang when
    members are vmapped, and because it takes milliseconds instead of seconds of compilation. Every parameter
    has a stream of its own, by its path: adding a layer does not change the others.
    """
    values = []
    for path, shape in zip(layout.paths, layout.shapes, strict=True):
        rng = np.random.default_rng([seed, zlib.crc32("/".join(path).encode())])
        values.append(_initializer(path[0], path[-1])(rng, shape).astype(np.float32).ravel())
    return np.concatenate(values)


def to_tree(vector: Float[Array, " N"] | Float[np.ndarray, " N"], layout: Layout) -> dict[str, Any]:
    """Cuts the vector into the nested dict of arrays that the model and checkpoints use."""
    tree: dict[str, Any] = {}
    first = 0
    for path, shape in zip(layout.paths, layout.shapes, strict=True):
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        size = math.prod(shape)
        node[path[-1]] = vector[first : first + size].reshape(shape)
        first += size
    return tree


def to_vector(tree: Tree, layout: Layout) -> Float[Array, " N"]:
    """Joins a nested dict of arrays into the flat vector; the inverse of `to_tree`.

    Gradients are taken in the tree and joined afterwards: the transpose of cutting a vector would be a sum of
    as many padded vectors as there are parameters.
    """
    leaves = []
    for path in layout.paths:
        leaf = tree
        for name in path:
            leaf = leaf[name]
        leaves.append(leaf.ravel())
    return jnp.concatenate(leaves)


def part_slices(layout: Layout) -> dict[str, list[tuple[int, int]]]:
    """The stretches (first, stop) of the vector that belong to each part in `PARTS`."""
    slices: dict[str, list[tuple[int, int]]] = {part: [] for part in PARTS}
    first = 0
    for path, shape in zip(layout.paths, layout.shapes, strict=True):
        part = next(name for name, prefixes in PARTS.items() if path[0].startswith(prefixes))
        stop = first + math.prod(shape)
        if slices[part] and slices[part][-1][1] == first:
            first, _ = slices[part].pop()
        slices[part].append((first, stop))
        first = stop
    return {part: stretches for part, stretches in slices.items() if stretches}


def control_vectors(
    layout: Layout, train: TrainConfig
) -> tuple[Float32[np.ndarray, " N"] | None, Float32[np.ndarray, " N"] | None]:
    """Factors on gradient and update, entry by entry; None where all are 1.

    A frozen parameter has 0 in both: it moves by nothing, and takes no part in the clip.

    Raises:
      UserError: a pattern that matches no parameter.
    """
    kept = _by_pattern(layout, dict.fromkeys(train.freeze, 0.0), "train.freeze")
    vectors = (
        kept * _by_pattern(layout, train.gradient_scales, "train.gradient_scales"),
        kept * _by_pattern(layout, train.lr_multipliers, "train.lr_multipliers"),
    )
    scale, multiplier = (None if (vector == 1).all() else vector for vector in vectors)
    return scale, multiplier


def _by_pattern(layout: Layout, values: Mapping[str, float], key: str) -> Float32[np.ndarray, " N"]:
    """For every entry of the vector the product of the values whose patterns match its parameter's path."""
    vector, unmatched = np.ones(layout.size, np.float32), dict.fromkeys(values)
    first = 0
    for path, shape in zip(layout.paths, layout.shapes, strict=True):
        stop = first + math.prod(shape)
        for pattern, value in values.items():
            if fnmatch.fnmatchcase("/".join(path), pattern):
                vector[first:stop] *= value
                unmatched.pop(pattern, None)
        first = stop
    if unmatched:
        parts = ", ".join(dict.fromkeys(path[0] for path in layout.paths))
        raise UserError(
            f"{key}: the pattern {next(iter(unmatched))!r} matches no parameter. Expected a pattern of paths"
            f" such as {'/'.join(layout.paths[0])!r} or 'lstm*'; at the top stand: {parts}."
        )
    return vector
