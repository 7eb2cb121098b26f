"""Scores of the model's and the baselines' forecasts in one split: metrics, tests, trading, quality modes.

Losses of several series are averaged by day, as windows of one day move together; tests of single returns are
made for one series only. Steps beyond the first count in losses; everything else looks at the first.
"""

import itertools
import logging
from collections.abc import Collection, Hashable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tftjax.config.evaluation import EvaluationConfig
from tftjax.config.functions import call
from tftjax.data.conditions import regime_of, regime_values
from tftjax.data.splits import Block, starts_of
from tftjax.data.volatility import STORMY, known_volatility, storminess, volatility_column
from tftjax.errors import UserError
from tftjax.evaluate.baselines import (
    BASELINES,
    FITTED,
    MAX_FITTED_SERIES,
    POOLED,
    Baseline,
    NotInstalled,
    Task,
    Unavailable,
)
from tftjax.evaluate.metrics import (
    Forecast,
    MetricFunction,
    Target,
    evaluate_forecast,
    median,
    pinball_losses,
    pit_counts,
)
from tftjax.evaluate.quality import quality_modes, random_modes, shares
from tftjax.evaluate.significance import (
    confidence_set,
    diebold_mariano,
    pesaran_timmermann,
    pit_test,
    value_at_risk_tests,
)
from tftjax.evaluate.trading import POSITIONS, sharpe_ratios, trades
from tftjax.runtime.processes import Map, divided
from tftjax.storage import runs

log = logging.getLogger(__name__)

SPLITS = ("val", "test")
SPLIT_NAMES = {"val": "Validation", "test": "Test"}
Rows = Int[np.ndarray, "W P"]


class Windows(NamedTuple):
    """Targets of the N windows of a split, series after series, in time order within each.

    Attributes:
      target: returns as decimals.
      day: number of each window's first target day, 0 to T - 1 in time order.
      series: the windows of each series.
    """

    target: Target
    day: Int[np.ndarray, " N"]
    series: Sequence[slice]


class Score(NamedTuple):
    """The scores of a forecast in one split, kept instead of the forecast.

    Attributes:
      metrics: METRICS by name.
      losses: pinball loss of each day; their mean is the pinball loss over all windows.
      by_series: pinball loss of each series.
      share_below: share of the first step's targets at or below each quantile.
    """

    metrics: dict[str, Any]
    losses: Float[np.ndarray, " T"]
    by_series: tuple[float, ...]
    share_below: Float[np.ndarray, " Q"]


def by_day(losses: Float[np.ndarray, " N"], day: Int[np.ndarray, " N"]) -> Float[np.ndarray, " T"]:
    """Losses of windows, summed by day and scaled so that the mean over days is the mean over windows.

    >>> by_day(np.array([1.0, 2.0, 6.0]), np.array([0, 0, 1])).tolist()
    [2.0, 4.0]
    """
    sums = np.bincount(day, losses)
    return sums * (len(sums) / len(losses))


def score(
    windows: Windows,
    forecast: Forecast,
    quantiles: Sequence[float],
    own_metrics: Mapping[str, MetricFunction] = MappingProxyType({}),
) -> Score:
    """Scores a forecast; see `metrics.evaluate_forecast`."""
    losses = pinball_losses(forecast, windows.target, quantiles).mean(axis=(1, 2))
    return Score(
        metrics=evaluate_forecast(
            forecast, windows.target, quantiles, own_metrics, one_series=len(windows.series) == 1
        ),
        losses=by_day(losses, windows.day),
        by_series=tuple(float(losses[part].mean()) for part in windows.series),
        share_below=(windows.target[:, 0, None] <= forecast[:, 0]).mean(axis=0),
    )


def modes_by_series(
    windows: Windows, forecast: Forecast, quantiles: Sequence[float], settings: EvaluationConfig
) -> list[Int[np.ndarray, "_"]]:
    """`quality.quality_modes` of the first step's medians, series by series."""
    middle = median(forecast, quantiles)[:, 0]
    return [quality_modes(middle[part], windows.target[part, 0], settings) for part in windows.series]


