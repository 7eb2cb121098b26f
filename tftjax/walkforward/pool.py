"""A walk-forward's forecasts, joined over the test rows of all folds."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from tftjax.data.panel import Panel
from tftjax.data.prepared import Data
from tftjax.data.volatility import known_volatility, volatility_column
from tftjax.errors import UserError
from tftjax.evaluate.files import Predictions, check_comparable, read_predictions
from tftjax.evaluate.metrics import Forecast
from tftjax.evaluate.scoring import Windows, baseline_forecasts, score_baselines, split_windows, target_rows
from tftjax.storage.directories import SweepDirectory
from tftjax.storage.runs import Ended
from tftjax.sweep.ensembles import average, stand_in, title
from tftjax.sweep.plan import Member
from tftjax.sweep.run import Trained

log = logging.getLogger(__name__)

EWMA = "moving volatility of the target"
STORMY = 0.5  # quantile over the pool of the volatility before a window, above which it is stormy
TAIL = 0.1  # levels up to it, and from 1 minus it on, are the tails
QUARTERS = ("calm centre", "calm tails", "stormy centre", "stormy tails")
GAIN_PARTS = ("all", "calm", "stormy", "centre", "tails", *QUARTERS)  # parts into which a gain is divided


class Fold(NamedTuple):
    """The test windows of one fold, in the order of `evaluate`.

    Attributes:
      name: the year in which its test rows begin.
      facts: first dates and numbers of windows.
      happened: dates, series and targets; the forecast is that of its first member.
      volatility: known before each window; see `Pool`.
      forecasts: by name of what made them: a member, or a baseline.
    """

    name: str
    facts: dict[str, str | int]
    happened: Predictions
    volatility: Float[np.ndarray, " N"]
    forecasts: dict[str, Forecast]


class Pool(NamedTuple):
    """The test windows of all folds: N windows, series after series, in time order within each.

    Attributes:
      folds: in time order.
      fold: place of each window's fold among them.
      order: the windows of the folds, one fold after another, taken in this order are those of the pool.
      dates, series: of each window.
      windows: what happened.
      volatility: known before each window, in the unit of its column.
      volatility_name: that column, or EWMA.
      quantiles: the levels forecast.
    """

    folds: tuple[Fold, ...]
    fold: Int[np.ndarray, " N"]
    order: Int[np.ndarray, " N"]
    dates: pd.DatetimeIndex
    series: Shaped[np.ndarray, " N"]
    windows: Windows
    volatility: Float[np.ndarray, " N"]
    volatility_name: str
    quantiles: tuple[float, ...]

    def join(self, forecasts: Sequence[Float[np.ndarray, "_ P Q"]]) -> Forecast:
        """One forecast of a fold each, as one of the pool."""
        return np.concatenate(forecasts)[self.order]


class Pooled(NamedTuple):
    """A forecast over all folds.

    Attributes:
      name: what tables call it.
      kind: "ensemble", "seed" or "baseline".
      config: whose it is; of a baseline, its name.
      seed: None but of a seed.
      forecast: of the pool's windows.
    """

    name: str
    kind: str
    config: str
    seed: int | None
    forecast: Forecast

    @property
    def folder(self) -> str:
        """Its folder among the pooled forecasts."""
        return folder_name(self.kind, self.config, self.seed)


def folder_name(kind: str, config: str, seed: int | None) -> str:
    """The folder of a pooled forecast; see `Pooled`."""
    return f"{config}-s{seed}" if kind == "seed" else f"{config}-{kind}"


def make_fold(trained: Trained, members: Sequence[Member], ended: Mapping[str, Ended]) -> Fold:
    """Collects what the members of a fold forecast, and the baselines by the train rows of its first member.

    Args:
      members: of one fold, one of them not diverged.
    Raises:
      UserError: a member's evaluation cannot be read, or is of other rows than the others'.
    """
    alive = [member for member in members if ended[member.name].status != "diverged"]
    sweep = SweepDirectory(trained.folder)
    read = {m.name: read_predictions(sweep.member(m.name).path, "test") for m in alive}
    first = read[alive[0].name]
    for name, predictions in read.items():
        check_comparable(first, predictions, (alive[0].name, name))
    data = trained.data[alive[0].name]
    run = stand_in(trained.folder, alive[0].fold, alive[0], data)
    windows = {split: split_windows(run, split) for split in ("val", "test")}
    scored = score_baselines(run, windows, trained.baselines)
    baselines = scored.forecasts["test"]
    if len(data.blocks) > 1:  # of several series they are not kept
        baselines = {name: baseline_forecasts(run, name)["test"] for name in scored.scores["test"]}
    volatility = known_volatility(data.panel, volatility_column(data.panel.observed[1:]))
    return Fold(
        name=alive[0].fold,
        facts=fold_facts(data),
        happened=first,
        volatility=volatility[target_rows(run, "test")[:, 0] - 1],
        forecasts=baselines | {name: predictions.forecast for name, predictions in read.items()},
    )


def fold_facts(data: Data) -> dict[str, str | int]:
    """First dates of the splits' target rows, the last one, and numbers of windows."""
    dates, facts = data.panel.frame.index, {}
    for split, starts in data.starts.items():
        rows = [getattr(block.splits, split) for block in data.blocks]
        facts[f"{split}_from"] = str(min(dates[part.start] for part in rows if part).date())
        facts[f"{split}_to"] = str(max(dates[part.stop - 1] for part in rows if part).date())
        facts[f"{split}_windows"] = len(starts)
    return facts


