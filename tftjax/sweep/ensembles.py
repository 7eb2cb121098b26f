"""Ensembles: the seeds of a config as one forecast, their quantiles averaged level by level."""

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from tftjax.config.functions import NO_FUNCTIONS, Functions
from tftjax.config.section import nearest
from tftjax.data.prepared import Data
from tftjax.errors import UserError, both
from tftjax.evaluate.evaluation import evaluate_forecasts
from tftjax.evaluate.files import read_predictions
from tftjax.evaluate.scoring import SPLITS, BaselineScores
from tftjax.storage import runs
from tftjax.storage.directories import SweepDirectory, make
from tftjax.storage.runs import Ended
from tftjax.sweep.members import read_ended, read_members
from tftjax.sweep.plan import Member
from tftjax.train import pictures

log = logging.getLogger(__name__)


def average(forecasts: Sequence[Float[np.ndarray, "*W Q"]]) -> Float[np.ndarray, "*W Q"]:
    """Averages forecasts level by level: the mean of their quantile functions.

    Unlike the mean of the distributions it is no wider than they are on average, and where none of them
    crosses, it does not (Vincent 1912; Lichtendahl, Grushka-Cockayne and Winkler 2013, "Is it better to
    average probabilities or quantiles?").

    >>> average([np.array([0.0, 1.0]), np.array([2.0, 5.0])]).tolist()
    [1.0, 3.0]

    Args:
      forecasts: at least one, of equal levels and one unit.
    Raises:
      ValueError: forecasts of different shapes.
    """
    return np.mean(np.stack(forecasts), axis=0)


def average_tables(tables: Sequence[pd.DataFrame], levels: Sequence[str]) -> pd.DataFrame:
    """Averages the level columns of tables that agree in all others, such as `predict` returns."""
    averaged = average([table[list(levels)].to_numpy() for table in tables])
    return tables[0].assign(**dict(zip(levels, averaged.T, strict=True)))


def title(config: str, num_seeds: int) -> str:
    """The name of an ensemble in tables and pictures.

    >>> title("control", 5)
    'control, ensemble of 5'
    """
    return f"{config}, ensemble of {num_seeds}"


def ensembles(members: Sequence[Member], ended: Mapping[str, Ended]) -> dict[tuple[str, str], list[Member]]:
    """The members of every ensemble, by config and fold: the seeds that did not diverge, at least two."""
    groups: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        if ended[member.name].status != "diverged":
            groups.setdefault((member.group, member.fold), []).append(member)
    return {key: seeds for key, seeds in groups.items() if len(seeds) > 1}


def open_runs(folder: Path, config: str | None, functions: Functions = NO_FUNCTIONS) -> list[runs.Run]:
    """Opens a run, or all seeds of a config of a sweep; of a walk-forward, those of its newest fold.

    Args:
      folder: directory of a run or a sweep.
      config: name of a config of the sweep; None for a run, or for the only config.
      functions: functions that the runs were made with.
    Raises:
      UserError: neither a run nor a sweep, an unknown config, or one without a trained seed.
    """
    if not SweepDirectory(folder).plan.is_file():
        if config is not None:
            raise UserError(f"--config {config}: {folder} is no sweep. Leave --config out, or give a sweep.")
        return [runs.open_run(folder, functions=functions)]
    members, ended = read_members(folder), read_ended(folder)
    known = list(dict.fromkeys(member.group for member in members))
    if config is None and len(known) > 1:
        raise UserError(
            f"{folder}: a sweep of {len(known)} configs. Choose one ({both('--config')}):"
            f" {' or '.join(known)}."
        )
    if config is not None and config not in known:
        raise UserError(f"{both('--config')}{config}: unknown in {folder}. {nearest(config, known)}")
    config = config or known[0]
    newest = max(member.fold for member in members if member.group == config)
    seeds = [member for member in members if (member.group, member.fold) == (config, newest)]
    trained = [member for member in seeds if member.name in ended and ended[member.name].status != "diverged"]
    if not trained:
        raise UserError(
            f"{folder}: no seed of {config} has ended without diverging. Go on with the sweep"
            f" ({both('--resume')})."
        )
    fold = f", fold {newest}" if newest else ""
    log.info(f"{title(config, len(trained)) if len(trained) > 1 else trained[0].name}{fold}")
    if len(trained) < len(seeds):
        missing = [member.name for member in seeds if member not in trained]
        log.warning(f"left out, as they diverged or have not ended: {', '.join(missing)}")
    first, *others = (SweepDirectory(folder).member(member.name).path for member in trained)
    run = runs.open_run(first, functions=functions)
    return [
        run,
        *(runs.open_run(path, run.data, functions) for path in others),
    ]  # seeds share data and scalers


def directory_of(seeds: Sequence[runs.Run]) -> Path:
    """The directory of a run, or of the ensemble of what `open_runs` opened."""
    first = seeds[0].directory
    if len(seeds) == 1:
        return first
    folder = first.parents[1]
    group = next(member.group for member in read_members(folder) if member.name == first.name)
    return SweepDirectory(folder).ensemble(group).path


def evaluate_ensembles(
    folder: Path,
    groups: Mapping[str, Sequence[Member]],
    data: Mapping[str, Data],
    known: dict[Hashable, BaselineScores],
    functions: Functions,
) -> dict[str, dict]:
    """Evaluates and draws the ensemble of each config of a sweep whose members are evaluated.

    Args:
      folder: the sweep's directory.
      groups: the members of each ensemble, by config.
      data: each member's data, by its name.
      known: see `evaluate`.
      functions: functions that were handed in.
    Returns:
      The metrics of each ensemble, by config.
    Raises:
      UserError: a member's evaluation cannot be read, or the results cannot be written.
    """
    metrics = {}
    for config, members in groups.items():
        forecasts = {split: average(forecasts_of(folder, members, split)) for split in SPLITS}
        directory = make(SweepDirectory(folder).ensemble(config).path)
        run = stand_in(directory, title(config, len(members)), members[0], data[members[0].name], functions)
        evaluated = evaluate_forecasts(run, forecasts, known)
        pictures.draw(run, evaluated)
        metrics[config] = evaluated.metrics
    return metrics


def forecasts_of(folder: Path, members: Sequence[Member], split: str) -> list[Float[np.ndarray, "W P Q"]]:
    """Reads the members' forecasts of a split from their evaluations, returns as decimals."""
    paths = [SweepDirectory(folder).member(member.name).path for member in members]
    return [read_predictions(path, split).forecast for path in paths]


def stand_in(directory: Path, name: str, member: Member, data: Data, functions: Functions) -> runs.Run:
    """A run without parameters, for forecasts that no single run made; with the member's config and data."""
    return runs.Run(directory, member.config.model_copy(update={"name": name}), data, {}, 0, functions)
