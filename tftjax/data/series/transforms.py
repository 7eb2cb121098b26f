"""Transforms of a series with release dates: a function and a line of a table each, composed by name."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64

from tftjax.config.section import nearest
from tftjax.errors import UserError

TRADING_DAYS_A_YEAR = 252
NEAR_A_YEAR = pd.Timedelta(days=6)  # between the date a year before and that of the value taken for it


def level(series: pd.Series) -> pd.Series:
    """The series as it is."""
    return series


def unchanged(values: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
    """The joined values as they are."""
    return values


def minus(minuend: pd.Series, subtrahend: pd.Series) -> pd.Series:
    """minuend - subtrahend on the observation dates that both have."""
    return (minuend - subtrahend).dropna()


def change_over_year(series: pd.Series) -> pd.Series:
    """Change against the value of a year before, percent; dates without such a value are left out.

    Matched by date, at most NEAR_A_YEAR off: a shift by 12 rows would compare the wrong months after a
    missing one.
    """
    year_before = series.index - pd.DateOffset(years=1)
    base = series.reindex(year_before, method="nearest", tolerance=NEAR_A_YEAR).to_numpy()
    return (100.0 * (series / base - 1.0)).dropna()


def simple_return(values: Float64[np.ndarray, "N"], periods: int) -> Float64[np.ndarray, "N"]:
    """values[t] / values[t - periods] - 1, a decimal; NaN in the first `periods` rows.

    >>> simple_return(np.array([100.0, 110.0, 99.0]), 1).round(3).tolist()
    [nan, 0.1, -0.1]
    """
    return values / lag(values, periods) - 1.0


def difference(values: Float64[np.ndarray, "N"], periods: int) -> Float64[np.ndarray, "N"]:
    """values[t] - values[t - periods]; NaN in the first `periods` rows.

    >>> difference(np.array([1.0, 4.0, 9.0]), 2).tolist()
    [nan, nan, 8.0]
    """
    return values - lag(values, periods)


def log_change(values: Float64[np.ndarray, "N"], periods: int) -> Float64[np.ndarray, "N"]:
    """log(values[t] / values[t - periods]); NaN in the first `periods` rows."""
    return difference(np.log(values), periods)


def lag(values: Float64[np.ndarray, "N"], periods: int) -> Float64[np.ndarray, "N"]:
    """values[t - periods]; NaN in the first `periods` rows.

    >>> lag(np.array([1.0, 4.0, 9.0]), 1).tolist()
    [nan, 1.0, 4.0]
    """
    return np.append(np.full(min(periods, len(values)), np.nan), values[:-periods])


def z_score(values: Float64[np.ndarray, "N"], window: int) -> Float64[np.ndarray, "N"]:
    """The value's distance from the mean of the last `window` values, in their sample standard deviations.

    The value itself is one of them. 0 where all are equal; NaN in the first `window - 1` rows.

    >>> z_score(np.array([1.0, 2.0, 3.0, 3.0, 3.0, 3.0]), 3).round(3).tolist()
    [nan, nan, 1.0, 0.577, 0.0, 0.0]
    """
    result = np.full(len(values), np.nan)
    if len(values) >= window:
        windows = np.lib.stride_tricks.sliding_window_view(values, window)
        spread = np.where(np.ptp(windows, axis=1) == 0, np.inf, windows.std(axis=1, ddof=1))
        result[window - 1 :] = (values[window - 1 :] - windows.mean(axis=1)) / spread
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


class Transform(NamedTuple):
    """A step from values to values that looks backwards only.

    Attributes:
      apply: values [N], and the number N of `name:N` if there is one -> values [N]. Of a step that needs
        dates: a series by its observation dates -> a series.
      words: what it makes, for people.
      unit: unit of what it makes; None: that of the values.
      least: smallest number; 0: the step has none.
      by_date: whether it needs observation dates.
      of_age: whether it is made of days since the release.
      ratio: whether it divides by values, so that all have to be above 0.
      signed: whether what it makes may be 0 or less where the values are above.
    """

    apply: Callable[..., Float64[np.ndarray, "N"] | pd.Series]
    words: str
    unit: str | None
    least: int = 1
    by_date: bool = False
    of_age: bool = False
    ratio: bool = False
    signed: bool = True


TRANSFORMS = {
    "change_over_year": Transform(
        change_over_year, "change against a year before", "percent", 0, by_date=True, ratio=True
    ),
    "difference": Transform(difference, "the value less that of N before", None),
    "log_change": Transform(log_change, "change of the logarithm over N", "return", ratio=True),
    "momentum": Transform(simple_return, "change over N, as a share", "return", ratio=True),
    "z_score": Transform(
        z_score, "distance from the mean of the last N, in their spread", "standard deviations", 2
    ),
    "lag": Transform(lag, "the value N before", None, signed=False),
    "realized_volatility": Transform(
        realized_volatility, "volatility of the last N changes, annualised", "percent", 2, ratio=True
    ),
    "log_age": Transform(log_age, "log(1 + age)", "log days", 0, of_age=True),
    "fresh": Transform(fresh, "1 where the age has begun anew, else 0", "0 or 1", 0, of_age=True),
}
# Steps that are no function of values. What follows ON_ROWS or AGE counts rows, what stands before it counts
# the series' own observations, as they were known on one day.
ON_ROWS, AGE, MINUS = "on_rows", "age", "minus"
STEPS = {
    **{f"{name}:N" if step.least else name: step.words for name, step in TRANSFORMS.items()},
    f"{MINUS}:NAME": "less another of data.series, as the first step",
    ON_ROWS: "the steps after it count rows of the panel, not observations",
    AGE: "days since the release, in place of the values; the steps after it count rows",
}


class Made(NamedTuple):
    """What composed steps make of a series.

    Attributes:
      others: names of the series that are taken off.
      on_dates: maps the series, and the others, by their observation dates to one series.
      on_rows: maps the joined values [N] to the column.
      of_age: whether `on_rows` maps the days since release in place of the values.
      unit: unit of the column; None: not said.
      ratio: the step that needs values above 0; None if there is none.
    """

    others: tuple[str, ...]
    on_dates: Callable[..., pd.Series]
    on_rows: Callable[[np.ndarray], np.ndarray]
    of_age: bool
    unit: str | None
    ratio: str | None


def compose(steps: Sequence[str], unit: str | None, where: str) -> Made:
    """What composed steps make of a series.

    Args:
      steps: names of TRANSFORMS with their numbers, ON_ROWS, AGE or MINUS; see STEPS.
      unit: unit of the series.
      where: what errors call the steps, such as "data.series.cpi.transform".

    Raises:
      UserError: an unknown step, one without its number, or one in a place where it means nothing.
    """
    others: tuple[str, ...] = ()
    of_dates, of_rows, joined, of_age, signed, ratio = [], [], False, False, False, None
    for place, text in enumerate(steps):
        here = f"{where}[{place}]"
        name, _, argument = text.partition(":")
        if name == MINUS and argument and place == 0:
            others, signed = (argument,), True
            unit = "percentage points" if unit == "percent" else unit
        elif text in (ON_ROWS, AGE) and not joined:
            joined, of_age = True, text == AGE
            unit, signed = ("days", True) if of_age else (unit, signed)
        else:
            step, apply = _step(text, joined, here)
            if step.of_age and not of_age:
                raise UserError(
                    f"{here}: found {text!r} without {AGE!r} before it, expected the days since a release,"
                    f" which it is made of. Put {AGE!r} before it."
                )
            if step.ratio and signed:
                raise UserError(
                    f"{here}: found {text!r} after a step whose values may be 0 or less, expected values"
                    " above 0, which it divides by. Put it before that step."
                )
            ratio = text if step.ratio and ratio is None else ratio
            signed, unit = signed or step.signed, step.unit or unit
            (of_rows if joined else of_dates).append(apply)
    on_dates = partial(_on_dates, steps=tuple(of_dates)) if others or of_dates else level
    on_rows = partial(_on_rows, steps=tuple(of_rows)) if of_rows else unchanged
    return Made(others, on_dates, on_rows, of_age, unit, ratio)


def _step(text: str, joined: bool, here: str) -> tuple[Transform, Callable]:
    """The transform of a step, and its function: of a series by date, or of the rows' values."""
    name, colon, argument = text.partition(":")
    step = TRANSFORMS.get(name)
    if text in (ON_ROWS, AGE):
        raise UserError(f"{here}: found a second one of {ON_ROWS!r} and {AGE!r}, expected one. Take it out.")
    if name == MINUS and argument:
        raise UserError(f"{here}: found {text!r} after another step, expected it as the first. Move it.")
    if step is None:
        known = nearest(text, tuple(STEPS))
        raise UserError(f"{here}: found {text!r}, which is no transform that can stand there. {known}")
    number = int(argument) if re.fullmatch(r"\d{1,4}", argument) else -1
    if step.least > number if step.least else colon:
        form = f"{name}:N with a whole number N of at least {step.least}" if step.least else name
        raise UserError(f"{here}: found {text!r}, expected {form}. Correct it.")
    if joined and step.by_date:
        raise UserError(
            f"{here}: found {text!r} after {ON_ROWS!r} or {AGE!r}, expected it before: it is a change between"
            " dates of observations. Move it."
        )
    apply = partial(_with_number, step.apply, number) if step.least else step.apply
    return step, apply if joined or step.by_date else partial(_of_values, apply)


def _with_number(apply: Callable, number: int, values: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
    return apply(values, number)


def _of_values(apply: Callable, series: pd.Series) -> pd.Series:
    return pd.Series(apply(series.to_numpy(np.float64)), index=series.index).dropna()


def _on_dates(series: pd.Series, *others: pd.Series, steps: Sequence[Callable]) -> pd.Series:
    for other in others:
        series = minus(series, other)
    for apply in steps:
        series = apply(series)
    return series


def _on_rows(values: Float64[np.ndarray, "N"], steps: Sequence[Callable]) -> Float64[np.ndarray, "N"]:
    for apply in steps:
        values = apply(values)
    return values
