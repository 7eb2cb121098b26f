"""Which columns a panel has: name, role, unit, source series and causal transform, one line a column."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float64, Shaped

from tftjax.config import UserError

TRADING_DAYS_A_YEAR = 252


@dataclass(frozen=True)
class RawSeries:
    """What is known of a FRED series: frequency, unit, release rule (a key of alignment.RELEASE_RULES).

    `non_positive` says what a value <= 0 means: "error" (it cannot be), "skip" (a price that has no simple
    return, such as WTI's on 2020-04-20: the last positive one is kept and a message says so) or "keep".
    """

    frequency: str
    unit: str
    release: str
    non_positive: str


SERIES = {
    "SP500": RawSeries("daily", "index points", "same_day", "error"),
    "DCOILWTICO": RawSeries("daily", "US dollars a barrel", "same_day", "skip"),
    "AAA": RawSeries("monthly", "percent a year", "first_business_day_of_next_month", "keep"),
    "BAA": RawSeries("monthly", "percent a year", "first_business_day_of_next_month", "keep"),
    "CPILFESL": RawSeries("monthly", "index 1982-84=100", "from_13th_of_next_month", "error"),
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
    """values[t] / values[t - periods] - 1, a decimal; NaN in the first `periods` rows."""
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


# Known inputs derived from a row's date alone, also for rows that lie in the future.
CALENDAR: dict[str, Callable[[pd.DatetimeIndex], Shaped[np.ndarray, "N"]]] = {
    "day_of_week": lambda dates: dates.day_of_week.to_numpy().astype(np.int64),  # Monday is 0
    "month": lambda dates: dates.month.to_numpy().astype(np.int64),  # January is 1
}


@dataclass(frozen=True)
class Column:
    """A column of the panel.

    `role` is target, observed, known_real or known_categorical; a unit of "return" means a simple return as a
    decimal. `on_dates` maps the source series, on their own observation dates, to one series (released under
    the sources' rule); that is joined as of each row's date, and `on_rows` maps the joined values [N] to the
    column. Both look backwards only. Known columns have no source: CALENDAR derives them from the dates.
    """

    name: str
    role: str
    unit: str
    sources: tuple[str, ...] = ()
    on_dates: Callable[..., pd.Series] = level
    on_rows: Callable[[np.ndarray], np.ndarray] = unchanged


@dataclass(frozen=True)
class FeatureSet:
    """The columns of a panel, target first, and the series whose observation dates are the panel's rows."""

    row_series: str
    columns: tuple[Column, ...]

    def names(self, role: str) -> tuple[str, ...]:
        """The names of the columns of that role, in table order."""
        return tuple(column.name for column in self.columns if column.role == role)

    def read_columns(self) -> tuple[Column, ...]:
        """The columns that come from data: all that the calendar does not give."""
        return tuple(column for column in self.columns if column.name not in CALENDAR)

    def series_names(self) -> tuple[str, ...]:
        """The raw series that the columns need, each once, in table order."""
        return tuple(dict.fromkeys(source for column in self.columns for source in column.sources))


FEATURE_SETS = {
    "core_embedded": FeatureSet(
        row_series="SP500",
        columns=(
            Column(
                "SP500_Returns", "target", "return", ("SP500",), on_rows=partial(simple_return, periods=1)
            ),
            Column(
                "Realized_Vol_21d",
                "observed",
                "percent",
                ("SP500",),
                on_rows=partial(realized_volatility, window=21),
            ),
            Column(
                "WTI_Return_21d",
                "observed",
                "return",
                ("DCOILWTICO",),
                on_rows=partial(simple_return, periods=21),
            ),
            Column("AAA_Yield", "observed", "percent", ("AAA",)),
            Column("Credit_Spread", "observed", "percentage points", ("BAA", "AAA"), on_dates=difference),
            Column("Core_Inflation_YoY", "observed", "percent", ("CPILFESL",), on_dates=year_over_year),
            Column("day_of_week", "known_categorical", "category"),
            Column("month", "known_categorical", "category"),
        ),
    ),
}


def get_feature_set(name: str) -> FeatureSet:
    """The feature set of that name; UserError lists the known ones."""
    if name not in FEATURE_SETS:
        raise UserError(
            f"data.feature_set: found {name!r}, expected one of {', '.join(sorted(FEATURE_SETS))}."
            " Correct the name, or add the set to FEATURE_SETS in tftjax/data/feature_sets.py."
        )
    return FEATURE_SETS[name]
