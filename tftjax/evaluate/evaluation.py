"""Evaluation of a run on its validation and test rows: `python -m tftjax.evaluate runs/NAME`.

Files under `evaluation/`, each row dated by the day that is forecast:
metrics.json      by split, numbers; what is undefined is left out or null:
                    METRICS of the model; of a single series and step also coverage_low and coverage_high,
                                       the 95 % Wilson interval of each coverage
                    baselines/NAME     METRICS of each baseline
                    foreign/NAME       METRICS of each forecast of another library (foreign.py)
                    tests              days; diebold_mariano/NAME of each of both (difference of pinball,
                                       model minus it, low, high, t, p, lags); confidence_set (p of the model
                                       and of each of both: those above 0.05 cannot be told from the best of
                                       them); of a single series also value_at_risk/LEVEL of the outer
                                       quantiles, pit, pesaran_timmermann
                    trading            cost; sign, scaled, buy_and_hold: sharpe, low, high, turnover, and the
                                       excess over buy_and_hold
                    quality            share of the rolling windows in each mode
                    quality_random     the same for random forecasts with the same mean and sigma
                    regimes/DIVISION/REGIME  (regimes.py) windows, METRICS of the model, and
                                       baselines/NAME and foreign/NAME with METRICS of each, of a single
                                       series only
                    combination        of test, of a single series (combination.py): weights/NAME chosen
                                       on validation; metrics; tests: days, diebold_mariano/NAME and model
                                       (combination minus it)
                    conformal          of test, where evaluation.conformal asks for it: method; metrics of the
                                       calibrated forecast; tests: days, diebold_mariano/NAME and model
                                       (conformal minus it)
                    encompassing/NAME  of test, of a single series: by the best baseline on validation and
                                       each foreign forecast: weight of the model beside it on validation,
                                       slope, t, p
predictions.csv   date, split, series and step if there are several, actual, a column a quantile
baselines.csv     its rows, a column a baseline and quantile, as "vix_scaled/0.5", and of foreign forecasts,
                  which are empty where there is none; of a single series only
quality.csv       date, split, series if there are several, mode of the rolling window that ends there
conformal.json    the conformal calibration and its forecasts of the test rows
conformal.csv       (calibration/calibrated.py), where there is one
by_series.csv     pinball loss of the model and of each other forecast by series, if there are several
notes.json        left_out: the baselines without a forecast, and why; volatility_column: that vix_scaled
                  uses; foreign: by name of a foreign forecast, its file or frame
"""

import logging
from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from tftjax import files
from tftjax.data.calendar import periods_a_year
from tftjax.data.panel import calendar_of
from tftjax.data.prepared import cardinalities
from tftjax.data.volatility import volatility_column
from tftjax.errors import UserError
from tftjax.evaluate.calibration.calibrated import judge_conformal
from tftjax.evaluate.combination import judge_combination
from tftjax.evaluate.files import Predictions, write_by_series, write_tables
from tftjax.evaluate.foreign import ForeignForecast, with_foreign
from tftjax.evaluate.metrics import Forecast, Target
from tftjax.evaluate.scoring import (
    SPLITS,
    BaselineScores,
    judge,
    modes_by_series,
    regime_metrics,
    score,
    score_baselines,
    split_windows,
    target_rows,
)
from tftjax.model.forecast import forecast_rows
from tftjax.model.parameters import build_model
from tftjax.storage import runs
from tftjax.storage.directories import RunDirectory, make

log = logging.getLogger(__name__)

NO_FOREIGN: Mapping[str, ForeignForecast] = MappingProxyType({})


class Evaluated(NamedTuple):
    """An evaluation of a run, and its test rows for pictures.

    Attributes:
      metrics: contents of metrics.json, by split.
      test: the test windows, series after series.
      shares: by forecast, the model's first, the share of the test windows' first targets at or below each
        quantile.
    """

    metrics: dict[str, dict]
    test: Predictions
    shares: dict[str, Float[np.ndarray, " Q"]]


def forecast_splits(run: runs.Run) -> dict[str, Float[np.ndarray, "W P Q"]]:
    """The model's quantiles for all windows of each split, returns as decimals, in one compiled call.

    Raises:
      UserError: the run is a final fit.
    """
    runs.check_judged(run.directory)
    data = run.data
    model = build_model(run.config, *cardinalities(data.panel, data.encoding), run.functions)
    starts = np.concatenate([data.starts[split] for split in SPLITS])
    forecast = forecast_rows(model, run.parameters, data.series, starts)
    stops = np.cumsum([len(data.starts[split]) for split in SPLITS])
    return dict(zip(SPLITS, np.split(forecast, stops[:-1]), strict=True))


