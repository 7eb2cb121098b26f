"""CSV files as text by column, read part by part; strict about their shape.

Not by pandas' reader: it fills a short line with empty cells, and takes the first cell of a first row that is
too long for an index, so that no message could name the line.
"""

import csv
import datetime
import itertools
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped

from tftjax.errors import UserError, cut, listed

MISSING = {"", ".", "NaN", "nan", "NA"}  # FRED wrote "." for a missing value until 2024

FIRST_DATE, LAST_DATE = np.datetime64("1678-01-01"), np.datetime64("2261-12-31")  # what nanoseconds hold
LARGEST = 1e15  # size of a number whose square, in single precision and units of the scaler, is finite
NEVER = np.datetime64("9999-12-31")
ROWS_A_PART = 100_000
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}  # that other programs divide cells by
UNCLOSED = (
    'A cell goes on over the end of its line: a quote (") before it is opened and not closed. Close it.'
)
NO_COMMENTS = "CSV has no comments: take out the lines that begin with #."

Place = Callable[[int], str]  # row of a column -> where it stands, such as "line 14"
INTRADAY = (
    "Intraday rows are not supported: resample to one row a day, such as the day's last, and write its date."
)

LINES: Place = lambda row: f"line {row + 2}"  # noqa: E731  # below a header


def read_cells(path: Path) -> dict[str, list[str]]:
    """The text of a CSV file by column; row i of a column stands on line i + 2 of the file.

    Raises:
      UserError: an empty file, one that is not UTF-8, repeated column names or a ragged line.
    """
    parts = [cells for _, cells in read_parts(path)]
    return {name: [cell for part in parts for cell in part[name]] for name in parts[0]}


