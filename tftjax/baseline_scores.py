"""The windows of a run's splits, and what every baseline scores on them."""

import itertools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tftjax.baselines import BASELINES, FITTED, MAX_FITTED_SERIES, Forecast, Task, Unavailable
from tftjax.data.splits import Block
from tftjax.scoring import Score, Windows, score
from tftjax.storage import runs

SPLITS = ("val", "test")
Rows = Int[np.ndarray, "W P"]


class BaselineScores(NamedTuple):
    """What the baselines score; it depends on the data and on what is asked for, not on a model.

    Attributes:
      scores: by split and name.
      forecasts: by split and name, of a panel of one series; of others none, which would take much memory.
      left_out: name -> why it has no forecast.
    """

    scores: dict[str, dict[str, Score]]
    forecasts: dict[str, dict[str, Forecast]]
    left_out: dict[str, str]


def target_rows(run: runs.Run, split: str) -> Rows:
    """Rows that the windows of a split forecast."""
    first = run.data.starts[split] + run.config.model.encoder_length
    return first[:, None] + np.arange(run.config.model.prediction_length, dtype=np.int32)


def rows_by_series(run: runs.Run, rows: Rows) -> list[tuple[Block, slice]]:
    """The windows of each series that has any: windows follow each other series by series."""
    stops = np.searchsorted(rows[:, 0], [block.rows.stop for block in run.data.blocks])
    slices = [slice(start, stop) for start, stop in itertools.pairwise([0, *stops.tolist()])]
    pairs = zip(run.data.blocks, slices, strict=True)
    return [(block, own) for block, own in pairs if own.stop > own.start]


def split_windows(run: runs.Run, split: str) -> Windows:
    """What happened in the windows of a split."""
    rows = target_rows(run, split)
    frame = run.data.panel.frame
    _, day = np.unique(frame.index[rows[:, 0]], return_inverse=True)
    returns = frame[run.data.panel.target].to_numpy(np.float64)
    return Windows(returns[rows], day, [own for _, own in rows_by_series(run, rows)])


def score_baselines(
    run: runs.Run,
    windows: dict[str, Windows],
    known: dict[Hashable, BaselineScores] | None = None,
    say: Callable[[str], Any] = print,
) -> BaselineScores:
    """Scores every baseline that has a forecast of the run's windows.

    Args:
      windows: of each split.
      known: scores that runs on the same data share; filled by this function.
      say: called with a message about each baseline that is left out.
    """
    model = run.config.model
    lengths = model.encoder_length, model.prediction_length
    key = (run.data.panel.fingerprint, run.data.blocks, model.quantiles, *lengths)
    known = {} if known is None else known
    if key not in known:
        known[key] = _score_all(run, windows)
        for name, reason in known[key].left_out.items():
            say(f"left out the baseline {name}: {reason}")
    return known[key]


def _score_all(run: runs.Run, windows: dict[str, Windows]) -> BaselineScores:
    result = BaselineScores({split: {} for split in windows}, {split: {} for split in windows}, {})
    num_series = len(run.data.blocks)
    for name in BASELINES:
        if name in FITTED and num_series > MAX_FITTED_SERIES:
            result.left_out[name] = f"{num_series} series, and it is fitted to at most {MAX_FITTED_SERIES}"
            continue
        try:
            forecasts = baseline_forecasts(run, name)
        except Unavailable as error:
            result.left_out[name] = str(error)
            continue
        for split, forecast in forecasts.items():
            result.scores[split][name] = score(windows[split], forecast, run.config.model.quantiles)
            if num_series == 1:
                result.forecasts[split][name] = forecast
    return result


def baseline_forecasts(run: runs.Run, name: str) -> dict[str, Float[np.ndarray, "W P Q"]]:
    """A baseline's forecast of the windows of each split, each series by its own train rows.

    Raises:
      Unavailable: it has none of some series; names the series.
    """
    panel = run.data.panel
    columns = {column: panel.frame[column].to_numpy(np.float64) for column in panel.observed}
    rows = {split: target_rows(run, split) for split in SPLITS}
    own = {split: dict(rows_by_series(run, rows[split])) for split in SPLITS}
    found: dict[str, list] = {split: [] for split in SPLITS}
    for block in run.data.blocks:
        first, train = block.rows.start, block.splits.train
        parts = {split: rows[split][own[split][block]] for split in SPLITS if block in own[split]}
        if not parts:
            continue
        series = {column: values[first : block.rows.stop] for column, values in columns.items()}
        task = Task(
            returns=series.pop(panel.target),
            observed=series,
            train_rows=range(train.start - first, train.stop - first),
            target_rows=np.concatenate(list(parts.values())) - first,
            quantiles=run.config.model.quantiles,
        )
        try:
            forecast = BASELINES[name](task)
        except Unavailable as error:
            raise Unavailable(f"{error} (series {block.name})" if block.name else str(error)) from error
        stops = np.cumsum([len(part) for part in parts.values()])[:-1]
        for split, values in zip(parts, np.split(forecast, stops), strict=True):
            found[split].append(values)
    return {split: np.concatenate(values) for split, values in found.items()}
