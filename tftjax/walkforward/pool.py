"""A walk-forward's forecasts, joined over the test rows of all folds."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from tftjax.data.panel import Panel
from tftjax.data.prepared import Data
from tftjax.data.volatility import known_volatility, volatility_column
from tftjax.errors import UserError
from tftjax.evaluate.calibration.calibrated import calibrated_test
from tftjax.evaluate.combination import Weights, chosen_weights
from tftjax.evaluate.files import Predictions, check_comparable, read_predictions
from tftjax.evaluate.metrics import Forecast, pinball
from tftjax.evaluate.scoring import (
    BaselineScores,
    Windows,
    baseline_forecasts,
    score_baselines,
    split_windows,
    target_rows,
)
from tftjax.runtime.processes import divided
from tftjax.storage.directories import SweepDirectory
from tftjax.storage.runs import Ended
from tftjax.sweep.ensembles import average, forecasts_of, stand_in, title
from tftjax.sweep.plan import Member
from tftjax.sweep.run import Trained

log = logging.getLogger(__name__)

EWMA = "moving volatility of the target"
TAIL = 0.1  # levels up to it, and from 1 minus it on, are the tails
QUARTERS = ("calm centre", "calm tails", "stormy centre", "stormy tails")
GAIN_PARTS = ("all", "calm", "stormy", "centre", "tails", *QUARTERS)  # parts into which a gain is divided


class Fold(NamedTuple):
    """The test windows of one fold, in the order of `evaluate`.

    Attributes:
      name: the year in which the test rows begin.
      facts: dates and numbers of windows of the splits.
      test: predictions of the first member, for their dates, series and targets.
      volatility: volatility known before each window; see `Pool`.
      forecasts: forecasts by name of a member or a baseline.
      weights: by config, those of its combination with baselines, if there is one.
      calibrated: by config that asks for it, the method of its conformal calibration and its forecast.
      tests: see `Member`.
    """

    name: str
    facts: dict[str, str | int]
    test: Predictions
    volatility: Float[np.ndarray, " N"]
    forecasts: dict[str, Forecast]
    weights: Mapping[str, Weights] = MappingProxyType({})
    calibrated: Mapping[str, tuple[str, Forecast]] = MappingProxyType({})
    tests: Sequence[str] = ()


class Pool(NamedTuple):
    """The test windows of all folds: N windows, series after series, in time order within each.

    Attributes:
      folds: the folds in time order.
      fold: place of each window's fold in `folds`.
      order: place of each window among the windows of all folds, one fold after another.
      dates: first target day of each window.
      series: name of each window's series.
      windows: targets, days and series for the scores.
      volatility: volatility known before each window, in the unit of its column.
      volatility_name: the column of the volatility, or EWMA.
      quantiles: levels of the forecasts.
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

    def divide(self, forecast: Forecast) -> list[Float[np.ndarray, "_ P Q"]]:
        """The forecast of each fold, from one of the pool: what `join` undoes."""
        whole = np.empty_like(forecast)
        whole[self.order] = forecast
        return np.split(whole, np.cumsum([len(fold.test.dates) for fold in self.folds])[:-1])

    def join(self, forecasts: Sequence[Float[np.ndarray, "_ P Q"]]) -> Forecast:
        """A forecast of the pool, from one of each fold."""
        return np.concatenate(forecasts)[self.order]


class Pooled(NamedTuple):
    """A forecast over all folds.

    Attributes:
      name: name in tables.
      kind: "ensemble", "seed" or "baseline".
      config: name of the config, or of the baseline.
      seed: the seed of kind "seed"; else None.
      forecast: quantiles of the pool's windows.
    """

    name: str
    kind: str
    config: str
    seed: int | None
    forecast: Forecast

    @property
    def folder(self) -> str:
        """Name of the forecast's folder among the pooled forecasts."""
        return folder_name(self.kind, self.config, self.seed)


def folder_name(kind: str, config: str, seed: int | None) -> str:
    """The folder of a pooled forecast; see `Pooled`.

    >>> folder_name("seed", "control", 1), folder_name("baseline", "garch", None)
    ('control-s1', 'garch-baseline')
    """
    return f"{config}-s{seed}" if kind == "seed" else f"{config}-{kind}"


