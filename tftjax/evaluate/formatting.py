"""Numbers as text, for every table, page and terminal."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from tftjax.config.data import DataConfig
from tftjax.data.calendar import UNITS

Metrics = Mapping[str, Any]
Number = int | float


class Format(NamedTuple):
    """A kind of number: the factor into the unit that people read, and the digits behind the point.

    A `sign` of "+" is written before positive numbers too.
    """

    factor: Number = 1
    digits: int = 2

    def number(self, value: Number | None, sign: str = "") -> str:
        """A number for reading; a dash where it is undefined.

        >>> Format(1e3, 4).number(0.00257), Format().number(None)
        ('2.5700', '-')
        """
        return f"{self.factor * value:{sign}.{self.digits}f}" if is_defined(value) else "-"

    def interval(self, low: Number | None, high: Number | None, sign: str = "") -> str:
        """An interval in brackets; nothing where it is undefined."""
        if not (is_defined(low) and is_defined(high)):
            return ""
        return f"[{self.number(low, sign)}, {self.number(high, sign)}]"

    def estimate(self, value: Number | None, low: Number | None, high: Number | None, sign: str = "") -> str:
        """A number, and its interval if it has one.

        >>> Format(100, 1).estimate(0.02, -0.01, 0.05, "+")
        '+2.0 [-1.0, +5.0]'
        """
        return f"{self.number(value, sign)} {self.interval(low, high, sign)}".rstrip()

    def mean(self, value: Number | None, error: Number | None) -> str:
        """A mean, and its standard error if it has one."""
        return self.number(value) + (f" ± {self.number(error)}" if is_defined(error) else "")


class Unit(NamedTuple):
    """The unit in which values of the target are shown.

    Attributes:
      factor: of values as decimals.
      title: what is shown, for an axis.
      form: format of a number.
      end: what stands after a number.
    """

    factor: float
    title: str
    form: str
    end: str = ""

    def text(self, value: float) -> str:
        """A value with its unit.

        >>> RETURNS.text(-0.0123)
        '-1.23 %'
        """
        return f"{self.factor * value:{self.form}}{self.end}"


RETURNS = Unit(100.0, "return, %", "+.2f", " %")
LOSS = Format(1e3, 4)  # a loss in 1e-3
SQUARED_LOSS = Format(1e6, 4)  # in 1e-6
BASIS_POINTS = Format(1e4, 1)
PERCENT = Format(100, 1)  # a share in percent
GAIN = Format(100, 2)  # a difference of losses in percent of one
CORRELATION = Format(1, 3)
RATIO = Format(1, 2)  # a Sharpe ratio
SCORE = Format(1, 3)  # a score without a unit


def is_defined(value: Number | None) -> bool:
    """Whether a value is a finite number."""
    return value is not None and math.isfinite(value)


def share(value: Number | None, digits: int = 1) -> str:
    """A share in percent; a dash where it is undefined."""
    return f"{PERCENT._replace(digits=digits).number(value)} %" if is_defined(value) else "-"


def relative(difference: Number | None, loss: Number) -> float | None:
    """A difference of losses as a share of one; None of a loss that is zero, of which nothing is a share."""
    return difference / loss if is_defined(difference) and loss != 0 else None


def p_text(p: Number | None) -> str:
    """A p-value for reading; a dash where it is undefined.

    >>> p_text(0.0002), p_text(0.0312), p_text(0.5), p_text(None)
    ('p < 0.001', 'p = 0.031', 'p = 0.50', '-')
    """
    if not is_defined(p):
        return "-"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def unit_of(data: DataConfig) -> Unit:
    """The unit of what a run forecasts: percent of returns, else that in which the data was given."""
    factor = 100.0 if data.return_unit == "percent" else 1.0
    units = {
        "as_is": Unit(factor, "level", ".6g"),
        "difference": Unit(factor, "change", "+.6g"),
        "log_return": RETURNS._replace(title="log return, %"),
    }
    return units.get(data.target_transform, RETURNS)


def noun_of(about: Mapping[str, Any]) -> str:
    """What a row of a panel is, by its `about`.

    >>> noun_of({"frequency": "monthly"}), noun_of({})
    ('month', 'day')
    """
    return UNITS[about.get("frequency", "daily")].removeprefix("a ")


def counted(count: int, noun: str) -> str:
    """A number of things: "1 seed", "2 seeds"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
