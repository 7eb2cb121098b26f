"""The conformal calibration of a run's forecast: fitted to validation rows, judged on test rows, kept.

conformal.json   what was fitted, see `Calibration`
conformal.csv    the calibrated quantiles of the test rows, in the layout of predictions.csv
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from tftjax import files
from tftjax.errors import UserError
from tftjax.evaluate.calibration.conformal import (
    Quantiles,
    Shifts,
    scores,
    shifted,
    split_shifts,
    tracked_shifts,
)
from tftjax.evaluate.files import read_predictions, rows_table
from tftjax.evaluate.formatting import counted
from tftjax.evaluate.metrics import MetricFunction
from tftjax.evaluate.scoring import Score, Windows, score, target_rows, tests_against
from tftjax.storage import runs
from tftjax.storage.directories import EvaluationDirectory, ForecastDirectory

log = logging.getLogger(__name__)


class Calibration(NamedTuple):
    """A conformal calibration, as conformal.json holds it.

    Attributes:
      method: "split" or "adaptive".
      quantiles: the levels.
      windows: number of validation windows that it was fitted to.
      until: date of the last validation row.
      shifts: by step and level, in spreads of the forecast; those that "adaptive" starts with.
    """

    method: str
    quantiles: list[float]
    windows: int
    until: str
    shifts: list[list[float]]


class Outcomes(NamedTuple):
    """When windows were forecast, and what came.

    Attributes:
      target: returns as decimals; NaN where they are not known.
      made: date of each window's last encoder row, after which it was forecast.
      known: date of each target row.
    """

    target: Float[np.ndarray, "N P"]
    made: Shaped[np.ndarray, " N"]
    known: Shaped[np.ndarray, "N P"]


def outcomes_of(frame: pd.DataFrame, target: str, rows: Int[np.ndarray, "N P"]) -> Outcomes:
    """The outcomes of windows, by the rows of a panel's frame that they forecast."""
    dates = frame.index.to_numpy()
    return Outcomes(frame[target].to_numpy(np.float64)[rows], dates[rows[:, 0] - 1], dates[rows])


def calibrate(
    method: str, shifts: Shifts, forecast: Quantiles, of: Outcomes, quantiles: Sequence[float]
) -> Quantiles:
    """Calibrated quantiles of windows.

    Args:
      method: "split" or "adaptive".
      shifts: those of the validation rows.
      of: what "adaptive" learns from.
      quantiles: the levels.
    """
    if method == "adaptive":
        found = scores(forecast, of.target, quantiles)
        shifts = tracked_shifts(shifts, found, of.made, of.known, quantiles)
    return shifted(forecast, shifts, quantiles)


def calibrated_test(
    run: runs.Run, windows: Mapping[str, Windows], forecasts: Mapping[str, Quantiles]
) -> tuple[Calibration, Quantiles] | None:
    """The calibration of a run's forecast, and its calibrated quantiles of the test rows.

    Args:
      windows: of each split.
      forecasts: the model's quantiles of each split.
    Returns:
      None where the config asks for none, or has trained on the validation rows, which is logged.
    Raises:
      UserError: too few validation rows for a level.
    """
    method, quantiles = run.config.evaluation.conformal, run.config.model.quantiles
    if method == "none":
        return None
    if run.config.data.train_on_val:
        log.warning(f"left out the conformal calibration ({method}): data.train_on_val leaves no rows for it")
        return None
    frame, rows = run.data.panel.frame, {split: target_rows(run, split) for split in ("val", "test")}
    shifts = split_shifts(forecasts["val"], windows["val"].target, quantiles)
    until = str(frame.index[rows["val"].ravel()].max().date())
    fitted = Calibration(method, list(quantiles), len(rows["val"]), until, shifts.tolist())
    of = outcomes_of(frame, run.data.panel.target, rows["test"])
    return fitted, calibrate(method, shifts, forecasts["test"], of, quantiles)


def judge_calibrated(
    method: str,
    windows: Windows,
    calibrated: Quantiles,
    quantiles: Sequence[float],
    beside: Mapping[str, Score],
    own_metrics: Mapping[str, MetricFunction] = MappingProxyType({}),
) -> dict[str, Any]:
    """A calibrated forecast judged on test rows.

    Args:
      beside: scores of the same rows: those of "model", and of the baselines and foreign forecasts.
    Returns:
      `conformal`, as metrics.json has it.
    """
    scored = score(windows, calibrated, quantiles, own_metrics)
    tests = tests_against(scored, beside, windows.target.shape[1])
    return {
        "conformal": {
            "method": method,
            "metrics": scored.metrics,
            "tests": {"days": len(scored.losses), "model": tests.pop("model"), "diebold_mariano": tests},
        }
    }


def judge_conformal(
    run: runs.Run,
    directory: EvaluationDirectory,
    windows: Mapping[str, Windows],
    forecasts: Mapping[str, Quantiles],
    beside: Mapping[str, Score],
) -> dict[str, Any]:
    """`judge_calibrated` of a run, where its config asks for it; writes the files listed above.

    Args:
      windows, forecasts: see `calibrated_test`.
      beside: see `judge_calibrated`.
    """
    made = calibrated_test(run, windows, forecasts)
    if made is None:  # what an evaluation before has left
        directory.conformal.unlink(missing_ok=True)
        directory.conformal_forecasts.unlink(missing_ok=True)
        return {}
    (fitted, calibrated), rows = made, target_rows(run, "test")
    files.write_json(directory.conformal, fitted._asdict())
    names = [f"{level:g}" for level in fitted.quantiles]
    values = pd.DataFrame(calibrated.reshape(rows.size, -1), columns=names)
    actual = windows["test"].target.ravel()
    table = rows_table(run, "test", rows).assign(actual=actual).join(values)
    files.replace_file(directory.conformal_forecasts, partial(table.to_csv, index=False))
    own_metrics = run.functions.metrics
    return judge_calibrated(fitted.method, windows["test"], calibrated, fitted.quantiles, beside, own_metrics)


def calibration_of(directory: Path, until: str) -> Calibration:
    """The calibration that an evaluation kept, or one that is fitted to its validation rows now.

    Args:
      directory: that of a run or an ensemble, above `evaluation/`.
      until: date of the last validation row.
    Raises:
      UserError: it has no evaluation, or too few validation rows for a level.
    """
    path = ForecastDirectory(directory).evaluation.conformal
    remedy = f"Make it anew: tftjax evaluate {directory}"
    val = read_predictions(directory, "val")
    if not path.is_file():
        shifts = split_shifts(val.forecast, val.target, val.quantiles)
        log.info(f"conformal calibration fitted to {counted(len(val.target), 'validation window')}")
        return Calibration("split", list(val.quantiles), len(val.target), until, shifts.tolist())
    found = files.check(files.read_json(path, remedy), Calibration, path, remedy)
    steps, levels = val.forecast.shape[1:]
    if np.shape(found.shifts) != (steps, levels) or found.quantiles != list(val.quantiles):
        raise UserError(
            f"{path}: damaged: found shifts {np.shape(found.shifts)} of the quantiles {found.quantiles},"
            f" expected {steps} steps and {list(val.quantiles)}. {remedy}"
        )
    return found
