"""Forecasts of the next steps after the last row of the data."""

import argparse
import datetime
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tftjax.config.data import DataConfig
from tftjax.data.feature_sets import known_input, lag_of, source_of
from tftjax.data.loading import find_dataset
from tftjax.data.newest import load_like, newest_rows, without_weights
from tftjax.data.panel import (
    Panel,
    blocks,
    calendar_of,
    join_series,
    name_of,
    split_series,
    with_rows,
)
from tftjax.data.prepared import cardinalities, target_days, train_targets
from tftjax.data.scales.target import has_scale_of_unseen, rows_needed
from tftjax.data.series.reading import NO_VINTAGES, Vintages
from tftjax.data.tables.future import ended, read_future, steps_ahead, with_future
from tftjax.data.tables.inspection import read_any
from tftjax.data.tables.transforms import changes_to_levels
from tftjax.data.windows import make_series, windows_alone
from tftjax.errors import UserError, both, cut
from tftjax.evaluate.calibration.calibrated import Calibration, calibration_of, outcomes_of
from tftjax.evaluate.calibration.conformal import scores, shifted, tracked_shifts
from tftjax.evaluate.calibration.levels import normal_scores, quantiles_at
from tftjax.evaluate.calibration.paths import path_levels, path_ranks, shuffled
from tftjax.evaluate.formatting import counted
from tftjax.evaluate.verdict import read_verdict
from tftjax.model.forecast import forecast_rows
from tftjax.model.parameters import build_model
from tftjax.storage import forecast_log, runs
from tftjax.storage.directories import ForecastDirectory
from tftjax.sweep.ensembles import average, average_tables, directory_of

log = logging.getLogger(__name__)

# Largest ratio between the spreads of given and trained returns: percent for decimals is a factor of 100, a
# few rows of a crisis can be one of 5 to 10.
UNIT_FACTOR = 20.0
# By then as many rows have come as a test split usually holds: what validation said is about other times.
LONG_AGO = datetime.timedelta(days=365)
METHODS = ("split", "adaptive")  # of a conformal calibration
TOGETHER = 512  # windows that "adaptive" forecasts at a time: their program is the same every day
MAX_PATHS = 100_000
MAX_PAST = 10_000  # train windows that give sample paths their order: of long panels some, evenly spread
# Levels that a head with a distribution is asked for, so that paths have its tails; lines between them.
FINE_LEVELS = (0.0001, 0.0005, 0.001, 0.005, *(k / 100 for k in range(1, 100)), 0.995, 0.999, 0.9995, 0.9999)


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


def forecastable(run: runs.Run, panel: Panel) -> Panel:
    """The series of a panel that a run can forecast; what is left out, or was not in training, is logged.

    Raises:
      UserError: fewer rows than the encoder or the scale needs, no series that the run can forecast, or an
        unknown static category for a model that has not learned to do without.
    """
    parts = {name_of(part): part for part in split_series(panel)}
    unseen = _check_unseen(run, [name for name in parts if name not in run.data.encoding.series], len(parts))
    parts = {name: part for name, part in parts.items() if name in run.data.encoding.series or unseen}
    _check_categories(run, parts)
    long_enough = _long_enough(run, parts)
    panel = join_series(long_enough)
    newest = panel.frame.index.max()
    ended = {name_of(part): part.frame.index[-1] for part in long_enough}
    early = [f"{name} ({last.date()})" for name, last in ended.items() if last < newest]
    if early:
        names = ", ".join(early)
        log.warning(f"series that end before {newest.date()}, forecast from their own last rows: {names}")
    return panel


