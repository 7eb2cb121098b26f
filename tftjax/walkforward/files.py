"""The results of a walk-forward, read from the files that `results.conclude` wrote."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool

from tftjax import files
from tftjax.data import volatility
from tftjax.data.panel import Panel
from tftjax.errors import UserError, both
from tftjax.evaluate.files import daily_losses, read_metrics, read_notes, read_predictions
from tftjax.storage.directories import ForecastDirectory, SweepDirectory
from tftjax.sweep.members import read_ended, read_members
from tftjax.sweep.plan import Member
from tftjax.walkforward.pool import folder_name, headlines

REMEDY = f"the command that began the walk-forward, with {both('--resume')}."
# By table, the columns that are needed, as `files.read_csv` takes them.
COLUMNS: dict[str, dict[str, Sequence[str]]] = {
    "pooled_table": {"texts": ("forecast", "kind"), "as_text": ("config",), "numbers": ("seed", "pinball")},
    "gains": {
        "texts": ("forecast", "baseline", "part"),
        "numbers": ("baseline_pinball", "difference", "low", "high", "p"),
    },
    "folds": {
        "texts": ("fold", "forecast"),
        "dates": ("train_from", "val_from", "test_from", "test_to"),
        "numbers": ("test_windows", "pinball"),
    },
}


class Walk(NamedTuple):
    """A walk-forward's results.

    Attributes:
      folder: the walk-forward's directory.
      members: all members.
      lost: names of the members that diverged.
      pooled: pooled.csv by name of a forecast, in the order of the file.
      gains: gains.csv by forecast, baseline and part.
      folds: folds.csv by fold and forecast.
      metrics: by forecast, the metrics over all folds of each config's ensemble, or of its only seed.
      losses: pinball loss of each test day, of the forecasts in `metrics` and of the baselines.
      hardest: the baseline of the lowest pinball loss over all folds.
      left_out: by baseline without a forecast in some fold, why.
    """

    folder: Path
    members: Sequence[Member]
    lost: Sequence[str]
    pooled: pd.DataFrame
    gains: pd.DataFrame
    folds: pd.DataFrame
    metrics: dict[str, dict[str, Any]]
    losses: pd.DataFrame
    hardest: str
    left_out: dict[str, str]


def read_walk(folder: Path) -> Walk:
    """Reads the results of a walk-forward.

    Raises:
      UserError: it is not finished, or a file is damaged.
    """
    walk = SweepDirectory(folder)
    paths = {name: getattr(walk, name) for name in COLUMNS}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder}: the walk-forward is not finished: it has no {', '.join(missing)} yet. Finish it:"
            f" {REMEDY}"
        )
    pooled, gains, folds = (
        files.read_csv(paths[name], f"Make it anew: {REMEDY}", **columns) for name, columns in COLUMNS.items()
    )
    pooled = _by_forecast(walk.pooled_table, pooled)
    baselines = pooled[pooled["kind"] == "baseline"]
    if baselines.empty:
        raise UserError(f"{folder}: no baseline has a forecast in every fold: there is nothing to report.")
    hardest = baselines["pinball"].idxmin()
    names = [row.Index for row in headlines(list(pooled.itertuples()))]
    folders = {name: _folder(walk, pooled.loc[name]) for name in (*names, *baselines.index)}
    metrics = {
        name: read_metrics(folders[name].evaluation.metrics, ("test",), REMEDY)["test"] for name in names
    }
    members, ended = read_members(folder), read_ended(folder)
    lost = [member.name for member in members if ended[member.name].status == "diverged"]
    return Walk(
        folder=folder,
        members=members,
        lost=lost,
        pooled=pooled,
        gains=_indexed(
            walk.gains,
            gains,
            pd.MultiIndex.from_product(
                [metrics, baselines.index, ["all"]], names=["forecast", "baseline", "part"]
            ),
        ),
        folds=_indexed(
            walk.folds,
            folds,
            pd.MultiIndex.from_product(
                [folds["fold"].unique(), [*metrics, hardest]], names=["fold", "forecast"]
            ),
        ),
        metrics=metrics,
        losses=_losses(folders),
        hardest=hardest,
        left_out=_left_out(folder, [member for member in members if member.name not in lost]),
    )


def _folder(walk: SweepDirectory, row: pd.Series) -> ForecastDirectory:
    """The folder of the pooled forecast in a row of pooled.csv."""
    seed = None if pd.isna(row["seed"]) else int(row["seed"])
    return walk.pooled_forecast(folder_name(row["kind"], row["config"], seed))


def _losses(folders: Mapping[str, ForecastDirectory]) -> pd.DataFrame:
    """The pinball loss of each day, a column a forecast."""
    losses: dict[str, np.ndarray] = {}
    days = None
    for name, directory in folders.items():
        predictions = read_predictions(directory.path, "test", REMEDY)
        found = pd.DatetimeIndex(np.unique(predictions.dates))
        days = found if days is None else days
        if not found.equals(days):
            raise UserError(
                f"{directory.evaluation.predictions}: damaged: found {len(found)} dates forecast, expected"
                f" the {len(days)} dates of {next(iter(folders))}. Make it anew: {REMEDY}"
            )
        losses[name] = daily_losses(predictions, "pinball", str(directory.path))
    return pd.DataFrame(losses, index=days)


def _by_forecast(path: Path, pooled: pd.DataFrame) -> pd.DataFrame:
    """The table of the pooled forecasts by their names, each with its config."""
    pooled = pooled.set_index("forecast")
    if pooled.index.has_duplicates or not (pooled["config"].notna() | (pooled["kind"] == "baseline")).all():
        raise UserError(
            f"{path}: damaged: found a forecast twice, or one without its config. Make it anew: {REMEDY}"
        )
    return pooled


def _indexed(path: Path, table: pd.DataFrame, expected: pd.MultiIndex) -> pd.DataFrame:
    """The table by the levels of `expected`, of which each must have a row, and none two."""
    table = table.set_index(expected.names).sort_index()
    lacking = expected[~expected.isin(table.index)]
    if len(lacking) or table.index.has_duplicates:
        found = f"no row of {', '.join(lacking[0])}" if len(lacking) else "two rows of one"
        raise UserError(
            f"{path}: damaged: found {found}, expected one for each {', '.join(expected.names)}. Make it"
            f" anew: {REMEDY}"
        )
    return table


def _left_out(folder: Path, alive: Sequence[Member]) -> dict[str, str]:
    """By baseline, the first fold in which it has no forecast, and the reason."""
    reasons: dict[str, str] = {}
    for member in {member.fold: member for member in reversed(alive)}.values():
        path = SweepDirectory(folder).member(member.name).evaluation.notes
        notes = read_notes(path, f"Make it anew: {REMEDY}")
        reasons |= {name: f"in fold {member.fold}: {why}" for name, why in notes["left_out"].items()}
    return reasons


def stormy_days(walk: Walk, panel: Panel) -> Bool[np.ndarray, " T"]:
    """Whether each day is stormy, as `results.parts_of` divides them, in a panel of one series."""
    column = volatility.volatility_column(panel, walk.members[0].config.data.volatility)
    dates = walk.losses.index
    judged = panel.frame.index.isin(dates)
    return volatility.stormy_days(panel, dates, judged, column=column)


def skills(walk: Walk) -> dict[str, pd.Series]:
    """Gain of each forecast over the hardest baseline in each fold, in percent of its pinball loss."""
    losses = walk.folds["pinball"].unstack("forecast")
    reference = losses[walk.hardest].where(losses[walk.hardest] > 0)
    return {name: 100 * (1 - losses[name] / reference) for name in walk.metrics}
