"""The rows of a run's data set as they are today, and other data read as the run's own was."""

import json
import logging
from dataclasses import replace

import numpy as np
import pandas as pd

from tftjax.config.data import DataConfig, SeriesConfig
from tftjax.data.loading import FRAME, check_made_like, load_panel, values_made_by
from tftjax.data.panel import Panel, with_rows
from tftjax.data.raw.cells import categories
from tftjax.data.series.reading import NO_VINTAGES, Vintages
from tftjax.data.tables.future import future_of, with_future
from tftjax.errors import UserError

log = logging.getLogger(__name__)

# A value is another one if it is this far off, in standard deviations of its column: not by rounding.
REVISED = 1e-3
# Share of the target's values; a source may revise some of its rows, but not most of them.
OTHER_DATA = 0.5


def without_weights(config: DataConfig) -> DataConfig:
    """The config of rows to forecast from or to score, which need no weights."""
    if config.columns is None:
        return config
    return config.model_copy(update={"columns": config.columns.model_copy(update={"weight": None})})


def load_like(
    trained: Panel, config: DataConfig, data: str | pd.DataFrame, vintages: Vintages = NO_VINTAGES
) -> Panel:
    """Reads data as a run's own was made, which a config that names a built panel does not tell.

    Args:
      trained: the run's panel.
      config: the run's.
      data: a frame, or the path of a file or a folder.
      vintages: frames of the series in `data.series` that have no file, by name.

    Raises:
      UserError: it cannot be read, or has other columns than the run's.
    """
    made = values_made_by(trained)
    made |= {key: trained.about[key] for key in ("max_gap", "calendar") if key in trained.about}
    if "series" in made:  # as JSON holds them
        made["series"] = {
            name: SeriesConfig.model_validate_json(json.dumps(section))
            for name, section in made["series"].items()
        }
    frame = data if isinstance(data, pd.DataFrame) else None
    update = {"dataset": FRAME if frame is not None else data, "frequency": None, **made}
    panel = load_panel(config.model_copy(update=update), frame, vintages)
    check_made_like(panel, trained, "the frame" if frame is not None else data)
    return written_like(trained, panel)


def written_like(trained: Panel, panel: Panel) -> Panel:
    """The panel with the categories of a run of before, which wrote whole numbers with a point: "3.0"."""
    written = {}
    names = (*panel.observed_categorical, *panel.known_categorical, *panel.static_categorical)
    for name in trained.frame.columns.intersection(names):
        words = [word for word in trained.frame[name].unique() if isinstance(word, str)]
        pairs = zip(categories(words), words, strict=True)
        written[name] = {word: before for word, before in pairs if word != before}
    written = {name: words for name, words in written.items() if words}
    if not written:
        return panel

    def of_before(frame: pd.DataFrame) -> pd.DataFrame:
        there = {name: frame[name] for name in written if name in frame}
        return frame.assign(
            **{name: [written[name].get(word, word) for word in cells] for name, cells in there.items()}
        )

    future, names = future_of(panel), written.get(panel.id_column, {})
    if future is not None:
        panel = with_future(panel, of_before(future))
    if "levels" in panel.about:
        levels = {names.get(name, name): level for name, level in panel.about["levels"].items()}
        panel = replace(panel, about=panel.about | {"levels": levels})
    return with_rows(panel, of_before(panel.frame), panel.staleness)


def newest_rows(kept: Panel, config: DataConfig) -> tuple[Panel, str]:
    """The rows of a run's data set, read anew where it can still be read and goes on from the run's rows.

    Otherwise the rows that the run keeps, and a warning that says why. Of a frame that was handed over there
    are no others.

    Args:
      kept: the run's panel.
      config: the run's; its `end` holds.

    Returns:
      The rows, and where they come from, in words.
    """
    words = "the rows that the run keeps"
    if config.dataset == FRAME:
        return kept, words
    try:
        panel = load_like(kept, config, config.dataset)
        _check_goes_on(panel, kept, config.dataset)
    except UserError as error:
        last = kept.frame.index.max().date()
        log.warning(f"the rows that the run keeps are used, to {last}, as its data set cannot be: {error}")
        return kept, words
    return panel, config.dataset


def _check_goes_on(panel: Panel, kept: Panel, where: str) -> None:
    """Refuses a panel that ends before another one or has other values in its rows; a few are logged."""
    last, before = panel.frame.index.max(), kept.frame.index.max()
    if last < before:
        raise UserError(f"{where}: ends on {last.date()}, the run's rows on {before.date()}.")
    tolerances = REVISED * _numbers(kept).std(ddof=0).fillna(0.0)
    now, then = _numbers(panel).align(_numbers(kept), join="inner")
    shares = {}
    for name in now:
        same = np.isclose(now[name], then[name], rtol=1e-6, atol=tolerances[name], equal_nan=True)
        shares[name] = 1 - same.mean() if len(same) else 1.0
    if shares[kept.target] > OTHER_DATA:
        raise UserError(
            f"{where}: {shares[kept.target]:.0%} of the values of {kept.target!r} are not those of the run's"
            " rows, so it is other data."
        )
    changed = ", ".join(f"{name} in {share:.1%} of them" for name, share in shares.items() if share)
    if changed:
        log.warning(f"{where}: has other values than the run's rows of the same dates: {changed}")


def _numbers(panel: Panel) -> pd.DataFrame:
    """The columns of numbers by date, and by series if there are several."""
    frame = panel.frame
    if panel.id_column is not None:
        frame = frame.set_index(frame[panel.id_column].astype(str), append=True)
    return frame[list(panel.observed + panel.known_real)]
