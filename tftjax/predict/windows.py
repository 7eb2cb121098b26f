"""The network from a run's panel to quantiles: of the next steps, or of any windows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tftjax.data.loading import date_column
from tftjax.data.panel import Panel, blocks
from tftjax.data.prepared import cardinalities
from tftjax.data.tables.future import read_future, with_future
from tftjax.data.windows import make_series, windows_alone
from tftjax.model.forecast import forecast_rows
from tftjax.model.parameters import build_model
from tftjax.predict.rows import extend_panel
from tftjax.storage import runs


def forecast_next(run: runs.Run, panel: Panel, future: pd.DataFrame | None = None) -> pd.DataFrame:
    """`predict` for a panel of series that can be forecast.

    Args:
      future: dates and values of the known columns of the next steps, see `read_future`; None takes those
        that the panel carries, or the next dates of its calendar.
    """
    if future is not None:
        panel = with_future(panel, read_future(future, panel, date_column(run.config.data)))
    # All rows, not only the encoder's: a moving volatility looks further back.
    steps = run.config.model.prediction_length
    extended = extend_panel(panel, steps)
    stops = np.array([rows.stop for _, rows in blocks(extended.frame, extended.id_column)])
    (quantiles,) = forecast_blocks(run, extended, [stops - steps])
    rows = ((stops - steps)[:, None] + np.arange(steps)).ravel()
    names = [f"{q:g}" for q in run.config.model.quantiles]
    table = pd.DataFrame(quantiles.reshape(len(rows), -1), index=extended.frame.index[rows], columns=names)
    if panel.id_column is not None:
        table.insert(0, "series", extended.frame[panel.id_column].to_numpy()[rows])
    return table


def forecast_blocks(
    run: runs.Run, panel: Panel, first_steps: Sequence[Int[np.ndarray, " W"]]
) -> list[Float[np.ndarray, "W P Q"]]:
    """Quantiles of windows, block by block, returns as decimals.

    Args:
      first_steps: the row that each window of a block forecasts first; blocks of one size share a program.
    """
    lengths = run.config.model.encoder_length, run.config.model.prediction_length
    model = build_model(run.config, *cardinalities(panel, run.data.encoding), run.functions)
    short_windows = run.config.model.fewest_rows < lengths[0]
    series, found = make_series(panel, run.data.encoding, short_windows=short_windows), []
    for first in first_steps:
        starts = (first - lengths[0]).astype(np.int32)
        found.append(forecast_rows(model, run.parameters, *windows_alone(series, starts, *lengths)))
    return found
