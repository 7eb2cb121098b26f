"""The dates of rows: the days on which a calendar is open, the spacing of rows, how the rows of periods
are dated, and the dates of the next steps.

Dates are datetime64[D]. A calendar of days is "weekdays", "24/7", a week of seven 0 and 1 from Monday on (as
numpy writes it), or the name of an exchange, whose sessions the package exchange_calendars knows.
"""

import datetime
import difflib
import functools
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int, Shaped

from tftjax.errors import UserError

Dates = Shaped[np.ndarray, "N"]  # datetime64[D]

DAY = np.timedelta64(1, "D")
WEEKS = {"weekdays": "1111100", "24/7": "1111111"}
PERIODS = {"weekly": "W-SUN", "monthly": "M", "quarterly": "Q"}  # pandas' names; a week ends with its Sunday
MONTHS = {"monthly": 1, "quarterly": 3}  # from a row to the next
ROWS_A_YEAR = {"weekly": 52.0, "monthly": 12.0, "quarterly": 4.0}
DAYS_A_YEAR = {5: 252.0, 7: 365.0}  # by the open days of a week; else 52 weeks of them

# Usual days from a row to the next: the median lies between the first two, most gaps between the others.
SPACINGS = {
    "daily": (1, 1.5, 1, 4),
    "weekly": (6, 8, 5, 9),
    "monthly": (27, 33, 25, 37),
    "quarterly": (88, 94, 85, 98),
}
UNITS = {"daily": "a day", "weekly": "a week", "monthly": "a month", "quarterly": "a quarter"}
BULK = 0.75  # share that is most of the gaps
MIN_GAPS = 5  # fewer say nothing about a table's spacing
MIN_WEEKS = 5  # rows on one day of the week from which on the others are missed


class Exchange(NamedTuple):
    """The sessions of an exchange.

    Attributes:
      sessions: days with trading, ascending.
      early_closes: sessions that close early.
      holidays: days of its usual week without trading that are known beforehand.
    """

    sessions: Dates
    early_closes: Dates
    holidays: Dates


class Calendar(NamedTuple):
    """The dates that the rows of a series have.

    Attributes:
      frequency: a key of SPACINGS.
      days: the calendar of days; see the module.
      dated: how a period's row is dated, a key of DATINGS, or the number of a day in its week or month.
      events: dates of scheduled events by name.
    """

    frequency: str = "daily"
    days: str = "weekdays"
    dated: str = "last open day"
    events: Mapping[str, Sequence[str]] = MappingProxyType({})


def is_exchange(days: str) -> bool:
    """Whether a calendar of days is an exchange's."""
    return days not in WEEKS and re.fullmatch("[01]{7}", days) is None


def words(days: str) -> str:
    """The name of a calendar's days, in the plural."""
    if is_exchange(days):
        return f"sessions of {days}"
    return "days" if days == "24/7" else "business days"


@functools.cache
def exchange(name: str) -> Exchange:
    """The sessions of an exchange, such as "XNYS", from 1900 or its first known on, to ten years ahead.

    Closings outside the exchange's rules, such as that of 11 September 2001, are no holidays: nobody knew
    them beforehand. Where all closings are listed and none follows a rule, all are.

    Raises:
      UserError: the package exchange_calendars is missing, or does not know the name.
    """
    made = _made(name)
    sessions, early = (
        index.to_numpy().astype("datetime64[D]") for index in (made.sessions, made.early_closes)
    )
    closed = np.arange(sessions[0], sessions[-1] + DAY)
    closed = np.setdiff1d(closed[np.is_busday(closed, weekmask=made.weekmask)], sessions)
    if made.regular_holidays is not None:
        unforeseen = np.array([str(day)[:10] for day in made.adhoc_holidays], "datetime64[D]")
        closed = np.setdiff1d(closed, unforeseen)
    return Exchange(sessions, early, closed)


