"""Results for Python: a run, a sweep and a backtest, with their numbers as frames and their figures.

Each is frozen and holds nothing but where it lies and what was opened: every frame is read from the files.
"""

import argparse
import datetime
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tftjax.api.arguments import frames_of
from tftjax.cli import iso_date
from tftjax.config.functions import NO_FUNCTIONS, Functions
from tftjax.config.loading import Config
from tftjax.config.loading import load as load_config
from tftjax.data.loading import FRAME
from tftjax.data.panel import Panel, read_panel
from tftjax.data.tables.frames import to_pandas
from tftjax.data.tables.transforms import in_return_unit, to_levels
from tftjax.errors import UserError
from tftjax.evaluate import tables
from tftjax.evaluate.evaluation import NO_FOREIGN, evaluate_forecasts, forecast_splits
from tftjax.evaluate.files import Evaluation, read_evaluation
from tftjax.evaluate.foreign import read_foreign
from tftjax.evaluate.formatting import unit_of
from tftjax.evaluate.metrics import flatten
from tftjax.evaluate.scoring import SPLITS
from tftjax.evaluate.verdict import hardest, verdict
from tftjax.interpret.attribution import Attributions, attribute
from tftjax.interpret.tables import interpret, read_table
from tftjax.predict import forecast_seeds, forecastable, load_rows, sample_paths
from tftjax.predict.export.folder import export
from tftjax.report.kinds import report
from tftjax.storage import runs
from tftjax.storage.directories import (
    ForecastDirectory,
    RunDirectory,
    SearchDirectory,
    SweepDirectory,
    sweep_of,
)
from tftjax.sweep.ensembles import average, open_runs
from tftjax.sweep.final import refit_seeds
from tftjax.sweep.results import ranking, read_results
from tftjax.sweep.tune.results import read_importance, read_trials
from tftjax.train import pictures
from tftjax.train.learning_rates import RangeTest
from tftjax.train.monitor import read_history
from tftjax.train.run import refit
from tftjax.walkforward.files import read_walk, stormy_days
from tftjax.walkforward.summary import gain_data

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _metrics_frame(metrics: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """A row a split and forecast, as `tables.beside` names them; a column a metric, as in metrics.json."""
    rows = {
        (split, name): flatten({key: part for key, part in values.items() if key not in ("tests", "regimes")})
        for split, of_split in metrics.items()
        for name, values in {
            "model": of_split,
            **tables.calibrated(of_split),
            **tables.beside(of_split),
        }.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["split", "forecast"])


@dataclass(frozen=True, repr=False)
class Run:
    """A trained model, or the mean of several seeds' quantiles, and its evaluation.

    Attributes:
      directory: folder of the run, of the ensemble of the seeds, or of their final fits.
      trained: the opened run of each seed.
    """

    directory: Path
    trained: tuple[runs.Run, ...]

    @property
    def name(self) -> str:
        """The run's name; of several seeds, their config's."""
        return self.config.name if len(self.trained) == 1 else self.directory.name

    @property
    def config(self) -> Config:
        """The config, of the first seed."""
        return self.trained[0].config

    @property
    def verdict(self) -> str:
        """The baselines that the test rows' forecast beats, in one line; of a final fit, its source's."""
        final = runs.read_final(self.directory)
        if final is not None:
            return f"final fit to {final.trained_until}; the run that chose its epochs: {final.verdict}"
        return verdict(self._evaluation().metrics["test"])

    @property
    def metrics(self) -> pd.DataFrame:
        """Metrics of validation and test rows: the model, the same calibrated, baselines; as decimals."""
        return _metrics_frame(self._evaluation().metrics)

    @property
    def forecasts(self) -> pd.DataFrame:
        """The quantiles of the test rows by date, beside the actual values and the baselines' quantiles.

        In the unit of the data: percent where `data.return_unit` is "percent".
        """
        evaluation = self._evaluation()
        test = evaluation.predictions["test"]
        steps, levels = test.target.shape[1], [f"{level:g}" for level in test.quantiles]
        rows = np.repeat(np.arange(len(test.dates)), steps)
        table = pd.DataFrame({"date": test.dates[rows], "series": test.series[rows]})
        table["step"] = np.tile(np.arange(1, steps + 1), len(test.dates))
        values = {"actual": test.target.reshape(-1, 1), "": test.forecast, **evaluation.baselines}
        numbers = [
            pd.DataFrame(
                array.reshape(len(rows), -1),
                columns=[name] if name == "actual" else [f"{name}/{q}" if name else q for q in levels],
            )
            for name, array in values.items()
        ]
        if self.trained[0].data.panel.id_column is None:
            table = table.drop(columns="series")
        if steps == 1:
            table = table.drop(columns="step")
        return table.join(in_return_unit(pd.concat(numbers, axis=1), self.config.data)).set_index("date")

    @property
    def plot(self) -> "RunPlots":
        """The figures of the run, by matplotlib or plotly."""
        return RunPlots(self)

    def predict(
        self,
        data: Any = None,
        *,
        as_of: str | datetime.date | None = None,
        future: Any = None,
        vintages: Mapping[str, Any] | None = None,
        levels: bool = False,
        quantiles: Sequence[float] | None = None,
        conformal: str = "none",
    ) -> pd.DataFrame:
        """Forecasts the steps after the last row, of each series.

        Series that were not in training are forecast if `train.static_dropout` was above 0 and the target's
        scale is not one that is fitted to each series; which they are is logged.

        Args:
          data: rows up to the day of the forecast and at least the encoder's: a frame, a file or a folder;
            None reads the run's data set anew, or takes the frame that it was trained on.
          as_of: uses rows up to this date only; a text is YYYY-MM-DD.
          future: values of known columns in the steps to come: a frame or a file.
          vintages: newer frames of the series that were given as vintages in training, all of them.
          levels: returns prices or levels, where `data.target_transform` made changes of them.
          quantiles: other levels than the run's, between 0 and 1: those of its distribution if
            `model.quantile_head` is "student_t", otherwise between its own by
            `tftjax.evaluate.calibration.levels.quantiles_at`, with normal tails beyond.
          conformal: calibrates the quantiles by the run's validation rows ("split"), or from there on by each
            outcome up to the last row ("adaptive").

        Returns:
          A row a step: its date, the series if there are several, a column a quantile, in the data's unit.
          Quantiles that cross are sorted, which is logged; so is a model that learned long before the rows.

        Raises:
          UserError: too few rows, columns that are missing, or series that the run cannot forecast.
        """
        rows = self._rows(data, as_of, future, vintages)
        table = forecast_seeds(self.trained, rows, quantiles=quantiles, conformal=conformal)
        return in_return_unit(to_levels(table, rows) if levels else table, self.config.data)

    def sample_paths(
        self,
        n: int,
        data: Any = None,
        *,
        as_of: str | datetime.date | None = None,
        future: Any = None,
        vintages: Mapping[str, Any] | None = None,
        levels: bool = False,
        conformal: str = "none",
        seed: int = 0,
    ) -> pd.DataFrame:
        """Draws sample paths over the steps after the last row, for sums and extremes over several steps.

        At each step the paths have the quantiles that `predict` gives, and the steps go together as the train
        rows' outcomes did, each seen by its level in the forecast (the Schaake shuffle). Series are drawn
        independently.

        Args:
          n: number of paths of each series.
          data, as_of, future, vintages, conformal: see `predict`.
          levels: returns prices or levels along each path, as in `predict`.
          seed: of the drawing: the same paths every time.

        Returns:
          A row a path and step: its date, the series if there are several, `path` from 1 on, and `value` in
          the data's unit. `paths.groupby("path")["value"].sum().quantile(0.05)` is a quantile of a sum.

        Raises:
          UserError: see `predict`.
        """
        rows = self._rows(data, as_of, future, vintages)
        how = {"conformal": conformal, "levels": levels, "seed": seed}
        return in_return_unit(sample_paths(self.trained, rows, n, **how), self.config.data)

    def export(self, directory: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the forecast as files that need no tftjax, and returns their folder.

        They are a StableHLO program for CPU and CUDA, a JSON of its columns and units, and a loader that
        needs jax, numpy and flatbuffers. Of several seeds the mean is written.

        Args:
          directory: the folder.
          overwrite: replaces an exported model in it.

        Raises:
          UserError: something lies there, or the run has a setting that cannot be exported.
        """
        return export(self.trained, Path(directory), overwrite=overwrite)

    def evaluate(self, forecasts: Mapping[str, Any] = NO_FOREIGN) -> pd.DataFrame:
        """Forecasts validation and test rows anew, writes their evaluation, and returns `metrics`.

        Args:
          forecasts: forecasts of other libraries to judge on the same days: by name, a file or a frame; see
            `tftjax.evaluate.foreign`.

        Raises:
          UserError: a forecast that does not fit the run: the first difference is named.
        """
        runs.check_judged(self.directory)
        run = runs.Run(**{**vars(self.trained[0]), "directory": self.directory})
        foreign = read_foreign(run, forecasts)
        own = [forecast_splits(trained) for trained in self.trained]
        averaged = {split: average([part[split] for part in own]) for split in SPLITS}
        pictures.draw(run, evaluate_forecasts(run, averaged, foreign=foreign))
        return self.metrics

    def importance(self, split: str = "test") -> pd.DataFrame:
        """Selection weights of the variables, mean and percentiles over a split's windows, of the first seed.

        Args:
          split: "train", "val" or "test".
        """
        table = self._interpreted("importance", split).drop(columns="split")
        return table.set_index(["kind", "variable"])

    def attribution(self) -> Attributions:
        """What the forecasts of the test rows depend on, with the spread over seeds; written beside the run.

        Returns:
          Frames: `permutation`, the rise of the loss, in percent, where an input is shuffled; `gradients`,
          integrated gradients by input and step, and `dependence`, quantiles by an input's value, both as
          decimals of a return; `agreement`, the rank correlation with selection weights. `sd_of_seeds` is NaN
          of a single seed; when another number is, `tftjax.interpret.attribution.CAPTIONS` says by table.
        """
        return attribute(self.trained, ForecastDirectory(self.directory))

    def report(self) -> Path:
        """Writes the page of the run, of several seeds that of their sweep, and returns its path."""
        runs.check_judged(self.directory)
        return report([self.directory if len(self.trained) == 1 else self._sweep])[0]

    def save(self, directory: str | Path) -> "Run":
        """Copies the run to another place, such as out of a temporary folder; its name is the folder's there.

        Of several seeds the whole sweep is copied, under the names that its members have.

        Raises:
          UserError: something lies there, or the folder's name is none of a run.
        """
        target, first = Path(directory), self.trained[0]
        if len(self.trained) == 1:
            return Run(target, (runs.copy(first, target),))
        runs.copy_folder(self._sweep, target)
        place = target / self.directory.absolute().relative_to(self._sweep)
        paths = [target / run.directory.absolute().relative_to(self._sweep) for run in self.trained]
        return Run(place, tuple(runs.open_run(path, first.data, first.functions) for path in paths))

    def refit(
        self,
        directory: str | Path | None = None,
        *,
        data: Any = None,
        vintages: Mapping[str, Any] | None = None,
        resume: bool = False,
        overwrite: bool = False,
        quiet: bool = False,
    ) -> "Run":
        """Trains the same config anew on all rows, for the epochs that validation chose: for daily use.

        Args:
          directory: where the final fit is kept; None: beside the run or its sweep, with "-final" after
            the name.
          data: all rows, as in `predict`.
          vintages: as in `predict`.
          resume: goes on with the final fit in the directory, or begins it.
          overwrite: replaces the final fit in the directory.
          quiet: shows no progress and no summary.

        Raises:
          UserError: itself a final fit, or something lies in the place.
        """
        alone = sweep_of(self.directory) is None
        home = self.directory.absolute() if alone else self._sweep
        place = home.with_name(f"{home.name}-final") if directory is None else Path(directory)
        flags = {"resume": resume, "overwrite": overwrite, "quiet": quiet}
        seeds, panel = self.trained, None
        if data is not None or vintages:
            panel = load_rows(seeds[0], _table(data), None, vintages=frames_of(vintages))
        if data is not None:
            seeds = [_with_data(run, data) for run in seeds]
        if len(seeds) == 1:
            return Run(place, (refit(seeds[0], place, panel=panel, **flags),))
        return Run(place, tuple(refit_seeds(seeds, self.directory, place, panel=panel, **flags)))

    @property
    def _sweep(self) -> Path:
        """The directory of the sweep that the run is part of; of a final fit of several seeds its own."""
        return self.trained[0].directory.absolute().parents[1]

    def _rows(self, data: Any, as_of: Any, future: Any, vintages: Any) -> Panel:
        """The rows to forecast from; see `predict`."""
        first, *_ = self.trained
        panel = load_rows(first, _table(data), _date(as_of), _table(future), frames_of(vintages))
        return forecastable(first, panel)

    def _evaluation(self) -> Evaluation:
        return read_evaluation(self.directory)

    def _interpreted(self, name: str, split: str) -> pd.DataFrame:
        """A split's rows of a table of `interpret`, made on the first call.

        Raises:
          UserError: a split that the table lacks.
        """
        first = self.trained[0]
        path = RunDirectory(first.directory).interpretation.table(name)
        if not path.is_file():
            interpret(first)
        table = read_table(first.directory, name)
        if split not in set(table["split"]):
            raise UserError(
                f"split: found {split!r}, expected one of {', '.join(dict.fromkeys(table['split']))}."
            )
        return table[table["split"] == split].reset_index(drop=True)

    def __repr__(self) -> str:
        return f"Run({self.name!r} in {str(self.directory)!r}: {self.verdict.partition(';')[0]})"

    def _repr_html_(self) -> str:
        if runs.read_final(self.directory) is not None:
            return f"<b>{html.escape(self.name)}</b>: {html.escape(self.verdict)}"
        test = self._evaluation().metrics["test"]
        return _as_html(self.name, self.verdict, tables.against_baselines(test, "Test rows"))


def _table(data: Any) -> Any:
    """The data as `load_rows` takes them: the path of a file as text, or a pandas frame."""
    return str(data) if isinstance(data, str | Path) else None if data is None else to_pandas(data)


def _with_data(run: runs.Run, data: Any) -> runs.Run:
    """The run with other data, whole, in its config."""
    update = {"dataset": str(data) if isinstance(data, str | Path) else FRAME, "end": None}
    config = run.config.model_copy(update={"data": run.config.data.model_copy(update=update)})
    return replace(run, config=config)


def _date(given: str | datetime.date | None) -> datetime.date | None:
    try:
        return iso_date(given) if isinstance(given, str) else given and pd.Timestamp(given).date()
    except argparse.ArgumentTypeError as error:
        raise UserError(f"as_of: {error}.") from None


def _as_html(name: str, line: str, table: tables.Table) -> str:
    """A name, a sentence and a table, for a notebook."""
    frame = pd.DataFrame([[cell.text for cell in row] for row in table.rows], columns=list(table.head))
    return f"<b>{html.escape(name)}</b>: {html.escape(line)}{frame.to_html(index=False)}"


@dataclass(frozen=True)
class RunPlots:
    """The figures of a run, for `engine` "matplotlib", or "plotly" of the extra `plots`."""

    run: Run

    def fan(self, series: str | None = None, engine: str = "matplotlib") -> Any:
        """The last year of the test rows: central intervals, median and actual returns.

        Args:
          series: name of the series; None takes the first.
        """
        test, unit = self.run._evaluation().predictions["test"], unit_of(self.run.config.data)
        names = list(dict.fromkeys(test.series))
        if series is not None and series not in names:
            raise UserError(f"series: found {series!r}, expected one of {', '.join(names[:10])}.")
        series = names[0] if series is None else series
        drawing = pictures.fan(self.run.name, test, series, unit)
        return _figure(engine, drawing, lambda: [pictures.fan_data(test, series, unit)])

    def calibration(self, engine: str = "matplotlib") -> Any:
        """The share of test outcomes below each quantile, of the model and two baselines."""
        from tftjax.plots import forecasts as plots

        evaluation = self.run._evaluation()
        test = evaluation.predictions["test"]
        forecasts = {"model": test.forecast, **evaluation.baselines}
        shares = {name: (test.target[:, :1] <= q[:, 0]).mean(axis=0) for name, q in forecasts.items()}
        best = hardest(evaluation.metrics["val"]["baselines"])
        shown = pictures.calibrated(self.run.name, shares, best)
        drawing = pictures.calibration(self.run.name, test, shares, best)
        return _figure(engine, drawing, lambda: [plots.calibration_data(shown, test.quantiles)])

    def training(self, engine: str = "matplotlib") -> Any:
        """The course of the training, of the first seed."""
        from tftjax.plots import training

        first = self.run.trained[0]
        runs.check_judged(first.directory)
        records = read_history(first.directory)
        drawing = training.course_drawing(records, first.best_epoch, self.run.name)
        return _figure(engine, drawing, lambda: training.course_data(records))

    def importance(self, split: str = "test", engine: str = "matplotlib") -> Any:
        """The selection weights of the variables, of the first seed."""
        from tftjax.plots import interpretation

        table = self.run._interpreted("importance", split)
        drawing = interpretation.importance_drawing(table, self.run.name)
        return _figure(engine, drawing, lambda: interpretation.importance_data(table))

    def attention(self, split: str = "test", engine: str = "matplotlib") -> Any:
        """The attention by step, of the first horizon and seed."""
        from tftjax.plots import interpretation

        table = self.run._interpreted("attention_by_lag", split)
        drawing = interpretation.attention_drawing(table, self.run.name)
        return _figure(engine, drawing, lambda: [interpretation.attention_data(table)])


def _figure(engine: str, drawing: Any, charts: Callable[[], Sequence[Any]]) -> Any:
    """A `plots.theme.Drawing` as a figure of matplotlib, or its charts as one of plotly."""
    from tftjax.plots import chart, theme

    if engine not in ("matplotlib", "plotly"):
        raise UserError(f"engine: found {engine!r}, expected 'matplotlib' or 'plotly'.")
    return (
        theme.figure_of(drawing) if engine == "matplotlib" else chart.plotly_figure(charts(), drawing.title)
    )


@dataclass(frozen=True, repr=False)
class LearningRates:
    """A learning-rate range test.

    Attributes:
      name: the config's.
      tested: losses by seed and rate, and the rate that they suggest.
    """

    name: str
    tested: RangeTest

    @property
    def suggested(self) -> float:
        """The rate to train with: a tenth of that of the lowest loss."""
        return self.tested.suggested

    @property
    def losses(self) -> pd.DataFrame:
        """Losses in return units by learning rate: a column a seed, and their smoothed mean."""
        columns = {f"seed {number}": losses for number, losses in enumerate(self.tested.losses, start=1)}
        index = pd.Index(self.tested.rates, name="learning_rate")
        return pd.DataFrame({**columns, "smoothed": self.tested.smoothed}, index=index)

    def plot(self) -> Any:
        """The losses over the rates, as a figure of matplotlib."""
        from tftjax.plots import theme, training

        return theme.figure_of(training.rates_drawing(*self.tested, self.name))

    def __repr__(self) -> str:
        return f"LearningRates(suggested={self.suggested:g})"


@dataclass(frozen=True, repr=False)
class Sweep:
    """Many configs and seeds, trained side by side.

    Attributes:
      directory: the sweep's folder.
      functions: functions that its runs were made with.
    """

    directory: Path
    functions: Functions = NO_FUNCTIONS

    @property
    def results(self) -> pd.DataFrame:
        """A row a member: its settings that vary, and the metrics of validation and test rows."""
        return read_results(self.directory)

    @property
    def ranking(self) -> list[str]:
        """The configs by mean validation pinball loss, the best first."""
        return ranking(self.results)

    @property
    def summary(self) -> str:
        """The results in words and tables, as Markdown."""
        return _text(SweepDirectory(self.directory).summary)

    def run(self, config: str | None = None) -> Run:
        """A config's only run, or the ensemble of its seeds; None takes the first of the ranking."""
        config = config or self.ranking[0]
        opened = tuple(open_runs(self.directory, config, self.functions))
        ensemble = SweepDirectory(self.directory).ensemble(config).path
        return Run(opened[0].directory if len(opened) == 1 else ensemble, opened)

    def save(self, directory: str | Path) -> "Sweep":
        """Copies the sweep to another place, such as out of a temporary folder."""
        runs.copy_folder(self.directory, Path(directory))
        return Sweep(Path(directory), self.functions)

    def plot(self) -> "Figure":
        """The metrics of every config, seed by seed."""
        from tftjax.plots import sweeps, theme

        return theme.figure_of(sweeps.metrics_drawing(self.results, self.ranking))

    def report(self) -> Path:
        """Writes the page of the sweep, and returns its path."""
        return report([self.directory])[0]

    def __repr__(self) -> str:
        return f"Sweep({str(self.directory)!r}: {', '.join(self.ranking)})"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary)}</pre>"


