"""The files of an evaluation, written and read, and losses computed from them."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import pydantic
from jaxtyping import Float, Int

from tftjax import files
from tftjax.config.section import nearest
from tftjax.errors import UserError, listed
from tftjax.evaluate.formatting import counted
from tftjax.evaluate.metrics import Forecast, Target, median, pinball_losses
from tftjax.evaluate.quality import MODES
from tftjax.evaluate.scoring import SPLITS, BaselineScores, Score, by_day, rows_by_series, target_rows
from tftjax.storage import runs
from tftjax.storage.directories import EvaluationDirectory, ForecastDirectory, no_folder

# (forecast, target, quantiles) -> loss of each window and step [N P]; lower is better. Besides these,
# "pinball/LEVEL" is the pinball loss of one quantile.
LOSSES: dict[str, Callable[[Forecast, Target, Sequence[float]], Target]] = {
    "pinball": lambda forecast, target, quantiles: pinball_losses(forecast, target, quantiles).mean(axis=-1),
    "absolute_error": lambda forecast, target, quantiles: np.abs(target - median(forecast, quantiles)),
    "squared_error": lambda forecast, target, quantiles: np.square(target - median(forecast, quantiles)),
}


# ---- Forms of metrics.json and notes.json, which a hand or a disk may have changed -------------------------


def _level(text: str) -> str:
    float(text)
    return text


def _with_modes(shares: dict[str, Any]) -> dict[str, Any]:
    lacking = [mode for mode in MODES if mode not in shares]
    if lacking:
        raise ValueError(f"lacks {', '.join(lacking)}")
    return shares


Number = float | None  # None is undefined
Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
ByLevel = dict[Annotated[str, pydantic.AfterValidator(_level)], Finite]
Shares = Annotated[dict[str, Number], pydantic.AfterValidator(_with_modes)]


class Form(pydantic.BaseModel):
    """An object that may have other keys, too."""

    model_config = pydantic.ConfigDict(extra="allow")


class Notes(Form):
    """notes.json; see evaluate/evaluation.py."""

    left_out: dict[str, str]
    volatility_column: str | None
    foreign: dict[str, str] = {}


class Scored(Form):
    """METRICS of a forecast."""

    __pydantic_extra__: dict[str, Number | dict[str, Number]]
    pinball: Finite
    pinball_by_quantile: ByLevel
    coverage: ByLevel
    pit_histogram: dict[str, Finite]
    sigma: Finite
    directional_accuracy: Number = None
    directional_base_rate: Number = None
    correlation: Number = None

    @pydantic.model_validator(mode="after")
    def _has_a_bin_between_levels(self) -> "Scored":
        bins, levels = len(self.pit_histogram), len(self.pinball_by_quantile)
        if bins != levels + 1:
            raise ValueError(f"pit_histogram has {bins} bins for {levels} quantiles")
        return self


class PValue(Form):
    """A test of a forecast."""

    p: Number


class Difference(PValue):
    """Diebold and Mariano's test against a baseline."""

    difference: Finite
    low: Number
    high: Number


class ValueAtRisk(Form):
    """The tests of an outer quantile."""

    violations: int
    expected: float
    kupiec_p: Number
    independence_p: Number
    coverage_p: Number


class Tests(Form):
    """The tests of a split."""

    days: int
    diebold_mariano: dict[str, Difference]
    confidence_set: dict[str, Finite] = {}
    value_at_risk: dict[str, ValueAtRisk] = {}
    pit: PValue = PValue(p=None)
    pesaran_timmermann: PValue = PValue(p=None)


class Position(Form):
    """The earnings of a position."""

    sharpe: Number
    low: Number
    high: Number
    turnover: Number


class Taken(Position):
    """The earnings of a position that the forecast led to, beside buy and hold."""

    excess: Number
    excess_low: Number
    excess_high: Number


class Trading(Form):
    """The earnings of positions."""

    cost: float
    sign: Taken
    scaled: Taken
    buy_and_hold: Position


class OfRegime(Form):
    """The part of a regime, without metrics where it has no window."""

    windows: int
    pinball: Number = None
    baselines: dict[str, dict[str, Any]] = {}
    foreign: dict[str, dict[str, Any]] = {}


class CombinationTests(Tests):
    """The tests of a combination, or of a calibrated forecast, beside the model's."""

    model: Difference


class Combination(Form):
    """The model combined with the best forecasts beside it."""

    weights: dict[str, Finite]
    metrics: Scored
    tests: CombinationTests


class Conformal(Form):
    """The model's forecast, calibrated."""

    method: str
    metrics: Scored
    tests: CombinationTests


class Encompassed(PValue):
    """A test of whether the model adds anything to a forecast."""

    weight: Number
    slope: Finite