def judge(
    windows: Windows,
    forecast: Forecast,
    quantiles: Sequence[float],
    scored: Score,
    baselines: Mapping[str, Score],
    *,
    modes: Sequence[Int[np.ndarray, "_"]],
    settings: EvaluationConfig,
    periods_a_year: float,
    foreign: Collection[str] = (),
) -> dict[str, Any]:
    """The metrics of a forecast in one split, as metrics.json holds them (`evaluation.py` lists them).

    Args:
      scored: the forecast's scores.
      baselines: the scores of the baselines, and of foreign forecasts, of the same windows.
      modes: see `modes_by_series`.
      periods_a_year: rows of the panel in a year.
      foreign: names of the foreign forecasts.
    """
    middle, actual = median(forecast, quantiles)[:, 0], windows.target[:, 0]
    tests: dict[str, Any] = {
        "days": len(scored.losses),
        "diebold_mariano": tests_against(scored, baselines, windows.target.shape[1]),
        "confidence_set": confidence_set(
            {"model": scored.losses, **{name: other.losses for name, other in baselines.items()}}
        ),
    }
    if len(windows.series) == 1:
        outside = {0: actual < forecast[:, 0, 0], -1: actual > forecast[:, 0, -1]}
        tests["value_at_risk"] = {
            f"{quantiles[place]:g}": value_at_risk_tests(days, min(quantiles[place], 1 - quantiles[place]))
            for place, days in outside.items()
        }
        tests["pit"] = pit_test(pit_counts(forecast[:, :1], windows.target[:, :1]), quantiles)
        tests["pesaran_timmermann"] = pesaran_timmermann(middle, actual)
    pairs = [(middle[part], actual[part]) for part in windows.series]
    return scored.metrics | {
        **apart({name: baseline.metrics for name, baseline in baselines.items()}, foreign),
        "tests": tests,
        "trading": trade(windows, middle, settings.trading_cost, periods_a_year),
        "quality": shares(np.concatenate(modes)),
        "quality_random": shares(random_modes(pairs, settings)),
    }


def tests_against(scored: Score, others: Mapping[str, Score], steps: int) -> dict[str, dict[str, Any]]:
    """Diebold and Mariano's test of a forecast's daily losses minus those of each of the others.

    Args:
      steps: the number of steps in a window.
    """
    return {
        name: diebold_mariano(scored.losses - other.losses, steps)._asdict() for name, other in others.items()
    }


def apart(metrics: Mapping[str, Any], foreign: Collection[str]) -> dict[str, dict[str, Any]]:
    """Metrics of the forecasts beside a model's, by name: those of `baselines`, and `foreign` ones."""
    return {
        kind: {name: values for name, values in metrics.items() if (name in foreign) == is_foreign}
        for kind, is_foreign in (("baselines", False), ("foreign", True))
    }


def trade(
    windows: Windows, middle: Float[np.ndarray, " N"], cost: float, periods_a_year: float
) -> dict[str, Any]:
    """Sharpe ratios of the positions that medians lead to, an equal share in each series.

    Returns:
      `cost`, and by position the `sharpe_ratios` and the `turnover`: the share of the position that is traded
      a period.
    """
    first = np.zeros(len(middle), bool)
    first[[part.start for part in windows.series]] = True
    count = np.bincount(windows.day)
    net, turnover = {}, {}
    for name, take in POSITIONS.items():
        position = take(middle)
        traded = trades(position, first)
        net[name] = np.bincount(windows.day, position * windows.target[:, 0] - cost * traded) / count
        held = np.abs(position).sum()
        turnover[name] = float(traded.sum() / held) if held > 0 else None
    ratios = sharpe_ratios(net, periods_a_year)
    return {"cost": cost} | {name: values | {"turnover": turnover[name]} for name, values in ratios.items()}


class BaselineScores(NamedTuple):
    """The scores of baselines, which depend on the data, the quantiles and the lengths, not on a model.

    Attributes:
      scores: scores by split and name.
      forecasts: forecasts by split and name, of a panel of one series; else none, as they take much memory.
      left_out: by name of a baseline without a forecast, why.
      derived: what was made of them for one run, and is the same for the next on the same data: metrics of
        regimes, the text of baselines.csv.
    """

    scores: dict[str, dict[str, Score]]
    forecasts: dict[str, dict[str, Forecast]]
    left_out: dict[str, str]
    derived: dict[Hashable, Any]


def target_rows(run: runs.Run, split: str) -> Rows:
    """Rows that the windows of a split forecast."""
    first = run.data.starts[split] + run.config.model.encoder_length
    return first[:, None] + np.arange(run.config.model.prediction_length, dtype=np.int32)


def rows_by_series(run: runs.Run, rows: Rows) -> list[tuple[Block, slice]]:
    """The windows of each series that has any: windows follow each other series by series."""
    stops = np.searchsorted(rows[:, 0], [block.rows.stop for block in run.data.blocks])
    slices = itertools.starmap(slice, itertools.pairwise([0, *stops.tolist()]))
    pairs = zip(run.data.blocks, slices, strict=True)
    return [(block, part) for block, part in pairs if part.stop > part.start]


def split_windows(run: runs.Run, split: str) -> Windows:
    """Targets, days and series of the windows of a split."""
    rows = target_rows(run, split)
    frame = run.data.panel.frame
    _, day = np.unique(frame.index[rows[:, 0]], return_inverse=True)
    returns = frame[run.data.panel.target].to_numpy(np.float64)
    return Windows(returns[rows], day, [part for _, part in rows_by_series(run, rows)])