def _check_unseen(run: runs.Run, unknown: Sequence[str], num_series: int) -> bool:
    """Whether series that were not in training are forecast; they are logged.

    Args:
      unknown: names of these series.
      num_series: how many series there are, known or not.
    Raises:
      UserError: they are all that there is, and cannot be forecast.
    """
    encoding, reasons = run.data.encoding, []
    if not run.config.train.static_dropout:
        reasons.append("the embedding of an unknown id is not trained (train.static_dropout is 0)")
    if not has_scale_of_unseen(encoding.target_scale):
        reasons.append(f"data.target_scale {encoding.target_scale!r} is fitted to each series")
    if reasons and len(unknown) == num_series:
        raise UserError(
            f"prediction: found the series {', '.join(unknown[:5])}, and none that the run was trained on"
            f" ({', '.join(encoding.series[:5])}), and it cannot forecast others: {' and '.join(reasons)}."
            " Give data of those series, or train with train.static_dropout above 0 and data.target_scale"
            " 'pooled_log_scale' or 'ewma'."
        )
    if unknown and reasons:
        names = ", ".join(unknown)
        log.warning(f"left out {len(unknown)} series that the run was not trained on: {names}")
    elif unknown:
        scaled = encoding.target_scale != "none"
        how = "" if scaled else ", with the spread of the median series (data.target_scale is 'none')"
        log.warning(
            f"{len(unknown)} series were not in training, forecast as unseen{how}: {', '.join(unknown)}"
        )
    return not reasons


def _check_categories(run: runs.Run, parts: Mapping[str, Panel]) -> None:
    """Refuses values of static columns, but the id, that no train row had; or logs them, as other columns'.

    Raises:
      UserError: such a value, and a model that was trained without `train.static_dropout`.
    """
    train = run.config.train
    changing = _unknown_categories(run, parts, ("observed_categorical", "known_categorical"))
    if changing:
        untrained = "" if train.category_dropout else " (untrained: train.category_dropout is 0)"
        words = _named(changing)
        log.warning(f"categories that were not in training count as unknown{untrained}: {words}")
    if train.static_dropout == 1:  # the model has never seen one
        return
    unknown = _unknown_categories(run, parts, ("static_categorical",))
    if not unknown:
        return
    if not train.static_dropout:
        name, column, value = unknown[0]
        known = run.data.encoding.categories[column]
        series = f"series {name!r}, " if name else ""
        raise UserError(
            f"prediction: {series}static column {column!r}: found {cut(repr(value))}, which no train row had,"
            f" expected one of {', '.join(map(str, known[:10]))}. Correct it, or train with"
            " train.static_dropout above 0, which makes a model do without."
        )
    log.warning(f"static categories that were not in training count as unknown: {_named(unknown)}")


def _unknown_categories(
    run: runs.Run, parts: Mapping[str, Panel], roles: Sequence[str]
) -> list[tuple[str, str, Any]]:
    """Series, column and value of the categories in the encoder's rows that no train row had; not ids."""
    return [
        (name, column, value)
        for name, part in parts.items()
        for role in roles
        for column in getattr(part, role)
        if column != part.id_column
        for value in part.frame[column].iloc[-run.config.model.encoder_length :].dropna().unique()
        if value not in run.data.encoding.categories[column]
    ]


def _named(unknown: Sequence[tuple[str, str, Any]]) -> str:
    return ", ".join(f"{value} ({column}{name and f' of {name}'})" for name, column, value in unknown)


def _long_enough(run: runs.Run, parts: Mapping[str, Panel]) -> list[Panel]:
    """The series that have the rows which encoder, scale and lags need; the others are logged.

    A scale remembers the rows before: fewer than it needs are enough if they are all that there ever were,
    which is known of the series in training.

    Raises:
      UserError: none has them.
    """
    model_config, encoding = run.config.model, run.data.encoding
    trained = {
        name: run.data.panel.frame.index[rows.start]
        for name, rows in _series_of(run)
        if name in encoding.series
    }
    scale = encoding.target_scale, encoding.scales
    short_windows = model_config.fewest_rows < model_config.encoder_length
    made = run.data.panel.about.get("made", ())
    lag = max((lag_of(name) or 0 for name in made), default=0)
    fewest_rows = max(model_config.fewest_rows, lag)
    needed = {
        name: fewest_rows
        if name in trained and part.frame.index[0] <= trained[name]
        else max(fewest_rows, rows_needed(*scale, short_windows))
        for name, part in parts.items()
    }
    new = [
        name
        for name, part in parts.items()
        if name not in trained and needed[name] <= len(part.frame) < rows_needed(*scale)
    ]
    if new:
        log.warning(
            f"{len(new)} series with fewer than {rows_needed(*scale)} rows, whose scale ({scale[0]}) is of"
            f" the rows that there are. Right for a new listing, else give the rows before: {', '.join(new)}"
        )
    short = [name for name, part in parts.items() if len(part.frame) < needed[name]]
    if len(short) == len(parts):
        rows = sum(len(part.frame) for part in parts.values())
        last = max(part.frame.index[-1] for part in parts.values()).date()
        fewest = "model.min_encoder_length" if model_config.min_encoder_length else "model.encoder_length"
        each = f" of {len(parts)} series" if len(parts) > 1 else ""
        lagged = f", a lag of {lag} rows" if lag else ""
        raise UserError(
            f"prediction: found {rows} rows{each} to {last}, the run's windows have at least"
            f" {model_config.fewest_rows} rows of the past ({fewest}){lagged}, and data.target_scale is"
            f" {encoding.target_scale!r}: expected at least {max(needed.values())} rows, as a scale remembers"
            f" rows before those given. Give them too, or a later {both('--as-of')}, if one was given."
        )
    if short:
        rows = max(needed[name] for name in short)
        log.warning(f"left out {len(short)} series with fewer than {rows} rows: {', '.join(short)}")
    return [part for name, part in parts.items() if name not in short]


