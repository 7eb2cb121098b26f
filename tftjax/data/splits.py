"""Train, validation and test rows in time order, and the windows that forecast them."""

import datetime
import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int32

from tftjax.config import DataConfig, SplitDates, UserError


class Splits(NamedTuple):
    """Ranges of target rows, in time order, with the purged rows between them."""

    train: range
    val: range
    test: range


def make_splits(
    index: pd.DatetimeIndex, config: DataConfig, encoder_length: int, prediction_length: int
) -> Splits:
    """Cut rows into splits by fractions or by dates, as the config says.

    With P target rows a window, a gap of P rows (`data.purge`) keeps the target rows of two splits' windows
    P rows apart: no stretch of P days is a target of both.

    Raises: UserError if a split would hold no window.
    """
    num_rows = len(index)
    if config.split_dates is None:
        # As floats 0.7 + 0.2 is below 0.9: without the nudge it would be 89 of 100 rows.
        val = math.floor(num_rows * config.split[0] + 1e-9)
        test = math.floor(num_rows * (config.split[0] + config.split[1]) + 1e-9)
        bounds, purge = [0, val, test, num_rows], config.purge or 0
    else:
        dates = config.split_dates
        first, last = dates.train or index[0].date(), dates.end or datetime.date.max
        bounds = [int(np.searchsorted(index.date, date)) for date in (first, dates.val, dates.test, last)]
        purge = prediction_length if config.purge is None else config.purge
    start, val, test, end = bounds
    splits = Splits(
        range(start, max(start, val - purge)), range(val, max(val, test - purge)), range(test, end)
    )
    for name, rows in splits._asdict().items():
        needed = prediction_length + max(encoder_length - rows.start, 0)
        if len(rows) < needed:
            raise UserError(
                f"data.split: found {len(rows)} {name} rows of {num_rows} rows, expected at least {needed}"
                f" for one window of {encoder_length} encoder rows and {prediction_length} target rows."
                " Use more rows (data.start, data.end), a larger fraction or other dates, a smaller"
                " data.purge, or shorter windows (model.encoder_length, model.prediction_length)."
            )
    return splits


def check_batch_size(batch_size: int, num_windows: int) -> None:
    """Refuses a batch larger than the train split.

    Raises: UserError if there are fewer train windows than a batch.
    """
    if num_windows < batch_size:
        raise UserError(
            f"train.batch_size: found {batch_size}, but there are only {num_windows} train windows. "
            "Use a smaller batch or more rows."
        )


def folds(
    first_test: int,
    last_test: int,
    *,
    train_years: int,
    val_years: int = 1,
    test_years: int = 1,
    step_years: int | None = None,
    expanding: bool = False,
) -> list[SplitDates]:
    """Walk-forward folds by calendar years: train, then validation, then test, moved on by a step.

    Args:
      first_test, last_test: years in which the first and the last fold's test rows begin.
      train_years, val_years, test_years: lengths; with `expanding`, train_years is that of the first fold and
        the later ones begin where it does.
      step_years: between two folds; None for test_years, so that the test rows of the folds join up.
    Raises: UserError for lengths or years that give no fold.
    """
    step = test_years if step_years is None else step_years
    begin = first_test - val_years - train_years
    in_order = begin >= datetime.MINYEAR and first_test <= last_test <= datetime.MAXYEAR - max(test_years, 0)
    if min(train_years, val_years, test_years, step) < 1 or not in_order:
        raise UserError(
            f"folds: found train {train_years}, val {val_years}, test {test_years}, step {step} years and"
            f" tests from {first_test} to {last_test}, expected lengths of at least 1 and years in order."
        )

    def january(year: int) -> datetime.date:
        return datetime.date(year, 1, 1)

    return [
        SplitDates(
            train=january(begin if expanding else year - val_years - train_years),
            val=january(year - val_years),
            test=january(year),
            end=january(year + test_years),
        )
        for year in range(first_test, last_test + 1, step)
    ]


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