class Judged(Scored):
    """A split of metrics.json."""

    baselines: dict[str, Scored]
    foreign: dict[str, Scored] = {}
    combination: Combination = None
    conformal: Conformal = None
    encompassing: dict[str, Encompassed] = {}
    tests: Tests
    trading: Trading
    quality: Shares
    quality_random: Shares
    regimes: dict[str, dict[str, OfRegime]] = {}

    @pydantic.model_validator(mode="after")
    def _tests_each_other(self) -> "Judged":
        if self.baselines.keys() | self.foreign.keys() != self.tests.diebold_mariano.keys():
            raise ValueError("baselines and foreign, and tests.diebold_mariano, have different names")
        return self


class JudgedByRegime(Judged):
    """A split of a run's metrics.json."""

    regimes: dict[str, dict[str, OfRegime]]


# ---- Reading and writing ----------------------------------------------------------------------------------


def read_metrics(
    path: Path, splits: Sequence[str], remedy: str, form: type[Judged] = Judged
) -> dict[str, dict[str, Any]]:
    """Reads metrics.json of an evaluation.

    Args:
      splits: those that it must have.
      remedy: the command that makes the file anew, for the error's text.
      form: what each of them holds.
    Raises:
      UserError: it is missing or damaged.
    """
    metrics = files.read_json(path, f"Make it anew: {remedy}")
    for split in splits:
        where = f"{path}, {split}"
        files.check(metrics.get(split), form, where, f"Make it anew: {remedy}")
    return metrics


def write_tables(
    run: runs.Run,
    directory: EvaluationDirectory,
    forecasts: Mapping[str, np.ndarray],
    baselines: BaselineScores,
    modes: Mapping[str, list[np.ndarray]],
) -> None:
    """Writes predictions.csv, quality.csv and, of a single series, baselines.csv."""
    names = [f"{q:g}" for q in run.config.model.quantiles]
    returns = run.data.panel.frame[run.data.panel.target].to_numpy(np.float64)
    predictions, quality = [], []
    for split, forecast in forecasts.items():
        rows = target_rows(run, split)
        table = rows_table(run, split, rows)
        values = pd.DataFrame(forecast.reshape(rows.size, -1), columns=names)
        predictions.append(table.assign(actual=returns[rows.ravel()]).join(values))
        windows = zip(rows_by_series(run, rows), modes[split], strict=True)
        ends = [rows[part.stop - len(judged) : part.stop, :1] for (_, part), judged in windows]
        table = rows_table(run, split, np.concatenate(ends))
        quality.append(table.assign(mode=np.array(MODES)[np.concatenate(modes[split])]))
    files.replace_file(directory.predictions, partial(pd.concat(predictions).to_csv, index=False))
    files.replace_file(directory.quality, partial(pd.concat(quality).to_csv, index=False))
    if len(run.data.blocks) == 1:
        if "baselines.csv" not in baselines.derived:
            baselines.derived["baselines.csv"] = _beside(run, baselines, names).to_csv(index=False)
        files.replace_text(directory.baselines, baselines.derived["baselines.csv"])


def _beside(run: runs.Run, baselines: BaselineScores, levels: Sequence[str]) -> pd.DataFrame:
    """The table of baselines.csv."""
    tables = []
    for split, forecasts in baselines.forecasts.items():
        rows = target_rows(run, split)
        columns = [
            pd.DataFrame(forecast.reshape(rows.size, -1), columns=[f"{name}/{level}" for level in levels])
            for name, forecast in forecasts.items()
        ]
        tables.append(pd.concat([rows_table(run, split, rows), *columns], axis=1))
    return pd.concat(tables)


def rows_table(run: runs.Run, split: str, rows: Int[np.ndarray, "W P"]) -> pd.DataFrame:
    """A row a window and step, dated by the day that is forecast."""
    num_windows, num_steps = rows.shape
    flat, panel = rows.ravel(), run.data.panel
    table = pd.DataFrame({"date": panel.frame.index[flat].strftime("%Y-%m-%d"), "split": split})
    if panel.id_column is not None:
        table["series"] = panel.frame[panel.id_column].to_numpy()[flat]
    if num_steps > 1:
        table["step"] = np.tile(np.arange(1, num_steps + 1), num_windows)
    return table


def write_by_series(
    run: runs.Run, directory: EvaluationDirectory, scores: Mapping[str, Score], baselines: BaselineScores
) -> None:
    """Writes by_series.csv: a row a series and split, the pinball loss of every forecast."""
    table = []
    for split, model in scores.items():
        everyone = {"model": model, **baselines.scores[split]}
        for place, (block, part) in enumerate(rows_by_series(run, target_rows(run, split))):
            row = {"series": block.name, "split": split, "windows": part.stop - part.start}
            table.append(row | {name: scored.by_series[place] for name, scored in everyone.items()})
    files.replace_text(directory.by_series, pd.DataFrame(table).to_csv(index=False))


