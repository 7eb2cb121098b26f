"""What a forecast comes from: until when its model has learned, its verdict, what its rows lack."""

import datetime
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tftjax.data.panel import Panel, split_series
from tftjax.data.prepared import target_days
from tftjax.data.tables.future import steps_ahead
from tftjax.errors import UserError, both
from tftjax.evaluate.verdict import read_verdict
from tftjax.storage import runs
from tftjax.storage.directories import ForecastDirectory
from tftjax.sweep.ensembles import directory_of

log = logging.getLogger(__name__)

# By then as many rows have come as a test split usually holds: what validation said is about other times.
LONG_AGO = datetime.timedelta(days=365)


class Origin(NamedTuple):
    """What a model comes from.

    Attributes:
      directory: that of its evaluation; of a final fit its source's.
      learned: day of the last train row.
      chosen: day of the last validation row that chose it.
      final: the record of a final fit.
    """

    directory: Path
    learned: datetime.date
    chosen: datetime.date
    final: runs.Final | None


def origin_of(seeds: Sequence[runs.Run]) -> Origin:
    """The origin of a run, or of several seeds of a config."""
    data, directory = seeds[0].data, seeds[0].directory
    place = directory if len(seeds) == 1 else directory.parents[1]
    final, learned = runs.read_final(place), max(target_days(data.panel, data.blocks, "train"))
    if final is None:
        chosen = max(target_days(data.panel, data.blocks, "val"), default=learned)
        return Origin(directory_of(seeds), learned, chosen, None)
    chosen = datetime.date.fromisoformat(final.chosen_until)
    return Origin(runs.source_of(place, final), learned, chosen, final)


def say_what_it_is(seeds: Sequence[runs.Run], panel: Panel) -> None:
    """Logs the age of a model, once, and its verdict, in a line."""
    directory, trained, chosen, final = origin_of(seeds)
    as_of = panel.frame.index.max().date()
    until = f"model trained until {trained}"
    if as_of < trained:
        log.warning(f"the model has learned from rows to {trained}, after {as_of}: this is no test of it")
    elif as_of - trained > LONG_AGO:
        log.warning(
            f"{until}, {(as_of - trained).days} days before {as_of}, chosen until {chosen}: it has learned"
            f" nothing since. Train it on all rows: tftjax train CONFIG {both('--final')}"
        )
    else:
        log.info(f"{until}, chosen until {chosen}")
    verdict = _verdict(directory) if final is None else final.verdict.partition(";")[0]
    if verdict is not None:
        log.info(f"on the test rows{'' if final is None else ' of its source'}: {verdict}")


def say_what_lacks(run: runs.Run, panel: Panel) -> None:
    """Warns of known numbers without a value in the steps ahead, where they may lack one."""
    if not panel.masks_known:
        return
    steps = run.config.model.prediction_length
    ahead = pd.concat([steps_ahead(part, steps) for part in split_series(panel)])
    lacking = [name for name in ahead if name in panel.known_real and ahead[name].isna().any()]
    if lacking:
        learned = run.config.train.known_dropout or run.data.panel.frame[lacking].isna().any(axis=None)
        words = "" if learned else " (untrained: no train row lacks one, and train.known_dropout is 0)"
        log.warning(
            f"known columns without a value in the steps ahead count as unknown{words}: {', '.join(lacking)}"
        )


def _verdict(directory: Path) -> str | None:
    """The first part of an evaluation's verdict, or why it cannot be read; None if there is none."""
    path = ForecastDirectory(directory).evaluation.metrics
    if not path.is_file():
        return None
    try:
        return read_verdict(path, f"tftjax evaluate {directory}").partition(";")[0]
    except UserError as error:
        return f"unknown, as {error}"
