"""Forecast the next steps after the last row of the data: `python -m tftjax.predict runs/NAME`.

Of a sweep, `--config NAME` gives the forecast of that config's ensemble; of a walk-forward, in its newest
fold.
"""

import datetime
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tftjax import files, runtime
from tftjax.cli import command_parser, exit_code
from tftjax.config.data import DataConfig
from tftjax.data.alignment import PERIODS
from tftjax.data.feature_sets import CALENDAR
from tftjax.data.loading import MAKES_OTHER_VALUES, load_panel
from tftjax.data.panel import Panel, blocks, join_series, name_of, select_rows, split_series, with_rows
from tftjax.data.prepared import cardinalities, train_targets
from tftjax.data.transforms import in_return_unit, to_levels
from tftjax.data.windows import make_series
from tftjax.errors import UserError
from tftjax.model.forecast import forecast_rows
from tftjax.model.parameters import build_model
from tftjax.storage import runs
from tftjax.sweep.ensembles import average_tables, open_runs

log = logging.getLogger(__name__)

FOLLOWING = {"daily": "B", "weekly": "W-FRI", "monthly": "BME"}  # expected dates of the next rows

# Largest ratio between the spreads of given and trained returns: percent for decimals is a factor of 100, a
# few rows of a crisis can be one of 5 to 10.
UNIT_FACTOR = 20.0
EWMA_ROWS = 75  # past rows that hold 99 % of the weight of a moving volatility with decay 0.94


def predict(run: runs.Run, panel: Panel) -> pd.DataFrame:
    """Forecasts the steps after the last row (of each series); no future target is needed.

    Args:
      panel: rows up to the day of the forecast, with the run's columns.
    Returns:
      A row for each step: its expected date (the next weekdays), the series' name if there are several, and a
      column for each quantile, returns as decimals.
    Raises:
      UserError: see `forecastable`, or other columns than the run's.
    """
    return forecast_next(run, forecastable(run, panel))


def forecastable(run: runs.Run, panel: Panel) -> Panel:
    """The series of a panel that a run can forecast; what is left out is logged.

    Raises:
      UserError: fewer rows than the encoder needs, or no series that was trained on.
    """
    model_config, encoding = run.config.model, run.data.encoding
    needed = model_config.encoder_length
    if encoding.target_scale == "ewma":
        needed = max(needed, EWMA_ROWS)
    parts = {name_of(part): part for part in split_series(panel)}
    unknown = [name for name in parts if name not in encoding.series]
    if len(unknown) == len(parts):
        raise UserError(
            f"prediction: found the series {', '.join(unknown[:5])}, and none that the run was trained on"
            f" ({', '.join(encoding.series[:5])}): their scalers are unknown. Give data of those series."
        )
    if unknown:
        log.warning(f"left out {len(unknown)} series that the run was not trained on: {', '.join(unknown)}")
    short = [name for name in parts if name not in unknown and len(parts[name].frame) < needed]
    long_enough = [part for name, part in parts.items() if name not in (*unknown, *short)]
    if not long_enough:
        raise UserError(
            f"prediction: found {len(panel.frame)} rows to {panel.frame.index[-1].date()}, the run's "
            f"model.encoder_length is {model_config.encoder_length}, its data.target_scale"
            f" {encoding.target_scale!r}: expected at least {needed} rows. Give more rows, or a later"
            " --as-of."
        )
    if short:
        log.warning(f"left out {len(short)} series with fewer than {needed} rows: {', '.join(short)}")
    panel = join_series(long_enough)
    newest = panel.frame.index.max()
    ended = {name_of(part): part.frame.index[-1] for part in long_enough}
    early = [f"{name} ({last.date()})" for name, last in ended.items() if last < newest]
    if early:
        names = ", ".join(early)
        log.warning(f"series that end before {newest.date()}, forecast from their own last rows: {names}")
    return panel


def forecast_next(run: runs.Run, panel: Panel, future: pd.DataFrame | str | None = None) -> pd.DataFrame:
    """`predict` for a panel of series that can be forecast."""
    model_config, encoding = run.config.model, run.data.encoding
    # All rows, not only the encoder's: a moving volatility looks further back.
    extended = extend_panel(panel, model_config.prediction_length)
    model = build_model(run.config, *cardinalities(panel, encoding), run.functions)
    stops = np.array([rows.stop for _, rows in blocks(extended.frame, extended.id_column)])
    first_steps = stops - model_config.prediction_length
    starts = (first_steps - model_config.encoder_length).astype(np.int32)
    quantiles = forecast_rows(model, run.parameters, make_series(extended, encoding), starts)
    rows = (first_steps[:, None] + np.arange(model_config.prediction_length)).ravel()
    names = [f"{q:g}" for q in model_config.quantiles]
    table = pd.DataFrame(quantiles.reshape(len(rows), -1), index=extended.frame.index[rows], columns=names)
    if panel.id_column is not None:
        table.insert(0, "series", extended.frame[panel.id_column].to_numpy()[rows])
    return table


