"""Metrics of the windows of each market regime, as it was known before them."""

import itertools
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tftjax.data.conditions import regime_of, regime_values
from tftjax.data.volatility import STORMY, known_volatility, storminess
from tftjax.evaluate.metrics import evaluate_forecast
from tftjax.evaluate.scoring import apart
from tftjax.storage.runs import Run

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


def divisions(run: Run, last_rows: Int[np.ndarray, " W"]) -> list[Division]:
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


def _by_volatility(run: Run, last_rows: Int[np.ndarray, " W"]) -> Int[np.ndarray, " W"]:
    """The third of its series' train windows in which a window's moving volatility lies."""
    volatility = known_volatility(run.data.panel)
    train_rows = run.data.starts["train"] + run.config.model.encoder_length - 1
    regime = np.zeros(len(last_rows), np.int64)
    for block in run.data.blocks:
        inside_train, inside = (
            (rows >= block.rows.start) & (rows < block.rows.stop) for rows in (train_rows, last_rows)
        )
        reference = volatility[train_rows[inside_train]]
        regime[inside] = storminess(volatility[last_rows[inside]], reference, (1 / 3, STORMY))
    return regime


def regime_metrics(
    run: Run,
    rows: Int[np.ndarray, "W P"],
    forecasts: Mapping[str, Float[np.ndarray, "W P Q"]],
    foreign: Collection[str] = (),
) -> dict[str, dict[str, dict]]:
    """Metrics of each regime's windows.

    Args:
      rows: the target rows of the windows.
      forecasts: the forecasts of "model", of the baselines and of foreign ones, by name.
      foreign: names of the foreign ones.
    Returns:
      By division and regime: number of `windows`, the model's metrics, and each other's in
      `baselines` or `foreign`.
    """
    quantiles = run.config.model.quantiles
    returns = run.data.panel.frame[run.data.panel.target].to_numpy(np.float64)
    one_series = len(run.data.blocks) == 1
    metrics: dict[str, dict[str, dict]] = {}
    for division in divisions(run, rows[:, 0] - 1):
        metrics[division.name] = {}
        for place, label in enumerate(division.labels):
            inside = division.regime == place
            values: dict = {"windows": int(inside.sum())}
            if inside.any():
                scores = {
                    name: evaluate_forecast(
                        forecast[inside], returns[rows[inside]], quantiles, one_series=one_series
                    )
                    for name, forecast in forecasts.items()
                }
                values |= scores.pop("model") | apart(scores, foreign)
            metrics[division.name][label] = values
    return metrics