class Predictions(NamedTuple):
    """A split of predictions.csv: a row a window, series after series, days ascending within each."""

    dates: pd.DatetimeIndex  # [N], of the first step
    series: np.ndarray  # [N]
    forecast: Forecast
    target: Target
    quantiles: tuple[float, ...]


class Evaluation(NamedTuple):
    """The evaluation of one forecast.

    Attributes:
      directory: the run's directory, above `evaluation/`.
      metrics: metrics.json.
      notes: notes.json.
      predictions: predictions.csv by split.
      baselines: the test rows' forecasts by baseline, then the foreign ones; none of several series.
      quality: quality.csv.
      by_series: by_series.csv; None of a single series.
    """

    directory: Path
    metrics: dict[str, dict[str, Any]]
    notes: dict[str, Any]
    predictions: dict[str, Predictions]
    baselines: dict[str, Float[np.ndarray, "N P Q"]]
    quality: pd.DataFrame
    by_series: pd.DataFrame | None


def read_evaluation(directory: Path, remedy: str | None = None) -> Evaluation:
    """Reads an evaluation's files.

    Args:
      directory: the run's directory, above `evaluation/`.
      remedy: the command that makes the files anew; None is that of a run.
    Raises:
      UserError: a file is missing or damaged.
    """
    folder = ForecastDirectory(directory).evaluation
    remedy = remedy or f"tftjax evaluate {directory}"
    predictions = {split: read_predictions(directory, split, remedy) for split in SPLITS}
    metrics = read_metrics(folder.metrics, SPLITS, remedy, JudgedByRegime)
    for split, of_split in predictions.items():
        judged = [float(level) for level in metrics[split]["pinball_by_quantile"]]
        if judged != list(of_split.quantiles):
            raise UserError(
                f"{folder.path}: found the quantiles {listed(of_split.quantiles)} in"
                f" {folder.predictions.name} and {listed(judged)} in {folder.metrics.name}, expected the"
                f" same. Make them anew: {remedy}"
            )
    # Of both splits: where series are unseen in training, the test rows may be of one alone. And of several
    # that were trained on, all but one may have ended before.
    several = len({name for of_split in predictions.values() for name in of_split.series}) > 1
    several |= folder.by_series.is_file() and not folder.baselines.is_file()
    anew = f"Make it anew: {remedy}"
    return Evaluation(
        directory,
        metrics,
        read_notes(folder.notes, anew),
        predictions,
        {} if several else read_baselines(directory, "test", predictions["test"], remedy),
        _read_quality(folder.quality, several, anew),
        _read_by_series(folder.by_series, anew) if several else None,
    )


def read_notes(path: Path, remedy: str) -> dict[str, Any]:
    """Reads notes.json of an evaluation; `remedy` is a sentence."""
    notes = files.read_json(path, remedy)
    files.check(notes, Notes, path, remedy)
    return notes


def read_baselines(
    directory: Path, split: str, predictions: Predictions, remedy: str | None = None
) -> dict[str, Float[np.ndarray, "N P Q"]]:
    """Reads a split of baselines.csv, which a panel of one series has; see `read_evaluation`.

    Args:
      predictions: the forecasts of the same rows.
    """
    path = ForecastDirectory(directory).evaluation.baselines
    remedy = f"Make it anew: {remedy or f'tftjax evaluate {directory}'}"
    table = files.read_csv(path, remedy, texts=["split"])
    names = dict.fromkeys(column.rpartition("/")[0] for column in table if "/" in column)
    try:
        table = table[table["split"] == split]
        columns = {name: table[[f"{name}/{level:g}" for level in predictions.quantiles]] for name in names}
        shape = predictions.forecast.shape
        forecasts = {name: values.to_numpy(np.float64).reshape(shape) for name, values in columns.items()}
        if not all(np.isfinite(forecast).all() for forecast in forecasts.values()):
            raise ValueError("a cell holds no finite number")
        return forecasts
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}). {remedy}") from error


def _read_quality(path: Path, several: bool, remedy: str) -> pd.DataFrame:
    texts = ["split", "mode", *(["series"] if several else [])]
    table = files.read_csv(path, remedy, texts=texts, dates=["date"], as_text=["series"])
    unknown = table.loc[~table["mode"].isin(MODES), "mode"]
    if len(unknown):
        raise UserError(
            f"{path}: found the mode {unknown.iloc[0]!r}, expected one of {', '.join(MODES)}. {remedy}"
        )
    return table


def _read_by_series(path: Path, remedy: str) -> pd.DataFrame:
    texts = ["series", "split"]
    return files.read_csv(
        path, remedy, texts=texts, numbers=["windows", "model"], is_number=lambda name: name not in texts
    )