def _series_of(run: runs.Run) -> tuple[tuple[str, range], ...]:
    return blocks(run.data.panel.frame, run.data.panel.id_column)


def forecast_next(run: runs.Run, panel: Panel, future: pd.DataFrame | None = None) -> pd.DataFrame:
    """`predict` for a panel of series that can be forecast.

    Args:
      future: dates and values of the known columns of the next steps, see `read_future`; None takes those
        that the panel carries, or the next dates of its calendar.
    """
    if future is not None:
        panel = with_future(panel, read_future(future, panel, _date_column(run)))
    # All rows, not only the encoder's: a moving volatility looks further back.
    steps = run.config.model.prediction_length
    extended = extend_panel(panel, steps)
    stops = np.array([rows.stop for _, rows in blocks(extended.frame, extended.id_column)])
    (quantiles,) = _forecast_blocks(run, extended, [stops - steps])
    rows = ((stops - steps)[:, None] + np.arange(steps)).ravel()
    names = [f"{q:g}" for q in run.config.model.quantiles]
    table = pd.DataFrame(quantiles.reshape(len(rows), -1), index=extended.frame.index[rows], columns=names)
    if panel.id_column is not None:
        table.insert(0, "series", extended.frame[panel.id_column].to_numpy()[rows])
    return table


def _forecast_blocks(
    run: runs.Run, panel: Panel, first_steps: Sequence[Int[np.ndarray, " W"]]
) -> list[Float[np.ndarray, "W P Q"]]:
    """Quantiles of windows, block by block, returns as decimals.

    Args:
      first_steps: the row that each window of a block forecasts first; blocks of one size share a program.
    """
    lengths = run.config.model.encoder_length, run.config.model.prediction_length
    model = build_model(run.config, *cardinalities(panel, run.data.encoding), run.functions)
    short_windows = run.config.model.fewest_rows < lengths[0]
    series, found = make_series(panel, run.data.encoding, short_windows=short_windows), []
    for first in first_steps:
        starts = (first - lengths[0]).astype(np.int32)
        found.append(forecast_rows(model, run.parameters, *windows_alone(series, starts, *lengths)))
    return found


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
        panel, future = with_future(panel, read_future(future, panel, _date_column(seeds[0]))), None
    _say_what_it_is(seeds, panel)
    _say_what_lacks(seeds[0], panel)
    trained = seeds[0].config.model
    levels = trained.quantiles if quantiles is None else _checked_levels(quantiles, trained.quantiles)
    if trained.quantile_head == "student_t" and conformal == "none":
        seeds = [_at_levels(run, levels) for run in seeds]
    own = seeds[0].config.model.quantiles
    names = [f"{level:g}" for level in own]
    table = average_tables([forecast_next(run, panel, future) for run in seeds], names)
    table = in_order(table, names)
    if conformal != "none":
        table = _calibrated(seeds, panel, table, conformal)
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