def read_parts(path: Path) -> Iterator[tuple[int, dict[str, list[str]]]]:
    """A CSV file part by part, so that a large one never lies in memory as text.

    Yields:
      The line on which the part's first row stands, and the part's text by column.

    Raises:
      UserError: see `read_cells`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a byte-order mark
            yield from _parts(path, _without_last_blanks(csv.reader(file)))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}). Expected a CSV file that you may read."
        ) from error
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except csv.Error as error:
        raise UserError(f"{path}: found no readable CSV ({error}), expected comma-separated text.") from error


def _parts(path: Path, rows: Iterator[list[str]]) -> Iterator[tuple[int, dict[str, list[str]]]]:
    header = [name.strip() for name in next(rows, [])]
    if not header:
        raise UserError(f"{path}: the file is empty, expected a header line and rows. Get it anew.")
    _check_header(path, header)
    first_line = 2
    while part := list(itertools.islice(rows, ROWS_A_PART)):
        for line, row in enumerate(part, start=first_line):
            if len(row) != len(header):
                raise _ragged(path, line, row, header)
        columns = ([cell.strip() for cell in column] for column in zip(*part, strict=True))
        yield first_line, dict(zip(header, columns, strict=True))
        first_line += len(part)
    if first_line == 2:
        advice = UNCLOSED if _spans_lines(header) else "Get the file anew."
        raise UserError(f"{path}: found a header and no rows, expected rows. {advice}")


def _check_header(path: Path, header: list[str]) -> None:
    """Refuses a header that is no line of names divided by commas, each once."""
    line = ",".join(header)
    if line.startswith("sep="):
        raise UserError(
            f"{path}, line 1: found {line!r}, a line for Excel, expected the columns' names. Take the line"
            " out, and divide cells by commas."
        )
    separator = max(SEPARATORS, key=line.count)
    if line.count(separator) >= len(header):  # more of them than commas
        raise UserError(
            f"{path}, line 1: found columns divided by {SEPARATORS[separator]}, expected commas, and decimals"
            " with a point. Save the file as comma-separated text, or read it with"
            f" pandas.read_csv({path.name!r}, sep={separator!r}), with decimal=',' if need be, and write it"
            " with to_csv."
        )
    if len(set(header)) < len(header):
        raise UserError(
            f"{path}, line 1: found a column name twice in {listed(map(repr, header))}, expected each once."
        )


def _ragged(path: Path, line: int, row: list[str], header: list[str]) -> UserError:
    """The error of a line of more or fewer cells than the header."""
    for number, cells in ((1, header), (line, row)):
        if cells and cells[0].strip().startswith("#"):
            return UserError(
                f"{path}, line {number}: found the comment {cut(','.join(cells))!r}, expected"
                f" {'names of columns' if number == 1 else 'a row'}. {NO_COMMENTS}"
            )
    advice = "Correct the line; decimals are written with a point."
    return UserError(
        f"{path}, line {line}: found {len(row)} cells, expected {len(header)} ({listed(header)})."
        f" {UNCLOSED if _spans_lines((*header, *row)) else advice}"
    )


def _spans_lines(cells: Iterable[str]) -> bool:
    return any("\n" in cell for cell in cells)


def _without_last_blanks(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    """The rows without empty lines at the end of the file; those between rows stay, without a cell."""
    blank = 0
    for row in rows:
        if len(row) <= 1 and not "".join(row).strip():
            blank += 1
            continue
        yield from ([] for _ in range(blank))
        blank = 0
        yield row


def _not_utf8(path: Path) -> UserError:
    raw = path.read_bytes()
    try:
        raw.decode("utf-8-sig")
        start = 0
    except UnicodeDecodeError as error:
        start = error.start
    line = raw[:start].count(b"\n") + 1
    return UserError(
        f"{path}, line {line}: found byte {raw[start]:#04x}, which is not UTF-8 text, expected a CSV file in"
        " UTF-8. Save it again in that encoding."
    )


def fail(where: Path | str, place: str, column: str, cell: str, expected: str, advice: str) -> UserError:
    """The error of a wrong cell."""
    found = f"{where}, {place}, column {cut(column)!r}: found {cut(cell)}, expected {expected}."
    comment = cell.startswith("'#")
    return UserError(f"{found} {NO_COMMENTS if comment else advice}")


def iso_dates(
    where: Path | str, column: str, cells: list[str], place: Place = LINES
) -> Shaped[np.ndarray, "N"]:
    """ISO dates of any year as datetime64[D]; UserError names the first row that has none."""
    # numpy also takes "2018-01" and "2018", and warns of time zones; the length tells them from a full date.
    full = all(len(cell) == 10 for cell in cells)
    try:
        dates = np.array(cells if full else [], dtype="datetime64[D]")
    except ValueError:
        full = False
    if not full or np.isnat(dates).any():
        row = next(i for i, cell in enumerate(cells) if not _is_iso_date(cell))
        advice = INTRADAY if TIME_OF_DAY.match(cells[row]) else "Write every date in that form."
        raise fail(where, place(row), column, repr(cells[row]), "a date as YYYY-MM-DD", advice)
    return dates


# A date and a time other than midnight.
TIME_OF_DAY = re.compile(r"\d{4}-\d\d-\d\d[ T](?=[\d:.]*[1-9])\d\d:\d\d")


def _is_iso_date(cell: str) -> bool:
    try:
        return len(cell) == 10 and not np.isnat(np.datetime64(cell, "D"))
    except ValueError:
        return False


def to_dates(where: Path | str, column: str, cells: list[str]) -> Shaped[np.ndarray, "N"]:
    """ISO dates that nanoseconds can hold as datetime64[D]; UserError names the first row without one."""
    dates = iso_dates(where, column, cells)
    check_years(where, column, dates)
    return dates


def check_years(where: Path | str, column: str, dates: Shaped[np.ndarray, "N"], place: Place = LINES) -> None:
    """Refuses dates that nanoseconds cannot hold."""
    outside = (dates < FIRST_DATE) | (dates > LAST_DATE)
    if outside.any():
        row = int(np.argmax(outside))
        expected = f"a date from {FIRST_DATE} to {LAST_DATE}"
        advice = "Remove rows that only mark the end."
        raise fail(where, place(row), column, str(dates[row]), expected, advice)


def check_ascending(
    where: Path | str,
    column: str,
    dates: Shaped[np.ndarray, "N"],
    place: Place = LINES,
    series: str = "",
) -> None:
    """Refuses dates that are not strictly ascending.

    Args:
      series: the series' name as the end of a sentence, for the message.

    Raises:
      UserError: names the first row out of order.
    """
    steps = np.diff(dates).astype(np.int64)
    if np.any(steps <= 0):
        row = int(np.argmax(steps <= 0)) + 1
        kind = "a second time" if steps[row - 1] == 0 else f"after {dates[row - 1]}"
        date = f"{dates[row]} {kind}{series}"
        advice = "Sort the rows by date and remove duplicates."
        raise fail(where, place(row), column, date, "ascending dates, each once", advice)


def parse_numbers(
    where: Path | str, column: str, cells: list[str], place: Place = LINES
) -> Float64[np.ndarray, "N"]:
    """Numbers, NaN where the cell is empty; UserError names the first row with text or what is too large."""
    numbers = []
    for cell in cells:
        try:
            # Python's mark of thousands, which no data file means, is no part of a number.
            numbers.append(math.nan if cell in MISSING else float(cell.replace("_", "?")))
        except ValueError:
            text = f"the text {cell!r}"
            advice = (
                "Correct the cell; decimals are written with a point, thousands without a mark. A column of"
                " categories is named in observed_categorical."
            )
            raise fail(
                where, place(len(numbers)), column, text, "a number or an empty cell", advice
            ) from None
    values = np.array(numbers)
    check_size(where, column, values, lambda row: repr(cells[row]), place)
    return values


def check_size(
    where: Path | str,
    column: str,
    values: Float64[np.ndarray, "N"],
    shown: Callable[[int], str],
    place: Place = LINES,
) -> None:
    """Refuses numbers that are infinite or too large; `shown` gives a row's cell as it was found."""
    too_large = np.abs(values) > LARGEST
    if too_large.any():
        row = int(np.argmax(too_large))
        expected = f"a finite number, of at most {LARGEST:g} in size"
        advice = "An infinity often comes from a division by zero: correct the value or leave the cell empty."
        raise fail(where, place(row), column, shown(row), expected, advice)


