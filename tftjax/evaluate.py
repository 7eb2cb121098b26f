"""Evaluate a run on its validation and test rows: `python -m tftjax.evaluate runs/NAME`."""

import argparse
import itertools
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tftjax import files, runs, runtime
from tftjax.baselines import BASELINES
from tftjax.config import UserError
from tftjax.config_errors import exit_code
from tftjax.data.splits import Block
from tftjax.forecast import forecast_rows
from tftjax.metrics import evaluate_forecast, pinball
from tftjax.model.parameters import build_model
from tftjax.regimes import regime_metrics

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
    forecast = forecast_rows(model, run.parameters, data.series, starts)
    stops = np.cumsum([len(data.starts[split]) for split in SPLITS])
    return dict(zip(SPLITS, np.split(forecast, stops[:-1]), strict=True))


def evaluate(run: runs.Run) -> dict[str, dict]:
    """Computes the metrics of a run, writes them with predictions and plots under `evaluation/`.

    Args:
      run: an opened run.
    Returns:
      By split: the model's metrics, under "baselines" each baseline's, and under "regimes" both by regime.
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
    metrics, tables, by_series = {}, [], []
    for split, forecast in forecast_splits(run).items():
        rows = target_rows(run, split)
        forecasts = {"model": forecast, **baseline_forecasts(run, rows, returns)}
        scores = {
            name: evaluate_forecast(values, returns[rows], quantiles) for name, values in forecasts.items()
        }
        metrics[split] = scores.pop("model") | {"baselines": scores}
        metrics[split]["regimes"] = regime_metrics(run, rows, forecasts, returns)
        tables.append(_table(run, split, rows, forecast, returns))
        by_series += _by_series(run, split, rows, forecasts, returns)
    files.write_json(directory / "metrics.json", metrics)
    files.replace_file(directory / "predictions.csv", partial(pd.concat(tables).to_csv, index=False))
    if run.data.panel.id_column is not None:
        files.replace_text(directory / "by_series.csv", pd.DataFrame(by_series).to_csv(index=False))
    _plot(run, directory, rows[:, 0], {name: values[:, 0] for name, values in forecasts.items()}, returns)
    return metrics


def baseline_forecasts(
    run: runs.Run, rows: Int[np.ndarray, "W P"], returns: Float[np.ndarray, " N"]
) -> dict[str, Float[np.ndarray, "W P Q"]]:
    """Every baseline's forecast of the windows with those target rows, each series by its own train rows."""
    found: dict[str, list] = {name: [] for name in BASELINES}
    for block, own in _rows_by_series(run, rows):
        first = block.rows.start
        train = range(block.splits.train.start - first, block.splits.train.stop - first)
        for name, baseline in BASELINES.items():
            own_returns = returns[first : block.rows.stop]
            found[name].append(baseline(own_returns, train, rows[own] - first, run.config.model.quantiles))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _rows_by_series(run: runs.Run, rows: Int[np.ndarray, "W P"]) -> list[tuple[Block, slice]]:
    """The windows of each series that has any: windows follow each other series by series."""
    stops = np.searchsorted(rows[:, 0], [block.rows.stop for block in run.data.blocks])
    slices = [slice(start, stop) for start, stop in itertools.pairwise([0, *stops.tolist()])]
    pairs = zip(run.data.blocks, slices, strict=True)
    return [(block, own) for block, own in pairs if own.stop > own.start]


def _by_series(run: runs.Run, split: str, rows, forecasts, returns) -> list[dict]:
    """A row a series: the pinball loss of every forecast."""
    table = []
    for block, own in _rows_by_series(run, rows):
        scores = {
            name: pinball(values[own], returns[rows[own]], run.config.model.quantiles)
            for name, values in forecasts.items()
        }
        table.append({"series": block.name, "split": split, "windows": own.stop - own.start, **scores})
    return table


def _table(run: runs.Run, split: str, rows, forecast, returns) -> pd.DataFrame:
    """One row a window and step, dated by the day that is forecast."""
    num_windows, prediction_length = rows.shape
    flat = rows.ravel()
    panel = run.data.panel
    table = pd.DataFrame({"date": panel.frame.index[flat].strftime("%Y-%m-%d"), "split": split})
    if panel.id_column is not None:
        table["series"] = panel.frame[panel.id_column].to_numpy()[flat]
    if prediction_length > 1:
        table["step"] = np.tile(np.arange(1, prediction_length + 1), num_windows)
    table["actual"] = returns[flat]
    names = [f"{q:g}" for q in run.config.model.quantiles]
    return table.join(pd.DataFrame(forecast.reshape(len(flat), -1), columns=names))


def _plot(run: runs.Run, directory: Path, rows, forecasts, returns) -> None:
    """Plots the first step's forecasts of the test rows: calibration over all series, a fan of the first."""
    from tftjax import plots  # matplotlib takes half a second to import: only where it is needed

    quantiles, name = run.config.model.quantiles, run.config.name
    block, own = _rows_by_series(run, rows[:, None])[0]
    dates, actual = run.data.panel.frame.index[rows[own]], returns[rows]
    shown = f"{name}: last year of test" + (f", series {block.name}" if block.name else "")
    forecasts = {name if key == "model" else key: values for key, values in forecasts.items()}
    try:
        plots.fan_chart(
            directory / "fan_chart.png", dates, actual[own], forecasts[name][own], quantiles, shown
        )
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

    def command() -> None:
        run = runs.open_run(arguments.run, say=lambda message: print(message, file=sys.stderr))
        print(summary(evaluate(run)))

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
