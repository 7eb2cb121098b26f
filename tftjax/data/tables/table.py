"""A table of one's own, in a CSV file, a Parquet file or a frame: its columns, checked cell by cell.

What holds a table differs only in how cells are read; see `Table`.
"""

import difflib
import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int, Shaped

from tftjax.data.alignment import days
from tftjax.data.feature_sets import Column, FeatureSet
from tftjax.data.panel import blocks
from tftjax.data.raw.cells import (
    FIRST_DATE,
    MISSING,
    check_ascending,
    check_not_ahead,
    check_years,
    fail,
    iso_dates,
    parse_categories,
    parse_numbers,
    read_parts,
)
from tftjax.data.tables.frames import (
    PARQUET,
    columns_of,
    frame_categories,
    frame_dates,
    frame_numbers,
    read_parquet,
)
from tftjax.errors import UserError, cut, listed


class Table(NamedTuple):
    """A table of one's own, whatever holds it.

    Attributes:
      where: the file or frame, as errors call it.
      header: place of the columns' names, as errors call it.
      row_word: "line" of a file or "row" of a frame, which rows are numbered by.
      place: number of a row -> its place in words.
      parts: reads the table part by part: the number of the part's first row, and the cells by column.
      dates: reads a column of dates: (where, column, cells, place) -> datetime64[D].
      numbers: reads a column of numbers, NaN where a cell is empty.
      categories: reads a column of categories, as text; None where a cell is empty that may be.
    """

    where: str
    header: str
    row_word: str
    place: Callable[[int], str]
    parts: Callable[[], Iterable[tuple[int, Mapping[str, Any]]]]
    dates: Callable[..., Shaped[np.ndarray, "N"]]
    numbers: Callable[..., Shaped[np.ndarray, "N"]]
    categories: Callable[..., list[str | None]]


def csv_table(path: Path) -> Table:
    """The table of a CSV file, which is read part by part."""
    return Table(
        where=str(path),
        header="line 1",
        row_word="line",
        place=lambda line: f"line {line}",
        parts=partial(read_parts, path),
        dates=iso_dates,
        numbers=parse_numbers,
        categories=parse_categories,
    )


def frame_table(frame: pd.DataFrame, date: str, id_column: str | None, where: str = "frame") -> Table:
    """The table of a frame, which is left as it is; its rows count from 0.

    Raises:
      UserError: see `columns_of`.
    """
    header, columns = columns_of(frame, where, date, id_column)

    def place(row: int) -> str:
        return f"row {row} ({str(columns[date].iloc[row])[:10]})" if date in columns else f"row {row}"

    return Table(
        where=where,
        header=header,
        row_word="row",
        place=place,
        parts=lambda: [(0, columns)],
        dates=frame_dates,
        numbers=frame_numbers,
        categories=frame_categories,
    )


def file_table(path: Path, date: str, id_column: str | None) -> Table:
    """The table of a CSV or Parquet file, told apart by the name's ending."""
    if path.suffix.lower() in PARQUET:
        return frame_table(read_parquet(path), date, id_column, str(path))
    return csv_table(path)


def read_table(
    table: Table, feature_set: FeatureSet, return_unit: str, date: str = "date", wide: bool = False
) -> tuple[pd.DataFrame, Int[np.ndarray, "N"], tuple[str, ...]]:
    """The columns of a ready-made panel (calendar columns excepted), returns as decimals.

    Args:
      table: columns named as the feature set's; of a wide one, as the series.
      return_unit: "decimal", or "percent", which divides the columns whose unit is a return by 100.
      date: name of the column of dates.
      wide: whether each column but the dates holds the target of a series.

    Returns:
      The rows, those of several series one series after the other; the number of each; messages.

    Raises:
      UserError: a missing column or a wrong cell.
    """
    columns, parts, numbers = (), [], []
    for first, cells in table.parts():
        if not parts:
            columns, ignored = _columns(table, feature_set, date, list(cells), wide)
        place = places_from(table, first)
        values = {column.name: _read_column(table, column, cells[column.name], place) for column in columns}
        dates = _read_dates(
            table, date, cells[date], place, None if wide else cells[feature_set.names("target")[0]]
        )
        parts.append(pd.DataFrame(values, index=pd.DatetimeIndex(dates, name="date").as_unit("ns")))
        numbers.append(np.arange(first, first + len(dates)))
    frame, rows = pd.concat(parts), np.concatenate(numbers)
    if wide:
        frame, rows = _to_long(table, frame, rows, feature_set)
    elif feature_set.id_column is not None:
        order = np.argsort(pd.factorize(frame[feature_set.id_column], sort=True)[0], kind="stable")
        frame, rows = frame.iloc[order], rows[order]
    for name, part in blocks(frame, feature_set.id_column):
        series = f" in the series {name!r}" if feature_set.id_column else ""
        part = slice(part.start, part.stop)
        place = lambda row, numbers=rows[part]: table.place(int(numbers[row]))  # noqa: E731
        check_ascending(table.where, date, days(frame.index[part]), place, series)
    messages: tuple[str, ...] = ()
    if return_unit == "percent":
        returns = [column.name for column in feature_set.read_columns() if column.unit == "return"]
        frame[returns] = frame[returns] / 100.0
        messages += (f"divided by 100, from percent to decimals: {', '.join(returns)}",)
    if ignored:
        messages += (f"ignored columns of {Path(table.where).name}: {', '.join(ignored)}",)
    return frame, rows, messages


