"""Columns of series of one's own, joined as of each row's date, with the days since their release."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from tftjax.config.data import DataConfig
from tftjax.data.alignment import MAX_MISSING, Dates, NoRows, as_of, check_gaps, days, publications, snapshot
from tftjax.data.feature_sets import CALENDAR, Column, FeatureSet, columns_of
from tftjax.data.raw.cells import NEVER
from tftjax.data.series.reading import NO_VINTAGES, Source, Vintages, read_sources
from tftjax.errors import UserError, listed


class Published(NamedTuple):
    """A column's values as they were published, for rows of any dates.

    Attributes:
      column: name, unit and transforms.
      source: the series that it is made of, or the one that others are taken off.
      values: days of publication, of first publication, and values; see `publications`.
      dates: observation dates on which it has a value today.
      max_gap: longest gap of a daily series, business days.
      max_missing: most periods missing in a row of another one.
    """

    column: Column
    source: Source
    values: tuple[Dates, Dates, np.ndarray]
    dates: Dates
    max_gap: int
    max_missing: int


def with_series(feature_set: FeatureSet, config: DataConfig) -> FeatureSet:
    """The feature set with the columns of `data.series` after its own.

    Raises:
      UserError: a name that is taken, or a wrong transform.
    """
    columns = columns_of(config.series, {name: name for name in config.series}, "data.series")
    taken = {"date", *CALENDAR, *(column.name for column in feature_set.columns)}
    twice = [column.name for column in columns if column.name in taken]
    if twice:
        raise UserError(
            f"data.series: found {listed(twice)}, a column that the data has already, the date or what is"
            " made of it, expected another name. Rename it; value names its column in the file."
        )
    return replace(feature_set, columns=feature_set.columns + columns)


def publish(config: DataConfig, vintages: Vintages = NO_VINTAGES) -> tuple[Published, ...]:
    """The columns of `data.series`, computed each time that one of their values became known.

    Raises:
      UserError: see `read_sources` and `columns_of`.
    """
    columns = columns_of(config.series, {name: name for name in config.series}, "data.series")
    sources, published = read_sources(config, vintages), []
    for column in columns:
        raw = [sources[name].observations for name in column.sources]
        limit = config.series[column.name].max_gap
        today = column.on_dates(*(snapshot(series, NEVER) for series in raw))
        published.append(
            Published(
                column=column,
                source=sources[column.name],
                values=publications(raw, column.on_dates, config.vintage),
                dates=days(pd.DatetimeIndex(today.index)),
                max_gap=config.max_gap if limit is None else limit,
                max_missing=MAX_MISSING if limit is None else limit,
            )
        )
    return tuple(published)


def join(
    frame: pd.DataFrame, staleness: pd.DataFrame, published: Sequence[Published]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table with the published columns as they were known on each row's date, and their staleness, days.

    Args:
      frame: rows of one series by date.
      staleness: ages of columns that the table has already.

    Raises:
      NoRows: a column of which nothing was known by the last row.
    """
    values, ages, rows = {}, {}, days(frame.index)
    for column, source, published_values, *_ in published:
        released = published_values[0]
        if not len(released) or released[0] > rows[-1]:
            when = f"its first one released on {released[0]}" if len(released) else "too few to make one"
            raise NoRows(
                f"{source.where}: found no value of the column {column.name!r} that was known on {rows[-1]},"
                f" the last row ({when}), expected one. Give earlier releases, or rows to a later day, or"
                " take the series out."
            )
        joined, age = as_of(*published_values, rows)
        values[column.name] = column.on_rows(age if column.of_age else joined)
        if source.frequency != "daily" and not column.of_age:
            ages[column.name] = age
    return frame.assign(**values), staleness.assign(**ages)


def check_published(published: Sequence[Published], rows: Dates) -> None:
    """Refuses a column of which the rows would see values that are far too old; see `check_gaps`."""
    for column, source, _, dates, max_gap, max_missing in published:
        where, setting = f"{source.where} (data.series.{column.name})", f"data.series.{column.name}.max_gap"
        limits = {"max_gap": max_gap, "max_missing": max_missing, "setting": setting}
        check_gaps(dates, source.frequency, source.release, rows[0], rows[-1], where, **limits)


def words_of(published: Sequence[Published]) -> tuple[str, ...]:
    """When each column's values are seen, for a panel's messages."""
    return tuple(f"{column.name}: {source.words}" for column, source, *_ in published)


def places_of(published: Sequence[Published]) -> Mapping[str, str]:
    """The file or frame of each column."""
    return {column.name: source.where for column, source, *_ in published}
