"""A table of one's own: a CSV with named columns, checked cell by cell."""

import difflib
import itertools
import sys
from functools import partial
from pathlib import Path

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
    fail,
    parse_numbers,
    read_parts,
    to_dates,
)
from tftjax.errors import UserError


def read_panel_csv(
    path: Path, feature_set: FeatureSet, return_unit: str, date: str = "date"
) -> tuple[pd.DataFrame, Int[np.ndarray, "N"], tuple[str, ...]]:
    """The columns of a ready-made panel (calendar columns excepted), returns as decimals.

    Args:
      path: CSV file whose columns are named as the feature set's.
      return_unit: "decimal", or "percent", which divides the columns whose unit is a return by 100.
      date: name of the column of dates.

    Returns:
      The rows, those of several series one series after the other; the line of each; messages.

    Raises:
      UserError: a missing column or a wrong cell.
    """
    columns = feature_set.read_columns()
    parts = []
    for first_line, cells in read_parts(path):
        if first_line == 2:
            ignored = _check_header(path, columns, date, list(cells))
        values = {
            column.name: _read_column(path, column, cells[column.name], first_line) for column in columns
        }
        dates = _read_dates(path, date, cells[date], first_line, cells[feature_set.names("target")[0]])
        parts.append(pd.DataFrame(values, index=pd.DatetimeIndex(dates, name="date").as_unit("ns")))
    frame = pd.concat(parts)
    lines = np.arange(2, len(frame) + 2)
    if feature_set.id_column is not None:
        order = np.argsort(pd.factorize(frame[feature_set.id_column], sort=True)[0], kind="stable")
        frame, lines = frame.iloc[order], lines[order]
    for name, rows in blocks(frame, feature_set.id_column):
        series = f" in the series {name!r}" if feature_set.id_column else ""
        part = slice(rows.start, rows.stop)
        check_ascending(path, date, days(frame.index[part]), lines[part], series)
    messages: tuple[str, ...] = ()
    if return_unit == "percent":
        returns = [column.name for column in columns if column.unit == "return"]
        frame[returns] = frame[returns] / 100.0
        messages += (f"divided by 100, from percent to decimals: {', '.join(returns)}",)
    if ignored:
        messages += (f"ignored columns of {path.name}: {', '.join(ignored)}",)
    return frame, lines, messages


def _check_header(path: Path, columns: tuple[Column, ...], date: str, header: list[str]) -> list[str]:
    """The columns of the header without a role; UserError names all that are missing."""
    expected = [date, *(column.name for column in columns)]
    unclaimed = [name for name in header if name not in expected]
    missing = [name for name in expected if name not in header]
    if missing:
        matches = [difflib.get_close_matches(name, unclaimed, n=3, cutoff=0.4) for name in missing]
        nearest = dict.fromkeys(itertools.chain.from_iterable(matches))
        hint = f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
        raise UserError(
            f"{path}, line 1: found no column {', '.join(map(repr, missing))} among {', '.join(header)},"
            f" expected {', '.join(expected)}.{hint} Rename or add what is missing."
        )
    return unclaimed


def _read_dates(
    path: Path, column: str, cells: list[str], first_line: int, targets: list[str] | None
) -> Shaped[np.ndarray, "N"]:
    """The dates of rows; one of a row without a target may lie ahead."""
    dates = to_dates(path, column, cells, first_line)
    with_target = dates if targets is None else np.where(np.isin(targets, list(MISSING)), FIRST_DATE, dates)
    check_not_ahead(path, column, with_target, first_line=first_line)
    return dates


def _read_column(
    path: Path, column: Column, cells: list[str], first_line: int
) -> Shaped[np.ndarray, "N"] | list[str]:
    if not column.role.endswith("categorical"):
        return parse_numbers(path, column.name, cells, first_line)
    for row, cell in enumerate(cells):
        if not cell:
            advice = "Write one, such as 'unknown'."
            raise fail(path, row + first_line, column.name, repr(cell), "a category", advice)
    return list(map(sys.intern, cells))  # a category stands in many rows


def check_table(path: Path, feature_set: FeatureSet, date: str) -> list[str]:
    """The mistakes in a CSV panel, the first of each column; empty if there is none."""
    mistakes: dict[str, str] = {}
    columns, days_read = feature_set.read_columns(), []
    try:
        for first_line, cells in read_parts(path):
            if first_line == 2:
                try:
                    _check_header(path, columns, date, list(cells))
                except UserError as error:
                    mistakes[""] = str(error)
            targets = cells.get(feature_set.names("target")[0])
            readers = {date: partial(_read_dates, path, date, targets=targets)}
            readers |= {column.name: partial(_read_column, path, column) for column in columns}
            for name, read in readers.items():
                if name in cells and name not in mistakes:
                    try:
                        values = read(cells[name], first_line)
                    except UserError as error:
                        mistakes[name] = str(error)
                    else:
                        days_read += [values] if name == date else []
        if days_read and date not in mistakes and feature_set.id_column is None:
            dates = np.concatenate(days_read)
            check_ascending(path, date, dates, np.arange(2, len(dates) + 2))
    except UserError as error:  # the file as such, or the order of its rows
        mistakes["file"] = str(error)
    return list(mistakes.values())