def _calibrated(seeds: Sequence[runs.Run], panel: Panel, table: pd.DataFrame, method: str) -> pd.DataFrame:
    """A table of forecasts after the conformal calibration of the run, of a final fit that of its source.

    "adaptive" forecasts the rows since the validation rows too, and follows their outcomes up to the last row
    of the panel; of a final fit those that it has not learned from.

    Args:
      table: a row a series and step, quantiles in order.
    Raises:
      UserError: an unknown method; or see `fitted_calibration`.
    """
    if method not in METHODS:
        raise UserError(f"conformal: found {cut(repr(method))}, expected one of {', '.join(METHODS)}.")
    calibration, since = fitted_calibration(seeds)
    chosen, as_of = _origin(seeds).chosen, panel.frame.index.max().date()
    if chosen > as_of:
        log.warning(f"calibrated by outcomes to {chosen}, after {as_of}: this is no test of it")
    model, shifts = seeds[0].config.model, np.array(calibration.shifts)
    names = [f"{level:g}" for level in model.quantiles]
    values = table[names].to_numpy().reshape(-1, *shifts.shape)
    if method == "adaptive":
        shifts = _tracked(seeds, panel, shifts, since)
    values = shifted(values, shifts, model.quantiles).reshape(len(table), -1)
    return table.assign(**dict(zip(names, values.T, strict=True)))


def fitted_calibration(seeds: Sequence[runs.Run]) -> tuple[Calibration, datetime.date]:
    """The conformal calibration of a run, and the day after which "adaptive" follows outcomes.

    Raises:
      UserError: the run was trained on its validation rows; or see `calibration_of`.
    """
    if seeds[0].config.data.train_on_val:
        raise UserError(
            "conformal: the run has learned from its validation rows (data.train_on_val), expected rows that"
            " it has not learned from. Take quantiles as they are, or calibrate a run without it."
        )
    origin = _origin(seeds)
    return calibration_of(origin.directory, str(origin.chosen)), max(origin.chosen, origin.learned)


def _tracked(
    seeds: Sequence[runs.Run], panel: Panel, shifts: Float[np.ndarray, "P Q"], since: datetime.date
) -> Float[np.ndarray, "S P Q"]:
    """The shifts of the next forecast of each series, after the outcomes of all rows since a date."""
    first, lengths = seeds[0], (seeds[0].config.model.encoder_length, seeds[0].config.model.prediction_length)
    needed = max(lengths[0], rows_needed(first.data.encoding.target_scale, first.data.encoding.scales))
    extended = extend_panel(panel, lengths[1])
    dates, windows, last = extended.frame.index, [], []
    for _, rows in blocks(extended.frame, extended.id_column):
        # The series' last window is that of the next forecast: none of its outcomes is known.
        begin = rows.start + int(dates[rows.start : rows.stop].searchsorted(pd.Timestamp(since), "right"))
        stop = rows.stop - lengths[1] + 1
        windows.append(np.arange(min(max(begin, rows.start + needed), stop - 1), stop))
        last.append(sum(map(len, windows)) - 1)
    first_steps = np.concatenate(windows)
    count = len(first_steps)
    together = np.pad(first_steps, (0, -count % TOGETHER), mode="edge").reshape(-1, TOGETHER)
    each = [np.concatenate(_forecast_blocks(run, extended, list(together)))[:count] for run in seeds]
    of = outcomes_of(extended.frame, extended.target, first_steps[:, None] + np.arange(lengths[1]))
    log.info(f"adaptive calibration: followed {counted(count - len(last), 'forecast')} since {since}")
    found = scores(average(each), of.target, first.config.model.quantiles)
    return tracked_shifts(shifts, found, of.made, of.known, first.config.model.quantiles)[last]


