"""Rows of the days ahead: their dates, and the values of known columns that no date gives.

They come from rows without a target at the end of a table, from a file or frame of their own, or from the
rows after a day that is looked back at; a panel carries them in its `about`.
"""

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int

from tftjax.data.alignment import days
from tftjax.data.calendar import next_dates
from tftjax.data.feature_sets import OF_THE_DATE, FeatureSet
from tftjax.data.panel import Panel, blocks, calendar_of, name_of, select_rows
from tftjax.data.raw.cells import Place, check_years, fail
from tftjax.data.tables.frames import to_pandas
from tftjax.data.tables.table import Table, file_table, frame_table, places_from
from tftjax.errors import UserError, both, listed

FUTURE = "future"  # key of a panel's `about`


def split_future(
    frame: pd.DataFrame,
    lines: Int[np.ndarray, "N"],
    feature_set: FeatureSet,
    where: str,
    end: datetime.date | None,
    missing_known: str = "refuse",
) -> tuple[pd.DataFrame, Int[np.ndarray, "M"], pd.DataFrame]:
    """Takes rows at the end of each series, without a target or an observed value, for those of the future.

    Args:
      lines: number of each row in its file.
      where: file and what its rows are called, for messages.
      end: `data.end`; a series with later rows has no future.
      missing_known: `data.missing_known`.

    Returns:
      The rows with their numbers, and those of the future: the known columns that the data has to bring.

    Raises:
      UserError: a row of the future without a value of such a column.
    """
    seen = [
        name for role in ("target", "observed", "observed_categorical") for name in feature_set.names(role)
    ]
    empty = frame[seen].isna().all(axis=1).to_numpy()
    ahead, kept = np.zeros(len(frame), bool), np.zeros(len(frame), bool)
    for _, rows in blocks(frame, feature_set.id_column):
        trailing = np.logical_and.accumulate(empty[rows.start : rows.stop][::-1])[::-1]
        if not trailing.all():
            part = slice(rows.start, rows.stop)
            ahead[part] = trailing
            kept[part] = trailing & (end is None or frame.index[part][~trailing][-1] <= pd.Timestamp(end))
    names = feature_set.given_columns()
    future, numbers = frame.loc[kept], lines[kept]
    for name in names if missing_known == "refuse" else ():
        missing = future[name].isna().to_numpy()
        if missing.any():
            row = int(np.argmax(missing))
            raise UserError(
                f"{where} {numbers[row]} ({future.index[row].date()}), column {name!r}: found no value in a"
                " row of the future, which has no target either. Fill it, or take the row out."
            )
    id_column = () if feature_set.id_column is None else (feature_set.id_column,)
    return frame.loc[~ahead], lines[~ahead], future[[*id_column, *names]]


def given_columns(panel: Panel) -> tuple[str, ...]:
    """The known columns of a panel that neither the date nor the calendar gives."""
    made = panel.about.get("made", OF_THE_DATE)
    return tuple(name for name in panel.known_real + panel.known_categorical if name not in made)


def future_to_json(future: pd.DataFrame) -> dict:
    """Rows of the future as lists for a panel's `about`."""
    return {
        "dates": future.index.strftime("%Y-%m-%d").tolist(),
        "columns": {name: future[name].tolist() for name in future},
    }


def with_future(panel: Panel, future: pd.DataFrame | None) -> Panel:
    """The panel with other rows of the future, or with none."""
    about = {key: value for key, value in panel.about.items() if key != FUTURE}
    return dataclasses.replace(
        panel, about=about if future is None else about | {FUTURE: future_to_json(future)}
    )


def future_of(panel: Panel) -> pd.DataFrame | None:
    """The rows of the future that a panel carries, by date; None if there are none."""
    content = panel.about.get(FUTURE)
    if content is None:
        return None
    try:
        dates = pd.DatetimeIndex(np.array(content["dates"], "datetime64[D]"), name="date")
        return pd.DataFrame(content["columns"], index=dates)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"panel: its rows of the future cannot be read ({error}). Bring a copy back, or make it again."
        ) from error


