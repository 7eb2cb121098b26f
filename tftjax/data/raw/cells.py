"""CSV files as text by column, read part by part; strict about their shape."""

import csv
import datetime
import difflib
import itertools
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int, Shaped

from tftjax.errors import UserError

MISSING = {"", ".", "NaN", "nan", "NA"}  # FRED wrote "." for a missing value until 2024

FIRST_DATE, LAST_DATE = np.datetime64("1678-01-01"), np.datetime64("2261-12-31")  # what nanoseconds hold
LARGEST = 1e15  # size of a number whose square, in single precision and units of the scaler, is finite
NEVER = np.datetime64("9999-12-31")
ROWS_A_PART = 100_000


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
    if len(set(header)) < len(header):
        raise UserError(f"{path}, line 1: found a column name twice in {header}, expected each once.")
    first_line = 2
    while part := list(itertools.islice(rows, ROWS_A_PART)):
        for line, row in enumerate(part, start=first_line):
            if len(row) != len(header):
                raise UserError(
                    f"{path}, line {line}: found {len(row)} cells, expected {len(header)}"
                    f" ({', '.join(header)}). Correct the line; decimals are written with a point."
                )
        columns = ([cell.strip() for cell in column] for column in zip(*part, strict=True))
        yield first_line, dict(zip(header, columns, strict=True))
        first_line += len(part)
    if first_line == 2:
        raise UserError(f"{path}: found a header and no rows, expected rows. Get the file anew.")


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


def near(name: str, folder: Path) -> str:
    """The names in the folder, those like `name` first, as part of a sentence."""
    if not folder.is_dir():
        return f" (there is no folder {folder} either)"
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    nearest = difflib.get_close_matches(name, names, n=5, cutoff=0.4) or names[:10]
    return f" (in {folder} there are: {', '.join(nearest)})" if nearest else f" ({folder} is empty)"


def fail(path: Path, line: int, column: str, cell: str, expected: str, advice: str) -> UserError:
    """The error of a wrong cell."""
    return UserError(f"{path}, line {line}, column {column!r}: found {cell}, expected {expected}. {advice}")


def iso_dates(path: Path, column: str, cells: list[str], first_line: int = 2) -> Shaped[np.ndarray, "N"]:
    """ISO dates of any year as datetime64[D]; UserError names the first line that has none."""
    # numpy also takes "2018-01" and "2018", and warns of time zones; the length tells them from a full date.
    full = all(len(cell) == 10 for cell in cells)
    try:
        dates = np.array(cells if full else [], dtype="datetime64[D]")
    except ValueError:
        full = False
    if not full or np.isnat(dates).any():
        row = next(i for i, cell in enumerate(cells) if not _is_iso_date(cell))
        advice = INTRADAY if _TIME_OF_DAY.match(cells[row]) else "Write every date in that form."
        raise fail(path, row + first_line, column, repr(cells[row]), "a date as YYYY-MM-DD", advice)
    return dates


INTRADAY = (
    "Intraday rows are not supported: resample to one row a day, such as the day's last, and write its date."
)
# A date and a time other than midnight.
_TIME_OF_DAY = re.compile(r"\d{4}-\d\d-\d\d[ T](?=[\d:.]*[1-9])\d\d:\d\d")


def _is_iso_date(cell: str) -> bool:
    try:
        return len(cell) == 10 and not np.isnat(np.datetime64(cell, "D"))
    except ValueError:
        return False


def to_dates(path: Path, column: str, cells: list[str], first_line: int = 2) -> Shaped[np.ndarray, "N"]:
    """ISO dates that nanoseconds can hold as datetime64[D]; UserError names the first line without one."""
    dates = iso_dates(path, column, cells, first_line)
    outside = (dates < FIRST_DATE) | (dates > LAST_DATE)
    if outside.any():
        row = int(np.argmax(outside))
        expected = f"a date from {FIRST_DATE} to {LAST_DATE}"
        advice = "Remove rows that only mark the end."
        raise fail(path, row + first_line, column, str(dates[row]), expected, advice)
    return dates


def check_ascending(
    path: Path, column: str, dates: Shaped[np.ndarray, "N"], lines: Int[np.ndarray, "N"], series: str = ""
) -> None:
    """Refuses dates that are not strictly ascending.

    Args:
      lines: line of the file of each date.
      series: the series' name as the end of a sentence, for the message.

    Raises:
      UserError: names the first line out of order.
    """
    steps = np.diff(dates).astype(np.int64)
    if np.any(steps <= 0):
        row = int(np.argmax(steps <= 0)) + 1
        kind = "a second time" if steps[row - 1] == 0 else f"after {dates[row - 1]}"
        date = f"{dates[row]} {kind}{series}"
        advice = "Sort the rows by date and remove duplicates."
        raise fail(path, int(lines[row]), column, date, "ascending dates, each once", advice)


def parse_numbers(path: Path, column: str, cells: list[str], first_line: int = 2) -> Float64[np.ndarray, "N"]:
    """Numbers, NaN where the cell is empty; UserError names the first line with text or what is too large."""
    numbers = []
    for cell in cells:
        try:
            # Python's mark of thousands, which no data file means, is no part of a number.
            numbers.append(math.nan if cell in MISSING else float(cell.replace("_", "?")))
        except ValueError:
            line, text = len(numbers) + first_line, f"the text {cell!r}"
            advice = "Correct the cell; decimals are written with a point, thousands without a mark."
            raise fail(path, line, column, text, "a number or an empty cell", advice) from None
    values = np.array(numbers)
    too_large = np.abs(values) > LARGEST
    if too_large.any():
        row = int(np.argmax(too_large))
        expected = f"a finite number, of at most {LARGEST:g} in size"
        advice = "An infinity often comes from a division by zero: correct the value or leave the cell empty."
        raise fail(path, row + first_line, column, repr(cells[row]), expected, advice)
    return values


def check_not_ahead(
    path: Path,
    column: str,
    dates: Shaped[np.ndarray, "N"],
    today: datetime.date | None = None,
    first_line: int = 2,
) -> None:
    """Refuses a date after today: a forecast, or a slip.

    Args:
      dates: dates of the file's lines from `first_line` on, datetime64[D].
      today: None takes the clock's.

    Raises:
      UserError: names the first line with such a date.
    """
    day = np.datetime64(today or datetime.date.today(), "D")
    ahead = dates > day
    if ahead.any():
        row = int(np.argmax(ahead))
        raise UserError(
            f"{path}, line {row + first_line}, column {column!r}: found {dates[row]}, expected a date up to"
            f" today, {day}. Correct the date, or take out lines of the future; if today is another day, set"
            " the clock."
        )
