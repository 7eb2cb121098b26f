"""Transforms that make the target of levels, their inverses, and the unit in which forecasts are shown."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64

from tftjax.config.data import DataConfig
from tftjax.data.alignment import AGGREGATES
from tftjax.data.panel import Panel, blocks, name_of, split_series
from tftjax.data.series.transforms import difference, log_change, simple_return, unchanged
from tftjax.errors import UserError


class Transform(NamedTuple):
    """A way from the levels of a series, such as prices, to what is forecast, and back.

    Attributes:
      apply: levels [N] -> values [N], NaN where a row has no level before it.
      undo: last level, forecast changes -> levels of the next step; None where the target is no change.
      aggregate: entry of AGGREGATES: how the values of several rows make one of a week or a month.
      above_zero: whether levels must be above 0.
    """

    apply: Callable[[Float64[np.ndarray, "N"]], Float64[np.ndarray, "N"]]
    undo: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    aggregate: str
    above_zero: bool = False


TARGET_TRANSFORMS = {
    "none": Transform(unchanged, None, "compounded"),
    "as_is": Transform(unchanged, None, "as last known"),
    "return": Transform(
        lambda levels: simple_return(levels, 1),
        lambda level, change: level * (1.0 + change),
        "compounded",
        above_zero=True,
    ),
    "log_return": Transform(
        lambda levels: log_change(levels, 1),
        lambda level, change: level * np.exp(change),
        "summed",
        above_zero=True,
    ),
    "difference": Transform(
        lambda levels: difference(levels, 1), lambda level, change: level + change, "summed"
    ),
}


def transform_target(
    frame: pd.DataFrame,
    target: str,
    id_column: str | None,
    transform: str,
    where: str,
    place: Callable[[int], str],
) -> pd.DataFrame:
    """A table whose column of levels is made what is forecast, series by series; NaN in each first row.

    Args:
      transform: a name in TARGET_TRANSFORMS.
      where: the file or frame, as errors call it.
      place: row of `frame` -> its place in words.

    Raises:
      UserError: names the first row with a level that is not above 0, where there can be none.
    """
    change, levels = TARGET_TRANSFORMS[transform], frame[target].to_numpy(np.float64)
    too_low = levels <= 0
    if change.above_zero and too_low.any():
        row = int(np.argmax(too_low))
        raise UserError(
            f"{where}, {place(row)}, column {target!r}: found {levels[row]:g}, expected a level above 0: with"
            f" data.target_transform {transform!r} its logarithm or its inverse is taken. Correct it, or set"
            ' data.target_transform to "difference".'
        )
    values = [change.apply(levels[rows.start : rows.stop]) for _, rows in blocks(frame, id_column)]
    return frame.assign(**{target: np.concatenate(values)})


def last_levels(panel: Panel) -> dict[str, float]:
    """The level in the last row of each series, by its name, in the unit of the target's source as decimals.

    A panel keeps the level of each series' first row (`about["levels"]`); those after it follow from the
    changes, so that any last row has one.

    Raises:
      UserError: the target is not made of levels, or rows before are missing.
    """
    undo = TARGET_TRANSFORMS[panel.about.get("target_transform", "none")].undo
    if undo is None:
        raise UserError(
            "levels: the target of this data is not made of levels (data.target_transform is"
            f" {panel.about.get('target_transform', 'none')!r}): there are none to go back to."
        )
    levels = {}
    for part in split_series(panel):
        name = name_of(part)
        first, level = panel.about["levels"].get(name, (None, np.nan))
        if first != str(part.frame.index[0].date()):
            raise UserError(
                f"levels: the level of the series {name!r} is known on {first}, and its first row is of"
                f" {part.frame.index[0].date()}. Give all its rows."
            )
        changes = part.frame[part.target].to_numpy(np.float64)[1:]
        aggregate = AGGREGATES[TARGET_TRANSFORMS[panel.about["target_transform"]].aggregate]
        levels[name] = float(undo(level, aggregate(changes, np.array([0]))[0]) if len(changes) else level)
    return levels


def to_levels(table: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    """The forecast quantiles of the next step as levels: what the transform of the target did is undone.

    Args:
      table: a row a series: its name in the column `series` if there are several, and forecast quantiles in
        the columns of floats.
      panel: the rows that were forecast from.

    Raises:
      UserError: several steps are forecast; or see `last_levels`.
    """
    levels = last_levels(panel)
    names = table["series"].astype(str) if panel.id_column is not None else pd.Series("", index=table.index)
    if names.duplicated().any():
        raise UserError(
            "levels: found forecasts of several steps, expected of one. Quantiles of the changes of each step"
            " do not add up to quantiles of their sum: train with model.prediction_length 1, or weekly or"
            " monthly rows (data.frequency)."
        )
    undo = TARGET_TRANSFORMS[panel.about["target_transform"]].undo
    quantiles = list(table.select_dtypes("float"))
    last = names.map(levels).to_numpy(np.float64)[:, None]
    return table.assign(**dict(zip(quantiles, undo(last, table[quantiles].to_numpy()).T, strict=True)))


def changes_to_levels(paths: Float64[np.ndarray, "S N P"], panel: Panel) -> Float64[np.ndarray, "S N P"]:
    """Paths of forecast changes as paths of levels: step by step, from the last level of each series.

    Args:
      paths: N paths over P steps of each of the S series, in the order of the panel.
      panel: the rows that were forecast from.

    Raises:
      UserError: see `last_levels`.
    """
    last = last_levels(panel)
    undo = TARGET_TRANSFORMS[panel.about["target_transform"]].undo
    level = np.array([last[name_of(part)] for part in split_series(panel)])[:, None]
    steps = []
    for change in np.moveaxis(paths, -1, 0):
        level = undo(level, change)
        steps.append(level)
    return np.stack(steps, axis=-1)


def in_return_unit(table: pd.DataFrame, config: DataConfig) -> pd.DataFrame:
    """A table whose columns of floats are returns as decimals, in the unit in which the data was given."""
    if config.return_unit == "decimal":
        return table
    values = table.select_dtypes("float") * 100.0
    return table.assign(**{name: values[name] for name in values})
