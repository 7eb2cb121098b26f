"""Scaling of columns and of the target, category numbers: pure fits on train rows, pure applications."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int32, Shaped

from tftjax.errors import UserError


class Scaler(NamedTuple):
    """Per column: what is subtracted and what is divided by, both in the column's unit."""

    center: Float[np.ndarray, "V"]
    scale: Float[np.ndarray, "V"]


def _standard(values: Float[np.ndarray, "N V"]) -> tuple[np.ndarray, np.ndarray]:
    return values.mean(axis=0), values.std(axis=0)


def _robust(values: Float[np.ndarray, "N V"]) -> tuple[np.ndarray, np.ndarray]:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    # 1.349 quartile ranges make a standard deviation of a normal distribution. Where the quartiles meet (a
    # column that mostly stands still), the standard deviation is all there is.
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

    Raises: ValueError if there is no row or a value is not finite.
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


EWMA_DECAY = 0.94  # a row; RiskMetrics technical document, 4th edition, 1996
EWMA_BURN_IN = 20  # rows whose volatility is too uncertain to fit a scaler on
MIN_VOLATILITY = 1e-8  # return; keeps rows of zero returns divisible


def ewma_volatility(returns: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Root of the exponentially weighted mean of the squared returns up to each row, the row's included.

    The weights of the returns that there are sum to 1, so that the first return has no special weight. Rows
    from a missing return on are NaN.
    """
    variance = np.empty(len(returns))
    total = weight = 0.0
    for row, value in enumerate(returns):
        total, weight = EWMA_DECAY * total + value**2, EWMA_DECAY * weight + 1.0
        variance[row] = total / weight
    return np.maximum(np.sqrt(variance), MIN_VOLATILITY)


def target_volatility(
    target_scale: str, target: str, columns: Mapping[str, Float[np.ndarray, "N"]]
) -> Float[np.ndarray, "N"] | None:
    """What `data.target_scale` divides the target by: the volatility known at each row, None without one.

    Args: target_scale: "none", "ewma" (of the target's returns), or "column:NAME" (that column as it is; its
        unit does not matter, the scaler sees to it); target: the target's name; columns: the panel's.
    Raises: UserError for an unknown name or column, or a value that is not above 0.
    """
    if target_scale == "none":
        return None
    if target_scale == "ewma":
        return ewma_volatility(columns[target])
    name = target_scale.removeprefix("column:")
    if name not in columns:
        raise UserError(
            f"data.target_scale: found {target_scale!r}, expected a column of the panel:"
            f" {', '.join(map(str, columns))}. Correct the name."
        )
    values = columns[name]
    # Rows of the future have no value yet, nor has the target there.
    gone = np.isnan(values) & ~np.isnan(columns[target])
    if gone.any():
        raise UserError(
            f"data.target_scale: column {name!r} has no value in row {int(np.argmax(gone))}, expected one in"
            " every row. Fill it, begin later (data.start), or choose another column."
        )
    if np.any(values <= 0):
        row = int(np.argmax(values <= 0))
        raise UserError(
            f"data.target_scale: column {name!r} is {values[row]:g} in row {row}, expected values above 0."
            " Choose another column, such as a volatility."
        )
    return values


def fit_categories(values: Shaped[np.ndarray, "N"]) -> list:
    """The distinct values, sorted, as plain ints or strings."""
    return sorted(set(values.tolist()))


def encode(values: Shaped[np.ndarray, "N"], categories: Sequence) -> Int32[np.ndarray, "N"]:
    """The position of each value in `categories`, from 1; 0 for a value that is not there."""
    position = pd.Index(list(categories), dtype=object).get_indexer(pd.Index(values.tolist(), dtype=object))
    return (position + 1).astype(np.int32)
