"""Evaluate a run on its validation and test rows: `python -m tftjax.evaluate runs/NAME`.

It writes under `evaluation/`, each row dated by the day that is forecast:
metrics.json      by split, numbers; what is undefined is left out or null:
                    METRICS of the model
                    baselines/NAME     METRICS of each baseline
                    tests              days; diebold_mariano/NAME (difference of pinball, model minus
                                       baseline, low, high, t, p, lags); of a single series also
                                       value_at_risk/LEVEL of the outer quantiles, pit, pesaran_timmermann
                    trading            cost; sign, scaled, buy_and_hold: sharpe, low, high, turnover, and the
                                       excess over buy_and_hold
                    quality            share of the rolling windows in each mode
                    quality_random     the same for random forecasts with the same mean and sigma
                    regimes/DIVISION/REGIME  (regimes.py) windows, METRICS of the model, and
                                       baselines/NAME with METRICS of each, of a single series only
predictions.csv   date, split, series and step if there are several, actual, a column a quantile
baselines.csv     its rows, a column a baseline and quantile, as "vix_scaled/0.5"; of a single series only
quality.csv       date, split, series if there are several, mode of the rolling window that ends there
by_series.csv     pinball loss of the model and of each baseline by series, if there are several
notes.json        left_out: the baselines without a forecast, and why; volatility_column: that vix_scaled uses
fan_chart.png, calibration.png
"""

import argparse
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tftjax import files, runtime
from tftjax.baseline_scores import (
    SPLITS,
    BaselineScores,
    rows_by_series,
    score_baselines,
    split_windows,
    target_rows,
)
from tftjax.cli import exit_code
from tftjax.data.prepared import cardinalities
from tftjax.data.volatility import volatility_column
from tftjax.errors import UserError
from tftjax.model.forecast import forecast_rows
from tftjax.model.parameters import build_model
from tftjax.quality import MODES
from tftjax.regimes import regime_metrics
from tftjax.scoring import Score, judge, modes_by_series, p_text, quality_text, score, verdict
from tftjax.storage import runs
from tftjax.trading import PERIODS_A_YEAR


def forecast_splits(run: runs.Run) -> dict[str, Float[np.ndarray, "W P Q"]]:
    """The model's quantiles for all windows of each split, returns as decimals, in one compiled call."""
    data = run.data
    model = build_model(run.config, *cardinalities(data.panel, data.encoding))
    starts = np.concatenate([data.starts[split] for split in SPLITS])
    forecast = forecast_rows(model, run.parameters, data.series, starts)
    stops = np.cumsum([len(data.starts[split]) for split in SPLITS])
    return dict(zip(SPLITS, np.split(forecast, stops[:-1]), strict=True))


def evaluate(
    run: runs.Run,
    known: dict[Hashable, BaselineScores] | None = None,
    say: Callable[[str], Any] = print,
    *,
    pictures: bool = True,
) -> dict[str, dict]:
    """Forecasts a run's validation and test rows, and evaluates that under `evaluation/`.

    Args:
      run: an opened run.
      known: baselines that evaluations of runs on the same data share; a dict that is filled here.
      say: called with messages.
      pictures: whether to draw them, which takes three quarters of the time.
    Returns:
      By split: what metrics.json holds.
    Raises:
      UserError: the results cannot be written.
    """
    forecasts = forecast_splits(run)
    return evaluate_forecasts(run, forecasts, run.directory / "evaluation", known, say, pictures=pictures)


