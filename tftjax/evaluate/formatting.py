"""How numbers are written: one place for every table, page and terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Metrics = Mapping[str, Any]
Number = int | float


def number(value: Number | None, factor: Number = 1, digits: int = 2, sign: str = "") -> str:
    """A number for reading; a dash where it is undefined."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{factor * value:{sign}.{digits}f}"


def share(value: Number | None, digits: int = 1) -> str:
    """A share in percent."""
    text = number(value, 100, digits)
    return text if text == "-" else f"{text} %"


def relative(difference: Number | None, loss: Number) -> float | None:
    """A difference of losses as a share of one; None of a loss that is zero, of which nothing is a share."""
    return None if difference is None or loss == 0 else difference / loss


def interval(
    low: Number | None, high: Number | None, factor: Number = 1, digits: int = 2, sign: str = ""
) -> str:
    """An interval in brackets; nothing where it is undefined."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{number(low, factor, digits, sign)}, {number(high, factor, digits, sign)}]"


def p_text(p: float | None) -> str:
    """A p-value for reading."""
    if p is None:
        return "-"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


class Shown(NamedTuple):
    """A metric of the summary: its name in results.csv without the split, and how a person reads it."""

    metric: str
    title: str
    factor: float
    digits: int


SHOWN = (
    Shown("pinball", "pinball, 1e-3", 1e3, 4),
    Shown("sigma", "sigma, bp", 1e4, 1),
    Shown("share_positive", "positive, %", 100, 1),
    Shown("directional_accuracy", "direction right, %", 100, 1),
    Shown("coverage/80", "80 % interval covers, %", 100, 1),
    Shown("quality/HEALTHY", "healthy, %", 100, 1),
)


def line(name: str, cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {name} | {' | '.join(cells)} |"
