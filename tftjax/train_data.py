"""What training reads: series and window starts, of one data set or of several padded to one shape."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, Key

from tftjax.data.prepared import Data, cardinalities
from tftjax.data.windows import Series

# Fewest elements for a first, second and third round of `jax.random.permutation`: it sorts by 32 random bits,
# ceil(3 log(elements) / log(2^32 - 1)) times.
ROUNDS = (2, 1626, 2642246)


class TrainData(NamedTuple):
    """What training reads, on the device; the starts beyond the counts are filling.

    Attributes:
      series: the whole panel.
      train_starts, val_starts: first rows of the windows.
      num_train, num_val: how many of them there are.
    """

    series: Series
    train_starts: Int32[Array, " W"]
    val_starts: Int32[Array, " Wv"]
    num_train: Int32[Array, ""]
    num_val: Int32[Array, ""]


def train_data(data: Data) -> TrainData:
    """Collects the arrays that training reads, still on the host."""
    train, val = data.starts["train"], data.starts["val"]
    return TrainData(data.series, train, val, np.int32(len(train)), np.int32(len(val)))


def stack_data(datasets: Sequence[Data]) -> TrainData:
    """Data sets of equal `data_shapes` along a new first axis, their starts filled up to the most windows."""
    parts = [train_data(data) for data in datasets]
    most = [max(len(part[place]) for part in parts) for place in (1, 2)]

    def filled(starts: np.ndarray, length: int) -> np.ndarray:
        return np.pad(starts, (0, length - len(starts)), mode="edge")

    padded = [
        part._replace(
            train_starts=filled(part.train_starts, most[0]), val_starts=filled(part.val_starts, most[1])
        )
        for part in parts
    ]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *padded)


def data_shapes(data: Data) -> dict[str, Any]:
    """What of a data set is constant in a compiled program, as JSON holds it; numbers of windows are not."""
    shapes = {name: None if leaf is None else leaf.shape for name, leaf in data.series._asdict().items()}
    return shapes | {"cardinalities": cardinalities(data.panel, data.encoding)}


def shuffled(key: Key[Array, ""], starts: Int32[Array, " W"], count: Int32[Array, ""]) -> Int32[Array, " W"]:
    """The first `count` starts in random order, then the filling.

    The order is that of `jax.random.permutation` of the first `count` alone: what a data set is padded to
    does not change it.
    """
    filling = jnp.arange(starts.shape[0]) >= count
    for fewest in ROUNDS:
        if starts.shape[0] < fewest:
            break
        key, subkey = jax.random.split(key)
        # The sort is stable, so that a start whose bits are all ones still comes before the filling.
        bits = jnp.where(filling, jnp.uint32(2**32 - 1), jax.random.bits(subkey, starts.shape))
        starts = jnp.where(count >= fewest, lax.sort_key_val(bits, starts)[1], starts)
    return starts
