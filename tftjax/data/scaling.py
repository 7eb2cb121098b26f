"""Standardisation and category numbers: pure fits on train rows, pure applications."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int32, Shaped


class Scaler(NamedTuple):
    """Per column: what is subtracted and what is divided by, both in the column's unit."""

    center: Float[np.ndarray, "V"]
    scale: Float[np.ndarray, "V"]


def fit(values: Float[np.ndarray, "N V"]) -> Scaler:
    """Mean and population standard deviation of each column; a constant column gets scale 1.

    Raises: ValueError if there is no row or a value is not finite.
    """
    if len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"scaling.fit: expected rows of finite values, got {values.shape} with NaN, inf or no row"
        )
    # Rounding can give a constant column a tiny spread, so constancy is asked for by itself.
    constant = values.max(axis=0) == values.min(axis=0)
    center = np.where(constant, values[0], values.mean(axis=0))
    return Scaler(center, np.where(constant, 1.0, values.std(axis=0)))


def apply(scaler: Scaler, values: Float[np.ndarray, "N V"]) -> Float[np.ndarray, "N V"]:
    """(values - center) / scale, column by column."""
    return (values - scaler.center[None, :]) / scaler.scale[None, :]


def fit_categories(values: Shaped[np.ndarray, "N"]) -> list:
    """The distinct values, sorted, as plain ints or strings."""
    return sorted(set(values.tolist()))


def encode(values: Shaped[np.ndarray, "N"], categories: Sequence) -> Int32[np.ndarray, "N"]:
    """The position of each value in `categories`, from 1; 0 for a value that is not there."""
    position = pd.Index(list(categories), dtype=object).get_indexer(pd.Index(values.tolist(), dtype=object))
    return (position + 1).astype(np.int32)