def volatility_name(panel: Panel) -> str:
    """The name of the volatility that divides a panel's days into calm and stormy ones."""
    return volatility_column(panel.observed[1:]) or EWMA


def make_pool(trained: Trained, ended: Mapping[str, Ended]) -> Pool:
    """Joins the test windows of all folds.

    Raises:
      UserError: see `make_fold`; or all members of a fold diverged.
    """
    by_fold: dict[str, list[Member]] = {}
    for member in trained.members:
        by_fold.setdefault(member.fold, []).append(member)
    for name, members in by_fold.items():
        if all(ended[member.name].status == "diverged" for member in members):
            raise UserError(
                f"fold {name}: every member diverged: see {SweepDirectory(trained.folder).ended()}. Lower"
                " train.learning_rate."
            )
    folds = tuple(make_fold(trained, by_fold[name], ended) for name in sorted(by_fold))
    return join_folds(folds, volatility_name(next(iter(trained.data.values())).panel))


def join_folds(folds: Sequence[Fold], volatility_name: str) -> Pool:
    """The pool of folds whose test rows do not overlap."""
    happened = [fold.happened for fold in folds]
    dates = np.concatenate([part.dates.to_numpy() for part in happened])
    series = np.concatenate([part.series for part in happened])
    order = np.lexsort((dates, pd.factorize(series)[0]))
    dates, series = dates[order], series[order]
    _, day = np.unique(dates, return_inverse=True)
    bounds = np.flatnonzero(np.append(True, series[1:] != series[:-1]))
    slices = [slice(start, stop) for start, stop in zip(bounds, [*bounds[1:], len(series)], strict=True)]
    return Pool(
        folds=tuple(folds),
        fold=np.repeat(np.arange(len(folds)), [len(part.dates) for part in happened])[order],
        order=order,
        dates=pd.DatetimeIndex(dates),
        series=series,
        windows=Windows(np.concatenate([part.target for part in happened])[order], day, slices),
        volatility=np.concatenate([fold.volatility for fold in folds])[order],
        volatility_name=volatility_name,
        quantiles=happened[0].quantiles,
    )


def pooled_forecasts(pool: Pool, members: Sequence[Member]) -> list[Pooled]:
    """Configs' ensembles and seeds, in the order of the plan, then baselines: those that have every fold.

    A seed that diverged in a fold has no forecast over all folds; the config's ensemble is there of the
    others. What is left out is said.
    """
    found: list[Pooled] = []
    by_config: dict[str, dict[int, dict[str, str]]] = {}
    for member in members:
        seeds = by_config.setdefault(member.group, {})
        seeds.setdefault(member.config.train.seed, {})[member.fold] = member.name
    for config, seeds in by_config.items():
        own = [
            [
                fold.forecasts[names[fold.name]]
                for names in seeds.values()
                if names[fold.name] in fold.forecasts
            ]
            for fold in pool.folds
        ]
        if len(seeds) > 1 and all(own):
            averaged = pool.join([average(forecasts) for forecasts in own])
            found.append(Pooled(title(config, len(seeds)), "ensemble", config, None, averaged))
        for seed, names in seeds.items():
            lacking = [fold.name for fold in pool.folds if names[fold.name] not in fold.forecasts]
            if lacking:
                log.warning(f"left out {config}, seed {seed}: it diverged in the fold {', '.join(lacking)}")
                continue
            joined = pool.join([fold.forecasts[names[fold.name]] for fold in pool.folds])
            found.append(Pooled(f"{config}, seed {seed}", "seed", config, seed, joined))
        if not all(own):
            log.warning(f"left out {config}: no seed of it is trained in every fold")
    names = {member.name for member in members}
    for name in dict.fromkeys(name for fold in pool.folds for name in fold.forecasts if name not in names):
        lacking = [fold.name for fold in pool.folds if name not in fold.forecasts]
        if lacking:
            log.warning(f"left out the baseline {name}: it has no forecast in the fold {', '.join(lacking)}")
            continue
        joined = pool.join([fold.forecasts[name] for fold in pool.folds])
        found.append(Pooled(name, "baseline", name, None, joined))
    return found


def headlines(forecasts: Sequence[Any]) -> list[Any]:
    """A forecast a config: its ensemble, or its only seed; those that have every fold.

    Args:
      forecasts: `Pooled`, or rows of pooled.csv.
    """
    averaged = {pooled.config for pooled in forecasts if pooled.kind == "ensemble"}
    return [p for p in forecasts if p.kind == "ensemble" or (p.kind == "seed" and p.config not in averaged)]


def baselines_of(forecasts: Sequence[Pooled]) -> dict[str, Pooled]:
    """The baselines, by name."""
    return {pooled.name: pooled for pooled in forecasts if pooled.kind == "baseline"}


def predictions_table(pool: Pool, forecast: Forecast) -> pd.DataFrame:
    """A forecast of the pool as `evaluate` writes one: predictions.csv, of the split test alone."""
    num_windows, steps = pool.windows.target.shape
    table = pd.DataFrame({"date": np.repeat(pool.dates.strftime("%Y-%m-%d"), steps), "split": "test"})
    if len(pool.windows.series) > 1:
        table["series"] = np.repeat(pool.series, steps)
    if steps > 1:
        table["step"] = np.tile(np.arange(1, steps + 1), num_windows)
    table["actual"] = pool.windows.target.ravel()
    levels = [f"{level:g}" for level in pool.quantiles]
    return table.join(pd.DataFrame(forecast.reshape(len(table), -1), columns=levels))
