"""The day a value becomes visible: release dates, revisions, as-of join, staleness, limits of a gap."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int, Shaped

from tftjax.data.calendar import MONTHS, PERIODS, SPACINGS, count_open, following, preceding, words
from tftjax.errors import UserError

Dates = Shaped[np.ndarray, "N"]  # datetime64[D]

MAX_MISSING = 2  # weeks, months or quarters between two values of a series of that frequency


def _business_day_of_next_month(dates: Dates, day: int) -> Dates:
    """The first weekday on or after `day` of the month that follows each date's month."""
    next_month = (dates.astype("datetime64[M]") + np.timedelta64(1, "M")).astype("datetime64[D]")
    return np.busday_offset(next_month + np.timedelta64(day - 1, "D"), 0, roll="forward")


# Observation dates [N] -> release dates [N]. Business days are Monday to Friday: public holidays are not
# looked up, so a release "on" a holiday is seen by the next trading day's row.
RELEASE_RULES: dict[str, Callable[[Dates], Dates]] = {
    "same_day": lambda dates: dates,
    "next_business_day": lambda dates: np.busday_offset(dates, 1, roll="backward"),
    "first_business_day_of_next_month": lambda dates: _business_day_of_next_month(dates, 1),
    "from_10th_of_next_month": lambda dates: _business_day_of_next_month(dates, 10),
    "from_13th_of_next_month": lambda dates: _business_day_of_next_month(dates, 13),
    "from_18th_of_next_month": lambda dates: _business_day_of_next_month(dates, 18),
}
RULE_WORDS = {
    "same_day": "visible on its own date",
    "next_business_day": "visible from the next business day",
    "first_business_day_of_next_month": "visible from the first business day of the next month",
    "from_10th_of_next_month": "visible from the first business day on or after the 10th of the next month",
    "from_13th_of_next_month": "visible from the first business day on or after the 13th of the next month",
    "from_18th_of_next_month": "visible from the first business day on or after the 18th of the next month",
}


class Observations(NamedTuple):
    """A raw series as it became known: one entry a value published, sorted by date, then release.

    Attributes:
      dates: observation dates, datetime64[D]; a date stands more than once where its value was revised.
      releases: days on which the values were published, datetime64[D].
      values: values in the series' unit, none missing.
    """

    dates: Shaped[np.ndarray, "M"]
    releases: Shaped[np.ndarray, "M"]
    values: Float64[np.ndarray, "M"]


def snapshot(series: Observations, day: np.datetime64) -> pd.Series:
    """The series as it was known at the end of a day: the last value released for each date."""
    known = series.releases <= day
    dates, values = series.dates[known], series.values[known]
    last = np.append(dates[1:] != dates[:-1], True)[: len(dates)]
    return pd.Series(values[last], index=pd.DatetimeIndex(dates[last]).as_unit("ns"))


def _snapshots(series: Observations, release_days: Dates) -> Iterator[pd.Series]:
    """`snapshot` at the end of each of some ascending days, each made from the one before."""
    dates, place = np.unique(series.dates, return_inverse=True)
    index, values = pd.DatetimeIndex(dates).as_unit("ns"), np.full(len(dates), np.nan)
    order, first = np.argsort(series.releases, kind="stable"), 0
    for stop in np.searchsorted(series.releases[order], release_days, side="right"):
        new = order[first:stop]
        values[place[new]] = series.values[new]  # the last one of a date stays
        known, first = ~np.isnan(values), stop
        yield pd.Series(values[known], index=index[known])


def first_release_of(series: Observations) -> Observations:
    """The first value published for each date."""
    first = np.append(True, series.dates[1:] != series.dates[:-1])[: len(series.dates)]
    return Observations(*(array[first] for array in series))


def fixed_lag(series: Observations, lag_days: int) -> Observations:
    """The first value published for each date, shown a number of days after it.

    Not the last one: a revision shown before its day would be hindsight.
    """
    kept = first_release_of(series)
    return kept._replace(releases=kept.dates + np.timedelta64(lag_days, "D"))