def check_table(table: Table, feature_set: FeatureSet, date: str, wide: bool = False) -> list[str]:
    """The mistakes in a table, the first of each column; empty if there is none."""
    mistakes: dict[str, str] = {}
    columns, days_read, numbers = feature_set.read_columns(), [], []
    try:
        for number, (first, cells) in enumerate(table.parts()):
            if number == 0:
                try:
                    columns, _ = _columns(table, feature_set, date, list(cells), wide)
                except UserError as error:
                    mistakes[""] = str(error)
            targets = None if wide else cells.get(feature_set.names("target")[0])
            readers = {date: partial(_read_dates, table, date, targets=targets)}
            readers |= {column.name: partial(_read_column, table, column) for column in columns}
            for name, read in readers.items():
                if name in cells and name not in mistakes:
                    try:
                        values = read(cells[name], places_from(table, first))
                    except UserError as error:
                        mistakes[name] = str(error)
                    else:
                        days_read += [values] if name == date else []
                        numbers += [np.arange(first, first + len(values))] if name == date else []
        if days_read and date not in mistakes and (wide or feature_set.id_column is None):
            rows = np.concatenate(numbers)
            check_ascending(
                table.where, date, np.concatenate(days_read), lambda row: table.place(int(rows[row]))
            )
    except UserError as error:  # the file as such, or the order of its rows
        mistakes["file"] = str(error)
    return list(mistakes.values())


def check_weights(
    table: Table, frame: pd.DataFrame, numbers: Int[np.ndarray, "N"], feature_set: FeatureSet
) -> None:
    """Refuses a weight that is missing, negative or infinite, and weights that are all 0.

    Args:
      numbers: number of each row in its table.
    """
    for name in feature_set.names("weight"):
        values = frame[name].to_numpy(np.float64)
        wrong = ~(np.isfinite(values) & (values >= 0))
        if wrong.any():
            row = int(np.argmax(wrong))
            cell = "no value" if np.isnan(values[row]) else f"{values[row]:g}"
            place = table.place(int(numbers[row]))
            raise fail(table.where, place, name, cell, "a weight of 0 or more", "Correct it.")
        if not values.any():
            raise fail(table.where, f"all {table.row_word}s", name, "0", "a weight above 0", "Correct them.")


def places_from(table: Table, first: int) -> Callable[[int], str]:
    """Places of the rows of a part, the first of which has the number `first`."""
    return lambda row: table.place(row + first)


def _columns(
    table: Table, feature_set: FeatureSet, date: str, header: list[str], wide: bool
) -> tuple[tuple[Column, ...], list[str]]:
    """The columns to read, and the names of those without a role; UserError names all that are missing."""
    if not wide:
        columns = feature_set.read_columns()
        expected = [date, *(column.name for column in columns)]
        if feature_set.row_series:
            _check_raw(table, expected, header)
        return columns, _unclaimed(table, expected, header)
    _unclaimed(table, [date], header)
    target, *others = feature_set.read_columns()
    others = [column.name for column in others if column.name != feature_set.id_column]
    if others:
        raise UserError(
            f"data.columns: found the columns {', '.join(others)} with data.wide, expected none: in a wide"
            " table every column but the dates is a series. Take them out, or give a long table."
        )
    names = [name for name in header if name != date]
    if "" in names:
        raise UserError(
            f"{table.where}: found a column without a name in a wide table, where each is a series. If it"
            " numbers the rows, as pandas' index does, take it out: to_csv(..., index=False)."
        )
    if not names:
        raise UserError(f"{table.where}: found no column but {date!r}, expected one for each series.")
    return tuple(Column(name, target.role, target.unit) for name in names), []