def _made(name: str) -> Any:
    """The calendar of exchange_calendars of a name, over all dates that are asked for."""
    try:
        import exchange_calendars  # half a second, and only where sessions are asked for
    except ImportError:
        raise UserError(
            f"data.calendar: the sessions of {name!r} are looked up in exchange_calendars, which is"
            " missing. Install it: pip install 'tftjax[calendars]'."
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pandas' plans with what the package uses
            kind = type(exchange_calendars.get_calendar(name))
            first, last = kind.bound_min(), kind.bound_max()
            start = (
                datetime.date(1900, 1, 1) if first is None else max(first.date(), datetime.date(1900, 1, 1))
            )
            end = datetime.date.today() + datetime.timedelta(days=3653)
            return kind(start, end if last is None else min(last.date(), end))
    except exchange_calendars.errors.InvalidCalendarName:
        known = exchange_calendars.get_calendar_names()
        nearest = difflib.get_close_matches(name.upper(), known, n=3, cutoff=0.6) or ["XNYS", "XLON", "XTKS"]
        raise UserError(
            f'data.calendar: found {name!r}, expected "weekdays", "24/7" or the name of an exchange, such as'
            f" {', '.join(nearest)}."
        ) from None
    except ValueError as error:
        raise UserError(
            f"data.calendar: exchange_calendars cannot make {name!r} ({str(error)[:200]})."
        ) from None


def _sessions_over(days: str, first: np.datetime64, last: np.datetime64) -> Dates:
    """The sessions of an exchange; UserError if not all between two dates are known."""
    sessions = exchange(days).sessions
    if first < sessions[0] or last > sessions[-1]:
        raise _unknown(days, f"{first} to {last}")
    return sessions


def _unknown(days: str, asked: str) -> UserError:
    sessions = exchange(days).sessions
    return UserError(
        f"data.calendar: the sessions of {days!r} are known from {sessions[0]} to {sessions[-1]}, and those"
        f" of {asked} are asked for. Use rows within (data.start), a newer exchange_calendars, or"
        ' "weekdays".'
    )


def roll(days: str, dates: Dates, forward: bool) -> Dates:
    """The dates that are open days as they are; in place of the others, the next open day or the last one."""
    if not is_exchange(days):
        side = "forward" if forward else "backward"
        return np.busday_offset(dates, 0, roll=side, weekmask=WEEKS.get(days, days))
    sessions = _sessions_over(days, dates.min(), dates.max())
    if forward:
        return sessions[np.searchsorted(sessions, dates)]
    return sessions[np.searchsorted(sessions, dates, side="right") - 1]


def following(days: str, last: np.datetime64, steps: int) -> Dates:
    """The `steps` open days after a date."""
    if not is_exchange(days):
        counts = np.arange(1, steps + 1)
        return np.busday_offset(last, counts, roll="backward", weekmask=WEEKS.get(days, days))
    sessions = _sessions_over(days, last, last)
    place = np.searchsorted(sessions, last, side="right")
    if place + steps > len(sessions):
        raise _unknown(days, f"the {steps} after {last}")
    return sessions[place : place + steps]


def preceding(days: str, first: np.datetime64) -> np.datetime64:
    """The last open day before a date."""
    return roll(days, np.array([first - DAY]), forward=False)[0]


def count_open(days: str, first: Dates, last: Dates) -> Int[np.ndarray, "N"]:
    """The open days from each date up to another, which is not counted."""
    if not is_exchange(days):
        return np.busday_count(first, last, weekmask=WEEKS.get(days, days))
    if not len(first):
        return np.zeros(0, int)
    sessions = _sessions_over(days, first.min(), last.max())
    return np.searchsorted(sessions, last) - np.searchsorted(sessions, first)


def found_days(dates: Dates, frequency: str = "daily") -> str:
    """The calendar of days that rows follow: "weekdays" unless rows lie on weekends regularly.

    Then "24/7", or for days the week that rows lie on, such as Sunday to Thursday.
    """
    counts = np.bincount(_weekday(dates), minlength=7)
    usual = counts >= counts.max() / 2
    if not usual[5:].any() or counts.max() == 0:
        return "weekdays"
    if frequency != "daily" or counts.max() < MIN_WEEKS or usual.all():
        return "24/7"
    return "".join("1" if day else "0" for day in usual)


def found_frequency(dates: Dates) -> str | None:
    """The frequency of rows by the median and most of the gaps between them.

    None for any other spacing, and for fewer than MIN_GAPS gaps.
    """
    gaps = np.diff(dates).astype(np.int64)
    if len(gaps) < MIN_GAPS:
        return None
    for frequency, (low, high, shortest, longest) in SPACINGS.items():
        most = np.mean((gaps >= shortest) & (gaps <= longest)) >= BULK
        if low <= np.median(gaps) <= high and most:
            return frequency
    return None


def table_frequency(setting: str | None, series: Mapping[str, Dates], where: str) -> str:
    """The frequency of a table's rows-to-be: as set, or as the rows of all series have it.

    Args:
      setting: `data.frequency`.
      series: dates of each series by name.
      where: file or frame, for messages.

    Raises:
      UserError: without a setting, series of different frequencies or a spacing that is none.
    """
    if setting is not None:
        return setting
    found = {name: found_frequency(dates) for name, dates in series.items()}
    clear = {frequency: name for name, frequency in found.items() if frequency is not None}
    if len(clear) > 1:
        parts = ", ".join(f"{frequency} in the series {name!r}" for frequency, name in clear.items())
        raise UserError(
            f"{where}: found rows of different frequencies ({parts}), expected one in a table. Set"
            " data.frequency to the lowest, so that daily rows are compounded to it, or leave series out."
        )
    if clear:
        return next(iter(clear))
    for name, dates in series.items():
        if len(dates) > MIN_GAPS:
            of = f" of the series {name!r}" if name else ""
            raise UserError(
                f"{where}: the rows{of} are {_spacing(dates)}, which is no frequency: expected rows"
                f" {', '.join(list(UNITS.values())[:-1])} or {UNITS['quarterly']} apart. Bring them to one of"
                ' these, or set data.frequency to "daily", which takes them one by one, as they are.'
            )
    return "daily"


def is_resampled(frequency: str, dates: Dates, where: str) -> bool:
    """Whether rows of a series have to be made rows of `frequency`; not if they have it already.

    Raises:
      UserError: rows that are farther apart, or that do not nest in the periods.
    """
    found, order = found_frequency(dates), list(SPACINGS)
    if found == frequency or (frequency == "daily" and found is None):
        return False
    holes = np.median(np.diff(dates).astype(np.int64)) if len(dates) > 1 else 0
    if found == "daily" or (found is None and holes <= SPACINGS["daily"][3]):
        return True
    if len(dates) <= MIN_GAPS:
        return False  # too few to say more
    if found is not None and order.index(found) > order.index(frequency):
        raise UserError(
            f"{where}: the rows are {UNITS[found]} apart ({_spacing(dates)}), farther than data.frequency"
            f' "{frequency}" says. Set data.frequency to "{found}", or leave it out.'
        )
    raise UserError(
        f"{where}: the rows are {_spacing(dates)}, expected days, or rows {UNITS[frequency]} apart, with"
        f' data.frequency "{frequency}". Give daily rows, or bring these to {frequency} ones.'
    )


def _spacing(dates: Dates) -> str:
    gap = np.median(np.diff(dates).astype(np.int64))
    return f"a median of {gap:g} day{'' if gap == 1 else 's'} apart"


def check_days(days: str, dates: Dates, daily: bool, where: str, place: Callable[[int], str]) -> None:
    """Refuses rows that a calendar of days, as it was set, cannot have.

    Args:
      daily: whether rows are days.
      where: file, series and column, for the message.
      place: number of a row -> its place in words.

    Raises:
      UserError: names the first row outside an exchange's sessions; or the days of the week on which rows lie
        regularly, or never, against the setting.
    """
    if is_exchange(days):
        closed = ~np.isin(dates, _sessions_over(days, dates.min(), dates.max()))
        if closed.any():
            row = int(np.argmax(closed))
            raise UserError(
                f"{where}: found {dates[row]} on {place(row)}, which is no session of {days} (data.calendar)."
                " Take the row out, correct its date, or set data.calendar to the rows' own, such as"
                ' "weekdays".'
            )
        return
    found = found_days(dates)
    counts = np.bincount(_weekday(dates), minlength=7)
    if daily and counts.max() >= MIN_WEEKS and found != days:
        names = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
        shares = ", ".join(f"{count} on a {name}" for name, count in zip(names, counts, strict=True))
        raise UserError(
            f"{where}: found {shares}, expected rows on the days of data.calendar {days!r}. Leave it"
            f' out, or set it to "{found}".'
        )


def _weekday(dates: Dates) -> Int[np.ndarray, "N"]:
    """0 for Monday; 1970-01-01 was a Thursday."""
    return (dates.astype("datetime64[D]").astype(np.int64) + 3) % 7


# How the row of a period is dated: (calendar of days, first and last days of periods) -> dates.
DATINGS: dict[str, Callable[[str, Dates, Dates], Dates]] = {
    "first open day": lambda days, first, last: roll(days, first, forward=True),
    "last open day": lambda days, first, last: roll(days, last, forward=False),
    "first day": lambda days, first, last: first,
    "last day": lambda days, first, last: last,
}


def _on_day(number: int, days: str, first: Dates, last: Dates) -> Dates:
    """The day of a number, or else the next open day within the period, or else the last one."""
    wanted = np.minimum(first + (number - 1) * DAY, last)
    later = roll(days, wanted, forward=True)
    return np.where(later <= last, later, roll(days, wanted, forward=False))


def _dates_of(dated: str, days: str, first: Dates, last: Dates) -> Dates:
    if dated in DATINGS:
        return DATINGS[dated](days, first, last)
    return _on_day(int(dated), days, first, last)


def _periods(frequency: str, dates: Dates, ahead: Int[np.ndarray, "N"] | int = 0) -> tuple[Dates, Dates]:
    """The first and last days of the weeks or months of dates, or of those of rows that lie ahead of them."""
    if frequency == "weekly":
        first = dates - _weekday(dates) * DAY + ahead * 7 * DAY
        return first, first + 6 * DAY
    months = dates.astype("datetime64[M]") + ahead * MONTHS[frequency] * np.timedelta64(1, "M")
    return months.astype("datetime64[D]"), (months + np.timedelta64(1, "M")).astype("datetime64[D]") - DAY


def found_dating(frequency: str, days: str, dates: Dates) -> str:
    """The dating of the rows of weeks, months or quarters: that of most of them.

    The rows of a quarter are dated within one of its months, the same for all.
    """
    if frequency == "daily" or not len(dates):
        return Calendar().dated
    first, last = _periods(frequency, dates)
    number = int(np.median((dates - first).astype(np.int64))) + 1
    shares = {
        dated: float(np.mean(_dates_of(dated, days, first, last) == dates))
        for dated in (*DATINGS, str(number))
    }
    best = max(shares, key=shares.__getitem__)  # the first of equal ones
    return best if shares[best] > 0.5 else str(number)


def next_dates(calendar: Calendar, last: np.datetime64, steps: int) -> Dates:
    """The dates of the `steps` rows after a last one.

    Raises:
      UserError: sessions that the exchange's calendar does not know.
    """
    if calendar.frequency == "daily":
        return following(calendar.days, last, steps)
    closed = 2 if calendar.frequency == "weekly" and is_exchange(calendar.days) else 0  # whole weeks
    ahead = np.arange(1, steps + closed + 1)
    first, end = _periods(calendar.frequency, np.full(len(ahead), last), ahead)
    dates = _dates_of(calendar.dated, calendar.days, first, end)
    return dates[(dates >= first) & (dates <= end)][:steps]


def periods_a_year(calendar: Calendar) -> float:
    """Rows in a year, by which a Sharpe ratio is annualised: 252 of an exchange, 365 of all days."""
    if calendar.frequency != "daily":
        return ROWS_A_YEAR[calendar.frequency]
    week = "1111100" if is_exchange(calendar.days) else WEEKS.get(calendar.days, calendar.days)
    return DAYS_A_YEAR.get(week.count("1"), 52.0 * week.count("1"))


def before_holiday(dates: Dates, calendar: Calendar) -> Bool[np.ndarray, "N"]:
    """Whether a holiday of the exchange lies between a date and its next session."""
    open_days = exchange(calendar.days)
    sessions = _sessions_over(calendar.days, dates.min(), dates.max() + 14 * DAY)
    after = sessions[np.searchsorted(sessions, dates, side="right")]
    return _any_between(open_days.holidays, dates, after)


def after_holiday(dates: Dates, calendar: Calendar) -> Bool[np.ndarray, "N"]:
    """Whether a holiday of the exchange lies between the session before a date and the date."""
    sessions = _sessions_over(calendar.days, dates.min() - 14 * DAY, dates.max())
    before = sessions[np.searchsorted(sessions, dates) - 1]
    return _any_between(exchange(calendar.days).holidays, before, dates)


def _any_between(holidays: Shaped[np.ndarray, "H"], first: Dates, last: Dates) -> Bool[np.ndarray, "N"]:
    return np.searchsorted(holidays, last) > np.searchsorted(holidays, first, side="right")


def half_day(dates: Dates, calendar: Calendar) -> Bool[np.ndarray, "N"]:
    """Whether the exchange closes early."""
    return np.isin(dates, exchange(calendar.days).early_closes)


MAX_DAYS_TO = 60.0  # an event farther away is as good as none


def days_to(name: str, dates: Dates, calendar: Calendar) -> Float64[np.ndarray, "N"]:
    """Days until the next scheduled event of a name: 0 on its day, at most MAX_DAYS_TO.

    Raises:
      UserError: a date after the last event.
    """
    events = np.unique(np.array(calendar.events[name], "datetime64[D]"))
    if dates.max() > events[-1]:
        raise UserError(
            f"data.events: the last date of {name!r} is {events[-1]}, and rows reach to {dates.max()}. Add"
            " the scheduled dates that follow, past the last step to forecast; or end the rows (data.end)."
        )
    ahead = (events[np.searchsorted(events, dates)] - dates).astype(np.float64)
    return np.minimum(ahead, MAX_DAYS_TO)
