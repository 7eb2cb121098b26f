"""Forecast the next steps after the last row of the data: `python -m tftjax.predict runs/NAME`.

Of a sweep, `--config NAME` gives the forecast of that config's ensemble; of a walk-forward, in its newest
fold.
"""

import argparse
import datetime
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tftjax.cli import command_parser, exit_code, iso_date, rerun

if __name__ == "__main__":  # before the imports that take a second
    rerun("predict")

import numpy as np
import pandas as pd

from tftjax import files, runtime
from tftjax.config.data import DataConfig
from tftjax.data.feature_sets import known_input, lag_of, source_of
from tftjax.data.loading import find_dataset
from tftjax.data.newest import load_like, newest_rows
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
from tftjax.data.tables.future import ended, read_future, steps_ahead, with_future
from tftjax.data.tables.transforms import in_return_unit, to_levels
from tftjax.data.windows import make_series, windows_alone
from tftjax.errors import UserError, both, cut
from tftjax.evaluate.formatting import counted
from tftjax.evaluate.metrics import quantiles_at
from tftjax.evaluate.verdict import read_verdict
from tftjax.model.forecast import forecast_rows
from tftjax.model.parameters import build_model
from tftjax.storage import forecast_log, runs
from tftjax.storage.directories import ForecastDirectory
from tftjax.sweep.ensembles import average_tables, directory_of, open_runs

log = logging.getLogger(__name__)

