"""Forecasts that are kept until their outcomes come."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tftjax.data.panel import Panel, name_of, split_series
from tftjax.evaluate.formatting import counted
from tftjax.storage import forecast_log, runs
from tftjax.sweep.ensembles import directory_of

log = logging.getLogger(__name__)


def add_to_log(path: Path, seeds: Sequence[runs.Run], panel: Panel, table: pd.DataFrame) -> None:
    """Adds forecasts to a log, see `storage/forecast_log.py`, and logs how many it had already.

    Args:
      panel: the rows that were forecast from.
      table: forecasts in the unit of the run's data.
    Raises:
      UserError: the log is another run's, damaged, or cannot be written.
    """
    as_of = {name_of(part): part.frame.index[-1] for part in split_series(panel)}
    added = forecast_log.append(path, author_of(seeds), table, as_of)
    log.info(f"{path}: {counted(added, 'forecast')} added")
    if added < len(table):
        log.warning(
            f"{path}: {counted(len(table) - added, 'forecast')} skipped, as the log has them: made from the"
            " same last row, of the same date"
        )


def author_of(seeds: Sequence[runs.Run]) -> forecast_log.Author:
    """The author in a log of a run's forecasts, or of those of several seeds."""
    first = seeds[0]
    name = first.config.name if len(seeds) == 1 else directory_of(seeds).name
    quantiles = tuple(f"{q:g}" for q in first.config.model.quantiles)
    return forecast_log.Author(name, runs.identity(first), quantiles, first.data.panel.id_column is not None)
