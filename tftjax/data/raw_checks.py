"""What a raw series cannot hold: dates ahead, values <= 0, revisions alone, another unit."""

import datetime
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped

from tftjax.data.feature_sets import SERIES
from tftjax.errors import UserError

NEVER = np.datetime64("9999-12-31")


def check_not_ahead(
    path: Path,
    column: str,
    dates: Shaped[np.ndarray, "N"],
    today: datetime.date | None = None,
    first_line: int = 2,
) -> None:
    """Refuse a date after today: a forecast, or a slip.

    Args: path, column: for the message; dates: of the file's lines from `first_line` on, datetime64[D];
        today: the clock's if None.
    Raises: UserError that names the first such line.
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


def check_first_releases(
    path: Path,
    dates: Shaped[np.ndarray, "N"],
    releases: Shaped[np.ndarray, "N"],
    values: Float64[np.ndarray, "N"],
) -> None:
    """Refuse a date whose first release is not in the file, so that a revision would pass for it.

    Values come out in the order of their dates. So where a date is first listed after a later date had a
    value, an earlier line of it is missing. Three things that ALFRED does are not mistaken for that:
    dates before the first one of the earliest vintage may have been added by any later one; a date that is
    listed with an empty cell in time may get its value late; and a date that never got one (October 2025 of
    the CPI) may be listed at any time. What cannot be seen: a missing first release of the newest date, or of
    one whose revision came out with the next date's value.

    Args: path: for the message; dates, releases, values: of the file's lines, the first of line 2, sorted by
        date, then release; a value is NaN where the cell is empty.
    Raises: UserError that names the first such line.
    """
    starts = np.flatnonzero(np.append(True, dates[1:] != dates[:-1]))
    own, listed = dates[starts], releases[starts]
    valued = np.minimum.reduceat(np.where(np.isnan(values), NEVER, releases), starts)
    later = np.append(np.minimum.accumulate(valued[::-1])[::-1][1:], NEVER)  # earliest value of a later date
    oldest = dates[np.argmin(releases)]
    missing = (own >= oldest) & (valued < NEVER) & (listed > later)
    if missing.any():
        i = int(np.argmax(missing))
        follower = own[i + 1 + int(np.argmin(valued[i + 1 :]))]
        raise UserError(
            f"{path}, line {starts[i] + 2}, column 'release_date': found {own[i]} first released on"
            f" {listed[i]}, expected a first release by {later[i]}, when the later {follower} had its own:"
            " what is listed seems to be a revision. Add the line of the first release; if there was none, a"
            f" line '{own[i]},{later[i]},' without a value says so."
        )


def without_non_positive(
    path: Path,
    name: str,
    dates: Shaped[np.ndarray, "N"],
    values: Float64[np.ndarray, "N"],
    cells: list[str],
) -> tuple[Float64[np.ndarray, "N"], tuple[str, ...]]:
    """What RawSeries.non_positive says, done to values <= 0.

    Args: path: for the message; name: of the series; dates, values, cells: of the file's lines, the first of
        line 2.
    Returns: the values, NaN where they were <= 0 and cannot be used; messages.
    Raises: UserError if the series cannot have such a value.
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
    """Refuse a series whose median absolute value lies outside of what its unit makes possible.

    Args: path: for the message; name: of the series; values: none missing.
    Raises: UserError that says which unit the file seems to be in.
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