def load_rows(run: runs.Run, data: str | pd.DataFrame | None, as_of: datetime.date | None) -> Panel:
    """Reads the rows to forecast from: the run's own data or another source, up to a date.

    Raises:
      UserError: the source is unusable, or has no row up to the date.
    """
    panel = run.data.panel
    if data is not None:
        # As the run's own data was made, which a config that names a built panel does not tell.
        about = run.data.panel.about
        made = {key: about[key] for key in (*MAKES_OTHER_VALUES, "max_gap") if key in about}
        frame, source = (data, "frame") if isinstance(data, pd.DataFrame) else (None, data)
        config = run.config.data.model_copy(update={"dataset": source, "end": None, **made})
        panel = load_panel(config, frame)
        for key, value in made.items():
            if key in MAKES_OTHER_VALUES and panel.about.get(key, value) != value:
                raise UserError(
                    f"{source}: was made with {key} {panel.about[key]!r}, the run's data with {value!r}."
                    " Give data that was made like the run's."
                )
    if as_of is not None:
        before = panel.frame.index <= pd.Timestamp(as_of)
        if not before.any():
            raise UserError(
                f"--as-of {as_of}: the first row of the data is of {panel.frame.index.min().date()}."
            )
        panel = select_rows(panel, before)
    if data is not None:
        _check_unit(run, panel, source)
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
    """The panel with `steps` future rows (weekdays, Fridays or last weekdays of months) after its last date.

    Each series of a panel is extended. Calendar and static columns are filled, observed ones (the
    target too) are NaN. Public holidays are not looked up.

    Raises:
      UserError: a known column cannot be derived from the date.
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


def shown_as(data: DataConfig, levels: bool = False) -> str:
    """What the numbers of a forecast are, in words."""
    if levels:
        return f"levels of {data.columns.target if data.columns else 'the target'}"
    what = {"as_is": "levels", "difference": "changes", "log_return": "log returns"}
    unit = "in percent" if data.return_unit == "percent" else "as decimals"
    words = what.get(data.target_transform, "returns")
    return words if data.target_transform in ("as_is", "difference") else f"{words} {unit}"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints or writes the quantiles of the next steps."""
    parser = command_parser("predict", main.__doc__, "runs/balanced_01 --out forecast.csv")
    parser.add_argument("run", type=Path, help="directory of a run, such as runs/balanced_01, or of a sweep")
    parser.add_argument("--config", metavar="NAME", help="of a sweep: the config whose seeds are averaged")
    parser.add_argument(
        "--data", help="folder of raw series, or a CSV or Parquet file; default: the run's own data"
    )
    parser.add_argument(
        "--as-of", type=datetime.date.fromisoformat, help="use rows up to this date only (YYYY-MM-DD)"
    )
    parser.add_argument(
        "--levels",
        action="store_true",
        help="prices or levels in place of their changes: undoes data.target_transform; for a single step",
    )
    parser.add_argument("--out", type=Path, help="write a CSV here instead of printing")
    arguments = parser.parse_args(argv)
    runtime.configure()

    def command() -> None:
        seeds = open_runs(arguments.run, arguments.config)
        panel = load_rows(seeds[0], arguments.data, arguments.as_of)
        rows = forecastable(seeds[0], panel)
        tables = [forecast_next(run, rows) for run in seeds]
        table = average_tables(tables, [f"{q:g}" for q in seeds[0].config.model.quantiles])
        settings = seeds[0].config.data
        if arguments.levels:
            table = to_levels(table, rows)
        table = in_return_unit(table, settings)
        if arguments.out is None:
            day = panel.frame.index.max().date()
            print(f"Forecast from data to {day}, {shown_as(settings, arguments.levels)}:")
            print(table.to_string(float_format=("{:.6g}" if arguments.levels else "{:+.5f}").format))
        elif arguments.out.exists():
            raise UserError(f"{arguments.out} exists. Choose another file, or remove it.")
        else:
            files.replace_text(arguments.out, table.to_csv())

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