def _check_raw(table: Table, expected: list[str], header: list[str]) -> None:
    """Refuses a table of one's own that no config describes: it lacks columns of a feature set.

    Raises:
      UserError: says how its columns are named.
    """
    own = (
        "Of a table of your own name the target and the other columns:"
        f"{'' if table.where == 'frame' else f' `tftjax init {table.where}` writes a config that does;'}"
        " in Python target=, observed=, ..."
    )
    if not set(expected[1:]) & set(header):
        raise UserError(
            f"{table.where}, {table.header}: found {listed(header)}, and none of the columns expected without"
            f" data.columns, those of raw series: {', '.join(expected[1:])}. {own}"
        )
    try:
        _unclaimed(table, expected, header)
    except UserError as error:
        raise UserError(f"{error} Those are the columns of a feature set of raw series. {own}") from error


def _unclaimed(table: Table, expected: list[str], header: list[str]) -> list[str]:
    """The names of the header that are not expected; UserError names all that are missing."""
    unclaimed = [name for name in header if name not in expected]
    missing = [name for name in expected if name not in header]
    if missing:
        matches = [difflib.get_close_matches(name, unclaimed, n=3, cutoff=0.4) for name in missing]
        nearest = dict.fromkeys(itertools.chain.from_iterable(matches))
        hint = f" Did you mean {' or '.join(repr(cut(name)) for name in nearest)}?" if nearest else ""
        if expected[0] in missing:
            hint += " Dates in a column of another name: data.columns.date, in Python date=."
        raise UserError(
            f"{table.where}, {table.header}: found no column {', '.join(map(repr, missing))} among"
            f" {listed(header)}, expected {', '.join(expected)}.{hint} Rename or add what is missing."
        )
    return unclaimed


def _read_dates(
    table: Table, column: str, cells: Any, place: Callable[[int], str], targets: Any | None
) -> Shaped[np.ndarray, "N"]:
    """The dates of rows; one of a row without a target may lie ahead.

    Args:
      targets: cells of the target; None if every row has one.
    """
    dates = table.dates(table.where, column, cells, place)
    check_years(table.where, column, dates, place)
    if targets is None:
        with_target = dates
    else:
        empty = (
            targets.isna().to_numpy(bool) if isinstance(targets, pd.Series) else np.isin(targets, [*MISSING])
        )
        with_target = np.where(empty, FIRST_DATE, dates)
    check_not_ahead(table.where, column, with_target, place=place)
    return dates


def _read_column(
    table: Table, column: Column, cells: Any, place: Callable[[int], str]
) -> Shaped[np.ndarray, "N"] | list[str | None]:
    if column.role == "observed_categorical":
        return table.categories(table.where, column.name, cells, place, optional=True)
    read = table.categories if column.role.endswith("categorical") else table.numbers
    return read(table.where, column.name, cells, place)


def _to_long(
    table: Table, frame: pd.DataFrame, rows: Int[np.ndarray, "N"], feature_set: FeatureSet
) -> tuple[pd.DataFrame, Int[np.ndarray, "M"]]:
    """The rows of a wide table series after series, each from its first value to its last.

    Raises:
      UserError: a column without a value.
    """
    target, long, numbers = feature_set.names("target")[0], [], []
    for name in sorted(frame.columns):
        present = np.flatnonzero(frame[name].notna())
        if not len(present):
            raise UserError(
                f"{table.where}, column {name!r}: found no value in any row, expected numbers. Fill it, or"
                " take the column out."
            )
        part = slice(present[0], present[-1] + 1)
        values = {target: frame[name].to_numpy()[part], feature_set.id_column: name}
        long.append(pd.DataFrame(values, index=frame.index[part]))
        numbers.append(rows[part])
    return pd.concat(long), np.concatenate(numbers)
