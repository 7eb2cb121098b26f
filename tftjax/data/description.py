"""Description of a panel in words."""

import numpy as np
import pandas as pd

from tftjax.data.alignment import days
from tftjax.data.calendar import Calendar, count_open, words
from tftjax.data.encoding import categorical_columns
from tftjax.data.panel import Panel, blocks, calendar_of

LONG_GAP = 5  # open days without a row; from here on the gap is listed


def describe(panel: Panel) -> str:
    """Rows, range, gaps, and by column: mean, standard deviation, range, staleness, a guess of the unit."""
    frame = panel.frame
    dates = days(frame.index)
    lines = [
        f"{len(frame)} rows, {dates.min()} to {dates.max()}, target {panel.target}",
        *(_gap_lines(dates, calendar_of(panel)) if panel.id_column is None else _series_lines(panel)),
        f"fingerprint {panel.fingerprint[:16]}",
        "",
        f"{'column':27}{'mean':>12}{'sd':>12}{'min':>12}{'max':>12}{'missing':>9}  {'days since release':20}"
        "unit guess",
    ]
    for name in (*panel.observed, *panel.known_real, *panel.static_real):
        values = frame[name]
        numbers = "".join(f"{v:12.5g}" for v in (values.mean(), values.std(), values.min(), values.max()))
        missing = f"{values.isna().mean():9.1%}"
        lines.append(f"{name:27}{numbers}{missing}  {_ages(panel, name):20}{unit_guess(values)}")
    for name in categorical_columns(panel):
        counts = frame[name].value_counts()
        categories = ", ".join(map(str, sorted(counts.index)[:12])) + (" ..." if len(counts) > 12 else "")
        missing = f", missing {share:.1%}" if (share := frame[name].isna().mean()) else ""
        lines.append(f"{name:27}{len(counts)} categories: {categories}{missing}")
    return "\n".join([*lines, "", *panel.messages])


def _series_lines(panel: Panel) -> list[str]:
    """Number of series, and the shortest, middle and longest of them."""
    series = sorted(blocks(panel.frame, panel.id_column), key=lambda pair: len(pair[1]))
    lines = [f"{len(series)} series by {panel.id_column}; the shortest, the middle one, the longest:"]
    for name, rows in series if len(series) <= 3 else (series[0], series[len(series) // 2], series[-1]):
        first, last = panel.frame.index[rows.start].date(), panel.frame.index[rows.stop - 1].date()
        lines.append(f"  {name}: {len(rows)} rows, {first} to {last}")
    return lines


def _gap_lines(dates: np.ndarray, calendar: Calendar) -> list[str]:
    if calendar.frequency != "daily":
        return [
            f"{calendar.frequency} rows, at most {np.diff(dates).astype(np.int64).max(initial=0)} days apart"
        ]
    open_days = calendar.days
    gaps = count_open(open_days, dates[:-1], dates[1:]) - 1
    if not len(gaps) or gaps.max() < LONG_GAP:
        return [f"longest time without a row: {int(gaps.max(initial=0))} {words(open_days)}"]
    longest = np.argsort(-gaps, kind="stable")[:3]
    return [
        f"no row for {gaps[row]} {words(open_days)} between {dates[row]} and {dates[row + 1]}"
        for row in longest
        if gaps[row] >= LONG_GAP
    ]


def _ages(panel: Panel, name: str) -> str:
    if name not in panel.staleness:
        return "each row anew"
    ages = panel.staleness[name]
    return f"median {ages.median():.0f}, max {ages.max():.0f}"


def unit_guess(values: pd.Series) -> str:
    """The unit that the spread of a column suggests; a guess, for a person to check.

    >>> unit_guess(pd.Series([-0.01, 0.02, 0.0])), unit_guess(pd.Series([14.2, 30.5]))
    ('return, decimal', 'level or percent')
    """
    spread, low = float(values.std()), float(values.min())
    if low < 0 and 0.002 <= spread <= 0.1:
        return "return, decimal"
    if low < 0 and 0.2 <= spread <= 10 and abs(values.mean()) < spread / 4:
        return "return, percent?"
    if low >= 0 and values.max() < 1:
        return "share or rate, decimal?"
    return "level or percent"