def score_baselines(
    run: runs.Run, windows: dict[str, Windows], known: dict[Hashable, BaselineScores] | None = None
) -> BaselineScores:
    """Scores every baseline that has a forecast of the run's windows.

    Args:
      windows: the windows of each split.
      known: scores that runs on the same data share, filled here.
    """
    model = run.config.model
    lengths = model.fewest_rows, model.prediction_length
    own = (*run.functions.baselines.items(), *run.functions.metrics.items())
    data = run.data.panel.fingerprint, run.data.blocks, run.config.data.volatility
    key = (*data, model.quantiles, *lengths, own)
    known = {} if known is None else known
    if key not in known:
        known[key] = _score_all(run, windows)
    return known[key]


def _score_all(run: runs.Run, windows: dict[str, Windows]) -> BaselineScores:
    result = BaselineScores({split: {} for split in SPLITS}, {split: {} for split in SPLITS}, {}, {})
    num_series = len(run.data.blocks)
    quantiles, own_metrics = run.config.model.quantiles, run.functions.metrics
    with divided(num_series) as apply:
        for name in all_baselines(run):
            try:
                if name in FITTED and num_series > MAX_FITTED_SERIES:
                    raise Unavailable(f"{num_series} series, and it is fitted to at most {MAX_FITTED_SERIES}")
                forecasts = baseline_forecasts(run, name, apply)
            except Unavailable as error:
                result.left_out[name] = str(error)
                if not isinstance(error, NotInstalled):
                    log.warning(f"left out the baseline {name}: {error}")
                continue
            for split, forecast in forecasts.items():
                result.scores[split][name] = score(windows[split], forecast, quantiles, own_metrics)
                if num_series == 1:
                    result.forecasts[split][name] = forecast
    return result


def all_baselines(run: runs.Run) -> list[str]:
    """Names of BASELINES, of POOLED where there are several series, and of those that were handed in."""
    pooled = POOLED if len(run.data.blocks) > 1 else ()
    return list(dict.fromkeys((*BASELINES, *pooled, *run.functions.baselines)))


def _checked(forecast: Any, task: Task, name: str) -> Forecast:
    """A baseline's forecast in the shape of a forecast; UserError names a baseline that was handed in."""
    expected = (*task.target_rows.shape, len(task.quantiles))
    if np.shape(forecast) != expected:
        raise UserError(
            f"baselines: {name!r} returned shape {np.shape(forecast)}, expected {expected}: windows, steps,"
            " quantiles."
        )
    return np.asarray(forecast, np.float64)


def baseline_forecasts(run: runs.Run, name: str, apply: Map = map) -> dict[str, Float[np.ndarray, "W P Q"]]:
    """A baseline's forecast of the windows of each split, each series by its own train rows if not pooled.

    Args:
      apply: the `map` over series of a baseline that is FITTED; one that was handed in stays in this process.
    Raises:
      Unavailable: it has none of some series; names the series.
    """
    tasks, num_val = _tasks(run)
    own = run.functions.baselines
    if name in POOLED and name not in own:
        forecasts = POOLED[name](tasks)
    else:
        apply = apply if name in FITTED and name not in own else map
        given = name in own
        baseline = (
            partial(call, "baselines", name, own[name], passed_on=Unavailable) if given else BASELINES[name]
        )
        forecasts = _of_each_series(run, baseline, tasks, apply)
    forecasts = [_checked(values, task, name) for values, task in zip(forecasts, tasks, strict=True)]
    parts = [np.split(values, [count]) for values, count in zip(forecasts, num_val, strict=True)]
    by_split = zip(SPLITS, zip(*parts, strict=True), strict=True)
    return {split: np.concatenate(values) for split, values in by_split}


def _of_each_series(run: runs.Run, baseline: Baseline, tasks: Sequence[Task], apply: Map) -> list[Any]:
    found = apply(baseline, [task for task in tasks if len(task.target_rows)])
    forecasts = []
    for block, task in zip(run.data.blocks, tasks, strict=True):
        if not len(task.target_rows):
            forecasts.append(np.empty((*task.target_rows.shape, len(task.quantiles))))
            continue
        try:
            forecasts.append(next(found))
        except Unavailable as error:
            if isinstance(error, NotInstalled) or not block.name:
                raise
            raise Unavailable(f"{error} (series {block.name})") from error
    return forecasts


