"""The rows to forecast from, and those of the steps ahead."""

import argparse
import datetime
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tftjax.data.feature_sets import known_input, source_of
from tftjax.data.loading import date_column, find_dataset
from tftjax.data.newest import load_like, newest_rows, without_weights
from tftjax.data.panel import Panel, calendar_of, join_series, split_series, with_rows
from tftjax.data.prepared import train_targets
from tftjax.data.series.reading import NO_VINTAGES, Vintages
from tftjax.data.tables.future import ended, read_future, steps_ahead, with_future
from tftjax.data.tables.inspection import read_any
from tftjax.errors import UserError, both
from tftjax.storage import runs

log = logging.getLogger(__name__)

# Largest ratio between the spreads of given and trained returns: percent for decimals is a factor of 100, a
# few rows of a crisis can be one of 5 to 10.
UNIT_FACTOR = 20.0


def load_rows(
    run: runs.Run,
    data: str | pd.DataFrame | None,
    as_of: datetime.date | None,
    future: Path | str | pd.DataFrame | None = None,
    vintages: Vintages = NO_VINTAGES,
) -> Panel:
    """Reads the rows to forecast from: the run's data set as it is today or another source, up to a date.

    Args:
      data: see `load_like`; None takes the run's data set, see `newest_rows`.
      future: file or frame of the next steps' dates and known columns, see `read_future`; None takes those
        that the data brings: rows without a target at its end, or after `as_of`.
      vintages: newer frames of the series that were frames in training, by name.

    Raises:
      UserError: a source is unusable, or has no row up to the date.
    """
    trained, config = run.data.whole, without_weights(run.config.data)
    if data is None and not vintages:
        panel, words = newest_rows(trained, config)
        log.info(f"data: {words}, to {panel.frame.index.max().date()}")
    else:
        if isinstance(data, str):
            find_dataset(data, both("--data"))
        source = config.dataset if data is None else data
        panel = load_like(trained, config.model_copy(update={"end": None}), source, vintages)
    if as_of is not None:
        before = panel.frame.index <= pd.Timestamp(as_of)
        if not before.any():
            late = "; ".join(message for message in panel.messages if message.startswith("dropped"))
            raise UserError(
                f"{both('--as-of')}{as_of}: the first row of the data is of {panel.frame.index.min().date()}"
                f"{f' ({late})' if late else ''}. Give a later date."
            )
        if panel.frame.index.max() < pd.Timestamp(as_of):
            last = panel.frame.index.max().date()
            log.warning(f"{as_of} is after the data's last row, of {last}: that row is forecast from")
        panel = ended(panel, before)
    if future is not None:
        panel = with_future(panel, read_future(future, panel, date_column(run.config.data)))
    if data is not None:
        _check_unit(run, panel, "the frame" if isinstance(data, pd.DataFrame) else data)
    return panel


def _check_unit(run: runs.Run, panel: Panel, data: str) -> None:
    """Refuses returns that are far larger or smaller than those that the run was trained on."""
    trained = float(np.concatenate([*train_targets(run.data.panel, run.data.blocks).values()]).std())
    spread = float(panel.frame[panel.target].std(ddof=0))
    if not trained / UNIT_FACTOR < spread < trained * UNIT_FACTOR:
        raise UserError(
            f"{data}: the standard deviation of {panel.target} is {spread:.6g}, in training it was "
            f"{trained:.6g}. The data seems to be in another unit: bring it to the unit of the run's data."
        )


def extend_panel(panel: Panel, steps: int) -> Panel:
    """The panel with `steps` future rows after its last date; see `steps_ahead`.

    Each series of a panel is extended. Known and static columns are filled, observed ones (the target too)
    are NaN.

    Raises:
      UserError: no value of a known column, or no date.
    """
    return join_series([_extend_series(part, steps) for part in split_series(panel)])


def _extend_series(panel: Panel, steps: int) -> Panel:
    last, given = panel.frame.index[-1], steps_ahead(panel, steps)
    future = given.index.as_unit(panel.frame.index.unit)
    rows = pd.DataFrame({name: np.full(steps, np.nan) for name in panel.observed}, index=future)
    rows = rows.assign(**{name: np.full(steps, None, object) for name in panel.observed_categorical})
    calendar = calendar_of(panel)
    seen = pd.concat([panel.frame[list(panel.observed)], rows[list(panel.observed)]])
    for role in ("known_real", "known_categorical"):
        for name in getattr(panel, role):
            if name in given:
                rows[name] = given[name].to_numpy()
            else:
                source = seen[source_of(name, panel.target)]
                rows[name] = known_input(name, role, calendar.events)(source, calendar)[-steps:]
    for name in panel.static_real + panel.static_categorical:
        rows[name] = panel.frame[name].iloc[0]
    frame = pd.concat([panel.frame, rows])
    message = f"appended {steps} future rows after {last.date()}"
    return with_rows(panel, frame, panel.staleness.reindex(frame.index), (message,))


def add_vintages(parser: argparse.ArgumentParser) -> None:
    """Adds --vintages, which `vintage_frames` reads."""
    parser.add_argument(
        "--vintages",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="CSV or Parquet file, with columns observation, release and value, of a series that was a frame"
        " in training; once for each. Files of data.series are read again of themselves",
    )


def vintage_frames(given: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The tables of texts NAME=FILE, by name.

    Raises:
      UserError: another text, or a file that cannot be read.
    """
    pairs = [text.partition("=") for text in given]
    for text, (name, _, file) in zip(given, pairs, strict=True):
        if not name or not Path(file).is_file():
            raise UserError(
                f"--vintages {text!r}: expected NAME=FILE, the name of a series and a CSV or Parquet file"
                " that is there, such as cpi=cpi.csv."
            )
    return {name: read_any(Path(file)) for name, _, file in pairs}