def parse_categories(
    where: Path | str, column: str, cells: list[str], place: Place = LINES, *, optional: bool = False
) -> list[str | None]:
    """The cells as categories; UserError names the first row with an empty one, if none is `optional`."""
    if not (optional or all(cells)):
        row = cells.index("")
        raise no_category(where, place(row), column, repr(cells[row]))
    return categories(cells)


def categories(words: list[str]) -> list[str | None]:
    """Each word's category, None of an empty one.

    A whole number is written without a point: whether 1 is 1.0 depends on what wrote the table, and on
    whether another cell is missing or has a fraction.

    >>> categories(["low", "3.0", "3.5", "3", ""])
    ['low', '3', '3.5', '3', None]
    """
    whole = re.compile(r"(-?(0|[1-9]\d*))\.0+")
    # A category stands in many rows.
    found = {word: sys.intern(whole.sub(r"\1", word) if whole.fullmatch(word) else word) for word in {*words}}
    return [found[word] or None for word in words]


def no_category(where: Path | str, place: str, column: str, cell: str) -> UserError:
    """The error of an empty cell of a categorical column."""
    return fail(where, place, column, cell, "a category", "Write one, such as 'unknown'.")


def check_not_ahead(
    where: Path | str,
    column: str,
    dates: Shaped[np.ndarray, "N"],
    today: datetime.date | None = None,
    place: Place = LINES,
) -> None:
    """Refuses a date after today: a forecast, or a slip.

    Args:
      dates: datetime64[D].
      today: None takes the clock's.

    Raises:
      UserError: names the first row with such a date.
    """
    day = np.datetime64(today or datetime.date.today(), "D")
    ahead = dates > day
    if ahead.any():
        row = int(np.argmax(ahead))
        raise UserError(
            f"{where}, {place(row)}, column {column!r}: found {dates[row]}, expected a date up to"
            f" today, {day}. Correct the date, or take out lines of the future; if today is another day, set"
            " the clock."
        )
