"""CSV files as text by column, read part by part; strict about their shape."""

import csv
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from tftjax.errors import UserError

ROWS_A_PART = 100_000


def read_cells(path: Path) -> dict[str, list[str]]:
    """The text of a CSV file by column; row i of a column stands on line i + 2 of the file.

    Raises: UserError for an empty file, one that is not UTF-8, repeated column names or a ragged line.
    """
    parts = [cells for _, cells in read_parts(path)]
    return {name: [cell for part in parts for cell in part[name]] for name in parts[0]}


def read_parts(path: Path) -> Iterator[tuple[int, dict[str, list[str]]]]:
    """A CSV file part by part, so that a large one never lies in memory as text.

    Yields: the line on which the part's first row stands, and the part's text by column.
    Raises: see `read_cells`.
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