def sample_paths(
    seeds: Sequence[runs.Run],
    panel: Panel,
    count: int,
    future: pd.DataFrame | None = None,
    *,
    conformal: str = "none",
    levels: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Sample paths over the next steps, whose steps go together as in the train rows.

    Each step has the quantiles that `forecast_seeds` gives; the order is that of the levels which outcomes of
    train windows had in their forecasts: of these there are many, and their order hardly depends on how well
    the model fits them. Paths of different series are drawn independently.

    Args:
      panel: series that can be forecast.
      count: paths of each series.
      future: see `forecast_next`.
      conformal: see `forecast_seeds`.
      levels: prices or levels in place of the changes that are forecast.
      seed: of the drawing.
    Returns:
      A row a series, path and step: its date, the series' name if there are several, `path` from 1 on, and
      `value`, a return as decimal, or a level.
    Raises:
      UserError: a number of paths or a seed that cannot be; or see `forecast_seeds`.
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= MAX_PATHS:
        raise UserError(f"paths: found {count!r}, expected a whole number from 1 to {MAX_PATHS:,}.")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UserError(f"seed: found {seed!r}, expected a whole number from 0 on.")
    model = seeds[0].config.model
    own_tails = model.quantile_head == "student_t" and conformal == "none"
    asked = FINE_LEVELS if own_tails else model.quantiles
    _checked_levels(asked, model.quantiles)
    table = forecast_seeds(seeds, panel, future, asked if own_tails else None, conformal)
    steps, names = model.prediction_length, [f"{level:g}" for level in asked]
    forecast = table[names].to_numpy().reshape(-1, steps, len(names))
    samples = quantiles_at(forecast, asked, path_levels(count))
    past = _past_scores(seeds) if steps > 1 else np.zeros((1, 1))
    generator = np.random.default_rng(seed)
    paths = np.stack([shuffled(part, path_ranks(past, count, generator)) for part in samples])
    if levels:
        paths = changes_to_levels(paths, panel)
    rows = np.arange(len(table)).reshape(-1, 1, steps).repeat(count, axis=1).ravel()
    drawn = pd.DataFrame({"path": np.tile(np.repeat(np.arange(1, count + 1), steps), len(paths))})
    drawn = drawn.assign(value=paths.ravel()).set_index(table.index[rows].rename("date"))
    if panel.id_column is not None:
        drawn.insert(0, "series", table["series"].to_numpy()[rows])
    return drawn


def _past_scores(seeds: Sequence[runs.Run]) -> Float[np.ndarray, "W P"]:
    """The levels that outcomes of train windows had in their forecasts, as normal scores."""
    first = seeds[0]
    data, model, quantiles = first.data, first.config.model, first.config.model.quantiles
    starts = data.starts["train"]
    starts = starts[np.linspace(0, len(starts) - 1, min(len(starts), MAX_PAST)).astype(int)]
    each = []
    for run in seeds:
        built = build_model(run.config, *cardinalities(data.panel, data.encoding), run.functions)
        each.append(forecast_rows(built, run.parameters, data.series, starts))
    rows = starts[:, None] + model.encoder_length + np.arange(model.prediction_length)
    target = data.panel.frame[data.panel.target].to_numpy(np.float64)[rows]
    return normal_scores(np.sort(average(each), axis=-1), quantiles, target)


def _checked_levels(quantiles: Sequence[float], trained: Sequence[float]) -> tuple[float, ...]:
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


class _Origin(NamedTuple):
    """What a model comes from.

    Attributes:
      directory: that of its evaluation; of a final fit its source's.
      learned: day of the last train row.
      chosen: day of the last validation row that chose it.
      final: the record of a final fit.
    """

    directory: Path
    learned: datetime.date
    chosen: datetime.date
    final: runs.Final | None


def _origin(seeds: Sequence[runs.Run]) -> _Origin:
    data, directory = seeds[0].data, seeds[0].directory
    place = directory if len(seeds) == 1 else directory.parents[1]
    final, learned = runs.read_final(place), max(target_days(data.panel, data.blocks, "train"))
    if final is None:
        chosen = max(target_days(data.panel, data.blocks, "val"), default=learned)
        return _Origin(directory_of(seeds), learned, chosen, None)
    chosen = datetime.date.fromisoformat(final.chosen_until)
    return _Origin(runs.source_of(place, final), learned, chosen, final)


def _say_what_it_is(seeds: Sequence[runs.Run], panel: Panel) -> None:
    """Logs the age of a model, once, and its verdict, in a line."""
    directory, trained, chosen, final = _origin(seeds)
    as_of = panel.frame.index.max().date()
    until = f"model trained until {trained}"
    if as_of < trained:
        log.warning(f"the model has learned from rows to {trained}, after {as_of}: this is no test of it")
    elif as_of - trained > LONG_AGO:
        log.warning(
            f"{until}, {(as_of - trained).days} days before {as_of}, chosen until {chosen}: it has learned"
            f" nothing since. Train it on all rows: tftjax train CONFIG {both('--final')}"
        )
    else:
        log.info(f"{until}, chosen until {chosen}")
    verdict = _verdict(directory) if final is None else final.verdict.partition(";")[0]
    if verdict is not None:
        log.info(f"on the test rows{'' if final is None else ' of its source'}: {verdict}")


def _say_what_lacks(run: runs.Run, panel: Panel) -> None:
    """Warns of known numbers without a value in the steps ahead, where they may lack one."""
    if not panel.masks_known:
        return
    steps = run.config.model.prediction_length
    ahead = pd.concat([steps_ahead(part, steps) for part in split_series(panel)])
    lacking = [name for name in ahead if name in panel.known_real and ahead[name].isna().any()]
    if lacking:
        learned = run.config.train.known_dropout or run.data.panel.frame[lacking].isna().any(axis=None)
        words = "" if learned else " (untrained: no train row lacks one, and train.known_dropout is 0)"
        log.warning(
            f"known columns without a value in the steps ahead count as unknown{words}: {', '.join(lacking)}"
        )


def _verdict(directory: Path) -> str | None:
    """The first part of an evaluation's verdict, or why it cannot be read; None if there is none."""
    path = ForecastDirectory(directory).evaluation.metrics
    if not path.is_file():
        return None
    try:
        return read_verdict(path, f"tftjax evaluate {directory}").partition(";")[0]
    except UserError as error:
        return f"unknown, as {error}"


def load_rows(
    run: runs.Run,
    data: str | pd.DataFrame | None,
    as_of: datetime.date | None,
    future: Path | str | pd.DataFrame | None = None,
    vintages: Vintages = NO_VINTAGES,
) -> Panel:
    """Reads the rows to forecast from: the run's data set as it is today or another source, up to a date.

    Args:
      data: see `load_like`; None takes the run's data set, see `newest_rows`.
      future: file or frame of the next steps' dates and known columns, see `read_future`; None takes those
        that the data brings: rows without a target at its end, or after `as_of`.
      vintages: newer frames of the series that were frames in training, by name.

    Raises:
      UserError: a source is unusable, or has no row up to the date.
    """
    trained, config = run.data.whole, without_weights(run.config.data)
    if data is None and not vintages:
        panel, words = newest_rows(trained, config)
        log.info(f"data: {words}, to {panel.frame.index.max().date()}")
    else:
        if isinstance(data, str):
            find_dataset(data, both("--data"))
        source = config.dataset if data is None else data
        panel = load_like(trained, config.model_copy(update={"end": None}), source, vintages)
    if as_of is not None:
        before = panel.frame.index <= pd.Timestamp(as_of)
        if not before.any():
            late = "; ".join(message for message in panel.messages if message.startswith("dropped"))
            raise UserError(
                f"{both('--as-of')}{as_of}: the first row of the data is of {panel.frame.index.min().date()}"
                f"{f' ({late})' if late else ''}. Give a later date."
            )
        if panel.frame.index.max() < pd.Timestamp(as_of):
            last = panel.frame.index.max().date()
            log.warning(f"{as_of} is after the data's last row, of {last}: that row is forecast from")
        panel = ended(panel, before)
    if future is not None:
        panel = with_future(panel, read_future(future, panel, _date_column(run)))
    if data is not None:
        _check_unit(run, panel, "the frame" if isinstance(data, pd.DataFrame) else data)
    return panel


def _date_column(run: runs.Run) -> str:
    columns = run.config.data.columns
    return "date" if columns is None else columns.date


def _check_unit(run: runs.Run, panel: Panel, data: str) -> None:
    """Refuses returns that are far larger or smaller than those that the run was trained on."""
    trained = float(np.concatenate([*train_targets(run.data.panel, run.data.blocks).values()]).std())
    spread = float(panel.frame[panel.target].std(ddof=0))
    if not trained / UNIT_FACTOR < spread < trained * UNIT_FACTOR:
        raise UserError(
            f"{data}: the standard deviation of {panel.target} is {spread:.6g}, in training it was "
            f"{trained:.6g}. The data seems to be in another unit: bring it to the unit of the run's data."
        )


def extend_panel(panel: Panel, steps: int) -> Panel:
    """The panel with `steps` future rows after its last date; see `steps_ahead`.

    Each series of a panel is extended. Known and static columns are filled, observed ones (the target too)
    are NaN.

    Raises:
      UserError: no value of a known column, or no date.
    """
    return join_series([_extend_series(part, steps) for part in split_series(panel)])


def _extend_series(panel: Panel, steps: int) -> Panel:
    last, given = panel.frame.index[-1], steps_ahead(panel, steps)
    future = given.index.as_unit(panel.frame.index.unit)
    rows = pd.DataFrame({name: np.full(steps, np.nan) for name in panel.observed}, index=future)
    rows = rows.assign(**{name: np.full(steps, None, object) for name in panel.observed_categorical})
    calendar = calendar_of(panel)
    seen = pd.concat([panel.frame[list(panel.observed)], rows[list(panel.observed)]])
    for role in ("known_real", "known_categorical"):
        for name in getattr(panel, role):
            if name in given:
                rows[name] = given[name].to_numpy()
            else:
                source = seen[source_of(name, panel.target)]
                rows[name] = known_input(name, role, calendar.events)(source, calendar)[-steps:]
    for name in panel.static_real + panel.static_categorical:
        rows[name] = panel.frame[name].iloc[0]
    frame = pd.concat([panel.frame, rows])
    message = f"appended {steps} future rows after {last.date()}"
    return with_rows(panel, frame, panel.staleness.reindex(frame.index), (message,))


def shown_as(data: DataConfig, levels: bool = False) -> str:
    """The unit of a forecast's numbers, in words."""
    if levels:
        return f"levels of {data.columns.target if data.columns else 'the target'}"
    what = {"as_is": "levels", "difference": "changes", "log_return": "log returns"}
    unit = "in percent" if data.return_unit == "percent" else "as decimals"
    words = what.get(data.target_transform, "returns")
    return words if data.target_transform in ("as_is", "difference") else f"{words} {unit}"


def add_to_log(path: Path, seeds: Sequence[runs.Run], panel: Panel, table: pd.DataFrame) -> None:
    """Adds forecasts to a log, see `storage/forecast_log.py`, and logs how many it had already.

    Args:
      panel: the rows that were forecast from.
      table: forecasts in the unit of the run's data.
    Raises:
      UserError: the log is another run's, damaged, or cannot be written.
    """
    as_of = {name_of(part): part.frame.index[-1] for part in split_series(panel)}
    added = forecast_log.append(path, author_of(seeds), table, as_of)
    log.info(f"{path}: {counted(added, 'forecast')} added")
    if added < len(table):
        log.warning(
            f"{path}: {counted(len(table) - added, 'forecast')} skipped, as the log has them: made from the"
            " same last row, of the same date"
        )


def author_of(seeds: Sequence[runs.Run]) -> forecast_log.Author:
    """The author in a log of a run's forecasts, or of those of several seeds."""
    first = seeds[0]
    name = first.config.name if len(seeds) == 1 else directory_of(seeds).name
    quantiles = tuple(f"{q:g}" for q in first.config.model.quantiles)
    return forecast_log.Author(name, runs.identity(first), quantiles, first.data.panel.id_column is not None)


def add_vintages(parser: argparse.ArgumentParser) -> None:
    """Adds --vintages, which `vintage_frames` reads."""
    parser.add_argument(
        "--vintages",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="CSV or Parquet file, with columns observation, release and value, of a series that was a frame"
        " in training; once for each. Files of data.series are read again of themselves",
    )


def vintage_frames(given: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The tables of texts NAME=FILE, by name.

    Raises:
      UserError: another text, or a file that cannot be read.
    """
    pairs = [text.partition("=") for text in given]
    for text, (name, _, file) in zip(given, pairs, strict=True):
        if not name or not Path(file).is_file():
            raise UserError(
                f"--vintages {text!r}: expected NAME=FILE, the name of a series and a CSV or Parquet file"
                " that is there, such as cpi=cpi.csv."
            )
    return {name: read_any(Path(file)) for name, _, file in pairs}
