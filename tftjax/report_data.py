"""What a report page shows, read from the files that training, evaluation and interpretation wrote."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from tftjax.baseline_scores import SPLITS
from tftjax.compare import Predictions, daily_losses, read_predictions
from tftjax.errors import UserError

# What a split of metrics.json holds since there are tests.
NEEDED = (
    "pinball",
    "coverage",
    "pit_histogram",
    "baselines",
    "tests",
    "trading",
    "quality",
    "quality_random",
)


class Evaluation(NamedTuple):
    """The evaluation of one forecast.

    Attributes:
      directory: of the run, above `evaluation/`.
      metrics: metrics.json.
      notes: notes.json.
      predictions: by split.
      baselines: the test rows' forecasts by baseline; none of several series.
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
    """Reads what `evaluate` wrote into a directory.

    Args:
      remedy: what makes it anew; None names the command for a run.
    Raises:
      UserError: a file is missing, damaged, or of a version that made no tests.
    """
    folder = directory / "evaluation"
    remedy = remedy or f"python -m tftjax.evaluate {directory}"
    predictions = {split: read_forecast(directory, split, remedy) for split in SPLITS}
    metrics = read_metrics(folder / "metrics.json", SPLITS, remedy)
    several = len(set(predictions["test"].series)) > 1
    return Evaluation(
        directory,
        metrics,
        read_json(folder / "notes.json", remedy),
        predictions,
        {} if several else _read_baselines(folder / "baselines.csv", predictions["test"], remedy),
        read_table(folder / "quality.csv", remedy, parse_dates=["date"], dtype={"series": str}),
        read_table(folder / "by_series.csv", remedy, dtype={"series": str}) if several else None,
    )


def read_forecast(directory: Path, split: str, remedy: str) -> Predictions:
    """Reads predictions.csv of an evaluation.

    Raises:
      UserError: it is missing or damaged; says what makes it anew.
    """
    try:
        return read_predictions(directory, split)
    except UserError as error:
        reason = str(error).partition(" Make it")[0]
        raise UserError(f"{reason} Make it anew: {remedy}") from error


def read_metrics(path: Path, splits: Sequence[str], remedy: str) -> dict[str, dict[str, Any]]:
    """Reads metrics.json of an evaluation.

    Raises:
      UserError: it is missing, damaged, or of a version that made no tests.
    """
    metrics = read_json(path, remedy)
    for split in splits:
        lacking = [name for name in NEEDED if name not in metrics.get(split, {})]
        if lacking:
            raise UserError(
                f"{path}: {split} lacks {', '.join(lacking)}: it was made by an earlier version. Make it"
                f" anew: {remedy}"
            )
    return metrics


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Reads an object from one of an evaluation's files.

    Args:
      remedy: what makes the file anew.
    Raises:
      UserError: it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
        return content
    except (OSError, ValueError) as error:
        raise UserError(_unreadable(path, error, remedy)) from error


def read_table(path: Path, remedy: str, **keywords: Any) -> pd.DataFrame:
    """Reads one of an evaluation's tables.

    Args:
      remedy: what makes the file anew.
      keywords: of pandas' `read_csv`.
    Raises:
      UserError: it is missing or damaged.
    """
    try:
        return pd.read_csv(path, **keywords)
    except (OSError, ValueError) as error:
        raise UserError(_unreadable(path, error, remedy)) from error


def _unreadable(path: Path, error: Exception, remedy: str) -> str:
    return f"{path}: cannot be read ({error}). Make it anew: {remedy}"


def _read_baselines(path: Path, test: Predictions, remedy: str) -> dict[str, Float[np.ndarray, "N P Q"]]:
    table = read_table(path, remedy)
    levels = [f"{level:g}" for level in test.quantiles]
    names = dict.fromkeys(column.rpartition("/")[0] for column in table if "/" in column)
    try:
        table = table[table["split"] == "test"]
        return {
            name: table[[f"{name}/{level}" for level in levels]]
            .to_numpy(np.float64)
            .reshape(test.forecast.shape)
            for name in names
        }
    except (KeyError, ValueError) as error:
        raise UserError(_unreadable(path, error, remedy)) from error


def daily_pinball(found: Evaluation) -> pd.DataFrame:
    """The pinball loss of each test day, of "model" and of each baseline of which there are forecasts."""
    test = found.predictions["test"]
    forecasts = {"model": test.forecast, **found.baselines}
    losses = {
        name: daily_losses(test._replace(forecast=forecast), "pinball", str(found.directory))
        for name, forecast in forecasts.items()
    }
    return pd.DataFrame(losses, index=pd.DatetimeIndex(np.unique(test.dates)))


def read_history(directory: Path) -> list[dict[str, Any]]:
    """The epochs' lines of metrics.jsonl; none where there is no such file."""
    path = directory / "metrics.jsonl"
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):  # half a line that a kill left
            records.append(json.loads(line))
    return records


def warnings_of(records: list[dict[str, Any]]) -> dict[str, list[tuple[int, str]]]:
    """By name of a warning, the epochs that had it and its words."""
    found: dict[str, list[tuple[int, str]]] = {}
    for record in records:
        for name, words in record.get("warnings", {}).items():
            found.setdefault(name, []).append((record["epoch"], words))
    return found


def read_interpretation(directory: Path) -> dict[str, pd.DataFrame]:
    """Tables of a run's `interpretation/` that the report draws, the test rows; none if it has not been made.

    Raises:
      UserError: a table is damaged.
    """
    tables = {}
    for name, needed in (
        ("importance", ("split", "kind", "variable", "mean", "p10", "p90")),
        ("attention_by_lag", ("split", "horizon", "step", "mean", "p10", "p90")),
    ):
        path = directory / "interpretation" / f"{name}.csv"
        if not path.is_file():
            continue
        try:
            table = pd.read_csv(path)
            tables[name] = table.loc[table["split"] == "test", list(needed)]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path}: cannot be read ({error}). Make it anew: python -m tftjax.interpret {directory}"
            ) from error
    return tables


def period(predictions: Predictions) -> str:
    """The days that were forecast, for reading."""
    dates = predictions.dates
    if not len(dates):
        return "no day"
    return f"{dates.min().date()} to {dates.max().date()} ({dates.nunique():,} days)"


def best_on_validation(metrics: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The baseline with the lowest pinball loss on validation; None without any."""
    validated = metrics["val"]["baselines"]
    return min(validated, key=lambda name: validated[name]["pinball"], default=None)
