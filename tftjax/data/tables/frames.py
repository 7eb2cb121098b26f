"""Frames: those of any library, and of Parquet files, as pandas'; and the reading of their cells."""

import datetime
import math
import numbers
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Shaped

from tftjax.data.raw.cells import INTRADAY, Place, categories, check_size, fail, iso_dates, no_category
from tftjax.errors import UserError, listed

PARQUET = (".parquet", ".pq")  # endings of Parquet files
SHORTEST_DAY = pd.Timedelta(hours=23)


def to_pandas(data: Any, where: str = "data") -> pd.DataFrame:
    """A table of pandas, or of what narwhals reads (polars, pyarrow and others), as a frame of pandas.

    Args:
      where: what errors call it.
    Raises:
      UserError: no table, or a library that the conversion needs is missing.
    """
    if isinstance(data, pd.DataFrame):
        return data
    import narwhals  # only where it is needed

    try:
        table = narwhals.from_native(data)
    except TypeError:
        raise UserError(
            f"{where}: found {type(data).__name__}, expected a table of pandas, polars or pyarrow, or the"
            " path of a file. Make a data frame of it, with its dates in the index or in a column."
        ) from None
    try:
        return (table.collect() if isinstance(table, narwhals.LazyFrame) else table).to_pandas()
    except ModuleNotFoundError as error:
        raise UserError(
            f"{where}: a table of {type(data).__module__.partition('.')[0]} is read with the library"
            f" {error.name}, which is missing. Install it: pip install 'tftjax[parquet]'."
        ) from error