def evaluate_forecasts(
    run: runs.Run,
    forecasts: Mapping[str, Float[np.ndarray, "W P Q"]],
    directory: Path,
    known: dict[Hashable, BaselineScores] | None = None,
    say: Callable[[str], Any] = print,
    *,
    pictures: bool = True,
) -> dict[str, dict]:
    """Evaluates forecasts of a run's windows, whoever made them: writes what the head of this file lists.

    Args:
      run: its config and data say what was forecast.
      forecasts: by split, returns as decimals.
      directory: is made, or its files are replaced.
      known, say, pictures: see `evaluate`.
    Raises:
      UserError: the results cannot be written.
    """
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory}: cannot be made ({error.strerror}).") from error
    quantiles, settings, panel = run.config.model.quantiles, run.config.evaluation, run.data.panel
    windows = {split: split_windows(run, split) for split in SPLITS}
    baselines = score_baselines(run, windows, known, say)
    metrics, scores, modes = {}, {}, {}
    for split, forecast in forecasts.items():
        others = baselines.scores[split]
        scores[split] = score(windows[split], forecast, quantiles)
        modes[split] = modes_by_series(windows[split], forecast, quantiles, settings)
        metrics[split] = scores[split].metrics | {"baselines": {n: s.metrics for n, s in others.items()}}
        metrics[split] |= judge(
            windows[split],
            forecast,
            quantiles,
            losses=scores[split].losses,
            baseline_losses={name: other.losses for name, other in others.items()},
            modes=modes[split],
            settings=settings,
            periods_a_year=PERIODS_A_YEAR[panel.about.get("frequency", "daily")],
        )
        all_forecasts = {"model": forecast, **baselines.forecasts[split]}
        metrics[split]["regimes"] = regime_metrics(run, target_rows(run, split), all_forecasts)
    files.write_json(directory / "metrics.json", metrics)
    notes = {"left_out": baselines.left_out, "volatility_column": volatility_column(panel.observed[1:])}
    files.write_json(directory / "notes.json", notes)
    _write_tables(run, directory, forecasts, baselines, modes)
    if panel.id_column is not None:
        _write_by_series(run, directory, scores, baselines)
    if pictures:
        _plot(run, directory, forecasts["test"], scores["test"], baselines)
    return metrics


def _write_tables(
    run: runs.Run,
    directory: Path,
    forecasts: Mapping[str, np.ndarray],
    baselines: BaselineScores,
    modes: Mapping[str, list[np.ndarray]],
) -> None:
    """predictions.csv, baselines.csv of a single series, quality.csv."""
    names = [f"{q:g}" for q in run.config.model.quantiles]
    returns = run.data.panel.frame[run.data.panel.target].to_numpy(np.float64)
    tables, compared, quality = [], [], []
    for split, forecast in forecasts.items():
        rows = target_rows(run, split)
        table = _rows_table(run, split, rows)
        values = pd.DataFrame(forecast.reshape(rows.size, -1), columns=names)
        tables.append(table.assign(actual=returns[rows.ravel()]).join(values))
        for name, other in baselines.forecasts[split].items():
            columns = [f"{name}/{level}" for level in names]
            table = table.join(pd.DataFrame(other.reshape(rows.size, -1), columns=columns))
        compared.append(table)
        own = zip(rows_by_series(run, rows), modes[split], strict=True)
        ends = [rows[own.stop - len(found) : own.stop, :1] for (_, own), found in own]
        table = _rows_table(run, split, np.concatenate(ends))
        quality.append(table.assign(mode=np.array(MODES)[np.concatenate(modes[split])]))
    files.replace_file(directory / "predictions.csv", partial(pd.concat(tables).to_csv, index=False))
    files.replace_file(directory / "quality.csv", partial(pd.concat(quality).to_csv, index=False))
    if len(run.data.blocks) == 1:
        files.replace_file(directory / "baselines.csv", partial(pd.concat(compared).to_csv, index=False))


def _rows_table(run: runs.Run, split: str, rows: Int[np.ndarray, "W P"]) -> pd.DataFrame:
    """One row a window and step, dated by the day that is forecast."""
    num_windows, num_steps = rows.shape
    flat = rows.ravel()
    panel = run.data.panel
    table = pd.DataFrame({"date": panel.frame.index[flat].strftime("%Y-%m-%d"), "split": split})
    if panel.id_column is not None:
        table["series"] = panel.frame[panel.id_column].to_numpy()[flat]
    if num_steps > 1:
        table["step"] = np.tile(np.arange(1, num_steps + 1), num_windows)
    return table


