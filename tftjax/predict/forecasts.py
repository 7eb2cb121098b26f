"""Forecasts of the next steps after the last row of the data, as tables of quantiles."""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from tftjax.config.data import DataConfig
from tftjax.data.loading import date_column
from tftjax.data.panel import Panel
from tftjax.data.tables.future import read_future, with_future
from tftjax.errors import UserError, cut
from tftjax.evaluate.calibration.levels import quantiles_at
from tftjax.predict.conformal import calibrated
from tftjax.predict.origin import say_what_it_is, say_what_lacks
from tftjax.predict.series import forecastable
from tftjax.predict.windows import forecast_next
from tftjax.storage import runs
from tftjax.sweep.ensembles import average_tables

log = logging.getLogger(__name__)


def predict(run: runs.Run, panel: Panel, future: pd.DataFrame | None = None) -> pd.DataFrame:
    """Forecasts the steps after the last row (of each series); no future target is needed.

    Args:
      panel: rows up to the day of the forecast, with the run's columns.
      future: see `forecast_next`.
    Returns:
      A row for each step: its expected date, the series' name if there are several, and a column for each
      quantile, returns as decimals.
    Raises:
      UserError: see `forecastable`, or other columns than the run's.
    """
    return forecast_seeds([run], forecastable(run, panel), future)


def forecast_seeds(
    seeds: Sequence[runs.Run],
    panel: Panel,
    future: pd.DataFrame | None = None,
    quantiles: Sequence[float] | None = None,
    conformal: str = "none",
) -> pd.DataFrame:
    """`forecast_next` of a run or of several seeds, averaged level by level, with quantiles in order.

    Logs until when the model was trained and chosen and its verdict, and warns where the rows are long after
    that or quantiles cross.

    Args:
      quantiles: other levels than the run's: a "student_t" head has any, of another head they are
        `quantiles_at` them.
      conformal: the calibration of the trained levels, before others are made of them: as in
        `evaluation.conformal`.
    Raises:
      UserError: the levels are none, or the run was trained on a single one; or see `calibration_of`.
    """
    if future is not None:
        panel = with_future(panel, read_future(future, panel, date_column(seeds[0].config.data)))
    say_what_it_is(seeds, panel)
    say_what_lacks(seeds[0], panel)
    trained = seeds[0].config.model
    levels = trained.quantiles if quantiles is None else checked_levels(quantiles, trained.quantiles)
    if trained.quantile_head == "student_t" and conformal == "none":
        seeds = [_at_levels(run, levels) for run in seeds]
    own = seeds[0].config.model.quantiles
    names = [f"{level:g}" for level in own]
    table = average_tables([forecast_next(run, panel) for run in seeds], names)
    table = in_order(table, names)
    if conformal != "none":
        table = calibrated(seeds, panel, table, conformal)
    if own == levels:
        return table
    if min(levels) < own[0] or max(levels) > own[-1]:
        log.info(
            f"quantiles beyond {names[0]} and {names[-1]}, the outermost that were trained: of a normal tail"
        )
    values = quantiles_at(table[names].to_numpy(), own, levels).T
    found = dict(zip((f"{level:g}" for level in levels), values, strict=True))
    return table.drop(columns=names).assign(**found)


def _at_levels(run: runs.Run, levels: tuple[float, ...]) -> runs.Run:
    """A run whose head is asked for other levels than in training."""
    model = run.config.model.model_copy(update={"quantiles": levels})
    return replace(run, config=run.config.model_copy(update={"model": model}))


def checked_levels(quantiles: Sequence[float], trained: Sequence[float]) -> tuple[float, ...]:
    """Levels that a user asked for.

    Raises:
      UserError: see `forecast_seeds`.
    """
    try:
        levels = tuple(map(float, quantiles))
    except (TypeError, ValueError):
        levels = ()
    named = [float(f"{level:g}") for level in levels]  # as columns are
    if not levels or not all(low < high for low, high in itertools.pairwise((0.0, *named, 1.0))):
        raise UserError(
            f"quantiles: found {', '.join(map(repr, levels)) or cut(repr(quantiles))}, expected a list of"
            " levels above 0 and below 1 that ascend, told apart by six digits."
        )
    if len(trained) == 1:
        raise UserError(
            f"quantiles: the run was trained on {trained[0]:g} alone, which tells nothing of other levels."
            " Train with several model.quantiles."
        )
    return levels


def in_order(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """A table of forecasts whose quantiles do not cross: each row's are sorted, and that is logged.

    Source: Chernozhukov, Fernandez-Val and Galichon 2010, "Quantile and probability curves without crossing".
    """
    values = table[names].to_numpy()
    crossing = int((np.diff(values, axis=1) < 0).any(axis=1).sum())
    if not crossing:
        return table
    log.warning(f"quantiles cross in {crossing} of {len(table)} forecasts: sorted")
    return table.assign(**dict(zip(names, np.sort(values, axis=1).T, strict=True)))


def shown_as(data: DataConfig, levels: bool = False) -> str:
    """The unit of a forecast's numbers, in words."""
    if levels:
        return f"levels of {data.columns.target if data.columns else 'the target'}"
    what = {"as_is": "levels", "difference": "changes", "log_return": "log returns"}
    unit = "in percent" if data.return_unit == "percent" else "as decimals"
    words = what.get(data.target_transform, "returns")
    return words if data.target_transform in ("as_is", "difference") else f"{words} {unit}"
