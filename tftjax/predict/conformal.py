"""Forecasts after the conformal calibration of their run."""

import datetime
import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from tftjax.data.panel import Panel, blocks
from tftjax.data.scales.target import rows_needed
from tftjax.errors import UserError, cut
from tftjax.evaluate.calibration.calibrated import Calibration, calibration_of, outcomes_of
from tftjax.evaluate.calibration.conformal import scores, shifted, tracked_shifts
from tftjax.evaluate.formatting import counted
from tftjax.predict.origin import origin_of
from tftjax.predict.rows import extend_panel
from tftjax.predict.windows import forecast_blocks
from tftjax.storage import runs
from tftjax.sweep.ensembles import average

log = logging.getLogger(__name__)

METHODS = ("split", "adaptive")  # of a conformal calibration
TOGETHER = 512  # windows that "adaptive" forecasts at a time: their program is the same every day


def calibrated(seeds: Sequence[runs.Run], panel: Panel, table: pd.DataFrame, method: str) -> pd.DataFrame:
    """A table of forecasts after the conformal calibration of the run, of a final fit that of its source.

    "adaptive" forecasts the rows since the validation rows too, and follows their outcomes up to the last row
    of the panel; of a final fit those that it has not learned from.

    Args:
      table: a row a series and step, quantiles in order.
    Raises:
      UserError: an unknown method; or see `fitted_calibration`.
    """
    if method not in METHODS:
        raise UserError(f"conformal: found {cut(repr(method))}, expected one of {', '.join(METHODS)}.")
    calibration, since = fitted_calibration(seeds)
    chosen, as_of = origin_of(seeds).chosen, panel.frame.index.max().date()
    if chosen > as_of:
        log.warning(f"calibrated by outcomes to {chosen}, after {as_of}: this is no test of it")
    model, shifts = seeds[0].config.model, np.array(calibration.shifts)
    names = [f"{level:g}" for level in model.quantiles]
    values = table[names].to_numpy().reshape(-1, *shifts.shape)
    if method == "adaptive":
        shifts = _tracked(seeds, panel, shifts, since)
    values = shifted(values, shifts, model.quantiles).reshape(len(table), -1)
    return table.assign(**dict(zip(names, values.T, strict=True)))


def fitted_calibration(seeds: Sequence[runs.Run]) -> tuple[Calibration, datetime.date]:
    """The conformal calibration of a run, and the day after which "adaptive" follows outcomes.

    Raises:
      UserError: the run was trained on its validation rows; or see `calibration_of`.
    """
    if seeds[0].config.data.train_on_val:
        raise UserError(
            "conformal: the run has learned from its validation rows (data.train_on_val), expected rows that"
            " it has not learned from. Take quantiles as they are, or calibrate a run without it."
        )
    origin = origin_of(seeds)
    return calibration_of(origin.directory, str(origin.chosen)), max(origin.chosen, origin.learned)


def _tracked(
    seeds: Sequence[runs.Run], panel: Panel, shifts: Float[np.ndarray, "P Q"], since: datetime.date
) -> Float[np.ndarray, "S P Q"]:
    """The shifts of the next forecast of each series, after the outcomes of all rows since a date."""
    first, lengths = seeds[0], (seeds[0].config.model.encoder_length, seeds[0].config.model.prediction_length)
    needed = max(lengths[0], rows_needed(first.data.encoding.target_scale, first.data.encoding.scales))
    extended = extend_panel(panel, lengths[1])
    dates, windows, last = extended.frame.index, [], []
    for _, rows in blocks(extended.frame, extended.id_column):
        # The series' last window is that of the next forecast: none of its outcomes is known.
        begin = rows.start + int(dates[rows.start : rows.stop].searchsorted(pd.Timestamp(since), "right"))
        stop = rows.stop - lengths[1] + 1
        windows.append(np.arange(min(max(begin, rows.start + needed), stop - 1), stop))
        last.append(sum(map(len, windows)) - 1)
    first_steps = np.concatenate(windows)
    count = len(first_steps)
    together = np.pad(first_steps, (0, -count % TOGETHER), mode="edge").reshape(-1, TOGETHER)
    each = [np.concatenate(forecast_blocks(run, extended, list(together)))[:count] for run in seeds]
    of = outcomes_of(extended.frame, extended.target, first_steps[:, None] + np.arange(lengths[1]))
    log.info(f"adaptive calibration: followed {counted(count - len(last), 'forecast')} since {since}")
    found = scores(average(each), of.target, first.config.model.quantiles)
    return tracked_shifts(shifts, found, of.made, of.known, first.config.model.quantiles)[last]
