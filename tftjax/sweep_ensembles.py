"""The ensembles of a sweep, evaluated as their members are, under `ensembles/CONFIG/evaluation/`."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tftjax.data.prepared import Data
from tftjax.ensemble import average, title
from tftjax.errors import UserError
from tftjax.evaluate.evaluation import evaluate_forecasts
from tftjax.evaluate.files import read_predictions
from tftjax.evaluate.scoring import SPLITS, BaselineScores
from tftjax.storage import runs
from tftjax.sweep_plan import Member


def evaluate_ensembles(
    folder: Path,
    groups: Mapping[str, Sequence[Member]],
    data: Mapping[str, Data],
    known: dict[Hashable, BaselineScores],
    say: Callable[[str], Any],
) -> dict[str, dict]:
    """Evaluates the ensemble of each config of a sweep.

    Args:
      folder: of the sweep, its members evaluated.
      groups: by config, the members of its ensemble.
      data: by name of a member.
      known, say: see `evaluate`.
    Returns:
      By config, what `evaluate` returns.
    Raises:
      UserError: a member's evaluation cannot be read, or the results cannot be written.
    """
    metrics = {}
    for config, members in groups.items():
        forecasts = {split: average(forecasts_of(folder, members, split)) for split in SPLITS}
        directory = make_directory(folder / "ensembles" / config)
        run = stand_in(directory, title(config, len(members)), members[0], data[members[0].name])
        metrics[config] = evaluate_forecasts(run, forecasts, directory / "evaluation", known, say)
    return metrics


def forecasts_of(folder: Path, members: Sequence[Member], split: str) -> list[Float[np.ndarray, "W P Q"]]:
    """What members' evaluations hold of a split, returns as decimals."""
    return [read_predictions(folder / "members" / member.name, split).forecast for member in members]


def stand_in(directory: Path, name: str, member: Member, data: Data) -> runs.Run:
    """A run without parameters, for forecasts that no single run made: its config and data say of what."""
    return runs.Run(directory, member.config.model_copy(update={"name": name}), data, {}, 0)


def make_directory(directory: Path) -> Path:
    """Makes a directory with its parents.

    Raises:
      UserError: it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory}: cannot be made ({error.strerror}).") from error
    return directory
