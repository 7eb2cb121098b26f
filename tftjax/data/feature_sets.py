"""The columns of panels: name, role, unit, source series and causal transform, one line a column."""

import difflib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Shaped

from tftjax.config.data import ColumnsConfig
from tftjax.data.alignment import days
from tftjax.data.calendar import (
    Calendar,
    after_holiday,
    before_holiday,
    days_to,
    half_day,
    is_exchange,
)
from tftjax.errors import UserError

ROLES_OF_TABLES = (
    "observed",
    "observed_categorical",
    "known_real",
    "known_categorical",
    "static_real",
    "static_categorical",
)
TRADING_DAYS_A_YEAR = 252


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


def level(series: pd.Series) -> pd.Series:
    """The series as it is."""
    return series


def difference(minuend: pd.Series, subtrahend: pd.Series) -> pd.Series:
    """minuend - subtrahend on the observation dates that both have."""
    return (minuend - subtrahend).dropna()


def year_over_year(series: pd.Series) -> pd.Series:
    """Change against the same month a year before, percent; months without a base month are left out.

    Matched by date: a shift by 12 rows would compare the wrong months after a missing one.
    """
    base = series.reindex(series.index - pd.DateOffset(years=1)).to_numpy()
    return (100.0 * (series / base - 1.0)).dropna()


def unchanged(values: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
    """The joined values as they are."""
    return values


def simple_return(values: Float64[np.ndarray, "N"], periods: int) -> Float64[np.ndarray, "N"]:
    """values[t] / values[t - periods] - 1, a decimal; NaN in the first `periods` rows.

    >>> simple_return(np.array([100.0, 110.0, 99.0]), 1).round(3).tolist()
    [nan, 0.1, -0.1]
    """
    result = np.full(len(values), np.nan)
    result[periods:] = values[periods:] / values[:-periods] - 1.0
    return result


def realized_volatility(prices: Float64[np.ndarray, "N"], window: int) -> Float64[np.ndarray, "N"]:
    """Annualised sample standard deviation of the last `window` one-row returns, percent.

    The row's own return is included. Each window is summed anew: a running sum would carry
    rounding errors of earlier rows along.
    """
    result = np.full(len(prices), np.nan)
    returns = simple_return(prices, 1)[1:]
    if len(returns) >= window:
        windows = np.lib.stride_tricks.sliding_window_view(returns, window)
        result[window:] = windows.std(axis=1, ddof=1) * np.sqrt(TRADING_DAYS_A_YEAR) * 100.0
    return result


def log_age(age: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
    """log(1 + days since release)."""
    return np.log1p(age)


def fresh(age: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
    """1 in a row whose age is the first one or not above that of the row before, else 0; NaN without one.

    >>> fresh(np.array([np.nan, 3.0, 4.0, 0.0, 1.0])).tolist()
    [nan, 1.0, 0.0, 1.0, 0.0]
    """
    before = np.append(np.nan, age[:-1])
    new = np.isnan(before) | (age <= before)
    return np.where(np.isnan(age), np.nan, new.astype(np.float64))


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
      role: "target", or one of ROLES_OF_TABLES.
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


SP500_RETURNS = Column(
    "SP500_Returns", "target", "return", ("SP500",), on_rows=partial(simple_return, periods=1)
)
REALIZED_VOL = Column(
    "Realized_Vol_21d", "observed", "percent", ("SP500",), on_rows=partial(realized_volatility, window=21)
)
VIX = Column("VIX", "observed", "percent", ("VIXCLS",))
CREDIT_SPREAD = Column("Credit_Spread", "observed", "percentage points", ("BAA", "AAA"), on_dates=difference)
CORE_INFLATION = Column("Core_Inflation_YoY", "observed", "percent", ("CPILFESL",), on_dates=year_over_year)
PROPOSAL = (
    VIX,
    Column("Treasury_10Y", "observed", "percent", ("DGS10",)),
    Column("Yield_Spread", "observed", "percentage points", ("T10Y2Y",)),
    Column("Inflation_YoY", "observed", "percent", ("CPIAUCSL",), on_dates=year_over_year),
)


def _ages(name: str, source: str, on_dates: Callable[..., pd.Series]) -> tuple[Column, ...]:
    """The columns of a value's staleness. Plain days made models collapse on the most recent steps."""
    age = partial(Column, sources=(source,), on_dates=on_dates, of_age=True)
    return (
        age(f"{name}_Log_Age", "observed", "log days", on_rows=log_age),
        age(f"{name}_Fresh", "observed", "0 or 1", on_rows=fresh),
    )


CALENDAR_COLUMNS = tuple(Column(name, "known_categorical", "category") for name in OF_THE_DATE)


def _momentum(periods: int) -> Column:
    on_rows = partial(simple_return, periods=periods)
    return Column(f"Momentum_{periods}d", "observed", "return", ("SP500",), on_rows=on_rows)


def _daily_sp500(*observed: Column) -> FeatureSet:
    return FeatureSet("SP500", (SP500_RETURNS, *observed, *CALENDAR_COLUMNS))


FEATURE_SETS = {
    "core_embedded": _daily_sp500(
        REALIZED_VOL,
        Column(
            "WTI_Return_21d",
            "observed",
            "return",
            ("DCOILWTICO",),
            on_rows=partial(simple_return, periods=21),
        ),
        Column("AAA_Yield", "observed", "percent", ("AAA",)),
        CREDIT_SPREAD,
        CORE_INFLATION,
    ),
    "core_proposal": _daily_sp500(*PROPOSAL),
    "core_proposal_ages": _daily_sp500(*PROPOSAL, *_ages("Inflation_YoY", "CPIAUCSL", year_over_year)),
    "market_only": _daily_sp500(VIX),
    "core_plus_credit": _daily_sp500(*PROPOSAL, CREDIT_SPREAD),
    "core_dynamics": _daily_sp500(*PROPOSAL, REALIZED_VOL, _momentum(21), _momentum(63)),
    "macro_heavy": _daily_sp500(
        *PROPOSAL,
        CREDIT_SPREAD,
        CORE_INFLATION,
        Column("Fed_Funds", "observed", "percent", ("FEDFUNDS",)),
        Column("Unemployment", "observed", "percent", ("UNRATE",)),
        Column("Industrial_Production_YoY", "observed", "percent", ("INDPRO",), on_dates=year_over_year),
    ),
}


def get_feature_set(name: str) -> FeatureSet:
    """The entry of FEATURE_SETS of a name; UserError lists the known ones."""
    if name not in FEATURE_SETS:
        nearest = difflib.get_close_matches(name, FEATURE_SETS, n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
        raise UserError(
            f"data.feature_set: found {name!r}, expected one of {', '.join(sorted(FEATURE_SETS))}.{hint}"
            " Correct the name, or add the set to FEATURE_SETS in tftjax/data/feature_sets.py."
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
    roles = {name: getattr(columns, name) for name in ROLES_OF_TABLES}
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
        ),
        id_column=columns.id,
        events=tuple(events),
    )