def make_fold(trained: Trained, members: Sequence[Member], ended: Mapping[str, Ended]) -> Fold:
    """Collects the forecasts of a fold's members, and of baselines on the train rows of its first member.

    Args:
      members: members of one fold, one of them not diverged.
    Raises:
      UserError: a member's evaluation cannot be read, or is of other rows than the others'.
    """
    alive = [member for member in members if ended[member.name].status != "diverged"]
    first, sweep = alive[0], SweepDirectory(trained.folder)
    predictions = {m.name: read_predictions(sweep.member(m.name).path, "test") for m in alive}
    for name, other in predictions.items():
        check_comparable(predictions[first.name], other, (first.name, name))
    data = trained.data[first.name]
    run = stand_in(trained.folder, first.fold, first, data, trained.functions)
    windows = {split: split_windows(run, split) for split in ("val", "test")}
    scored = score_baselines(run, windows, trained.baselines)
    baselines, weights = scored.forecasts["test"], {}
    if len(data.blocks) == 1 and first.config.data.validates_alone:
        for config in dict.fromkeys(member.group for member in alive):
            seeds = [member for member in alive if member.group == config]
            weights[config] = _weights(trained.folder, seeds, scored, windows["val"])
    if len(data.blocks) > 1:  # of several series they are not kept
        with divided(len(data.blocks)) as apply:
            baselines = {name: baseline_forecasts(run, name, apply)["test"] for name in scored.scores["test"]}
    volatility = known_volatility(data.panel, volatility_column(data.panel, first.config.data.volatility))
    return Fold(
        name=first.fold,
        facts=fold_facts(data),
        test=predictions[first.name],
        volatility=volatility[target_rows(run, "test")[:, 0] - 1],
        forecasts=baselines | {name: values.forecast for name, values in predictions.items()},
        weights={config: chosen for config, chosen in weights.items() if chosen is not None},
        calibrated=_calibrated(trained, alive, windows),
        tests=first.tests,
    )


def _calibrated(
    trained: Trained, members: Sequence[Member], windows: Mapping[str, Windows]
) -> dict[str, tuple[str, Forecast]]:
    """`Fold.calibrated`, of each config's ensemble or its only seed, by the fold's validation rows."""
    found = {}
    for config in dict.fromkeys(member.group for member in members):
        seeds = [member for member in members if member.group == config]
        run = stand_in(
            trained.folder, seeds[0].fold, seeds[0], trained.data[seeds[0].name], trained.functions
        )
        if run.config.evaluation.conformal != "none":
            forecasts = {split: average(forecasts_of(trained.folder, seeds, split)) for split in windows}
            made = calibrated_test(run, windows, forecasts)
            found |= {} if made is None else {config: (made[0].method, made[1])}
    return found


def _weights(
    folder: Path, seeds: Sequence[Member], scored: BaselineScores, windows: Windows
) -> Weights | None:
    """The weights of a config's ensemble, or of its only seed, and of baselines on validation rows."""
    quantiles, model = seeds[0].config.model.quantiles, average(forecasts_of(folder, seeds, "val"))
    losses = {name: score.metrics["pinball"] for name, score in scored.scores["val"].items()}
    losses["model"] = pinball(model, windows.target, quantiles)
    return chosen_weights(windows, {"model": model, **scored.forecasts["val"]}, losses, quantiles)


def fold_facts(data: Data) -> dict[str, str | int]:
    """First and last dates of the splits' target rows, and numbers of windows."""
    dates, facts = data.panel.frame.index, {}
    for split, starts in data.starts.items():
        rows = [part for block in data.blocks for part in block.stretches(split)]
        facts[f"{split}_from"] = str(min(dates[part.start] for part in rows if part).date())
        facts[f"{split}_to"] = str(max(dates[part.stop - 1] for part in rows if part).date())
        facts[f"{split}_windows"] = len(starts)
    return facts


def volatility_name(panel: Panel, members: Sequence[Member]) -> str:
    """The name of the volatility that divides a panel's days into calm and stormy ones."""
    return volatility_column(panel, members[0].config.data.volatility) or EWMA


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
    panel = next(iter(trained.data.values())).panel
    return join_folds(folds, volatility_name(panel, trained.members))


