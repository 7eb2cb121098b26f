"""Series of one's own, a row a value published: their reading from a file or a frame, strict about both."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int

from tftjax import files
from tftjax.config.data import DataConfig, SeriesConfig
from tftjax.config.section import nearest
from tftjax.data.alignment import RELEASE_RULES, RULE_WORDS, Dates, Observations, fixed_lag
from tftjax.data.calendar import found_frequency
from tftjax.data.raw.cells import check_not_ahead, check_years
from tftjax.data.raw.fred_csv import check_first_releases
from tftjax.data.series.transforms import compose
from tftjax.data.tables.table import Table, file_table, frame_table, places_from
from tftjax.errors import UserError, listed

Vintages = Mapping[str, pd.DataFrame]
NO_VINTAGES: Vintages = {}
OF_FRAMES = ("observation", "release", "value")  # columns of a frame of vintages
LARGEST_RETURN = 0.5  # median size of changes as shares of one


class Unit(NamedTuple):
    """What values of a unit can be.

    Attributes:
      words: the unit, for people.
      above_zero: whether all values are above 0.
      largest: largest median size.
    """

    words: str
    above_zero: bool = False
    largest: float = np.inf


UNITS = {
    "index": Unit("an index such as that of consumer prices", above_zero=True),
    "price": Unit("money", above_zero=True),
    "count": Unit("persons, pieces, hours", above_zero=True),
    "return": Unit("a change as a share: 0.01 is one percent", largest=LARGEST_RETURN),
    "percent": Unit("a rate or a change: 1 is one percent"),
    "percentage points": Unit("a difference of rates: 1 is one point"),
    "basis points": Unit("a difference of rates: 100 are one point"),
    "number": Unit("any other"),
}


class Source(NamedTuple):
    """A series as it was read.

    Attributes:
      observations: the values as they became known.
      frequency: a key of SPACINGS.
      release: observation dates -> the days on which their values should be known, for the length of gaps.
      words: when a value is seen.
      where: file or frame and column, for messages.
    """

    observations: Observations
    frequency: str
    release: Callable[[Dates], Dates]
    words: str
    where: str


def read_sources(config: DataConfig, vintages: Vintages = NO_VINTAGES) -> dict[str, Source]:
    """The series of `data.series` by name, from their files or from frames.

    Args:
      vintages: frames by name, with the columns of OF_FRAMES.

    Raises:
      UserError: a series without a source or with two, an unknown name, or anything wrong in one of them.
    """
    unknown = [name for name in vintages if name not in config.series]
    if unknown:
        known = ", ".join(config.series) or "none"
        raise UserError(
            f"vintages: found {listed(unknown)}, which data.series does not have ({known}). Correct the name."
        )
    sources = {}
    for name, section in config.series.items():
        key, frame = f"data.series.{name}", vintages.get(name)
        if section.file is None and frame is None:
            raise UserError(
                f"{key}: found neither a file nor a frame in vintages, expected one of them. Name the file,"
                f' or give vintages={{"{name}": frame}} in Python, to tftjax predict --vintages {name}=FILE,'
                f" with the columns {', '.join(OF_FRAMES)}."
            )
        if section.file is not None and frame is not None:
            raise UserError(
                f"vintages: found a frame for {name!r}, whose {key}.file is {section.file!r}, expected one of"
                " the two. The file is read anew each time: bring it up to date, and leave the frame out."
            )
        source = _read(name, section, frame)
        sources[name] = source if config.alignment == "vintage" else _fixed(name, source, config)
    return sources


def _fixed(name: str, source: Source, config: DataConfig) -> Source:
    """The series under `data.alignment: "fixed"`."""
    if name not in config.lags:
        raise UserError(
            f"data.lags: found none of {name!r} with data.alignment 'fixed', expected the days after its date"
            f' on which a value of data.series.{name} is seen, such as {{"{name}": 45}}. Add it.'
        )
    lag = np.timedelta64(config.lags[name], "D")
    return source._replace(
        observations=fixed_lag(source.observations, config.lags[name]),
        release=lambda dates: dates + lag,
        words=f"visible {config.lags[name]} days after its date",
    )


def _read(name: str, section: SeriesConfig, frame: pd.DataFrame | None) -> Source:
    key = f"data.series.{name}"
    if section.unit is not None and section.unit not in UNITS:
        raise UserError(
            f"{key}.unit: found {section.unit!r}, expected one of {', '.join(UNITS)}."
            f" {nearest(section.unit, tuple(UNITS))} Correct it, or leave it out."
        )
    rule = section.release_rule and release_rule(section.release_rule, f"{key}.release_rule")
    if frame is not None:
        date, release, value = OF_FRAMES
        table = frame_table(frame, date, None, f"vintages[{name!r}]")
    else:
        date, release, value = section.date, section.release, section.value or name
        path = Path(section.file)
        if not path.is_file():
            raise UserError(
                f"{key}.file: there is no file {path}{files.near(path)}. Expected a CSV or"
                " Parquet file. Correct the path; it starts at the working directory."
            )
        table = file_table(path, date, None)
    dates, releases, values, rows = _cells(table, date, release, value, key)
    place = lambda row: table.place(int(rows[row]))  # noqa: E731
    _check_dates(table.where, date, release, dates, releases, values, place)
    if releases is None:
        releases = rule(dates)
    _check_values(table.where, value, section, values, place)
    usable = ~np.isnan(values)
    if not usable.any():
        raise UserError(
            f"{table.where}, column {value!r}: found no value in any row, expected numbers. Fill it."
        )
    observations = Observations(dates[usable], releases[usable], values[usable])
    firsts = np.unique(observations.dates)
    frequency = _frequency(firsts, section.frequency, f"{table.where}, column {date!r}", key)
    words = "release dates of the source"
    if rule is None:
        delay = _longest_delay(observations)
        rule = lambda dates: dates + delay  # noqa: E731
    else:
        count = section.release_rule.removeprefix("days:")
        words = RULE_WORDS.get(section.release_rule, f"visible {count} days after its date")
    return Source(observations, frequency, rule, words, f"{table.where}, column {value!r}")


def release_rule(text: str, where: str) -> Callable[[Dates], Dates]:
    """The rule of a name in RELEASE_RULES, or of "days:N".

    Raises:
      UserError: an unknown rule.
    """
    if text in RELEASE_RULES:
        return RELEASE_RULES[text]
    if re.fullmatch(r"days:\d{1,4}", text):
        lag = np.timedelta64(int(text.removeprefix("days:")), "D")
        return lambda dates: dates + lag
    known = (*RELEASE_RULES, "days:N")
    raise UserError(
        f"{where}: found {text!r}, expected one of {', '.join(known)}. {nearest(text, known)} Correct it."
    )


def _cells(
    table: Table, date: str, release: str | None, value: str, key: str
) -> tuple[Dates, Dates | None, Float64[np.ndarray, "N"], Int[np.ndarray, "N"]]:
    """Dates, release dates if there are any, values, and numbers of rows, sorted by both dates."""
    expected, parts = [name for name in (date, release, value) if name is not None], []
    for first, cells in table.parts():
        missing = [name for name in expected if name not in cells]
        if missing:
            keys = "" if table.where.startswith("vintages") else f", or name yours in {key}"
            raise UserError(
                f"{table.where}, {table.header}: found no column {', '.join(map(repr, missing))} among"
                f" {listed(cells)}, expected {', '.join(expected)}. Rename or add it{keys}."
            )
        place = places_from(table, first)
        days = [table.dates(table.where, name, cells[name], place) for name in expected[:-1]]
        for name, column in zip(expected[:-1], days, strict=True):
            check_years(table.where, name, column, place)
        values = table.numbers(table.where, value, cells[value], place)
        parts.append((*days, values, np.arange(first, first + len(values))))
    *days, values, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort(days[::-1])
    dates, releases = days[0][order], days[1][order] if release is not None else None
    return dates, releases, values[order], rows[order]


def _check_dates(
    where: str,
    date: str,
    release: str | None,
    dates: Dates,
    releases: Dates | None,
    values: Float64[np.ndarray, "N"],
    place: Callable[[int], str],
) -> None:
    """Refuses a value of the future, one released before its date, and two of one release.

    Rows without a value may lie ahead, as those of a calendar of releases do.
    """
    valued = np.flatnonzero(~np.isnan(values))
    of_value = lambda row: place(int(valued[row]))  # noqa: E731
    check_not_ahead(where, date, dates[valued], place=of_value)
    same = dates[1:] == dates[:-1]
    if releases is not None:
        check_not_ahead(where, release, releases[valued], place=of_value)
        early = releases < dates
        if early.any():
            row = int(np.argmax(early))
            raise UserError(
                f"{where}, {place(row)}, column {release!r}: found the release {releases[row]} of the"
                f" observation {dates[row]}, expected no release before its observation. Correct one of them."
            )
        same &= releases[1:] == releases[:-1]
    if same.any():
        row = int(np.argmax(same))
        what = f"released on {releases[row]}" if releases is not None else "without release dates"
        advice = "" if releases is not None else ", or name the column of release dates"
        raise UserError(
            f"{where}, {place(row)} and {place(row + 1)}: found two values of {dates[row]} {what}, expected"
            f" one. Keep one of the two{advice}."
        )
    if releases is not None:
        check_first_releases(where, dates, releases, values, release, place)


def _check_values(
    where: str,
    column: str,
    section: SeriesConfig,
    values: Float64[np.ndarray, "N"],
    place: Callable[[int], str],
) -> None:
    """Refuses values that their unit, or a transform of them, cannot have."""
    unit, ratio = UNITS.get(section.unit, UNITS["number"]), compose(section.transform, None, column).ratio
    low = values <= 0
    if low.any() and (unit.above_zero or ratio):
        row = int(np.argmax(low))
        why = f"the unit {section.unit!r} has no other" if unit.above_zero else f"{ratio!r} divides by it"
        raise UserError(
            f"{where}, {place(row)}, column {column!r}: found {values[row]:g}, expected a value above 0:"
            f" {why}. Correct it, or leave the cell empty."
        )
    if np.isnan(values).all():
        return
    size = float(np.nanmedian(np.abs(values)))
    if size > unit.largest:
        raise UserError(
            f"{where}, column {column!r}: found a median size of {size:.4g}, expected at most"
            f" {unit.largest:g} of the unit {section.unit!r} ({unit.words}). It seems to be in percent: say"
            " so in its unit."
        )


def _frequency(dates: Dates, given: str | None, where: str, key: str) -> str:
    """The frequency of observations: as given, if their dates can have it, or as found."""
    found = found_frequency(dates)
    if given is None and found is None:
        raise UserError(
            f"{where}: found {len(dates)} dates from {dates[0]} to {dates[-1]}, whose frequency cannot be"
            f" told, expected it to be given. Set {key}.frequency."
        )
    if given is not None and found is not None and given != found:
        raise UserError(
            f"{where}: found {found} dates, expected {given} ones, as {key}.frequency says. Correct it, or"
            " give the series at that frequency."
        )
    return given or found


def _longest_delay(series: Observations) -> np.timedelta64:
    """The longest time from a date to the first release of its value."""
    dates, first = np.unique(series.dates, return_index=True)
    return (series.releases[first] - dates).max()
