"""Results of a walk-forward: forecasts pooled over the test rows of all folds, beside baselines.

pooled/NAME/evaluation/  of each ensemble, seed and baseline, over all folds:
                  predictions.csv and metrics.json as `evaluate` writes them, of the split test alone;
                  `compare` takes pooled/NAME for a run
pooled.csv        a row each: metrics, tests against each baseline, trading, quality modes
gains.csv         against each baseline, by part: calm or stormy days, centre or tails of the distribution
folds.csv         a row each and fold: dates, numbers of windows, metrics with the fold's base rate
summary.md        the same for reading, with all forecasts compared at once; nothing is ranked: the order is
                  that of the command
folds.png         gain in each fold and over time
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from tftjax import files
from tftjax.config.evaluation import EvaluationConfig
from tftjax.data.calendar import periods_a_year
from tftjax.data.panel import calendar_of
from tftjax.data.volatility import STORMY, storminess
from tftjax.errors import UserError
from tftjax.evaluate.calibration.calibrated import judge_calibrated
from tftjax.evaluate.combination import combined, judge_combined
from tftjax.evaluate.metrics import MetricFunction, evaluate_forecast, flatten, pinball_losses
from tftjax.evaluate.scoring import Score, by_day, judge, modes_by_series, score
from tftjax.evaluate.significance import diebold_mariano
from tftjax.storage.directories import SweepDirectory, make
from tftjax.sweep.members import read_ended
from tftjax.sweep.run import Trained
from tftjax.walkforward.files import read_walk, stormy_days
from tftjax.walkforward.pool import (
    GAIN_PARTS,
    TAIL,
    Pool,
    Pooled,
    baselines_of,
    headlines,
    make_pool,
    pooled_forecasts,
    predictions_table,
)
from tftjax.walkforward.summary import gain_data, make_summary


def conclude(trained: Trained) -> str:
    """Pools the folds, writes the files listed above, and returns the summary for the terminal.

    Raises:
      UserError: no config that is trained in every fold, an evaluation that cannot be read, or a full disk.
    """
    from tftjax.plots import (
        theme,
        walkforward,
    )  # matplotlib takes half a second to import: only where it is needed

    pool = make_pool(trained, read_ended(trained.folder))
    forecasts = pooled_forecasts(pool, trained.members)
    if not headlines(forecasts):
        raise UserError(
            f"no config has a trained member in every fold: see {SweepDirectory(trained.folder).ended()}."
            " Lower train.learning_rate."
        )
    first, directory = trained.members[0], SweepDirectory(trained.folder)
    panel = trained.data[first.name].panel
    year, own_metrics = periods_a_year(calendar_of(panel)), trained.functions.metrics
    metrics = judge_all(pool, forecasts, first.config.evaluation, year, own_metrics)
    write_tables(trained.folder, pool, forecasts, metrics)
    walk = read_walk(trained.folder)
    summary = make_summary(walk, pool.volatility_name)
    files.replace_text(directory.summary, summary.markdown())
    stormy = stormy_days(walk, panel) if panel.id_column is None else None
    theme.save(directory.folds_picture, walkforward.gain_drawing(gain_data(walk, stormy)))
    return summary.terminal()


def write_tables(
    folder: Path, pool: Pool, forecasts: Sequence[Pooled], metrics: Mapping[str, dict[str, Any]]
) -> None:
    """Writes the pooled forecasts, pooled.csv, gains.csv and folds.csv."""
    walk = SweepDirectory(folder)
    for pooled in forecasts:
        evaluation = walk.pooled_forecast(pooled.folder).evaluation
        make(evaluation.path)
        table = predictions_table(pool, pooled.forecast)
        files.replace_file(evaluation.predictions, partial(table.to_csv, index=False))
        files.write_json(evaluation.metrics, {"test": metrics[pooled.name]})
    rows = [_keys(pooled) | flatten(metrics[pooled.name]) for pooled in forecasts]
    files.replace_text(walk.pooled_table, pd.DataFrame(rows).to_csv(index=False))
    files.replace_text(walk.gains, gains_table(pool, forecasts).to_csv(index=False))
    files.replace_text(walk.folds, folds_table(pool, forecasts).to_csv(index=False))


def _keys(pooled: Pooled) -> dict[str, Any]:
    return {"forecast": pooled.name, **{key: getattr(pooled, key) for key in ("kind", "config", "seed")}}


def judge_all(
    pool: Pool,
    forecasts: Sequence[Pooled],
    settings: EvaluationConfig,
    periods_a_year: float,
    own_metrics: Mapping[str, MetricFunction] = MappingProxyType({}),
) -> dict[str, dict[str, Any]]:
    """By name of a forecast, its part of metrics.json; of baselines METRICS alone."""
    quantiles, windows = pool.quantiles, pool.windows
    scores: dict[str, Score] = {p.name: score(windows, p.forecast, quantiles, own_metrics) for p in forecasts}
    baselines = {name: scores[name] for name in baselines_of(forecasts)}
    metrics = {name: scored.metrics for name, scored in scores.items()}
    for pooled in forecasts:
        if pooled.kind != "baseline":
            metrics[pooled.name] = judge(
                windows,
                pooled.forecast,
                quantiles,
                scores[pooled.name],
                baselines,
                modes=modes_by_series(windows, pooled.forecast, quantiles, settings),
                settings=settings,
                periods_a_year=periods_a_year,
            )
    for pooled in headlines(forecasts):
        metrics[pooled.name] |= judge_combination(pool, pooled, baselines_of(forecasts), scores, own_metrics)
        parts = [fold.calibrated.get(pooled.config) for fold in pool.folds]
        if all(part is not None for part in parts):
            beside = {"model": scores[pooled.name], **baselines}
            whole = windows, pool.join([forecast for _, forecast in parts]), quantiles, beside, own_metrics
            metrics[pooled.name] |= judge_calibrated(parts[0][0], *whole)
    return metrics


def judge_combination(
    pool: Pool,
    model: Pooled,
    baselines: Mapping[str, Pooled],
    scores: Mapping[str, Score],
    own_metrics: Mapping[str, MetricFunction],
) -> dict[str, Any]:
    """A config's combination with baselines over all folds, by the weights that each fold's validation chose.

    Returns:
      See `judge_combined`, with the mean weights of the folds, and `encompassing` by the hardest baseline;
      nothing where a fold has no weights.
    """
    chosen = [fold.weights.get(model.config) for fold in pool.folds]
    if not baselines or not all(chosen):
        return {}
    mixed = []
    for fold, weights, forecast in zip(pool.folds, chosen, pool.divide(model.forecast), strict=True):
        known = {**fold.forecasts, "model": forecast}
        mixed.append(combined([known[name] for name in weights.weights], list(weights.weights.values())))
    names = dict.fromkeys(name for weights in chosen for name in weights.weights)
    mean = {name: float(np.mean([w.weights.get(name, 0.0) for w in chosen])) for name in names}
    hardest = min(baselines, key=lambda name: scores[name].metrics["pinball"])
    beside = float(np.mean([weights.beside[hardest] for weights in chosen]))
    judged = {"model": scores[model.name], **{name: scores[name] for name in baselines}}
    forecasts = {"model": model.forecast, hardest: baselines[hardest].forecast}
    arguments = forecasts, judged, {hardest: beside}, pool.quantiles, own_metrics
    return judge_combined(pool.windows, pool.join(mixed), mean, *arguments)


def parts_of(pool: Pool) -> Iterator[tuple[str, Bool[np.ndarray, " N"], Bool[np.ndarray, " Q"]]]:
    """Each part that is not empty: its name, its windows and its levels.

    Before a stormy window the volatility was in the upper third of its series over the pool, which nobody
    knew beforehand: it is fit to describe, not to trade on. A window without a volatility counts as calm.
    """
    levels = np.asarray(pool.quantiles)
    of_series = [pool.volatility[part] for part in pool.windows.series]
    stormy = np.concatenate([storminess(values, values, (STORMY,)) == 1 for values in of_series])
    tails = (levels <= TAIL + 1e-9) | (levels >= 1 - TAIL - 1e-9)
    days = {"calm": ~stormy, "stormy": stormy}
    places = {"centre": ~tails, "tails": tails}
    for name in GAIN_PARTS:
        words = name.split()
        chosen_days = next((days[word] for word in words if word in days), np.ones_like(stormy))
        chosen_places = next((places[word] for word in words if word in places), np.ones_like(tails))
        if chosen_days.any() and chosen_places.any():
            yield name, chosen_days, chosen_places


def gains_table(pool: Pool, forecasts: Sequence[Pooled]) -> pd.DataFrame:
    """A row a forecast, baseline and part: the part's share in the difference of their pinball losses.

    `pinball` and `baseline_pinball` are means over the part. `difference`, its interval and `p` (Diebold and
    Mariano's, on all days) are of the part's contribution to the mean over everything: the quarters sum to
    "all", and so do calm and stormy, centre and tails.
    """
    targets, quantiles, day = pool.windows.target, pool.quantiles, pool.windows.day
    losses = {p.name: pinball_losses(p.forecast, targets, quantiles).mean(axis=1) for p in forecasts}
    parts, rows = list(parts_of(pool)), []
    for pooled in (pooled for pooled in forecasts if pooled.kind != "baseline"):
        for name in baselines_of(forecasts):
            difference = losses[pooled.name] - losses[name]
            for part, days, levels in parts:
                inside = np.ix_(days, levels)
                contribution = by_day((difference * levels).mean(axis=1) * days, day)
                row = _keys(pooled) | {"baseline": name, "part": part, "windows": int(days.sum())}
                row |= {"pinball": losses[pooled.name][inside].mean()}
                row |= {"baseline_pinball": losses[name][inside].mean()}
                rows.append(row | diebold_mariano(contribution, targets.shape[1])._asdict())
    return pd.DataFrame(rows)


def folds_table(pool: Pool, forecasts: Sequence[Pooled]) -> pd.DataFrame:
    """A row a test and forecast: its fold's dates and numbers of windows, METRICS of its test rows."""
    rows, one_series = [], len(pool.windows.series) == 1
    for name, inside, facts in tests_of(pool):
        targets = pool.windows.target[inside]
        for pooled in forecasts:
            metrics = evaluate_forecast(
                pooled.forecast[inside], targets, pool.quantiles, one_series=one_series
            )
            rows.append({"fold": name} | _keys(pooled) | facts | flatten(metrics))
    return pd.DataFrame(rows)


def tests_of(pool: Pool) -> Iterator[tuple[str, Bool[np.ndarray, " N"], dict[str, str | int]]]:
    """Each test that has windows: the year or month in which it begins, its windows, and its fold's facts.

    Of a fold that is tested several times, each test has its own dates and number of windows in the facts.
    """
    of_years = all(test[5:7] == "01" for fold in pool.folds for test in fold.tests)
    length = len("2006") if of_years else len("2006-04")
    for place, fold in enumerate(pool.folds):
        in_fold = pool.fold == place
        if len(fold.tests) < 2:  # none in a plan of an older version
            yield (fold.tests[0][:length] if fold.tests else fold.name), in_fold, fold.facts
            continue
        number = pd.DatetimeIndex(fold.tests).searchsorted(pool.dates, side="right") - 1
        for test, begin in enumerate(fold.tests):
            inside = in_fold & (number == test)
            if inside.any():
                first, last = (
                    str(day.date()) for day in (pool.dates[inside].min(), pool.dates[inside].max())
                )
                own = {"test_from": first, "test_to": last, "test_windows": int(inside.sum())}
                yield begin[:length], inside, fold.facts | own