def join_folds(folds: Sequence[Fold], volatility_name: str) -> Pool:
    """The pool of folds whose test rows do not overlap."""
    tests = [fold.test for fold in folds]
    dates = np.concatenate([test.dates.to_numpy() for test in tests])
    series = np.concatenate([test.series for test in tests])
    order = np.lexsort((dates, pd.factorize(series)[0]))
    dates, series = dates[order], series[order]
    _, day = np.unique(dates, return_inverse=True)
    bounds = np.flatnonzero(np.append(True, series[1:] != series[:-1]))
    slices = [*itertools.starmap(slice, itertools.pairwise([*bounds, len(series)]))]
    return Pool(
        folds=tuple(folds),
        fold=np.repeat(np.arange(len(folds)), [len(test.dates) for test in tests])[order],
        order=order,
        dates=pd.DatetimeIndex(dates),
        series=series,
        windows=Windows(np.concatenate([test.target for test in tests])[order], day, slices),
        volatility=np.concatenate([fold.volatility for fold in folds])[order],
        volatility_name=volatility_name,
        quantiles=tests[0].quantiles,
    )


def pooled_forecasts(pool: Pool, members: Sequence[Member]) -> list[Pooled]:
    """Configs' ensembles and seeds, in the order of the plan, then baselines: those that have every fold.

    A config's ensemble is of the seeds that did not diverge in a fold. Warnings name those that are left out.
    """
    result: list[Pooled] = []

    def add(name: str, kind: str, config: str, seed: int | None, keys: Sequence[str], reason: str) -> None:
        """Joins the forecasts that have one key in each fold."""
        pairs = list(zip(pool.folds, keys, strict=True))
        missing = [fold.name for fold, key in pairs if key not in fold.forecasts]
        if missing:
            log.warning(f"left out {reason} in the fold {', '.join(missing)}")
        else:
            joined = pool.join([fold.forecasts[key] for fold, key in pairs])
            result.append(Pooled(name, kind, config, seed, joined))

    by_config: dict[str, dict[int, dict[str, str]]] = {}
    for member in members:
        seeds = by_config.setdefault(member.group, {})
        seeds.setdefault(member.config.train.seed, {})[member.fold] = member.name
    for config, seeds in by_config.items():
        by_fold = [
            [
                fold.forecasts[names[fold.name]]
                for names in seeds.values()
                if names.get(fold.name) in fold.forecasts
            ]
            for fold in pool.folds
        ]
        if len(seeds) > 1 and all(by_fold):
            averaged = pool.join([average(forecasts) for forecasts in by_fold])
            result.append(Pooled(title(config, len(seeds)), "ensemble", config, None, averaged))
        for seed, names in seeds.items():
            name, keys = f"{config}, seed {seed}", [names.get(fold.name, "") for fold in pool.folds]
            add(name, "seed", config, seed, keys, f"{name}: it diverged")
        if not all(by_fold):
            log.warning(f"left out {config}: no seed of it is trained in every fold")
    names = {member.name for member in members}
    for name in dict.fromkeys(name for fold in pool.folds for name in fold.forecasts if name not in names):
        keys, reason = [name] * len(pool.folds), f"the baseline {name}: it has no forecast"
        add(name, "baseline", name, None, keys, reason)
    return result


def headlines(forecasts: Sequence[Any]) -> list[Any]:
    """One forecast of each config: its ensemble, or its only seed.

    Args:
      forecasts: `Pooled`, or rows of pooled.csv.
    """
    averaged = {pooled.config for pooled in forecasts if pooled.kind == "ensemble"}
    return [p for p in forecasts if p.kind == "ensemble" or (p.kind == "seed" and p.config not in averaged)]


def baselines_of(forecasts: Sequence[Pooled]) -> dict[str, Pooled]:
    """The baselines, by name."""
    return {pooled.name: pooled for pooled in forecasts if pooled.kind == "baseline"}


def predictions_table(pool: Pool, forecast: Forecast) -> pd.DataFrame:
    """A forecast of the pool as a table like predictions.csv, of the split test alone."""
    num_windows, steps = pool.windows.target.shape
    table = pd.DataFrame({"date": np.repeat(pool.dates.strftime("%Y-%m-%d"), steps), "split": "test"})
    if len(pool.windows.series) > 1:
        table["series"] = np.repeat(pool.series, steps)
    if steps > 1:
        table["step"] = np.tile(np.arange(1, steps + 1), num_windows)
    table["actual"] = pool.windows.target.ravel()
    levels = [f"{level:g}" for level in pool.quantiles]
    return table.join(pd.DataFrame(forecast.reshape(len(table), -1), columns=levels))
