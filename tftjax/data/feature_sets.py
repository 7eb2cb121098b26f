"""The columns of panels: name, role, unit, sources and causal transforms; feature sets, as sections."""

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped

from tftjax.config.data import ColumnsConfig, SeriesConfig
from tftjax.data.alignment import days
from tftjax.data.calendar import (
    Calendar,
    after_holiday,
    before_holiday,
    days_to,
    half_day,
    is_exchange,
)
from tftjax.data.panel import ROLES
from tftjax.data.series.transforms import AGE, ON_ROWS, compose, level, unchanged
from tftjax.errors import UserError


@dataclass(frozen=True)
class RawSeries:
    """Frequency, unit and rules of a FRED series.

    Attributes:
      frequency: "daily" or "monthly"; a monthly value is dated the first of its month.
      unit: unit of the values, in words.
      release: key of alignment.RELEASE_RULES, used where the data has no release dates.
      lag_days: days from observation date to visibility under `data.alignment: "fixed"`.
      non_positive: treatment of a value <= 0: "error", "keep", or "skip" (a price that has no simple return,
        such as WTI's on 2020-04-20: the last positive one is kept and a message says so).
      median_range: bounds of the median absolute value of any stretch of the series, however short: lowest
        and highest value since its beginning lie within, with room, and the same numbers in decimals or basis
        points do not. None where units cannot be told apart: rates and spreads have been near zero.
    """

    frequency: str
    unit: str
    release: str
    lag_days: int
    non_positive: str
    median_range: tuple[float, float] | None


SERIES = {
    "SP500": RawSeries("daily", "index points", "same_day", 0, "error", (3.0, 1e5)),
    "VIXCLS": RawSeries("daily", "percent a year", "same_day", 0, "error", (3.0, 300.0)),
    "DGS10": RawSeries("daily", "percent a year", "next_business_day", 1, "keep", (0.2, 30.0)),
    "T10Y2Y": RawSeries("daily", "percentage points", "next_business_day", 1, "keep", None),
    "DCOILWTICO": RawSeries("daily", "US dollars a barrel", "same_day", 0, "skip", (3.0, 1e3)),
    "AAA": RawSeries(
        "monthly", "percent a year", "first_business_day_of_next_month", 32, "keep", (1.0, 40.0)
    ),
    "BAA": RawSeries(
        "monthly", "percent a year", "first_business_day_of_next_month", 32, "keep", (1.0, 40.0)
    ),
    "FEDFUNDS": RawSeries("monthly", "percent a year", "first_business_day_of_next_month", 32, "keep", None),
    "CPIAUCSL": RawSeries(
        "monthly", "index 1982-84=100", "from_13th_of_next_month", 45, "error", (10.0, 1e3)
    ),
    "CPILFESL": RawSeries(
        "monthly", "index 1982-84=100", "from_13th_of_next_month", 45, "error", (10.0, 1e3)
    ),
    "UNRATE": RawSeries("monthly", "percent", "from_10th_of_next_month", 40, "keep", (1.0, 50.0)),
    "INDPRO": RawSeries("monthly", "index 2017=100", "from_18th_of_next_month", 50, "error", (3.0, 300.0)),
}


Known = Callable[[pd.Series, Calendar], Shaped[np.ndarray, "N"]]


def of_sessions(mark: Callable[..., Bool[np.ndarray, "N"]]) -> Known:
    """The known input 0 or 1 of a mark of an exchange's sessions."""
    return lambda target, calendar: mark(days(target.index), calendar).astype(np.int64)


# Known categorical inputs made by their names, also for rows that lie in the future: from the column that
# `source_of` names, by date, which is NaN there, and the calendar.
CALENDAR: dict[str, Known] = {
    "day_of_week": lambda target, calendar: target.index.day_of_week.to_numpy().astype(np.int64),  # Monday: 0
    "month": lambda target, calendar: target.index.month.to_numpy().astype(np.int64),  # January: 1
    "before_holiday": of_sessions(before_holiday),
    "after_holiday": of_sessions(after_holiday),
    "half_day": of_sessions(half_day),
}
OF_THE_DATE = ("day_of_week", "month")  # the others need an exchange's sessions
LAG = re.compile(r"lag_([1-9]\d{0,3})(?:_of_(.+))?")
RELATIVE_INDEX = "relative_index"  # a known input that each window has of its own: `data.windows.gather`


def lag_of(name: str) -> int | None:
    """The number of rows that a known input `lag_N` or `lag_N_of_NAME` lies back; None for another name."""
    match = LAG.fullmatch(name)
    return match and int(match[1])


def source_of(name: str, target: str) -> str:
    """The observed column that a known input made by its name is made of, if not of the date alone.

    >>> source_of("lag_5_of_vix", "ret"), source_of("lag_5", "ret")
    ('vix', 'ret')
    """
    match = LAG.fullmatch(name)
    return (match and match[2]) or target


