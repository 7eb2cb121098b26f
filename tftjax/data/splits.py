"""Train, validation and test rows in time order, and the windows that forecast them."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from tftjax.config import UserError


class Splits(NamedTuple):
    """Ranges of target rows: contiguous, in time order, together every row."""

    train: range
    val: range
    test: range


def split_rows(
    num_rows: int, fractions: tuple[float, float, float], encoder_length: int, prediction_length: int
) -> Splits:
    """Cut rows 0..num_rows-1 by fractions (train, val, test), rounding down.

    Raises: UserError if a split would hold no window.
    """
    # As floats 0.7 + 0.2 is below 0.9: without the nudge it would be 89 of 100 rows.
    val_start = math.floor(num_rows * fractions[0] + 1e-9)
    test_start = math.floor(num_rows * (fractions[0] + fractions[1]) + 1e-9)
    splits = Splits(range(0, val_start), range(val_start, test_start), range(test_start, num_rows))
    for name, rows in splits._asdict().items():
        needed = encoder_length + prediction_length if rows.start == 0 else prediction_length
        if len(rows) < needed or rows.stop < encoder_length + prediction_length:
            raise UserError(
                f"data.split: found {len(rows)} {name} rows of {num_rows} rows, expected at least {needed}"
                f" for one window of {encoder_length} encoder rows and {prediction_length} target rows."
                " Use more rows (data.start, data.end), a larger fraction, or shorter windows"
                " (model.encoder_length, model.prediction_length)."
            )
    return splits


def window_starts(
    rows: range, num_rows: int, encoder_length: int, prediction_length: int
) -> Int32[np.ndarray, "W"]:
    """The starts s of all windows whose target rows s+E .. s+E+P-1 lie inside `rows`.

    Encoder rows s .. s+E-1 may reach back into earlier splits; none lies before row 0 or after num_rows - 1.
    Raises: UserError if there is no such window.
    """
    first = max(rows.start - encoder_length, 0)
    stop = min(rows.stop, num_rows) - encoder_length - prediction_length + 1
    if stop <= first:
        raise UserError(
            f"rows {rows.start} to {rows.stop - 1} of {num_rows}: found no window of {encoder_length}"
            f" encoder rows and {prediction_length} target rows inside, expected at least one."
            " Use more rows or shorter windows."
        )
    return np.arange(first, stop, dtype=np.int32)
