"""Scores of forecasts that were logged before their outcomes came: `tftjax score log.csv --run runs/NAME`.

The log is that of `tftjax predict --append`. The outcome of a forecast is the row that came next after the
last one that it had seen (the n-th next, for its n-th step), as in an evaluation: a forecast that was dated
on an unforeseen holiday is of the next trading day.
"""

import argparse
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tftjax.cli import command_parser, exit_code, rerun

if __name__ == "__main__":  # before the imports that take a second
    rerun("score")

import numpy as np
import pandas as pd
from jaxtyping import Float

from tftjax import files, runtime
from tftjax.config.evaluation import EvaluationConfig
from tftjax.data.calendar import PERIODS
from tftjax.data.newest import newest_rows, without_weights
from tftjax.data.panel import Panel, name_of, split_series
from tftjax.data.prepared import train_targets
from tftjax.errors import UserError
from tftjax.evaluate.baselines import unconditional_quantiles
from tftjax.evaluate.formatting import LOSS, RATIO, counted, p_text, share
from tftjax.evaluate.metrics import (
    central_intervals,
    coverage,
    coverage_bounds,
    flatten,
    median,
    pinball_losses,
    pit_counts,
)
from tftjax.evaluate.quality import MODES, quality_modes
from tftjax.evaluate.scoring import by_day
from tftjax.evaluate.significance import Difference, diebold_mariano, pit_test
from tftjax.evaluate.tables import COVERAGE_NOTE, Cell, Summary, Table, coverage_text, difference_cells
from tftjax.predict.log import author_of
from tftjax.predict.rows import add_vintages, load_rows, vintage_frames
from tftjax.storage import forecast_log, runs
from tftjax.sweep.ensembles import open_runs

log = logging.getLogger(__name__)

BASELINE = "unconditional"
BY = {"month": "M", "quarter": "Q"}  # pandas' names of periods


class Scored(NamedTuple):
    """Forecasts whose outcomes have come, in time order within each series; returns as decimals.

    Attributes:
      rows: as_of, date (of the outcome), series, step (from 1), actual, and the quality `mode` of the rolling
        window that ends there: a place in MODES, or -1 where there are fewer rows before.
      forecast: logged quantiles.
      baseline: quantiles of the run's train rows of the same series, or of all where it was not in training.
      quantiles: levels.
    """

    rows: pd.DataFrame
    forecast: Float[np.ndarray, "N 1 Q"]
    baseline: Float[np.ndarray, "N 1 Q"]
    quantiles: tuple[float, ...]

    def select(self, mask: np.ndarray) -> "Scored":
        """Some of the forecasts."""
        return Scored(self.rows[mask], self.forecast[mask], self.baseline[mask], self.quantiles)

    def target(self) -> Float[np.ndarray, "N 1"]:
        """The outcomes."""
        return self.rows["actual"].to_numpy()[:, None]

    def independent(self) -> bool:
        """Whether the outcomes are of one series and step, so that they are independent draws."""
        return self.rows["series"].nunique() == 1 and bool(self.rows["step"].max() == 1)


