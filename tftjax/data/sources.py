"""Reading CSV files, strictly: series in FRED's download format, and ready-made panels."""

import datetime
import difflib
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int, Shaped

from tftjax.data.alignment import RELEASE_RULES, RULE_WORDS, Observations, days
from tftjax.data.csv_files import read_cells, read_parts
from tftjax.data.feature_sets import FEATURE_SETS, SERIES, Column, FeatureSet
from tftjax.data.panel import blocks
from tftjax.data.raw_checks import check_first_releases, check_not_ahead, check_unit, without_non_positive
from tftjax.errors import UserError

MISSING = {"", ".", "NaN", "nan", "NA"}  # FRED wrote "." for a missing value until 2024

# Series whose dates are the rows of a panel: a value that is missing there is missing as a row.
ROW_SERIES = {feature_set.row_series for feature_set in FEATURE_SETS.values()}

FIRST_DATE, LAST_DATE = np.datetime64("1678-01-01"), np.datetime64("2261-12-31")  # what nanoseconds hold
LARGEST = 1e15  # of any number: its square, in single precision and units of the scaler, is finite


def embedded_folder() -> Path:
    """The folder of the data set that comes with the software: in a wheel, or in the repository."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "embedded_data"
    return installed if installed.is_dir() else package.parent / "data"


def find_dataset(dataset: str, key: str = "data.dataset") -> Path:
    """The folder or file of that name; UserError, under `key`, lists near names if it is not there."""
    path = embedded_folder() if dataset == "embedded" else Path(dataset)
    try:
        if path.exists():
            return path
    except OSError as error:
        raise UserError(f"{key}: {dataset!r} cannot be looked up ({error.strerror or error}).") from error
    raise UserError(
        f"{key}: {dataset!r} is neither a folder nor a file{_near(path.name, path.parent)}."
        ' Expected "embedded", a folder of FRED CSV files, or a panel CSV file.'
    )


def _near(name: str, folder: Path) -> str:
    """The names in the folder, those like `name` first, as part of a sentence."""
    if not folder.is_dir():
        return f" (there is no folder {folder} either)"
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    nearest = difflib.get_close_matches(name, names, n=5, cutoff=0.4) or names[:10]
    return f" (in {folder} there are: {', '.join(nearest)})" if nearest else f" ({folder} is empty)"


def _fail(path: Path, line: int, column: str, found: str, expected: str, advice: str) -> UserError:
    return UserError(f"{path}, line {line}, column {column!r}: found {found}, expected {expected}. {advice}")


def parse_dates(path: Path, column: str, cells: list[str]) -> pd.DatetimeIndex:
    """ISO dates, strictly ascending, as an index named "date"; UserError names the first line that is not."""
    dates = _to_dates(path, column, cells, 2)
    _check_ascending(path, column, dates, np.arange(2, len(dates) + 2))
    return pd.DatetimeIndex(dates, name="date").as_unit("ns")


def _to_dates(path: Path, column: str, cells: list[str], first_line: int) -> Shaped[np.ndarray, "N"]:
    """ISO dates as datetime64[D]; UserError names the first line that has none."""
    try:
        dates = np.array(cells, dtype="datetime64[D]")
    except ValueError:
        dates = np.full(len(cells), "NaT", dtype="datetime64[D]")
    # numpy also takes "2018-01" and "2018"; the length tells them from a full date.
    if np.isnat(dates).any() or any(len(cell) != 10 for cell in cells):
        row = next(i for i, cell in enumerate(cells) if not _is_iso_date(cell))
        found, advice = repr(cells[row]), "Write every date in that form."
        raise _fail(path, row + first_line, column, found, "a date as YYYY-MM-DD", advice)
    outside = (dates < FIRST_DATE) | (dates > LAST_DATE)
    if outside.any():
        row = int(np.argmax(outside))
        found, expected = str(dates[row]), f"a date from {FIRST_DATE} to {LAST_DATE}"
        advice = "Remove rows that only mark the end."
        raise _fail(path, row + first_line, column, found, expected, advice)
    return dates


def _check_ascending(
    path: Path, column: str, dates: Shaped[np.ndarray, "N"], lines: Int[np.ndarray, "N"], series: str = ""
) -> None:
    steps = np.diff(dates).astype(np.int64)
    if np.any(steps <= 0):
        row = int(np.argmax(steps <= 0)) + 1
        kind = "a second time" if steps[row - 1] == 0 else f"after {dates[row - 1]}"
        found = f"{dates[row]} {kind}{series}"
        advice = "Sort the rows by date and remove duplicates."
        raise _fail(path, int(lines[row]), column, found, "ascending dates, each once", advice)


def _is_iso_date(cell: str) -> bool:
    try:
        return len(cell) == 10 and not np.isnat(np.datetime64(cell, "D"))
    except ValueError:
        return False


def parse_numbers(path: Path, column: str, cells: list[str], first_line: int = 2) -> Float64[np.ndarray, "N"]:
    """Numbers, NaN where the cell is empty; UserError names the first line with text or what is too large."""
    try:
        values = np.array([np.nan if cell in MISSING else _number(cell) for cell in cells])
    except ValueError:
        row = next(i for i, cell in enumerate(cells) if cell not in MISSING and not _is_number(cell))
        raise _fail(
            path,
            row + first_line,
            column,
            f"the text {cells[row]!r}",
            "a number or an empty cell",
            "Correct the cell; decimals are written with a point, thousands without a mark.",
        ) from None
    too_large = np.abs(values) > LARGEST
    if too_large.any():
        row = int(np.argmax(too_large))
        raise _fail(
            path,
            row + first_line,
            column,
            repr(cells[row]),
            f"a finite number, of at most {LARGEST:g} in size",
            "An infinity often comes from a division by zero: correct the value or leave the cell empty.",
        )
    return values


def _number(cell: str) -> float:
    if "_" in cell:  # Python's own mark of thousands, which no data file means
        raise ValueError(cell)
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def read_fred_csv(
    path: Path, name: str, today: datetime.date | None = None
) -> tuple[Observations, bool, tuple[str, ...]]:
    """One series in FRED's download format, `observation_date,NAME`, or with its release dates.

    With a `release_date` column in the middle, an observation date may stand on several lines, one a value
    published. Without one, the release dates are those of the series' documented rule. Empty values are left
    out.

    Args: path: the file; name: of the series; today: no date may lie after it, the clock's if None.
    Returns: the observations; whether their release dates are the file's own; messages.
    Raises: UserError for a wrong header or cell, a monthly date that is not the first of its month, lines out
        of order, a date after today, a release before its observation, a revision without a first release, a
        value <= 0 of a series that cannot have one, or another unit than the series'.
    """
    info = SERIES[name]
    cells = read_cells(path)
    dated = "release_date" in cells
    expected = ["observation_date", *(["release_date"] if dated else []), name]
    if list(cells) != expected:
        raise UserError(
            f"{path}, line 1: found the header {','.join(cells)!r}, expected 'observation_date,{name}' or"
            f" 'observation_date,release_date,{name}'. Download {name} from FRED as CSV, or rename columns."
        )
    if dated:
        dates, releases = _parse_releases(path, cells)
        check_not_ahead(path, "release_date", releases, today)
    else:
        dates = days(parse_dates(path, "observation_date", cells["observation_date"]))
        releases = RELEASE_RULES[info.release](dates)
    check_not_ahead(path, "observation_date", dates, today)
    values = parse_numbers(path, name, cells[name])
    if dated:
        check_first_releases(path, dates, releases, values)
    not_first = dates.astype("datetime64[M]").astype("datetime64[D]") != dates
    if info.frequency == "monthly" and np.any(not_first):
        row = int(np.argmax(not_first))
        found, advice = str(dates[row]), "Download the series at its monthly frequency."
        raise _fail(path, row + 2, "observation_date", found, "the first day of a month", advice)
    messages: tuple[str, ...] = ()
    empty = np.isnan(values)
    if name in ROW_SERIES and empty.any():
        messages += (
            f"{name}: {int(empty.sum())} dates without a value (first {dates[int(np.argmax(empty))]}) make no"
            " row, and the next return goes back to the last value; FRED lists some nine holidays a year so",
        )
    values, said = without_non_positive(path, name, dates, values, cells[name])
    there = ~np.isnan(values)
    check_unit(path, name, values[there])
    return Observations(dates[there], releases[there], values[there]), dated, messages + said


def _parse_releases(
    path: Path, cells: dict[str, list[str]]
) -> tuple[Shaped[np.ndarray, "N"], Shaped[np.ndarray, "N"]]:
    """Observation and release dates of a file that has both, sorted by both, each pair once."""
    columns = {}
    for column in ("observation_date", "release_date"):
        for row, cell in enumerate(cells[column]):
            if not _is_iso_date(cell):
                advice = "Write every date in that form."
                raise _fail(path, row + 2, column, repr(cell), "a date as YYYY-MM-DD", advice)
        columns[column] = np.array(cells[column], dtype="datetime64[D]")
    dates, releases = columns["observation_date"], columns["release_date"]
    if dates.min() < FIRST_DATE:
        row = int(np.argmin(dates))
        expected = f"a date from {FIRST_DATE} on"
        raise _fail(path, row + 2, "observation_date", str(dates[row]), expected, "Correct the year.")
    early = releases < dates
    if early.any():
        row = int(np.argmax(early))
        found, expected = str(releases[row]), f"a date from the observation's, {dates[row]}, on"
        raise _fail(path, row + 2, "release_date", found, expected, "Correct one of the two.")
    steps, release_steps = np.diff(dates).astype(np.int64), np.diff(releases).astype(np.int64)
    wrong = (steps < 0) | ((steps == 0) & (release_steps <= 0))
    if wrong.any():
        row = int(np.argmax(wrong)) + 1
        found = f"{dates[row]} released {releases[row]} after {dates[row - 1]} released {releases[row - 1]}"
        expected = "lines sorted by observation date, then release date, each pair once"
        advice = "Sort the lines, and keep one value of two that were released on one day."
        raise _fail(path, row + 2, "release_date", found, expected, advice)
    return dates, releases


def read_fred_folder(
    folder: Path, names: tuple[str, ...]
) -> tuple[dict[str, Observations], dict[str, str], tuple[str, ...]]:
    """The named series from `NAME.csv` files in a folder.

    Returns: the series by name; in words, what their release dates are; messages.
    Raises: UserError if a file is missing or wrong.
    """
    series, rules, messages = {}, {}, ()
    for name in names:
        path = folder / f"{name}.csv"
        if not path.is_file():
            raise UserError(
                f"{path}: there is no such file{_near(path.name, folder)}. Expected a FRED CSV file of the"
                f" series {name}: download it from https://fred.stlouisfed.org/series/{name}."
            )
        series[name], dated, said = read_fred_csv(path, name)
        rules[name] = "release dates of the source" if dated else RULE_WORDS[SERIES[name].release]
        messages += said
    return series, rules, messages


def read_panel_csv(
    path: Path, feature_set: FeatureSet, return_unit: str, date: str = "date"
) -> tuple[pd.DataFrame, Int[np.ndarray, "N"], tuple[str, ...]]:
    """The columns of a ready-made panel (calendar columns excepted), returns as decimals.

    Args: path: a CSV file whose columns are named as the feature set's; return_unit: "decimal", or "percent",
        which divides the columns whose unit is a return by 100; date: name of the column of dates.
    Returns: the rows, those of several series one series after the other; the line of each; messages.
    Raises: UserError for a missing column or a wrong cell.
    """
    columns = feature_set.read_columns()
    parts = []
    for first_line, cells in read_parts(path):
        if first_line == 2:
            ignored = _check_header(path, columns, date, list(cells))
        values = {
            column.name: _read_column(path, column, cells[column.name], first_line) for column in columns
        }
        dates = _read_dates(path, date, cells[date], first_line)
        parts.append(pd.DataFrame(values, index=pd.DatetimeIndex(dates, name="date").as_unit("ns")))
    frame = pd.concat(parts)
    lines = np.arange(2, len(frame) + 2)
    if feature_set.id_column is not None:
        order = np.argsort(pd.factorize(frame[feature_set.id_column], sort=True)[0], kind="stable")
        frame, lines = frame.iloc[order], lines[order]
    for name, rows in blocks(frame, feature_set.id_column):
        series = f" in the series {name!r}" if feature_set.id_column else ""
        part = slice(rows.start, rows.stop)
        _check_ascending(path, date, days(frame.index[part]), lines[part], series)
    messages: tuple[str, ...] = ()
    if return_unit == "percent":
        returns = [column.name for column in columns if column.unit == "return"]
        frame[returns] = frame[returns] / 100.0
        messages += (f"divided by 100, from percent to decimals: {', '.join(returns)}",)
    if ignored:
        messages += (f"ignored columns of {path.name}: {', '.join(ignored)}",)
    return frame, lines, messages


def _check_header(path: Path, columns: tuple[Column, ...], date: str, header: list[str]) -> list[str]:
    """The columns that nobody asked for; UserError names all that are wanted and missing."""
    wanted = [date, *(column.name for column in columns)]
    missing = [name for name in wanted if name not in header]
    if missing:
        unclaimed = [name for name in header if name not in wanted]
        matches = [difflib.get_close_matches(name, unclaimed, n=3, cutoff=0.4) for name in missing]
        nearest = dict.fromkeys(match for found in matches for match in found)
        hint = f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
        raise UserError(
            f"{path}, line 1: found no column {', '.join(map(repr, missing))} among {', '.join(header)},"
            f" expected {', '.join(wanted)}.{hint} Rename or add what is missing."
        )
    return [name for name in header if name not in wanted]


def _read_dates(path: Path, column: str, cells: list[str], first_line: int) -> Shaped[np.ndarray, "N"]:
    dates = _to_dates(path, column, cells, first_line)
    check_not_ahead(path, column, dates, first_line=first_line)
    return dates


def _read_column(
    path: Path, column: Column, cells: list[str], first_line: int
) -> Shaped[np.ndarray, "N"] | list[str]:
    if not column.role.endswith("categorical"):
        return parse_numbers(path, column.name, cells, first_line)
    for row, cell in enumerate(cells):
        if not cell:
            advice = "Write one, such as 'unknown'."
            raise _fail(path, row + first_line, column.name, repr(cell), "a category", advice)
    return list(map(sys.intern, cells))  # a category stands in many rows


def check_table(path: Path, feature_set: FeatureSet, date: str) -> list[str]:
    """The mistakes in a CSV panel, the first of each column; empty if there is none."""
    found: dict[str, str] = {}
    columns, days_read = feature_set.read_columns(), []
    try:
        for first_line, cells in read_parts(path):
            if first_line == 2:
                try:
                    _check_header(path, columns, date, list(cells))
                except UserError as error:
                    found[""] = str(error)
            readers = {date: partial(_read_dates, path, date)}
            readers |= {column.name: partial(_read_column, path, column) for column in columns}
            for name, read in readers.items():
                if name in cells and name not in found:
                    try:
                        values = read(cells[name], first_line)
                    except UserError as error:
                        found[name] = str(error)
                    else:
                        days_read += [values] if name == date else []
        if days_read and date not in found and feature_set.id_column is None:
            dates = np.concatenate(days_read)
            _check_ascending(path, date, dates, np.arange(2, len(dates) + 2))
    except UserError as error:  # the file as such, or the order of its rows
        found["file"] = str(error)
    return list(found.values())