def read_parquet(path: Path) -> pd.DataFrame:
    """The table of a Parquet file, with the index that pandas wrote.

    Raises:
      UserError: pyarrow is missing, or the file cannot be read.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(
            f"{path}: a Parquet file is read with the library pyarrow, which is missing. Install it: pip"
            " install 'tftjax[parquet]', or give the table as CSV."
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            return file.read().to_pandas()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Expected a Parquet file.") from error


def columns_of(
    frame: pd.DataFrame, where: str, date: str, id_column: str | None
) -> tuple[str, dict[str, pd.Series]]:
    """The columns of a frame by name, with the dates and the series' names that its index holds.

    Where no column is called `date`, the index holds the dates; one of two levels, the other of which is
    called `id_column`, holds the dates and the series' names.

    Args:
      where: the frame, as errors call it.

    Returns:
      What errors call the place of the names, and the columns.

    Raises:
      UserError: a name twice, an index of other levels, or no rows.
    """
    if frame.columns.nlevels > 1:
        raise UserError(
            f"{where}: found column names of {frame.columns.nlevels} levels, such as {frame.columns[0]},"
            " expected one name a column. Join the levels, or choose one of them."
        )
    header = [str(name).strip() for name in frame.columns]
    pairs = [(name, frame.iloc[:, place]) for place, name in enumerate(header)]
    index, place = frame.index, "columns"
    if isinstance(index, pd.MultiIndex):
        pairs = _levels(index, where, date, id_column) + pairs
    elif date not in header and not pd.api.types.is_numeric_dtype(index.dtype):
        pairs = [(date, pd.Series(index)), *pairs]
    elif date not in header:
        place = "columns (and no dates in the index)"
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise UserError(
            f"{where}, {place}: found a column name twice in {listed(map(repr, names))}, expected each once."
        )
    if not len(frame):
        raise UserError(f"{where}: found no rows, expected some. Give a frame with rows.")
    return place, {name: cells.reset_index(drop=True) for name, cells in pairs}


def _levels(
    index: pd.MultiIndex, where: str, date: str, id_column: str | None
) -> list[tuple[str, pd.Series]]:
    names = list(index.names)
    if index.nlevels != 2 or id_column is None or names.count(id_column) != 1:
        raise UserError(
            f"{where}: found an index of {index.nlevels} levels ({', '.join(map(str, names))}), expected one"
            " of dates, or two: dates, and the names of the series under the name that data.columns.id gives"
            f" ({id_column}). Call reset_index() on the frame, and name its columns in data.columns."
        )
    of_series = names.index(id_column)
    dates, series = (pd.Series(index.get_level_values(level)) for level in (1 - of_series, of_series))
    return [(date, dates), (id_column, series)]


def frame_dates(where: Path | str, column: str, cells: pd.Series, place: Place) -> Shaped[np.ndarray, "N"]:
    """Dates as datetime64[D], of stamps at midnight (in their own zone), periods, dates or ISO text.

    A period has the date of its last day.

    Raises:
      UserError: names the first row with a time of day, or without a date.
    """
    if isinstance(cells.dtype, pd.ArrowDtype):
        cells = cells.astype(object)
    if isinstance(cells.dtype, pd.PeriodDtype):
        first, last = cells.dt.start_time, cells.dt.end_time
        if (last - first < SHORTEST_DAY).any():
            raise _of_the_day(where, place(0), column, str(cells.iloc[0]))
        stamps = last.dt.normalize()
    elif cells.dtype.kind == "M":
        stamps = cells.dt.tz_localize(None)
        within_day = (stamps != stamps.dt.normalize()) & stamps.notna()
        if within_day.any():
            row = int(np.argmax(within_day))
            raise _of_the_day(where, place(row), column, str(cells.iloc[row]))
    elif all(isinstance(cell, str) for cell in cells):
        return iso_dates(where, column, [cell.strip() for cell in cells], place)
    else:
        days = [_day(where, column, cell, place, row) for row, cell in enumerate(cells)]
        return np.array(days, "datetime64[D]")
    if stamps.isna().any():
        raise _no_date(where, place(int(np.argmax(stamps.isna()))), column, "no date")
    return stamps.to_numpy("datetime64[ns]").astype("datetime64[D]")


def _day(where: Path | str, column: str, cell: Any, place: Place, row: int) -> datetime.date:
    """The date of one cell of a column of objects."""
    if isinstance(cell, str):
        return iso_dates(where, column, [cell.strip()], lambda _: place(row))[0].item()
    if isinstance(cell, np.datetime64):
        cell = pd.Timestamp(cell)
    if isinstance(cell, datetime.datetime) and cell is not pd.NaT:  # a Timestamp is one
        if pd.Timestamp(cell).tz_localize(None) != pd.Timestamp(cell.date()):
            raise _of_the_day(where, place(row), column, str(cell))
        return cell.date()
    if isinstance(cell, datetime.date) and cell is not pd.NaT:
        return cell
    raise _no_date(where, place(row), column, repr(cell))


def _no_date(where: Path | str, place: str, column: str, cell: str) -> UserError:
    advice = "Fill it, take the row out, or name the column of dates in data.columns.date."
    return fail(where, place, column, cell, "a date", advice)


def _of_the_day(where: Path | str, place: str, column: str, cell: str) -> UserError:
    advice = f"{INTRADAY} A stamp of midnight in another time zone is brought back by tz_convert."
    return fail(where, place, column, cell, "a date without a time of day", advice)


def frame_numbers(where: Path | str, column: str, cells: pd.Series, place: Place) -> Float64[np.ndarray, "N"]:
    """Numbers, NaN where a value is missing; UserError names the first row with anything else."""
    dtype = cells.dtype
    if pd.api.types.is_numeric_dtype(dtype) and dtype.kind != "c":
        values = cells.to_numpy(np.float64, na_value=np.nan)
    else:
        values = np.array([_number(where, column, cell, place, row) for row, cell in enumerate(cells)])
    check_size(where, column, values, lambda row: str(cells.iloc[row]), place)
    return values


def _number(where: Path | str, column: str, cell: Any, place: Place, row: int) -> float:
    """The number of one cell of a column of objects."""
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return math.nan
    # Decimals are no real numbers to Python, and its bool is one.
    if isinstance(cell, numbers.Real | np.bool_) or type(cell).__name__ == "Decimal":
        try:
            return float(cell)
        except OverflowError:
            return math.inf
    text = isinstance(cell, str)
    found = f"the text {cell!r}" if text else f"{cell!r} of the type {type(cell).__name__}"
    advice = "Convert the column, as with pandas.to_numeric" if text else "Correct the column"
    advice += ", or name it in observed_categorical, if it holds categories." if text else "."
    raise fail(where, place(row), column, found, "a number or a missing value", advice)


def frame_categories(
    where: Path | str, column: str, cells: pd.Series, place: Place, *, optional: bool = False
) -> list[str | None]:
    """Categories as a CSV file would hold them, as text; UserError names the first row without one.

    Args:
      optional: cells may be missing, and are None then.
    """
    missing = cells.isna().to_numpy(bool)
    words = ["" if gone else str(cell).strip() for gone, cell in zip(missing, cells.tolist(), strict=True)]
    words = categories(words)
    if None in words and not optional:
        row = words.index(None)
        raise no_category(where, place(row), column, repr(cells.iloc[row]))
    return words