def publications(
    sources: list[Observations], on_dates: Callable[..., pd.Series], vintage: str
) -> tuple[Dates, Dates, Float64[np.ndarray, "M"]]:
    """A column's newest value, computed from what was known, each time that it changed.

    A transform never mixes what was known on different days: a change over a year divides by the year-old
    value as it stood on the day of publication.

    Args:
      sources: the raw series that `on_dates` takes.
      on_dates: maps series on their own observation dates to one series; looks backwards only.
      vintage: "first" keeps the value published first for each date, "latest" follows its revisions.

    Returns:
      Ascending days of publication; for each, the day on which its observation was first published (staleness
      counts from that day); and the values.
    """
    in_order = all(
        np.all(np.diff(s.releases) >= np.timedelta64(0, "D"))
        and np.all(np.diff(s.dates) > np.timedelta64(0, "D"))
        for s in sources
    )
    if in_order:  # nothing was ever revised: every value can be computed at once
        column = on_dates(
            *(pd.Series(s.values, index=pd.DatetimeIndex(s.dates).as_unit("ns")) for s in sources)
        )
        at = [s.releases[np.searchsorted(s.dates, days(column.index), side="right") - 1] for s in sources]
        released = np.maximum.reduce(at)
        return released, released, column.to_numpy(np.float64)
    published: list[tuple[np.datetime64, np.datetime64, float]] = []
    newest = None
    release_days = np.unique(np.concatenate([s.releases for s in sources]))
    known = zip(*(_snapshots(s, release_days) for s in sources), strict=True)
    for day, series in zip(release_days, known, strict=True):
        column = on_dates(*series)
        if column.empty or (newest is not None and column.index[-1] < newest):
            continue
        if newest is None or column.index[-1] > newest:
            newest = column.index[-1]
            published.append((day, day, column.iloc[-1]))
        elif vintage == "latest" and column.iloc[-1] != published[-1][2]:
            published.append((day, published[-1][1], column.iloc[-1]))
    released, since, values = zip(*published, strict=True) if published else ((), (), ())
    empty = "datetime64[D]"
    return np.array(released, empty), np.array(since, empty), np.array(values, np.float64)


def days(index: pd.DatetimeIndex) -> Dates:
    """The index as datetime64[D], the resolution that numpy's business-day functions take."""
    return index.to_numpy().astype("datetime64[D]")


def as_of(
    releases: Shaped[np.ndarray, "M"],
    since: Shaped[np.ndarray, "M"],
    values: Float64[np.ndarray, "M"],
    rows: Shaped[np.ndarray, "N"],
) -> tuple[Float64[np.ndarray, "N"], Float64[np.ndarray, "N"]]:
    """The last value released on or before each row's date, and its age.

    Args:
      releases: days of publication, ascending; see `publications`.
      since: days of first publication of the values' observations.
      rows: row dates.

    Returns:
      Values on the rows and days since the observation's first release; both NaN before any release.
    """
    if len(values) == 0:
        return np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    position = np.searchsorted(releases, rows, side="right") - 1
    released = position >= 0
    latest = np.maximum(position, 0)
    age = (rows - since[latest]).astype(np.float64)
    return np.where(released, values[latest], np.nan), np.where(released, age, np.nan)


class NoRows(UserError):
    """A series has no row that can be used."""


# How a target's values [N] in the rows of periods, whose first rows [M] are given, make one value a period.
AGGREGATES = {
    "compounded": lambda returns, starts: np.multiply.reduceat(1.0 + returns, starts) - 1.0,
    "summed": np.add.reduceat,
    "as last known": lambda levels, starts: levels[np.append(starts[1:], len(levels)) - 1],
}


