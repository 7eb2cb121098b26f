"""When a value becomes visible: release-date rules, the as-of join, staleness and the limits of a gap."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float64, Shaped

from tftjax.config import UserError

Dates = Shaped[np.ndarray, "N"]  # datetime64[D]

MAX_GAP_BUSINESS_DAYS = 30  # between two values of a daily series
MAX_MISSING_MONTHS = 2  # between two values of a monthly series


def _business_day_of_next_month(dates: Dates, day: int) -> Dates:
    """The first weekday on or after `day` of the month that follows each date's month."""
    next_month = (dates.astype("datetime64[M]") + 1).astype("datetime64[D]")
    return np.busday_offset(next_month + (day - 1), 0, roll="forward")


# Observation dates [N] -> release dates [N]. Business days are Monday to Friday: public holidays are not
# looked up, so a release "on" a holiday is seen by the next trading day's row.
RELEASE_RULES: dict[str, Callable[[Dates], Dates]] = {
    "same_day": lambda dates: dates,
    "first_business_day_of_next_month": lambda dates: _business_day_of_next_month(dates, 1),
    "from_13th_of_next_month": lambda dates: _business_day_of_next_month(dates, 13),
}
RULE_WORDS = {
    "same_day": "visible on its own date",
    "first_business_day_of_next_month": "visible from the first business day of the next month",
    "from_13th_of_next_month": "visible from the first business day on or after the 13th of the next month",
}


def days(index: pd.DatetimeIndex) -> Dates:
    """The index as datetime64[D], the resolution that numpy's business-day functions want."""
    return index.to_numpy().astype("datetime64[D]")


def as_of(
    releases: Shaped[np.ndarray, "M"], values: Float64[np.ndarray, "M"], rows: Shaped[np.ndarray, "N"]
) -> tuple[Float64[np.ndarray, "N"], Float64[np.ndarray, "N"]]:
    """The last value released on or before each row's date, and its age.

    Args: releases: ascending release dates, datetime64[D]; values: the values released; rows: row dates.
    Returns: values on the rows and days since their release; both NaN before the first release.
    """
    if len(values) == 0:
        return np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    position = np.searchsorted(releases, rows, side="right") - 1
    released = position >= 0
    latest = np.maximum(position, 0)
    age = (rows - releases[latest]).astype(np.float64)
    return np.where(released, values[latest], np.nan), np.where(released, age, np.nan)


def check_gaps(
    dates: Dates, frequency: str, release: str, first: np.datetime64, last: np.datetime64, where: str
) -> None:
    """Refuse a hole in a series that the as-of join would silently bridge with an old value.

    Args: dates: observation dates that have a value; first, last: dates of the first and last used row;
        where: file and column, for the message.
    Raises: UserError if, between `first` and `last`, two values (or the last value and `last`) are more than
        30 business days apart on a daily series, or 3 or more months are missing on a monthly one.
    """
    if len(dates) == 0:
        raise UserError(f"{where}: found no value at all, expected some. Get the series anew.")
    # A gap matters up to the last used row: what is seen there may be the end of the last gap.
    ends = np.minimum(np.append(dates[1:], last), last)
    if frequency == "daily":
        too_long = np.busday_count(dates, ends) > MAX_GAP_BUSINESS_DAYS
        limit = f"at most {MAX_GAP_BUSINESS_DAYS} business days between two values"
    else:
        months = dates.astype("datetime64[M]")
        newest = last.astype("datetime64[M]")
        while RELEASE_RULES[release](newest[None].astype("datetime64[D]"))[0] > last:
            newest -= 1
        missing = np.minimum(np.append(months[1:] - 1, newest), newest) - months
        too_long = missing.astype(np.int64) > MAX_MISSING_MONTHS
        limit = f"at most {MAX_MISSING_MONTHS} missing months in a row"
    used = (ends >= first) & (dates <= last)
    if np.any(too_long & used):
        gap = int(np.argmax(too_long & used))
        raise UserError(
            f"{where}: found no value between {dates[gap]} and {ends[gap]}, expected {limit} in the used rows"
            f" ({first} to {last}). Get the missing values, or keep the gap out with data.start or data.end."
        )