def known_input(name: str, role: str, events: Collection[str]) -> Known | None:
    """The function that makes a known column of a name; None if the data has to bring it.

    Args:
      role: the column's role; none but known columns are made.
      events: names of `data.events`.
    """
    if role == "known_categorical":
        return CALENDAR.get(name)
    if role == "known_real" and lag_of(name):
        return lambda source, calendar: source.shift(lag_of(name)).to_numpy()
    if role == "known_real" and name == RELATIVE_INDEX:
        return lambda source, calendar: np.zeros(len(source))
    if role == "known_real" and name.startswith("days_to_") and name.removeprefix("days_to_") in events:
        return lambda target, calendar: days_to(name.removeprefix("days_to_"), days(target.index), calendar)
    return None


@dataclass(frozen=True)
class Column:
    """A column of the panel; its two transforms look backwards only.

    Attributes:
      name: name of the column.
      role: "target", "weight", or one of ROLES.
      unit: unit of the values; "return" is a simple return as a decimal.
      sources: raw series that the column is made of; none for known columns, which `known_input` makes.
      on_dates: maps the sources, on their observation dates, to one series, which is then joined as of each
        row's date.
      on_rows: maps the joined values [N] to the column.
      of_age: whether `on_rows` maps the days since release in place of the values.
    """

    name: str
    role: str
    unit: str
    sources: tuple[str, ...] = ()
    on_dates: Callable[..., pd.Series] = level
    on_rows: Callable[[np.ndarray], np.ndarray] = unchanged
    of_age: bool = False


@dataclass(frozen=True)
class FeatureSet:
    """The columns of a panel.

    Attributes:
      row_series: raw series whose observation dates are the panel's rows; empty for a table of one's own.
      columns: the columns, target first.
      id_column: column that tells the series of a table of several apart; None for a single series.
      events: names of scheduled events, the days to which are known inputs.
    """

    row_series: str
    columns: tuple[Column, ...]
    id_column: str | None = None
    events: tuple[str, ...] = ()

    def names(self, role: str) -> tuple[str, ...]:
        """The names of the columns of a role, in table order."""
        return tuple(column.name for column in self.columns if column.role == role)

    def made_columns(self) -> dict[str, Known]:
        """The known columns that are made by their names, in table order."""
        made = {column.name: known_input(column.name, column.role, self.events) for column in self.columns}
        return {name: make for name, make in made.items() if make is not None}

    def given_columns(self) -> tuple[str, ...]:
        """The known columns that the data has to bring, also for days ahead."""
        made, known = self.made_columns(), ("known_real", "known_categorical")
        return tuple(name for role in known for name in self.names(role) if name not in made)

    def read_columns(self) -> tuple[Column, ...]:
        """The columns that come from data: all that are not made."""
        made = self.made_columns()
        return tuple(column for column in self.columns if column.name not in made)

    def series_names(self) -> tuple[str, ...]:
        """The raw series that the columns need, each once, in table order."""
        return tuple(dict.fromkeys(source for column in self.columns for source in column.sources))


def columns_of(
    sections: Mapping[str, SeriesConfig], sources: Mapping[str, str], where: str
) -> tuple[Column, ...]:
    """The observed columns that sections of series make, in order.

    Args:
      sections: series by name, as in `data.series`.
      sources: by name of a section, the name of its raw series.
      where: what errors call the sections.

    Raises:
      UserError: a transform that is wrong, or takes off a series that there is not.
    """
    columns = []
    for name, section in sections.items():
        here = f"{where}.{name}.transform"
        made = compose(section.transform, section.unit, here)
        for other in made.others:
            if other not in sections or other == name:
                known = ", ".join(key for key in sections if key != name) or "none"
                raise UserError(
                    f"{here}: found {section.transform[0]!r}, expected another series of {where} after the"
                    f" colon; there are {known}. Correct the name, or add the series with"
                    ' "column": false.'
                )
        if section.column:
            raw = tuple(sources[key] for key in (name, *made.others))
            unit = made.unit or "as in the file"
            columns.append(Column(name, "observed", unit, raw, made.on_dates, made.on_rows, made.of_age))
    return tuple(columns)


def _fred(series: str, *transform: str, unit: str = "percent", column: bool = True) -> SeriesConfig:
    """The section of a FRED series, with its rules."""
    rules = {"frequency": SERIES[series].frequency, "release_rule": SERIES[series].release}
    return SeriesConfig(
        file=f"{series}.csv", value=series, unit=unit, transform=transform, column=column, **rules
    )