def evaluate(
    run: runs.Run,
    known: dict[Hashable, BaselineScores] | None = None,
    foreign: Mapping[str, ForeignForecast] = NO_FOREIGN,
) -> Evaluated:
    """Forecasts a run's validation and test rows, and writes their evaluation.

    Args:
      known: scores of baselines that runs on the same data share, filled here.
      foreign: forecasts to judge beside it; see `read_foreign`.
    Raises:
      UserError: the run is a final fit, or the results cannot be written.
    """
    return evaluate_forecasts(run, forecast_splits(run), known, foreign)


def evaluate_forecasts(
    run: runs.Run,
    forecasts: Mapping[str, Float[np.ndarray, "W P Q"]],
    known: dict[Hashable, BaselineScores] | None = None,
    foreign: Mapping[str, ForeignForecast] = NO_FOREIGN,
) -> Evaluated:
    """Evaluates forecasts of a run's windows, whoever made them, and writes the files listed above.

    Args:
      forecasts: quantiles of each split's windows, returns as decimals.
      known, foreign: see `evaluate`.
    Raises:
      UserError: the results cannot be written, or would lack metrics or baselines that were handed in.
    """
    directory = RunDirectory(run.directory).evaluation
    _check_what_is_missing(run)
    make(directory.path)
    quantiles, settings, panel = run.config.model.quantiles, run.config.evaluation, run.data.panel
    own_metrics = run.functions.metrics
    windows = {split: split_windows(run, split) for split in SPLITS}
    baselines = with_foreign(run, windows, score_baselines(run, windows, known), foreign)
    everyone = {split: {"model": forecasts[split], **baselines.forecasts[split]} for split in SPLITS}
    metrics, scores, modes = {}, {}, {}
    for split, forecast in forecasts.items():
        scores[split] = score(windows[split], forecast, quantiles, own_metrics)
        modes[split] = modes_by_series(windows[split], forecast, quantiles, settings)
        metrics[split] = judge(
            windows[split],
            forecast,
            quantiles,
            scores[split],
            baselines.scores[split],
            modes=modes[split],
            settings=settings,
            periods_a_year=periods_a_year(calendar_of(panel)),
            foreign=foreign,
        )
        metrics[split]["regimes"] = regime_metrics(
            run, target_rows(run, split), everyone[split], foreign, baselines.derived
        )
    all_scores = {split: {"model": scores[split], **baselines.scores[split]} for split in SPLITS}
    if run.config.data.validates_alone:  # weights are chosen on rows that nothing was fitted to
        metrics["test"] |= judge_combination(windows, everyone, all_scores, quantiles, own_metrics, foreign)
    metrics["test"] |= judge_conformal(run, directory, windows, forecasts, all_scores["test"])
    files.write_json(directory.metrics, metrics)
    notes = {
        "left_out": baselines.left_out,
        "volatility_column": volatility_column(panel, run.config.data.volatility),
        "foreign": {name: given.source for name, given in foreign.items()},
    }
    files.write_json(directory.notes, notes)
    write_tables(run, directory, forecasts, baselines, modes)
    if panel.id_column is not None:
        write_by_series(run, directory, scores, baselines)
    shares = {name: scored.share_below for name, scored in all_scores["test"].items()}
    return Evaluated(metrics, _test_windows(run, windows["test"].target, forecasts["test"]), shares)


def _check_what_is_missing(run: runs.Run) -> None:
    """Logs the metrics and baselines of the run that are not at hand; refuses to lose their numbers."""
    path = RunDirectory(run.directory).evaluation.metrics
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    for kind in ("metrics", "baselines"):
        missing = [
            name for name in getattr(run.config.functions, kind) if name not in getattr(run.functions, kind)
        ]
        if any(f'"{name}":' in before for name in missing):
            again = ", ".join(f"{name!r}: f" for name in missing)
            raise UserError(
                f"{path}: has numbers of {kind} that were handed in at training, which a new evaluation would"
                f" lose. Hand them in again, in Python: tftjax.load(..., {kind}={{{again}}}).evaluate(); or"
                " remove the file, to go on without them."
            )
        if missing:
            log.warning(f"left out {kind} that were handed in at training: {', '.join(missing)}")


def _test_windows(run: runs.Run, target: Target, forecast: Forecast) -> Predictions:
    panel, first = run.data.panel, target_rows(run, "test")[:, 0]
    series = np.full(len(first), "")
    if panel.id_column is not None:
        series = panel.frame[panel.id_column].iloc[first].astype(str).to_numpy()
    dates = pd.DatetimeIndex(panel.frame.index[first])
    return Predictions(dates, series, forecast, target, run.config.model.quantiles)