def with_outcomes(logged: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    """A log with the step of each forecast, and its outcome: `came`, a date, and `actual`.

    Args:
      logged: as_of, date and series, see `forecast_log.read`.
      panel: rows to the day of scoring.
    Returns:
      The log in time order within each series; no date and NaN where no outcome has come yet, or where the
      panel begins after as_of.
    """
    logged = logged.sort_values(["series", "as_of", "date"], ignore_index=True)
    logged["step"] = logged.groupby(["series", "as_of"]).cumcount() + 1
    parts = {name_of(part): part.frame[panel.target] for part in split_series(panel)}
    came, actual = np.full(len(logged), np.datetime64("NaT", "ns")), np.full(len(logged), np.nan)
    for name, group in logged.groupby("series"):
        values = parts.get(name)
        if values is None:
            continue
        seen = values.index.searchsorted(group["as_of"], side="right")
        place = seen + group["step"].to_numpy() - 1
        has = (seen > 0) & (place < len(values))
        came[group.index[has]] = values.index[place[has]]
        actual[group.index[has]] = values.to_numpy()[place[has]]
    return logged.assign(came=pd.DatetimeIndex(came), actual=actual)


def score(seeds: Sequence[runs.Run], logged: pd.DataFrame, panel: Panel) -> Scored:
    """Puts a log's forecasts beside their outcomes and beside the quantiles of the train rows.

    Args:
      seeds: the run, or the seeds, whose log it is.
      logged: see `forecast_log.read`.
      panel: rows to the day of scoring.
    """
    run = seeds[0]
    quantiles = run.config.model.quantiles
    rows = with_outcomes(logged, panel)
    rows = rows[rows["came"].notna()].reset_index(drop=True)
    _say_moved(rows, panel.about.get("frequency"))
    late = int((rows["made"] > rows["came"]).sum())
    if late:
        log.warning(
            f"{counted(late, 'forecast')} of {len(rows)} made after the day of the outcome (--as-of): the"
            " model may have been trained or chosen by it"
        )
    unit = 100.0 if run.config.data.return_unit == "percent" else 1.0
    forecast = rows[[f"{q:g}" for q in quantiles]].to_numpy(np.float64)[:, None] / unit
    train = train_targets(run.data.panel, run.data.blocks)
    of_all = np.concatenate([*train.values()])
    flat = {
        name: unconditional_quantiles(train.get(name, of_all), quantiles, 1, 1)[0]
        for name in rows["series"].unique()
    }
    baseline = np.array([flat[name] for name in rows["series"]]).reshape(forecast.shape)
    rows = rows.assign(date=rows["came"], mode=_modes(rows, forecast, quantiles, run.config.evaluation))
    kept = ["as_of", "date", "series", "step", "actual", "mode"]
    return Scored(rows[kept], forecast, baseline, quantiles)


def _say_moved(rows: pd.DataFrame, frequency: str | None) -> None:
    """Logs how many outcomes came on another day, week or month than the forecast is dated."""
    period = PERIODS.get(frequency, "D")
    moved = rows["came"].dt.to_period(period) != rows["date"].dt.to_period(period)
    if moved.any():
        first = rows[moved].iloc[0]
        log.warning(
            f"{counted(int(moved.sum()), 'outcome')} came on another date than the forecast has, such as"
            f" {first['came'].date()} for {first['date'].date()}: a holiday, or a row that the data lacks"
        )


def _modes(rows: pd.DataFrame, forecast: np.ndarray, quantiles: Sequence[float], settings: EvaluationConfig):
    """The quality mode of each row of a first step; -1 for all others."""
    modes, middle = np.full(len(rows), -1), median(forecast, quantiles)[:, 0]
    for _, group in rows[rows["step"] == 1].groupby("series"):
        place = group.index.to_numpy()
        found = quality_modes(middle[place], rows["actual"].to_numpy()[place], settings)
        modes[place[len(place) - len(found) :]] = found
    return modes


def covered(scored: Scored, forecast: Float[np.ndarray, "N 1 Q"]) -> dict[str, float]:
    """Coverages of a forecast, and their 95 % intervals if outcomes are independent, by flat name."""
    shares = coverage(forecast, scored.target(), scored.quantiles)
    bounds = coverage_bounds(shares, len(forecast)) if scored.independent() else {}
    return flatten({"coverage": shares} | bounds)


def measures(scored: Scored) -> dict[str, Any]:
    """Plain numbers of some forecasts: their count, losses, coverage, mean PIT and most frequent mode."""
    target, quantiles = scored.target(), scored.quantiles
    modes = scored.rows["mode"].to_numpy()
    counts = np.bincount(modes[modes >= 0], minlength=len(MODES))
    judged = int(counts.sum())
    return {
        "forecasts": len(target),
        "pinball": float(pinball_losses(scored.forecast, target, quantiles).mean()),
        BASELINE: float(pinball_losses(scored.baseline, target, quantiles).mean()),
        **covered(scored, scored.forecast),
        "pit_mean": pit_mean(scored.forecast, target, quantiles),
        "mode": MODES[int(counts.argmax())] if judged else "",
        "mode_share": float(counts.max() / judged) if judged else None,
    }


def pit_mean(
    forecast: Float[np.ndarray, "N P Q"], target: Float[np.ndarray, "N P"], quantiles: Sequence[float]
) -> float:
    """The mean level at which outcomes lie, each in the middle of its bin between two quantiles.

    One half for a calibrated forecast; above, outcomes are higher than forecast. Source: Diebold, Gunther
    and Tay 1998.
    """
    bounds = np.concatenate([[0.0], quantiles, [1.0]])
    counts = pit_counts(forecast, target)
    return float((counts * (bounds[1:] + bounds[:-1]) / 2).sum() / counts.sum())


def drift(scored: Scored, by: str) -> pd.DataFrame:
    """`measures` of all forecasts and of each month or quarter of outcomes; a row each, `period` first."""
    periods = scored.rows["date"].dt.to_period(BY[by])
    parts = {"all": scored} | {
        str(period): scored.select((periods == period).to_numpy()) for period in sorted(periods.unique())
    }
    return pd.DataFrame([{"period": name, **measures(part)} for name, part in parts.items()])


def _mean_loss(scored: Scored, losses: np.ndarray) -> Difference:
    """A mean with its interval, day by day, robust to autocorrelation."""
    _, day = np.unique(scored.rows["as_of"], return_inverse=True)
    return diebold_mariano(by_day(losses, day), int(scored.rows["step"].max()))


def overall(scored: Scored) -> Table:
    """All forecasts beside the quantiles of the train rows."""
    target, quantiles = scored.target(), scored.quantiles
    losses = {
        name: pinball_losses(forecast, target, quantiles).mean(axis=(1, 2))
        for name, forecast in (("model", scored.forecast), (BASELINE, scored.baseline))
    }
    difference = _mean_loss(scored, losses["model"] - losses[BASELINE])._asdict()
    intervals = [percent for _, _, percent in central_intervals(quantiles)]
    rows = []
    for name, forecast in (("model", scored.forecast), (BASELINE, scored.baseline)):
        mean = _mean_loss(scored, losses[name])
        tested = difference_cells(difference) if name == BASELINE else [Cell(""), Cell("")]
        p = pit_test(pit_counts(forecast, target), quantiles)["p"] if scored.independent() else None
        cells = [Cell(name), Cell(LOSS.estimate(mean.difference, mean.low, mean.high)), *tested]
        shares = covered(scored, forecast)
        cells += [Cell(coverage_text(shares, percent)) for percent in intervals]
        pit = RATIO.number(pit_mean(forecast, target, quantiles))
        rows.append([*cells, Cell(pit), Cell(p_text(p))])
    head = (
        "",
        "pinball, 1e-3 [95 %]",
        "model minus it [95 %]",
        "DM test",
        *(f"{percent} % interval covers" for percent in intervals),
        "PIT mean",
        "PIT test",
    )
    note = (
        f"{BASELINE}: the quantiles of the run's train rows. Intervals of means are robust to"
        f" autocorrelation. {COVERAGE_NOTE} A PIT mean above 0.50: outcomes were higher than forecast."
    )
    return Table("All forecasts", head, rows, note)


def over_time(table: pd.DataFrame, by: str) -> Table:
    """`drift` for reading."""
    intervals = [name.rpartition("/")[2] for name in table if name.startswith("coverage/")]
    rows = []
    for row in table.to_dict("records"):
        mode = (
            f"{row['mode'].replace('_', ' ').lower()} {share(row['mode_share'], 0)}" if row["mode"] else "-"
        )
        cells = [str(row["forecasts"]), LOSS.number(row["pinball"]), LOSS.number(row[BASELINE])]
        cells += [coverage_text(row, percent, 0) for percent in intervals]
        rows.append([Cell(text) for text in (row["period"], *cells, RATIO.number(row["pit_mean"]), mode)])
    covers = (f"{percent} % covers" for percent in intervals)
    head = (by, "forecasts", "pinball, 1e-3", f"{BASELINE}", *covers, "PIT mean", "most frequent mode")
    note = (
        "By the date of the outcome; few forecasts scatter widely. The mode is that of rolling windows"
        " (evaluation.quality_window rows) that end in the period."
    )
    return Table(f"By {by}", head, rows, note)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "score",
        """
        Scores the forecasts that `predict --append` logged against what came: pinball loss, coverage and
        calibration of all of them, beside the unconditional quantiles of the train rows, and their drift by
        month or quarter.
        """,
        "log.csv --run runs/balanced_01 --data newest.csv",
    )
    parser.add_argument("log", type=Path, help="log of forecasts that `predict --append` made")
    parser.add_argument("--run", type=Path, required=True, help="directory of the run, or of a sweep")
    parser.add_argument("--config", metavar="NAME", help="of a sweep: the config whose seeds are averaged")
    parser.add_argument(
        "--data",
        help="folder or file with the outcomes; default: the data that the config names, read anew",
    )
    add_vintages(parser)
    parser.add_argument("--by", choices=BY, default="month", help="periods of the drift; default: month")
    parser.add_argument("--out", type=Path, help="also write the drift as a CSV; returns as decimals")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the scores of logged forecasts and their drift."""
    arguments = make_parser().parse_args(argv)

    def command() -> None:
        runtime.configure()
        if arguments.out is not None and arguments.out.exists():
            raise UserError(f"{arguments.out} exists. Choose another file, or remove it.")
        seeds = open_runs(arguments.run, arguments.config)
        author = author_of(seeds)
        logged = forecast_log.read(arguments.log, author)
        run, rows = seeds[0], arguments.data
        vintages = vintage_frames(arguments.vintages)
        if rows is None and not vintages:  # outcomes may lie after data.end
            config = without_weights(run.config.data).model_copy(update={"end": None})
            panel, rows = newest_rows(run.data.whole, config)
        else:
            panel = load_rows(run, rows, None, vintages=vintages)
            rows = run.config.data.dataset if rows is None else rows
        scored = score(seeds, logged, panel)
        waiting, last = len(logged) - len(scored.rows), panel.frame.index.max().date()
        print(f"{arguments.log}: {counted(len(logged), 'forecast')} of {author.run}")
        print(f"outcomes: {rows}, to {last}; {waiting} without one yet")
        if not len(scored.rows):
            if arguments.out is not None:
                print(f"nothing to score: {arguments.out} is not written")
            return
        table = drift(scored, arguments.by)
        print("\n" + Summary("", [overall(scored), over_time(table, arguments.by)]).terminal())
        if arguments.out is not None:
            files.replace_file(arguments.out, partial(table.to_csv, index=False))

    return exit_code(command)