def daily_pinball(evaluation: Evaluation) -> pd.DataFrame:
    """Pinball loss of each test day, of "model" and of each forecast beside it that is kept."""
    test = evaluation.predictions["test"]
    forecasts = {"model": test.forecast, **evaluation.baselines}
    losses = {
        name: daily_losses(test._replace(forecast=forecast), "pinball", str(evaluation.directory))
        for name, forecast in forecasts.items()
    }
    return pd.DataFrame(losses, index=pd.DatetimeIndex(np.unique(test.dates)))


def period(predictions: Predictions) -> str:
    """The span of the days that were forecast, for reading."""
    dates = predictions.dates
    if not len(dates):
        return "no date"
    return f"{dates.min().date()} to {dates.max().date()} ({counted(dates.nunique(), 'date')})"


def read_predictions(directory: Path, split: str, remedy: str | None = None) -> Predictions:
    """Reads a split of predictions.csv; see `read_evaluation`."""
    if not directory.is_dir():
        raise UserError(no_folder(directory))
    runs.check_judged(directory)
    path = ForecastDirectory(directory).evaluation.predictions
    remedy = remedy or f"tftjax evaluate {directory}"
    if not path.is_file():
        raise UserError(f"{path}: missing. Make it: {remedy}")
    remedy = f"Make it anew: {remedy}"
    table = files.read_csv(
        path, remedy, texts=["split"], numbers=["actual"], dates=["date"], as_text=["series"]
    )
    try:
        table = table[table["split"] == split]
        levels = [name for name in table if name not in ("date", "split", "series", "step", "actual")]
        steps = int(table["step"].max()) if "step" in table else 1
        target = table["actual"].to_numpy(np.float64).reshape(-1, steps)
        forecast = table[levels].to_numpy(np.float64).reshape(*target.shape, len(levels))
        if not (np.isfinite(target).all() and np.isfinite(forecast).all()):
            raise ValueError("a cell holds no finite number")
        quantiles = tuple(map(float, levels))
        if not len(target) or not all(a < b for a, b in itertools.pairwise((0.0, *quantiles, 1.0))):
            raise ValueError(f"{len(target)} forecasts of {split} rows of the quantiles {', '.join(levels)}")
        first = table.iloc[::steps]
        if "series" in first and first["series"].isna().any():
            raise ValueError("column series: an empty cell")
        series = first["series"].to_numpy() if "series" in first else np.full(len(first), "")
        dates = pd.DatetimeIndex(first["date"])
        return Predictions(dates, series, forecast, target, quantiles)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}). {remedy}") from error


def check_comparable(a: Predictions, b: Predictions, names: tuple[str, str]) -> None:
    """Refuses forecasts of different returns.

    Raises:
      UserError: names the first difference.
    """

    def refuse(difference: str) -> None:
        raise UserError(
            f"{names[0]} and {names[1]} do not compare: {difference}. Compare runs on the same data and"
            " splits."
        )

    steps_a, steps_b = a.target.shape[1], b.target.shape[1]
    if steps_a != steps_b:
        refuse(f"found windows of {steps_a} and {steps_b} steps")
    for one, other, which in ((a, b, "first"), (b, a, "second")):
        lacking = sorted(set(one.series) - set(other.series))
        if lacking:
            refuse(f"only the {which} has the series {', '.join(lacking[:5])}")
        days = one.dates.difference(other.dates)
        if len(days):
            refuse(f"only the {which} forecasts {counted(len(days), 'date')}, such as {days[0].date()}")
    if not (a.dates.equals(b.dates) and np.array_equal(a.series, b.series)):
        refuse("some series have other dates in one than in the other")
    different = ~np.isclose(a.target, b.target, rtol=1e-6, atol=1e-12)
    if different.any():
        row, step = np.argwhere(different)[0]
        refuse(
            f"the actual returns differ in {different.sum()} of {different.size} places, first in the window"
            f" of {a.dates[row].date()}, {a.target[row, step]:g} and {b.target[row, step]:g}"
        )


def daily_losses(predictions: Predictions, metric: str, where: str) -> Float[np.ndarray, " T"]:
    """The loss of each day, over all steps and series.

    Args:
      metric: a name in LOSSES, or "pinball/LEVEL".
      where: the directory of the predictions, for the error's text.
    Raises:
      UserError: an unknown metric, or a quantile that was not forecast.
    """
    forecast, quantiles = predictions.forecast, predictions.quantiles
    names = [f"pinball/{level:g}" for level in quantiles]
    if metric in names:
        losses = pinball_losses(forecast, predictions.target, quantiles)[..., names.index(metric)]
    elif metric in LOSSES:
        losses = LOSSES[metric](forecast, predictions.target, quantiles)
    else:
        raise UserError(f"--metric {metric}: unknown for {where}. {nearest(metric, (*LOSSES, *names))}")
    _, day = np.unique(predictions.dates, return_inverse=True)
    return by_day(losses.mean(axis=1), day)