_SP500 = partial(_fred, "SP500", ON_ROWS, unit="index")
_REALIZED_VOL = {"Realized_Vol_21d": _SP500("realized_volatility:21")}
_CREDIT_SPREAD = {"Credit_Spread": _fred("BAA", "minus:AAA"), "AAA": _fred("AAA", column=False)}
_CORE_INFLATION = {"Core_Inflation_YoY": _fred("CPILFESL", "change_over_year", unit="index")}
_MARKET = {"SP500_Returns": _SP500("momentum:1"), "VIX": _fred("VIXCLS")}
_PROPOSAL = {
    **_MARKET,
    "Treasury_10Y": _fred("DGS10"),
    "Yield_Spread": _fred("T10Y2Y", unit="percentage points"),
    "Inflation_YoY": _fred("CPIAUCSL", "change_over_year", unit="index"),
}
_inflation_age = partial(_fred, "CPIAUCSL", "change_over_year", AGE, unit="index")
# By feature set, its sections as in `data.series`: the first makes the target, and its dates are the rows.
SECTIONS: dict[str, dict[str, SeriesConfig]] = {
    "core_embedded": {
        "SP500_Returns": _MARKET["SP500_Returns"],
        **_REALIZED_VOL,
        "WTI_Return_21d": _fred("DCOILWTICO", ON_ROWS, "momentum:21", unit="price"),
        "AAA_Yield": _fred("AAA"),
        **_CREDIT_SPREAD,
        **_CORE_INFLATION,
    },
    "core_proposal": _PROPOSAL,
    # Plain days made models collapse on the most recent steps.
    "core_proposal_ages": {
        **_PROPOSAL,
        "Inflation_YoY_Log_Age": _inflation_age("log_age"),
        "Inflation_YoY_Fresh": _inflation_age("fresh"),
    },
    "market_only": _MARKET,
    "core_plus_credit": {**_PROPOSAL, **_CREDIT_SPREAD},
    "core_dynamics": {
        **_PROPOSAL,
        **_REALIZED_VOL,
        "Momentum_21d": _SP500("momentum:21"),
        "Momentum_63d": _SP500("momentum:63"),
    },
    "macro_heavy": {
        **_PROPOSAL,
        **_CREDIT_SPREAD,
        **_CORE_INFLATION,
        "Fed_Funds": _fred("FEDFUNDS"),
        "Unemployment": _fred("UNRATE"),
        "Industrial_Production_YoY": _fred("INDPRO", "change_over_year", unit="index"),
    },
}


def _feature_set(name: str) -> FeatureSet:
    sections = SECTIONS[name]
    target, *observed = columns_of(sections, {key: s.value for key, s in sections.items()}, name)
    dates = (Column(made, "known_categorical", "category") for made in OF_THE_DATE)
    return FeatureSet(target.sources[0], (replace(target, role="target"), *observed, *dates))


FEATURE_SETS = {name: _feature_set(name) for name in SECTIONS}


def get_feature_set(name: str) -> FeatureSet:
    """The entry of FEATURE_SETS of a name; UserError lists the known ones."""
    if name not in FEATURE_SETS:
        nearest = difflib.get_close_matches(name, FEATURE_SETS, n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
        raise UserError(
            f"data.feature_set: found {name!r}, expected one of {', '.join(sorted(FEATURE_SETS))}.{hint}"
            " Correct the name, or write the columns of your own as sections of data.series."
        )
    return FEATURE_SETS[name]


def from_columns(
    columns: ColumnsConfig, calendar: str | None = None, events: Collection[str] = ()
) -> FeatureSet:
    """The feature set of a table of one's own: its columns as they are.

    Args:
      calendar: `data.calendar`.
      events: names of `data.events`.

    Raises:
      UserError: a column has the name of a calendar column in another role, needs an exchange's sessions, or
        is a lag of a column that is not observed.
    """
    roles = {name: getattr(columns, name) for name in ROLES}
    if columns.id is not None:
        roles["static_categorical"] = (columns.id, *roles["static_categorical"])
    numbers = (
        columns.target,
        *(name for role in roles if role != "known_categorical" for name in roles[role]),
    )
    for name in numbers:
        if name in CALENDAR:
            raise UserError(
                f"data.columns: found {name!r} in another role than known_categorical. It is made from the"
                " date, as a category: rename your column, or move it."
            )
    for name in roles["known_real"]:
        source = source_of(name, columns.target)
        if source not in (columns.target, *columns.observed):
            raise UserError(
                f"data.columns.known_real: {name!r} is made of {source!r}, which is no observed column"
                f" ({', '.join((columns.target, *columns.observed))}). Name one of them, or the column in"
                " data.columns.observed."
            )
    for name in roles["known_categorical"]:
        if name in CALENDAR and name not in OF_THE_DATE and (calendar is None or not is_exchange(calendar)):
            raise UserError(
                f"data.columns.known_categorical: {name!r} is made from the sessions of an exchange, and"
                f" data.calendar is {'null' if calendar is None else repr(calendar)}: set it to one, such as"
                ' "XNYS". If it is a column of your own, rename it.'
            )
    return FeatureSet(
        row_series="",
        columns=(
            Column(columns.target, "target", "return"),
            *(Column(name, role, "as in the file") for role, names in roles.items() for name in names),
            *(() if columns.weight is None else (Column(columns.weight, "weight", "as in the file"),)),
        ),
        id_column=columns.id,
        events=tuple(events),
    )