def resample(
    frame: pd.DataFrame,
    staleness: pd.DataFrame,
    target: str,
    frequency: str,
    open_days: str = "weekdays",
    aggregate: str = "compounded",
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """Rows of weeks, months or quarters: the target compounded or summed, every other column as last known.

    A row has the date of its period's last row, so that nothing later is in it. A first or last period that a
    further open day belongs to is left out: its return is not whole.

    Args:
      frame: daily rows.
      staleness: ages of their values, days.
      target: column of simple returns as decimals, or of what `aggregate` takes.
      frequency: a key of PERIODS.
      open_days: the rows' calendar of days.
      aggregate: a name in AGGREGATES.

    Returns:
      Both tables by period, and messages.

    Raises:
      NoRows: no whole period is left.
      UserError: a return below -1, which cannot be compounded.
    """
    periods = frame.index.to_period(PERIODS[frequency])
    first, last = days(frame.index[[0, -1]])
    around = pd.DatetimeIndex([preceding(open_days, first), following(open_days, last, 1)[0]])
    around = around.to_period(PERIODS[frequency])
    whole = (periods != around[0]) & (periods != around[1])
    if not whole.any():
        raise NoRows(
            f"data.frequency: found no whole period of frequency {frequency!r} in {len(frame)} rows from"
            f" {first} to {last}. Use more rows."
        )
    what = target if aggregate == "as last known" else f"returns of {target}"
    messages = (f"{frequency} rows: {what} {aggregate}, other columns as last known",)
    if not whole.all():
        messages += (f"left out {int((~whole).sum())} rows of periods that are not whole",)
    frame, staleness, periods = frame[whole], staleness[whole], periods[whole]
    ends = np.append(periods[1:] != periods[:-1], True)
    returns = frame[target].to_numpy()
    if aggregate == "compounded" and (returns < -1).any():
        row = int(np.argmax(returns < -1))
        raise UserError(
            f"{target}: found {returns[row]:g} on {frame.index[row].date()}, expected a simple return as a"
            " decimal, at least -1, to compound. If the data is in percent, set data.return_unit."
        )
    total = AGGREGATES[aggregate](returns, np.flatnonzero(np.append(True, ends[:-1])))
    rows = frame[ends].assign(**{target: total})
    for name in frame.columns[frame.isna().any()]:  # masked: the last value of the period
        rows[name] = frame[name].groupby(periods).last().to_numpy()
    return rows, staleness[ends], messages


PERIODS_OF = {"weekly": "weeks", "monthly": "months", "quarterly": "quarters"}


def _apart(earlier: Dates, later: Dates, frequency: str) -> Int[np.ndarray, "N"]:
    """Number of weeks, months or quarters from one date to another."""
    if frequency == "weekly":
        return ((later - earlier).astype(np.int64) + 3) // 7
    months = (later.astype("datetime64[M]") - earlier.astype("datetime64[M]")).astype(np.int64)
    return months if frequency == "monthly" else (months + 1) // 3


def _after(dates: Dates, count: int, frequency: str) -> Dates:
    """The dates some weeks, months or quarters later."""
    if frequency == "weekly":
        return dates + np.timedelta64(7 * count, "D")
    months = dates.astype("datetime64[M]")
    day = np.minimum(dates - months.astype("datetime64[D]"), np.timedelta64(27, "D"))  # that any month has
    return (months + np.timedelta64(count * MONTHS[frequency], "M")).astype("datetime64[D]") + day


def check_gaps(
    dates: Dates,
    frequency: str,
    release: Callable[[Dates], Dates],
    first: np.datetime64,
    last: np.datetime64,
    where: str,
    max_gap: int,
    max_missing: int = MAX_MISSING,
    setting: str | None = None,
) -> None:
    """Refuses a hole in a series that the as-of join would silently bridge with an old value.

    Args:
      dates: observation dates that have a value.
      release: maps observation dates to release dates.
      first: date of the first used row.
      last: date of the last used row.
      where: file and column, for the message.
      max_gap: longest gap in a daily series, business days.
      max_missing: most weeks, months or quarters that are missing in a row in a series of that frequency.
      setting: the setting of the limit; None: data.max_gap, of a daily series alone.

    Raises:
      UserError: between `first` and `last`, two values (or the last value and `last`) are farther apart.
    """
    if len(dates) == 0:
        raise UserError(f"{where}: found no value at all, expected some. Get the series anew.")
    # A gap matters up to the last used row: what is seen there may be the end of the last gap.
    ends = np.minimum(np.append(dates[1:], last), last)
    if frequency == "daily":
        too_long = np.busday_count(dates, ends) > max_gap
        limit = f"at most {max_gap} business days between two values"
        setting = setting or "data.max_gap"
    else:
        missing = np.append(_apart(dates[:-1], dates[1:], frequency) - 1, max_missing + 1)
        due = release(_after(dates, max_missing + 1, frequency)) <= last
        too_long = (missing > max_missing) & due
        limit = f"at most {max_missing} missing {PERIODS_OF[frequency]} in a row"
    used = (ends >= first) & (dates <= last)
    if np.any(too_long & used):
        gap = int(np.argmax(too_long & used))
        raise UserError(
            f"{where}: found no value between {dates[gap]} and {ends[gap]}, expected {limit} in the used rows"
            f" ({first} to {last}). Get the missing values, or keep the gap out with data.start or data.end"
            f"{f', or raise {setting}' if setting else ''}."
        )


def check_row_gaps(
    dates: Dates,
    lines: Int[np.ndarray, "N"],
    where: str,
    max_gap: int,
    *,
    open_days: str = "weekdays",
    frequency: str = "daily",
    row_word: str = "line",
) -> None:
    """Refuses rows of a table that lie too far apart: a window would take the days between for one step.

    Args:
      dates: dates of the used rows, ascending.
      lines: lines of the file on which these rows stand, or numbers of a frame's rows.
      where: file, series and column, for the message.
      max_gap: longest gap, open days; the usual distance of rows is never too long.
      open_days: the rows' calendar of days.
      frequency: the rows' frequency.
      row_word: "line" or "row", which `lines` number.

    Raises:
      UserError: names the first row after a longer gap.
    """
    gaps = count_open(open_days, dates[:-1], dates[1:])
    usual = 0 if frequency == "daily" else SPACINGS[frequency][-1]
    too_long = (gaps > max_gap) & (np.diff(dates).astype(np.int64) > usual)
    if np.any(too_long):
        row = int(np.argmax(too_long)) + 1
        raise UserError(
            f"{where}: found {dates[row]} on {row_word} {lines[row]}, {gaps[row - 1]} {words(open_days)}"
            f" after {dates[row - 1]}, expected at most {max_gap}. Add the rows between, keep the gap out"
            " with data.start or data.end, or raise data.max_gap."
        )
