"""Rows for the days ahead: what a forecast past the last row needs."""

import numpy as np
import pandas as pd

from tftjax.data.alignment import PERIODS
from tftjax.data.feature_sets import CALENDAR
from tftjax.data.panel import Panel, join_series, split_series, with_rows
from tftjax.errors import UserError

FOLLOWING = {"daily": "B", "weekly": "W-FRI", "monthly": "BME"}  # expected dates of the next rows


def extend_panel(panel: Panel, steps: int) -> Panel:
    """The panel with `steps` future rows (weekdays, Fridays or last weekdays of months) after its last date.

    In a panel of several series, after each one's. Calendar and static columns are filled, observed ones (the
    target too) are NaN. Public holidays are not looked up.

    Raises: UserError if a known column cannot be derived from the date.
    """
    unknown = [name for name in panel.known_real + panel.known_categorical if name not in CALENDAR]
    if unknown:
        raise UserError(
            f"panel: the future values of the known columns {', '.join(unknown)} are needed to forecast"
            f" past the last row, and only {', '.join(CALENDAR)} follow from the date. Forecast earlier"
            " days by evaluation, or train without these columns."
        )
    return join_series([_extend_series(part, steps) for part in split_series(panel)])


def _extend_series(panel: Panel, steps: int) -> Panel:
    last = panel.frame.index[-1]
    following = FOLLOWING[panel.about.get("frequency", "daily")]
    future = pd.date_range(last + pd.Timedelta(days=1), periods=steps + 1, freq=following, name="date")
    # The rest of the last row's own period is no step: a month's last trading day may be the 30th of 31.
    period = PERIODS.get(panel.about.get("frequency"), "D")
    future = future[future.to_period(period) > last.to_period(period)][:steps].as_unit(panel.frame.index.unit)
    rows = pd.DataFrame({name: np.full(steps, np.nan) for name in panel.observed}, index=future)
    for name in panel.known_real + panel.known_categorical:
        rows[name] = CALENDAR[name](future)
    for name in panel.static_real + panel.static_categorical:
        rows[name] = panel.frame[name].iloc[0]
    frame = pd.concat([panel.frame, rows])
    message = f"appended {steps} future rows after {last.date()}"
    return with_rows(panel, frame, panel.staleness.reindex(frame.index), (message,))
