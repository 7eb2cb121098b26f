"""Raw series from CSV files in FRED's download format, read strictly."""

import datetime
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped

from tftjax import files
from tftjax.data.alignment import RELEASE_RULES, RULE_WORDS, Observations
from tftjax.data.feature_sets import FEATURE_SETS, SERIES
from tftjax.data.raw.cells import (
    FIRST_DATE,
    LINES,
    NEVER,
    check_ascending,
    check_not_ahead,
    fail,
    iso_dates,
    parse_numbers,
    read_cells,
    to_dates,
)
from tftjax.errors import UserError

# Series whose dates are the rows of a panel: a value that is missing there is missing as a row.
ROW_SERIES = {feature_set.row_series for feature_set in FEATURE_SETS.values()}


def read_fred_csv(
    path: Path, name: str, today: datetime.date | None = None
) -> tuple[Observations, bool, tuple[str, ...]]:
    """One series in FRED's download format, `observation_date,NAME`, or with its release dates.

    With a `release_date` column in the middle, an observation date may stand on several lines, one a value
    published. Without one, the release dates are those of the series' documented rule. Empty values are left
    out.

    Args:
      name: the series' name.
      today: no date may lie after it; None takes the clock's.

    Returns:
      The observations; whether the file has their release dates; messages.

    Raises:
      UserError: a wrong header or cell, a monthly date that is not the first of its month, lines out of
        order, a date after today, a release before its observation, a revision without a first release, a
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
        dates = to_dates(path, "observation_date", cells["observation_date"])
        check_ascending(path, "observation_date", dates)
        releases = RELEASE_RULES[info.release](dates)
    check_not_ahead(path, "observation_date", dates, today)
    values = parse_numbers(path, name, cells[name])
    if dated:
        check_first_releases(path, dates, releases, values)
    if info.frequency == "monthly":
        _check_months(path, dates)
    messages: tuple[str, ...] = ()
    empty = np.isnan(values)
    if name in ROW_SERIES and empty.any():
        messages += (
            f"{name}: {int(empty.sum())} dates without a value (first {dates[int(np.argmax(empty))]}) make no"
            " row, and the next return goes back to the last value; FRED lists some nine holidays a year so",
        )
    values, left_out = without_non_positive(path, name, dates, values, cells[name])
    usable = ~np.isnan(values)
    if not usable.any():
        raise UserError(
            f"{path}, column {name!r}: found no value in any row, expected numbers. Download {name} anew."
        )
    check_unit(path, name, values[usable])
    return Observations(dates[usable], releases[usable], values[usable]), dated, messages + left_out


def _check_months(path: Path, dates: Shaped[np.ndarray, "N"]) -> None:
    """Refuses dates of a monthly series that are not the first of their month."""
    not_first = dates.astype("datetime64[M]").astype("datetime64[D]") != dates
    if np.any(not_first):
        row = int(np.argmax(not_first))
        expected, advice = "the first day of a month", "Download the series at its monthly frequency."
        raise fail(path, LINES(row), "observation_date", str(dates[row]), expected, advice)


def _parse_releases(
    path: Path, cells: dict[str, list[str]]
) -> tuple[Shaped[np.ndarray, "N"], Shaped[np.ndarray, "N"]]:
    """Observation and release dates of a file that has both, sorted by both, each pair once."""
    dates, releases = (iso_dates(path, name, cells[name]) for name in ("observation_date", "release_date"))
    if dates.min() < FIRST_DATE:
        row = int(np.argmin(dates))
        expected = f"a date from {FIRST_DATE} on"
        raise fail(path, LINES(row), "observation_date", str(dates[row]), expected, "Correct the year.")
    early = releases < dates
    if early.any():
        row = int(np.argmax(early))
        expected = f"a date from the observation's, {dates[row]}, on"
        raise fail(path, LINES(row), "release_date", str(releases[row]), expected, "Correct one of the two.")
    steps, release_steps = np.diff(dates).astype(np.int64), np.diff(releases).astype(np.int64)
    wrong = (steps < 0) | ((steps == 0) & (release_steps <= 0))
    if wrong.any():
        row = int(np.argmax(wrong)) + 1
        pair = f"{dates[row]} released {releases[row]} after {dates[row - 1]} released {releases[row - 1]}"
        expected = "lines sorted by observation date, then release date, each pair once"
        advice = "Sort the lines, and keep one value of two that were released on one day."
        raise fail(path, LINES(row), "release_date", pair, expected, advice)
    return dates, releases


def read_fred_folder(
    folder: Path, names: tuple[str, ...]
) -> tuple[dict[str, Observations], dict[str, str], tuple[str, ...]]:
    """The named series from `NAME.csv` files in a folder.

    Returns:
      The series by name; by name, its release dates in words; messages.

    Raises:
      UserError: a file is missing or wrong.
    """
    series, rules, messages = {}, {}, ()
    for name in names:
        path = folder / f"{name}.csv"
        if not path.is_file():
            raise UserError(
                f"{path}: there is no such file{files.near(path)}. Expected a FRED CSV file of the"
                f" series {name}: download it from https://fred.stlouisfed.org/series/{name}."
            )
        series[name], dated, added = read_fred_csv(path, name)
        rules[name] = "release dates of the source" if dated else RULE_WORDS[SERIES[name].release]
        messages += added
    return series, rules, messages


def check_first_releases(
    path: Path,
    dates: Shaped[np.ndarray, "N"],
    releases: Shaped[np.ndarray, "N"],
    values: Float64[np.ndarray, "N"],
) -> None:
    """Refuses a date whose first release is not in the file, so that a revision would pass for it.

    Values come out in the order of their dates. So where a date is first listed after a later date had a
    value, an earlier line of it is missing. Three things that ALFRED does are not mistaken for that:
    dates before the first one of the earliest vintage may have been added by any later one; a date that is
    listed with an empty cell in time may get its value late; and a date that never got one (October 2025 of
    the CPI) may be listed at any time. What cannot be seen: a missing first release of the newest date, or of
    one whose revision came out with the next date's value.

    Args:
      dates: observation dates of the file's lines from line 2 on, ascending.
      releases: release dates of these lines, ascending for each date.
      values: values of these lines, NaN where the cell is empty.

    Raises:
      UserError: names the first line of such a date.
    """
    starts = np.flatnonzero(np.append(True, dates[1:] != dates[:-1]))
    observed, listed = dates[starts], releases[starts]
    valued = np.minimum.reduceat(np.where(np.isnan(values), NEVER, releases), starts)
    later = np.append(np.minimum.accumulate(valued[::-1])[::-1][1:], NEVER)  # earliest value of a later date
    oldest = dates[np.argmin(releases)]
    missing = (observed >= oldest) & (valued < NEVER) & (listed > later)
    if missing.any():
        i = int(np.argmax(missing))
        follower = observed[i + 1 + int(np.argmin(valued[i + 1 :]))]
        raise UserError(
            f"{path}, line {starts[i] + 2}, column 'release_date': found {observed[i]} first released on"
            f" {listed[i]}, expected a first release by {later[i]}, when the later {follower} had its own:"
            " what is listed seems to be a revision. Add the line of the first release; if there was none, a"
            f" line '{observed[i]},{later[i]},' without a value says so."
        )


def without_non_positive(
    path: Path,
    name: str,
    dates: Shaped[np.ndarray, "N"],
    values: Float64[np.ndarray, "N"],
    cells: list[str],
) -> tuple[Float64[np.ndarray, "N"], tuple[str, ...]]:
    """Treats values <= 0 as the series' `RawSeries.non_positive` says.

    Args:
      name: the series' name.
      cells: text of the values, from line 2 of the file on.

    Returns:
      The values, NaN where they were <= 0 and cannot be used; messages.

    Raises:
      UserError: the series cannot have such a value.
    """
    bad = values <= 0.0
    row = int(np.argmax(bad))
    if not bad.any() or SERIES[name].non_positive == "keep":
        return values, ()
    if SERIES[name].non_positive == "error":
        raise UserError(
            f"{path}, line {row + 2}, column {name!r}: found {cells[row]}, expected a value above 0."
            f" {name} has none such: correct it."
        )
    message = (
        f"{name}: {int(bad.sum())} values <= 0 (first on {dates[row]}) have no simple return;"
        " the last positive one is kept in their place"
    )
    return np.where(bad, np.nan, values), (message,)


def check_unit(path: Path, name: str, values: Float64[np.ndarray, "M"]) -> None:
    """Refuses a series whose median absolute value lies outside of what its unit makes possible.

    Args:
      name: the series' name.
      values: its values, none missing.

    Raises:
      UserError: says which unit the file seems to be in.
    """
    limits, unit = SERIES[name].median_range, SERIES[name].unit
    if limits is None or len(values) == 0:
        return
    low, high = limits
    median = float(np.median(np.abs(values)))
    if low <= median <= high:
        return
    if unit.startswith("percent") and low <= 100 * median <= high:
        guess = "It seems to be in decimals: multiply by 100"
    elif low <= median / 100 <= high:
        guess = "It seems to be in hundredths of the unit (basis points, cents): divide by 100"
    else:
        guess = "It seems to be in another unit, or to hold changes: get the series as FRED gives it"
    raise UserError(
        f"{path}, column {name!r}: found a median absolute value of {median:.4g}, expected {low:g} to"
        f" {high:g} ({unit}). {guess}."
    )