def _write_by_series(
    run: runs.Run, directory: Path, scores: Mapping[str, Score], baselines: BaselineScores
) -> None:
    """by_series.csv: a row a series and split, the pinball loss of every forecast."""
    table = []
    for split, model in scores.items():
        everyone = {"model": model, **baselines.scores[split]}
        for place, (block, own) in enumerate(rows_by_series(run, target_rows(run, split))):
            row = {"series": block.name, "split": split, "windows": own.stop - own.start}
            table.append(row | {name: scored.by_series[place] for name, scored in everyone.items()})
    files.replace_text(directory / "by_series.csv", pd.DataFrame(table).to_csv(index=False))


def _plot(run: runs.Run, directory: Path, forecast, model: Score, baselines: BaselineScores) -> None:
    """Plots the first step's forecasts of the test rows: calibration over all series, a fan of the first.

    Beside the model's calibration stands that of the unconditional baseline, and of the one that was best on
    validation: more lines cannot be told apart.
    """
    from tftjax import monitor_plot, plots

    quantiles, name, rows = run.config.model.quantiles, run.config.name, target_rows(run, "test")
    block, own = rows_by_series(run, rows)[0]
    dates = run.data.panel.frame.index[rows[own, 0]]
    actual = run.data.panel.frame[run.data.panel.target].to_numpy(np.float64)[rows[own, 0]]
    shown = f"{name}: last year of test" + (f", series {block.name}" if block.name else "")
    validated = baselines.scores["val"]
    best = min(validated, key=lambda other: validated[other].metrics["pinball"])
    shares = {name: model.share_below}
    shares |= {other: baselines.scores["test"][other].share_below for other in ("unconditional", best)}
    title = f"{name}: calibration on test"
    try:
        monitor_plot.draw(run.directory, directory / "monitor.png", f"{name}: course of training")
        plots.fan_chart(directory / "fan_chart.png", dates, actual, forecast[own, 0], quantiles, shown)
        plots.calibration(directory / "calibration.png", shares, len(rows), quantiles, title)
    except OSError as error:
        raise UserError(f"{directory}: the plots cannot be written ({error.strerror}).") from error


def summary(metrics: dict[str, dict]) -> str:
    """For the terminal: a table of the model beside its baselines, by split; what follows of the test."""
    heads = f"{'pinball':>9}{'DM':>10}{'80 % cov':>10}{'sigma':>9}"
    lines = [f"{'':25}{heads}{'positive':>10}{'direction':>11}{'base':>8}{'corr':>8}"]
    for split, model in metrics.items():
        tests = model["tests"]["diebold_mariano"]
        for name, values in {"model": model, **model["baselines"]}.items():
            cover = values["coverage"].get("80")
            p = p_text(tests[name]["p"]) if name in tests else ""
            correlation = values.get("correlation")
            lines.append(
                f"{split + ' ' + name:25}{values['pinball'] * 1e3:9.4f}{p:>10}"
                f"{_percent(cover):>10}{values['sigma'] * 1e4:6.1f} bp"
                f"{_percent(values['share_positive']):>10}"
                f"{_percent(values.get('directional_accuracy')):>11}"
                f"{_percent(values.get('directional_base_rate')):>8}"
                f"{'-' if correlation is None else format(correlation, '.3f'):>8}"
            )
    return "\n".join(
        [
            *lines,
            "pinball in 1e-3; DM: Diebold-Mariano test of the difference from the model; direction: share of",
            "signs right, base: always the more frequent; corr: of median and actual; -: undefined",
            f"test: {verdict(metrics['test'])}",
            f"test: {quality_text(metrics['test'])}",
        ]
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def main(argv: Sequence[str] | None = None) -> int:
    """Writes metrics, predictions, baselines and plots into the `evaluation` folder of a run's directory."""
    parser = argparse.ArgumentParser(prog="python -m tftjax.evaluate", description=main.__doc__)
    parser.add_argument("run", type=Path, help="run directory, such as runs/balanced_01")
    arguments = parser.parse_args(argv)
    runtime.configure()

    def say(message: str) -> None:
        print(message, file=sys.stderr)

    return exit_code(lambda: print(summary(evaluate(runs.open_run(arguments.run, say), say=say))))


if __name__ == "__main__":
    sys.exit(main())