@dataclass(frozen=True, repr=False)
class Backtest:
    """A training for every test period, judged on all of them together.

    Attributes:
      directory: the walk-forward's folder.
    """

    directory: Path

    @property
    def metrics(self) -> pd.DataFrame:
        """A row a forecast over all folds, baselines included; returns as decimals."""
        return read_walk(self.directory).pooled

    @property
    def gains(self) -> pd.DataFrame:
        """The gain of each forecast over each baseline, by part of the test days, with its interval."""
        return read_walk(self.directory).gains

    @property
    def folds(self) -> pd.DataFrame:
        """A row a fold and forecast: dates and metrics of its test rows."""
        return read_walk(self.directory).folds

    @property
    def verdict(self) -> str:
        """The baselines that the forecast of each config beats, a line each."""
        metrics = read_walk(self.directory).metrics
        return "\n".join(f"{name}: {verdict(values)}" for name, values in metrics.items())

    @property
    def summary(self) -> str:
        """The results in words and tables, as Markdown."""
        return _text(SweepDirectory(self.directory).summary)

    def save(self, directory: str | Path) -> "Backtest":
        """Copies the walk-forward to another place, such as out of a temporary folder."""
        runs.copy_folder(self.directory, Path(directory))
        return Backtest(Path(directory))

    def plot(self) -> "Figure":
        """The gain over the best baseline, fold by fold."""
        from tftjax.plots import theme, walkforward

        walk, sweep = read_walk(self.directory), SweepDirectory(self.directory)
        panel = read_panel(sweep.member(sweep.read()[0]["name"]).path)
        stormy = stormy_days(walk, panel) if panel.id_column is None else None
        return theme.figure_of(walkforward.gain_drawing(gain_data(walk, stormy)))

    def report(self) -> Path:
        """Writes the page of the walk-forward, and returns its path."""
        return report([self.directory])[0]

    def __repr__(self) -> str:
        return f"Backtest({str(self.directory)!r}: {self.verdict})"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary)}</pre>"


@dataclass(frozen=True, repr=False)
class Search:
    """A search for the best settings of a config.

    Attributes:
      directory: the search's folder.
    """

    directory: Path

    @property
    def trials(self) -> pd.DataFrame:
        """A row a trial: its state, pinball loss and values. See `sweep.tune.results.read_trials`."""
        return read_trials(SearchDirectory(self.directory))

    @property
    def best(self) -> Config:
        """The config of the best trial, for `fit`."""
        return load_config(SearchDirectory(self.directory).best)

    @property
    def importance(self) -> pd.Series:
        """The importance of each setting; adds up to 1, and is empty after few trials."""
        return read_importance(SearchDirectory(self.directory))

    @property
    def summary(self) -> str:
        """The results in words and tables, as Markdown."""
        return _text(SearchDirectory(self.directory).summary)

    def save(self, directory: str | Path) -> "Search":
        """Copies the search to another place, such as out of a temporary folder."""
        runs.copy_folder(self.directory, Path(directory))
        return Search(Path(directory))

    def __repr__(self) -> str:
        return f"Search({str(self.directory)!r}: {len(self.trials)} trials)"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary)}</pre>"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}). Go on with the training: resume=True."
        ) from error
