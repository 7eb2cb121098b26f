"""A log of forecasts as they were made, so that they can be scored when the outcomes have come.

A CSV with a row a forecast: made (UTC), run and config (name and fingerprint of what made it), as_of (date of
the last row that was seen), date (that is forecast), series if there are several, and a column a quantile,
in the unit of the run's data. Rows are only ever added, by one process at a time: beside the log lies a lock.
"""

import csv
import datetime
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tftjax import files
from tftjax.errors import UserError

MADE_BY = ("made", "run", "config")
DATES = ("as_of", "date")
PATIENCE = 60.0  # seconds to wait for others that append: each takes a moment


class Author(NamedTuple):
    """The maker of a log's forecasts.

    Attributes:
      run: name of the run.
      config: `runs.identity` of the run.
      quantiles: levels, as column names.
      several: whether there is a column of series.
    """

    run: str
    config: str
    quantiles: tuple[str, ...]
    several: bool

    def columns(self) -> list[str]:
        """The header of the log."""
        return [*MADE_BY, *DATES, *(["series"] if self.several else []), *self.quantiles]


def append(path: Path, author: Author, table: pd.DataFrame, as_of: Mapping[str, pd.Timestamp]) -> int:
    """Adds forecasts to a log, or begins it; those that it has already are left out.

    Args:
      table: a row a forecast: its date as the index, `series` if there are several, a column a quantile.
      as_of: last date seen, by name of the series; an empty name for a single one.
    Returns:
      The number of rows added.
    Raises:
      UserError: the log is another run's, damaged, or cannot be written; it stays as it was.
    """
    kept = path.resolve()  # a link to a log stays one, and has the log's lock
    busy = f"{path}: another process has been writing it for {PATIENCE:g} s. Try again."
    with files.lock(kept.with_name(f"{kept.name}.lock"), PATIENCE, busy):
        text, rows = _read(path, author) if path.exists() else (_lines([author.columns()]), [])
        added = _new_rows(rows, author, table, as_of)
        if added:
            files.replace_text(kept, text + _lines(added))
    return len(added)


def _new_rows(
    rows: Sequence[Sequence[str]], author: Author, table: pd.DataFrame, as_of: Mapping[str, pd.Timestamp]
) -> list[list[str]]:
    """The rows of forecasts that are not among the rows of a log."""
    keys = len(DATES) + author.several
    known = {tuple(row[len(MADE_BY) :][:keys]) for row in rows}
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    names = table["series"].astype(str) if author.several else [""] * len(table)
    added = []
    for name, (date, values) in zip(names, table[list(author.quantiles)].iterrows(), strict=True):
        key = (str(as_of[name].date()), str(date.date()), *([name] if author.several else []))
        if key not in known:
            added.append([made, author.run, author.config, *key, *(repr(float(value)) for value in values)])
    return added


def read(path: Path, author: Author) -> pd.DataFrame:
    """The forecasts of a log, a column a quantile; `made` is a date, and `series` empty for a single one.

    Raises:
      UserError: the log is missing, another run's or damaged.
    """
    _, rows = _read(path, author)
    table = pd.DataFrame(rows, columns=author.columns())
    try:
        table = table.assign(**{name: pd.to_datetime(table[name], format="%Y-%m-%d") for name in DATES})
        table["made"] = pd.to_datetime(table["made"].str[:10], format="%Y-%m-%d")
        table = table.assign(**{name: table[name].astype(float) for name in author.quantiles})
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}). Correct the line, or bring a copy back.") from error
    if not author.several:
        table["series"] = ""
    return table[["made", *DATES, "series", *author.quantiles]]


def _read(path: Path, author: Author) -> tuple[str, list[list[str]]]:
    """The whole text of a log, ending with a line break, and its rows below the header."""
    expected = "Give a log that `tftjax predict --append` made."
    if not path.exists():
        raise UserError(f"{path}: no such file{files.near(path)}. {expected}")
    try:
        text = path.read_text(encoding="utf-8")
        header, *rows = list(csv.reader(io.StringIO(text))) or [[]]
    except (OSError, UnicodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}). {expected}") from error
    advice = "Give each run a log of its own."
    if header != author.columns():
        raise UserError(
            f"{path}: found the columns {', '.join(header[:12]) or 'none'}, expected"
            f" {', '.join(author.columns())}: no log of forecasts of the run {author.run}. {advice}"
        )
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {line}: found {len(row)} cells, expected {len(header)}: damaged. Correct the"
                " line, or bring a copy back."
            )
        if tuple(row[1:3]) != (author.run, author.config):
            raise UserError(
                f"{path}, line {line}: a forecast of the run {row[1]} with the config {row[2]}, expected"
                f" {author.run} with {author.config}: another run's log. {advice}"
            )
    return text if text.endswith("\n") else f"{text}\n", rows


def _lines(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
