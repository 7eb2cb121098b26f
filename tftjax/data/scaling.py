"""Scaling of columns and of the target, category numbers: pure fits on train rows, pure applications."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int32, Shaped


class Scaler(NamedTuple):
    """Scalers of V columns, or of one column in V series, in the columns' units.

    Attributes:
      center: subtracted from a value.
      scale: divisor of the difference.
    """

    center: Float[np.ndarray, "V"]
    scale: Float[np.ndarray, "V"]


def _standard(values: Float[np.ndarray, "N V"]) -> tuple[np.ndarray, np.ndarray]:
    return values.mean(axis=0), values.std(axis=0)


def _robust(values: Float[np.ndarray, "N V"]) -> tuple[np.ndarray, np.ndarray]:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    # 1.349 quartile ranges make a standard deviation of a normal distribution. Where the quartiles meet (a
    # column that mostly stands still), the standard deviation takes its place.
    spread = (high - low) / 1.349
    return median, np.where(spread > 0, spread, values.std(axis=0))


def _none(values: Float[np.ndarray, "N V"]) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(values.shape[1]), np.ones(values.shape[1])


# Values [N V] -> (center [V], scale [V]).
SCALINGS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "standard": _standard,  # mean, population standard deviation
    "robust": _robust,  # median, quartile range
    "none": _none,
}


def fit(values: Float[np.ndarray, "N V"], scaling: str = "standard") -> Scaler:
    """Center and scale of each column by an entry of SCALINGS; a constant column gets scale 1.

    Raises:
      ValueError: no row, or a value that is not finite.
    """
    if len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"scaling.fit: expected rows of finite values, got {values.shape} with NaN, inf or no row"
        )
    # Rounding can give a constant column a tiny spread, so constancy is asked for by itself.
    constant = values.max(axis=0) == values.min(axis=0)
    center, scale = SCALINGS[scaling](values)
    if scaling == "none":
        return Scaler(center, scale)
    return Scaler(np.where(constant, values[0], center), np.where(constant, 1.0, scale))


def apply(scaler: Scaler, values: Float[np.ndarray, "*N V"]) -> Float[np.ndarray, "*N V"]:
    """(values - center) / scale, column by column."""
    return (values - scaler.center) / scaler.scale


def fit_categories(values: Shaped[np.ndarray, "N"]) -> list:
    """The distinct values, sorted, as plain ints or strings.

    >>> fit_categories(np.array([3, 1, 3]))
    [1, 3]
    """
    return sorted(set(values.tolist()))


def encode(values: Shaped[np.ndarray, "N"], categories: Sequence) -> Int32[np.ndarray, "N"]:
    """The position of each value in `categories`, from 1; 0 for an unknown value.

    >>> encode(np.array([3, 1, 2]), [1, 3]).tolist()
    [2, 1, 0]
    """
    position = pd.Index(list(categories), dtype=object).get_indexer(pd.Index(values.tolist(), dtype=object))
    return (position + 1).astype(np.int32)