# Largest ratio between the spreads of given and trained returns: percent for decimals is a factor of 100, a
# few rows of a crisis can be one of 5 to 10.
UNIT_FACTOR = 20.0
# By then as many rows have come as a test split usually holds: what validation said is about other times.
LONG_AGO = datetime.timedelta(days=365)


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
    rows_of_scale = rows_needed(encoding.target_scale, encoding.scales)
    made = run.data.panel.about.get("made", ())
    lag = max((lag_of(name) or 0 for name in made), default=0)
    fewest_rows = max(model_config.fewest_rows, lag)
    needed = {
        name: fewest_rows
        if name in trained and part.frame.index[0] <= trained[name]
        else max(fewest_rows, rows_of_scale)
        for name, part in parts.items()
    }
    short = [name for name, part in parts.items() if len(part.frame) < needed[name]]
    if len(short) == len(parts):
        rows = sum(len(part.frame) for part in parts.values())
        last = max(part.frame.index[-1] for part in parts.values()).date()
        fewest = "model.min_encoder_length" if model_config.min_encoder_length else "model.encoder_length"
        each = f" of {len(parts)} series" if len(parts) > 1 else ""
        raise UserError(
            f"prediction: found {rows} rows{each} to {last}, the run's windows have at least"
            f" {model_config.fewest_rows} rows of the past ({fewest}), its longest lag is {lag}, its"
            f" data.target_scale {encoding.target_scale!r}: expected at least {max(needed.values())} rows."
            f" Give those before them too, or a later {both('--as-of')}, if one was given."
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
    model_config, encoding = run.config.model, run.data.encoding
    # All rows, not only the encoder's: a moving volatility looks further back.
    extended = extend_panel(panel, model_config.prediction_length)
    model = build_model(run.config, *cardinalities(panel, encoding), run.functions)
    stops = np.array([rows.stop for _, rows in blocks(extended.frame, extended.id_column)])
    first_steps = stops - model_config.prediction_length
    starts = (first_steps - model_config.encoder_length).astype(np.int32)
    lengths = model_config.encoder_length, model_config.prediction_length
    short_windows = model_config.fewest_rows < model_config.encoder_length
    series = make_series(extended, encoding, short_windows=short_windows)
    series, places = windows_alone(series, starts, *lengths)
    quantiles = forecast_rows(model, run.parameters, series, places)
    rows = (first_steps[:, None] + np.arange(model_config.prediction_length)).ravel()
    names = [f"{q:g}" for q in model_config.quantiles]
    table = pd.DataFrame(quantiles.reshape(len(rows), -1), index=extended.frame.index[rows], columns=names)
    if panel.id_column is not None:
        table.insert(0, "series", extended.frame[panel.id_column].to_numpy()[rows])
    return table


def forecast_seeds(
    seeds: Sequence[runs.Run],
    panel: Panel,
    future: pd.DataFrame | None = None,
    quantiles: Sequence[float] | None = None,
) -> pd.DataFrame:
    """`forecast_next` of a run or of several seeds, averaged level by level, with quantiles in order.

    Logs until when the model was trained and chosen and its verdict, and warns where the rows are long after
    that or quantiles cross.

    Args:
      quantiles: other levels than the run's: a "student_t" head has any, of another head they are
        `quantiles_at` them.
    Raises:
      UserError: the levels are none, or the run was trained on a single one.
    """
    if future is not None:
        panel, future = with_future(panel, read_future(future, panel, _date_column(seeds[0]))), None
    _say_what_it_is(seeds, panel)
    _say_what_lacks(seeds[0], panel)
    trained = seeds[0].config.model
    levels = trained.quantiles if quantiles is None else _checked_levels(quantiles, trained.quantiles)
    if trained.quantile_head == "student_t":
        seeds = [_at_levels(run, levels) for run in seeds]
    own = seeds[0].config.model.quantiles
    names = [f"{level:g}" for level in own]
    table = average_tables([forecast_next(run, panel, future) for run in seeds], names)
    table = in_order(table, names)
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


def _checked_levels(quantiles: Sequence[float], trained: Sequence[float]) -> tuple[float, ...]:
    """Levels that a user asked for.

    Raises:
      UserError: see `forecast_seeds`.
    """
    try:
        levels = tuple(map(float, quantiles))
    except (TypeError, ValueError):
        levels = ()
    names = [f"{level:g}" for level in levels]
    if not levels or not all(low < high for low, high in itertools.pairwise((0.0, *map(float, names), 1.0))):
        raise UserError(
            f"quantiles: found {', '.join(names) or cut(repr(quantiles))}, expected levels between 0 and 1"
            " that ascend, with at most six digits."
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


def _say_what_it_is(seeds: Sequence[runs.Run], panel: Panel) -> None:
    """Logs the age of a model and its verdict."""
    data, directory = seeds[0].data, seeds[0].directory
    final = runs.read_final(directory if len(seeds) == 1 else directory.parents[1])
    trained, chosen = (
        max(target_days(data.panel, data.blocks, split), default=None) for split in ("train", "val")
    )
    chosen = chosen if final is None else final.chosen_until
    log.info(f"model trained until {trained}, chosen until {chosen}")
    verdict = _verdict(directory_of(seeds)) if final is None else final.verdict
    if verdict is not None:
        log.info(f"on the test rows{'' if final is None else ' of the run that it was chosen by'}: {verdict}")
    as_of = panel.frame.index.max().date()
    if as_of < trained:
        log.warning(f"the model has learned from rows to {trained}, after {as_of}: this is no test of it")
    if as_of - trained > LONG_AGO:
        log.warning(
            f"the model's last train row is of {trained}, {(as_of - trained).days} days before {as_of}: it"
            " has learned nothing since. Train on newer rows, or on all of them: tftjax train CONFIG"
            f" {both('--final')}"
        )


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
    """The verdict of an evaluation, or why it cannot be read, in a line; None if there is none."""
    path = ForecastDirectory(directory).evaluation.metrics
    if not path.is_file():
        return None
    try:
        return read_verdict(path, f"tftjax evaluate {directory}")
    except UserError as error:
        return f"unknown, as {error}"


def load_rows(
    run: runs.Run,
    data: str | pd.DataFrame | None,
    as_of: datetime.date | None,
    future: Path | str | pd.DataFrame | None = None,
) -> Panel:
    """Reads the rows to forecast from: the run's data set as it is today or another source, up to a date.

    Args:
      data: see `load_like`; None takes the run's data set, see `newest_rows`.
      future: file or frame of the next steps' dates and known columns, see `read_future`; None takes those
        that the data brings: rows without a target at its end, or after `as_of`.

    Raises:
      UserError: a source is unusable, or has no row up to the date.
    """
    trained, config = run.data.whole, run.config.data
    if data is None:
        panel, words = newest_rows(trained, config)
        log.info(f"data: {words}, to {panel.frame.index.max().date()}")
    else:
        if isinstance(data, str):
            find_dataset(data, both("--data"))
        panel = load_like(trained, config.model_copy(update={"end": None}), data)
    if as_of is not None:
        before = panel.frame.index <= pd.Timestamp(as_of)
        if not before.any():
            raise UserError(
                f"{both('--as-of')}{as_of}: the first row of the data is of {panel.frame.index.min().date()}."
            )
        if panel.frame.index.max() < pd.Timestamp(as_of):
            log.info(f"{both('--as-of')}{as_of}: the data's last row is of {panel.frame.index.max().date()}")
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


def _levels(text: str) -> list[float]:
    """The type of --quantiles."""
    try:
        return [float(level) for level in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected levels as 0.01,0.5,0.99") from None


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "predict",
        """
        Forecasts the steps after the last row of the data: their expected dates and their quantiles,
        printed or written as CSV. Of a sweep, --config NAME takes the mean of that config's seeds; of a
        walk-forward, those of its newest fold.
        """,
        "runs/balanced_01",
        "runs/balanced_01 --data newest.csv --out tomorrow.csv",
    )
    parser.add_argument("run", type=Path, help="directory of a run, such as runs/balanced_01, or of a sweep")
    parser.add_argument("--config", metavar="NAME", help="of a sweep: the config whose seeds are averaged")
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="folder of raw series, or a CSV or Parquet file; default: the run's data set, read anew",
    )
    parser.add_argument(
        "--as-of",
        type=iso_date,
        metavar="DATE",
        help="use rows up to this date only (YYYY-MM-DD)",
    )
    parser.add_argument(
        "--quantiles",
        type=_levels,
        metavar="LEVELS",
        help="other levels than the run's, as 0.01,0.5,0.99: between and beyond its own",
    )
    parser.add_argument(
        "--levels",
        action="store_true",
        help="prices or levels in place of their changes: undoes data.target_transform; for a single step",
    )
    parser.add_argument(
        "--future",
        type=Path,
        metavar="FILE",
        help="CSV or Parquet file of the next steps: dates, and the known columns that no date gives",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a CSV here instead of printing")
    parser.add_argument(
        "--append",
        type=Path,
        metavar="LOG",
        help="also add the forecasts to this CSV, to be scored later (tftjax score); made if missing",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints or writes the quantiles of the next steps."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.append and arguments.quantiles:
        parser.error("--append: a log holds what the run forecasts, not other --quantiles")
    if arguments.append and arguments.levels:
        parser.error("--append: a log holds what the run forecasts, not --levels of it")

    def command() -> None:
        runtime.configure()
        seeds = open_runs(arguments.run, arguments.config)
        panel = load_rows(seeds[0], arguments.data, arguments.as_of, arguments.future)
        rows = forecastable(seeds[0], panel)
        if arguments.out is not None and arguments.out.exists():
            raise UserError(f"{arguments.out} exists. Choose another file, or remove it.")
        table = forecast_seeds(seeds, rows, quantiles=arguments.quantiles)
        settings = seeds[0].config.data
        if arguments.levels:
            table = to_levels(table, rows)
        table = in_return_unit(table, settings)
        if arguments.append is not None:
            add_to_log(arguments.append, seeds, rows, table)
        if arguments.out is None:
            day = panel.frame.index.max().date()
            print(f"Forecast from data to {day}, {shown_as(settings, arguments.levels)}:")
            print(table.to_string(float_format=("{:.6g}" if arguments.levels else "{:+.5f}").format))
        else:
            files.replace_text(arguments.out, table.to_csv())

    return exit_code(command)