def _tasks(run: runs.Run) -> tuple[list[Task], list[int]]:
    """The task of each series, its validation windows before those of test, and the number of the former."""
    panel = run.data.panel
    columns = {name: panel.frame[name].to_numpy(np.float64) for name in run.data.whole.observed}
    rows = {split: target_rows(run, split) for split in SPLITS}
    windows = {split: dict(rows_by_series(run, rows[split])) for split in SPLITS}
    tasks, num_val = [], []
    for block in run.data.blocks:
        first, train = block.rows.start, block.earlier
        val, test = (rows[split][windows[split].get(block, slice(0))] for split in SPLITS)
        series = {column: values[first : block.rows.stop] for column, values in columns.items()}
        tasks.append(
            Task(
                returns=series.pop(panel.target),
                observed=series,
                train_rows=range(train.start - first, train.stop - first),
                target_rows=np.concatenate([val, test]) - first,
                quantiles=run.config.model.quantiles,
                dates=panel.frame.index[first : block.rows.stop],
                volatility=volatility_column(panel, run.config.data.volatility),
            )
        )
        num_val.append(len(val))
    return tasks, num_val


# ---- Regimes ---------------------------------------------------------------------------------------------

VOLATILITY_LABELS = ("calm", "middle", "stormy")


class Division(NamedTuple):
    """Windows divided into regimes.

    Attributes:
      name: "volatility", or the column whose values divide them.
      labels: the regimes, from the lowest value.
      regime: the place of each window's regime among the labels.
    """

    name: str
    labels: tuple[str, ...]
    regime: Int[np.ndarray, " W"]


def divisions(run: runs.Run, last_rows: Int[np.ndarray, " W"]) -> list[Division]:
    """Divisions by volatility, and by the column and thresholds of the run's gates if it has any.

    Args:
      last_rows: the last encoder row of each window: nothing later counts.
    """
    result = [Division("volatility", VOLATILITY_LABELS, _by_volatility(run, last_rows))]
    regime = run.config.model.attention.regime
    if regime.by == "thresholds":
        bounds = [f"{threshold:g}" for threshold in regime.thresholds]
        between = [f"{low} to {high}" for low, high in itertools.pairwise(bounds)]
        labels = (f"up to {bounds[0]}", *between, f"above {bounds[-1]}")
        values = regime_values(run.data.panel, regime.column)[last_rows]
        result.append(Division(regime.column, labels, regime_of(values, regime.thresholds)))
    return result


def _by_volatility(run: runs.Run, last_rows: Int[np.ndarray, " W"]) -> Int[np.ndarray, " W"]:
    """The third of its series' train windows in which a window's moving volatility lies.

    Of a series that is unseen in training, those that its earlier rows would have.
    """
    volatility, model = known_volatility(run.data.panel), run.config.model
    regime = np.zeros(len(last_rows), np.int64)
    for block in run.data.blocks:
        as_seen = block._replace(splits=block.splits._replace(train=block.earlier))
        starts = starts_of([as_seen], "train", model.fewest_rows, model.prediction_length)
        reference = volatility[starts + model.fewest_rows - 1]
        inside = (last_rows >= block.rows.start) & (last_rows < block.rows.stop)
        regime[inside] = storminess(volatility[last_rows[inside]], reference, (1 / 3, STORMY))
    return regime


def regime_metrics(
    run: runs.Run,
    rows: Int[np.ndarray, "W P"],
    forecasts: Mapping[str, Float[np.ndarray, "W P Q"]],
    foreign: Collection[str] = (),
    known: dict[Hashable, dict] | None = None,
) -> dict[str, dict[str, dict]]:
    """Metrics of each regime's windows.

    Args:
      rows: the target rows of the windows.
      forecasts: the forecasts of "model", of the baselines and of foreign ones, by name.
      foreign: names of the foreign ones.
      known: metrics of all but the model that runs share who have these rows and forecasts, filled here.
    Returns:
      By division and regime: number of `windows`, the model's metrics, and each other's in
      `baselines` or `foreign`.
    """
    quantiles = run.config.model.quantiles
    returns = run.data.panel.frame[run.data.panel.target].to_numpy(np.float64)
    one_series = len(run.data.blocks) == 1
    known = {} if known is None else known
    metrics: dict[str, dict[str, dict]] = {}
    for division in divisions(run, rows[:, 0] - 1):
        metrics[division.name] = {}
        for place, label in enumerate(division.labels):
            inside = division.regime == place
            values: dict = {"windows": int(inside.sum())}
            if inside.any():
                of, scores = rows[inside], {}
                for name, forecast in forecasts.items():
                    key = name, of.tobytes()
                    scores[name] = known.get(key) or evaluate_forecast(
                        forecast[inside], returns[of], quantiles, one_series=one_series
                    )
                    if name != "model":
                        known[key] = scores[name]
                values |= scores.pop("model") | apart(scores, foreign)
            metrics[division.name][label] = values
    return metrics
