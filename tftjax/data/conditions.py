"""Conditions of the attention beside the inputs: ages of low-frequency values, a regime's column."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int

from tftjax.config.model import StalenessConfig
from tftjax.data.panel import Panel
from tftjax.errors import UserError

MIN_USUAL_AGE = 1.0  # days, for a column that is hardly ever older than its row


def fit_usual_ages(panel: Panel, train_rows: Sequence[range], staleness: StalenessConfig) -> dict[str, float]:
    """The median age of each low-frequency column in the train rows, days; empty under mode "none".

    Args:
      train_rows: train rows of each series, counted over the whole panel.

    Raises:
      UserError: the panel has no low-frequency column, or one without an age in the train rows.
    """
    if staleness.mode == "none":
        return {}
    names = [name for name in panel.observed if name in panel.staleness]
    if not names:
        raise UserError(
            f"model.attention.staleness.mode: found {staleness.mode!r}, and no observed column of low"
            f" frequency among {', '.join(panel.observed)}: nothing gets old. Choose a data.feature_set with"
            " monthly columns (tftjax data list), built from raw series, or set the mode to 'none'."
        )
    train = np.concatenate([np.arange(rows.start, rows.stop) for rows in train_rows])
    usual = {}
    for name in names:
        ages = panel.staleness[name].to_numpy(np.float64)[train]
        if np.isnan(ages).all():
            raise UserError(
                f"column {name!r}: found no days since release in any train row, expected some: its usual age"
                " is fitted on them. Leave the column out, or let the train rows begin or end later."
            )
        usual[name] = max(float(np.nanmedian(ages)), MIN_USUAL_AGE)
    return usual


def step_ages(panel: Panel, usual_ages: dict[str, float]) -> Float32[np.ndarray, "1 N"]:
    """One age a row, for attention to steps: the mean of the low-frequency columns', days."""
    ages = _ages(panel, usual_ages)
    return np.mean([ages[name] for name in usual_ages], axis=0, dtype=np.float64)[None].astype(np.float32)


def variable_ages(panel: Panel, usual_ages: dict[str, float]) -> Float32[np.ndarray, "Vo N"]:
    """An age a row and observed column, in units of its usual age; 1 for a column that has none."""
    ages = _ages(panel, usual_ages)
    relative = [
        ages[name] / usual_ages[name] if name in usual_ages else np.ones(len(panel.frame))
        for name in panel.observed
    ]
    return np.array(relative, np.float32)


AGES = {"attention": step_ages, "variable_selection": variable_ages}


def ages_of(panel: Panel, mode: str, usual_ages: dict[str, float]) -> Float32[np.ndarray, "A N"] | None:
    """The ages that a mode of `model.attention.staleness` needs; None for "none".

    Raises:
      UserError: a column that had an age in training has none.
    """
    return None if mode == "none" else AGES[mode](panel, usual_ages)


def _ages(panel: Panel, usual_ages: dict[str, float]) -> dict[str, np.ndarray]:
    """Days since release; where there is no value (a masked one, a row of the future) the usual age."""
    missing = [name for name in usual_ages if name not in panel.staleness]
    if missing:
        raise UserError(
            f"panel: found no days since release of {', '.join(missing)}, which the model was trained with."
            " Give raw series or a built panel, as for the training; a CSV has no release dates."
        )
    return {
        name: panel.staleness[name].fillna(usual).to_numpy(np.float64) for name, usual in usual_ages.items()
    }


def regime_values(panel: Panel, column: str | None) -> Float32[np.ndarray, "N"] | None:
    """The column that tells a window's regime by its value at the last encoder row; None without a column.

    Raises:
      UserError: the panel lacks the column, it is not an observed one, or it lacks a value.
    """
    if column is None:
        return None
    key = "model.attention.regime.column"
    if column not in panel.frame:
        raise UserError(
            f"{key}: found {column!r}, expected one of the observed columns: {', '.join(panel.observed)}."
            " Correct the name, or choose a data.feature_set that has it."
        )
    if column not in panel.observed:
        raise UserError(
            f"{key}: {column!r} is not an observed column, so its value is not what was seen up to the day of"
            f" the forecast. Choose one of {', '.join(panel.observed)}."
        )
    values = panel.frame[column].to_numpy(np.float64)
    # Rows of the future have no value yet, nor a target.
    gone = np.isnan(values) & ~np.isnan(panel.frame[panel.target].to_numpy(np.float64))
    if gone.any():
        row = int(np.argmax(gone))
        raise UserError(
            f"{key}: {column!r} has no value in row {row} ({panel.frame.index[row].date()}), expected one in"
            " every row. Fill it, begin later (data.start), or choose another column."
        )
    return values.astype(np.float32)


def regime_of(values: Float32[np.ndarray, "W"], thresholds: Sequence[float]) -> Int[np.ndarray, "W"]:
    """The regime of each value, from 0: how many thresholds it is above, as the model counts them."""
    return (values[:, None] > np.asarray(thresholds, np.float32)).sum(axis=1)
