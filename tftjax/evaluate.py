"""Evaluate a run on its validation and test rows: `python -m tftjax.evaluate runs/NAME`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tftjax import files, runs, runtime
from tftjax.baselines import BASELINES
from tftjax.config import UserError
from tftjax.forecast import forecast_rows
from tftjax.metrics import evaluate_forecast
from tftjax.model.parameters import build_model

SPLITS = ("val", "test")


def target_rows(run: runs.Run, split: str) -> Int[np.ndarray, "W P"]:
    """Rows that the windows of a split forecast."""
    first = run.data.starts[split] + run.config.model.encoder_length
    return first[:, None] + np.arange(run.config.model.prediction_length, dtype=np.int32)


def forecast_splits(run: runs.Run) -> dict[str, Float[np.ndarray, "W P Q"]]:
    """The model's quantiles for all windows of each split, returns as decimals, in one compiled call."""
    data = run.data
    model = build_model(run.config, *runs.cardinalities(data.panel, data.encoding))
    starts = np.concatenate([data.starts[split] for split in SPLITS])
    forecast = forecast_rows(model, run.parameters, data.series, starts, data.center, data.scale)
    stops = np.cumsum([len(data.starts[split]) for split in SPLITS])
    return dict(zip(SPLITS, np.split(forecast, stops[:-1]), strict=True))


def evaluate(run: runs.Run) -> dict[str, dict]:
    """Computes the metrics of a run, writes them with predictions and plots under `evaluation/`.

    Args:
      run: an opened run.
    Returns:
      By split: the model's metrics, and under "baselines" each baseline's.
    Raises:
      UserError: the results cannot be written.
    """
    directory = run.directory / "evaluation"
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory}: cannot be made ({error.strerror}).") from error
    returns = run.data.panel.frame[run.data.panel.target].to_numpy(np.float64)
    quantiles = run.config.model.quantiles
    metrics, tables = {}, []
    for split, forecast in forecast_splits(run).items():
        rows = target_rows(run, split)
        baselines = {
            name: baseline(returns, run.data.splits.train, rows, quantiles)
            for name, baseline in BASELINES.items()
        }
        metrics[split] = evaluate_forecast(forecast, returns[rows], quantiles) | {
            "baselines": {
                name: evaluate_forecast(values, returns[rows], quantiles)
                for name, values in baselines.items()
            }
        }
        tables.append(_table(run, split, rows, forecast, returns))
    files.write_json(directory / "metrics.json", metrics)
    files.replace_text(directory / "predictions.csv", pd.concat(tables).to_csv(index=False))
    _plot(run, directory, rows[:, 0], forecast[:, 0], {n: v[:, 0] for n, v in baselines.items()}, returns)
    return metrics


def _table(run: runs.Run, split: str, rows, forecast, returns) -> pd.DataFrame:
    """One row a window and step, dated by the day that is forecast."""
    num_windows, prediction_length = rows.shape
    flat = rows.ravel()
    table = pd.DataFrame({"date": run.data.panel.frame.index[flat].strftime("%Y-%m-%d"), "split": split})
    if prediction_length > 1:
        table["step"] = np.tile(np.arange(1, prediction_length + 1), num_windows)
    table["actual"] = returns[flat]
    names = [f"{q:g}" for q in run.config.model.quantiles]
    return table.join(pd.DataFrame(forecast.reshape(len(flat), -1), columns=names))


def _plot(run: runs.Run, directory: Path, rows, forecast, baselines, returns) -> None:
    """Plots the first step's forecasts of the test rows."""
    from tftjax import plots  # matplotlib takes half a second to import: only where it is needed

    quantiles = run.config.model.quantiles
    dates, actual = run.data.panel.frame.index[rows], returns[rows]
    name = run.config.name
    try:
        plots.fan_chart(
            directory / "fan_chart.png", dates, actual, forecast, quantiles, f"{name}: last year of test"
        )
        forecasts = {name: forecast, **baselines}
        plots.calibration(
            directory / "calibration.png", actual, forecasts, quantiles, f"{name}: calibration on test"
        )
    except OSError as error:
        raise UserError(f"{directory}: the plots cannot be written ({error.strerror}).") from error


def summary(metrics: dict[str, dict]) -> str:
    """A table for the terminal: the model beside its baselines, by split."""
    lines = [f"{'':22}{'pinball':>9}{'80 % cov':>10}{'sigma':>9}{'positive':>10}{'direction':>11}{'base':>8}"]
    for split, model in metrics.items():
        rows = {"model": model, **model["baselines"]}
        for name, values in rows.items():
            cover = values["coverage"].get("80")
            direction = values.get("directional_accuracy")
            base = values.get("directional_base_rate")
            lines.append(
                f"{split + ' ' + name:22}{values['pinball'] * 1e3:9.4f}"
                f"{_percent(cover):>10}{values['sigma'] * 1e4:6.1f} bp"
                f"{_percent(values['share_positive']):>10}{_percent(direction):>11}{_percent(base):>8}"
            )
    return "\n".join(
        [*lines, "pinball in 1e-3; direction: share of signs right; base: always the more frequent"]
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def main(argv: Sequence[str] | None = None) -> int:
    """Writes evaluation/metrics.json, predictions.csv and plots into a run's directory."""
    parser = argparse.ArgumentParser(prog="python -m tftjax.evaluate", description=main.__doc__)
    parser.add_argument("run", type=Path, help="run directory, such as runs/balanced_01")
    arguments = parser.parse_args(argv)
    runtime.configure()
    try:
        run = runs.open_run(arguments.run, say=lambda message: print(message, file=sys.stderr))
        print(summary(evaluate(run)))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