def read_future(source: Any, panel: Panel, date: str = "date") -> pd.DataFrame:
    """Reads rows of the future: a date, the series' id if there are several, and the given known columns.

    Where known numbers may lack values, those columns may lack altogether.

    Args:
      source: a CSV or Parquet file, or a frame of any library, checked as a table to train on is.
      date: name of the column of dates.

    Raises:
      UserError: a missing column, or a cell that is empty or wrong.
    """
    if isinstance(source, str | Path):
        table = file_table(Path(source), date, panel.id_column)
    else:
        table = frame_table(to_pandas(source), date, panel.id_column, "future")
    given = given_columns(panel)
    texts = [name for name in (panel.id_column, *given) if name not in (None, *panel.known_real)]
    reals = [name for name in given if name in panel.known_real]
    optional, parts = reals if panel.masks_known else [], []
    for first, cells in table.parts():
        missing = [name for name in (date, *texts, *reals) if name not in cells and name not in optional]
        if missing:
            raise UserError(
                f"{table.where}, {table.header}: found no column {', '.join(map(repr, missing))} among"
                f" {listed(cells)}; rows of the future have {', '.join((date, *texts, *reals))}. Rename or"
                " add what is missing."
            )
        place = places_from(table, first)
        dates = table.dates(table.where, date, cells[date], place)
        check_years(table.where, date, dates, place)
        values = {name: table.categories(table.where, name, cells[name], place) for name in texts}
        values |= {
            name: _numbers(table, name, cells[name], place, optional=name in optional)
            for name in reals
            if name in cells
        }
        parts.append(pd.DataFrame(values, index=pd.DatetimeIndex(dates, name="date")))
    return pd.concat(parts)


def _numbers(
    table: Table, column: str, cells: Any, place: Place, *, optional: bool
) -> Float64[np.ndarray, "N"]:
    """The numbers of a known column, none of which may be missing unless they are `optional`."""
    values = table.numbers(table.where, column, cells, place)
    empty = np.isnan(values)
    if empty.any() and not optional:
        advice = "Fill it: it is known beforehand; or train with data.missing_known 'mask'."
        raise fail(table.where, place(int(np.argmax(empty))), column, "an empty cell", "a value", advice)
    return values


def ended(panel: Panel, before: Bool[np.ndarray, "N"]) -> Panel:
    """The marked rows, the first of each series, with the rows of the future that fit their new ends.

    Where the data has to bring known columns, the rows that follow come before those that the panel carries;
    else a series that ends earlier has no rows of the future, as its next dates follow from its calendar.
    """
    if before.all():
        return panel
    given, future, name = given_columns(panel), future_of(panel), panel.id_column
    later = panel.frame.loc[~before]
    if given:
        future = pd.concat([later[[*([] if name is None else [name]), *given]], future])
    elif future is not None:
        future = None if name is None else future[~future[name].isin(later[name])]
    return select_rows(with_future(panel, future), before)


def steps_ahead(panel: Panel, steps: int) -> pd.DataFrame:
    """The dates of the next steps of a panel of one series, with the values of its given known columns.

    The dates are those of the rows of the future that the panel carries; those beyond them, where no values
    are needed, follow from its calendar. Known numbers that may lack values are NaN there.

    Raises:
      UserError: values are needed and there are none, too few rows, or dates that are not ascending after the
        last row's.
    """
    future, last, given = future_of(panel), panel.frame.index[-1], given_columns(panel)
    needed = [name for name in given if not (panel.masks_known and name in panel.known_real)]
    if future is None and needed:
        raise UserError(
            f"panel: the future values of the known columns {', '.join(needed)} are needed to forecast past"
            f" the last row, {last.date()}. Give {steps} rows of them: in a file ({both('--future')}), or in"
            " rows without a target at the end of the data; or train without these columns, or, where they"
            " are numbers, with data.missing_known 'mask'."
        )
    future, which = panel.frame.iloc[:0] if future is None else future, ""
    if panel.id_column is not None:
        future = future[future[panel.id_column] == name_of(panel)]
        which = f" of the series {name_of(panel)!r}"
    advice = f"Give rows for the {steps} steps after {last.date()}, ascending by date."
    early = future.index[future.index <= last]
    if len(early):
        raise UserError(
            f"rows of the future{which}: found {early[0].date()}, expected dates after the last row,"
            f" {last.date()}. {advice}"
        )
    if not (future.index.is_monotonic_increasing and future.index.is_unique):
        raise UserError(f"rows of the future{which}: found dates out of order or twice. {advice}")
    missing = steps - len(future)
    if missing > 0 and needed:
        raise UserError(f"rows of the future{which}: found {len(future)}, expected {steps}. {advice}")
    if missing > 0:
        latest = days((future if len(future) else panel.frame).index[-1:])[0]
        dates = next_dates(calendar_of(panel), latest, missing)
        future = future.reindex(pd.DatetimeIndex([*future.index, *dates], name="date"))
    return future.reindex(columns=list(given)).iloc[:steps]
