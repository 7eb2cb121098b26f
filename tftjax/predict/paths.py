"""Sample paths over the next steps."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from tftjax.data.panel import Panel
from tftjax.data.prepared import cardinalities
from tftjax.data.tables.transforms import changes_to_levels
from tftjax.errors import UserError
from tftjax.evaluate.calibration.levels import normal_scores, quantiles_at
from tftjax.evaluate.calibration.paths import path_levels, path_ranks, shuffled
from tftjax.model.forecast import forecast_rows
from tftjax.model.parameters import build_model
from tftjax.predict.forecasts import checked_levels, forecast_seeds
from tftjax.storage import runs
from tftjax.sweep.ensembles import average

MAX_PATHS = 100_000
MAX_PAST = 10_000  # train windows that give sample paths their order: of long panels some, evenly spread
# Levels that a head with a distribution is asked for, so that paths have its tails; lines between them.
FINE_LEVELS = (0.0001, 0.0005, 0.001, 0.005, *(k / 100 for k in range(1, 100)), 0.995, 0.999, 0.9995, 0.9999)


def sample_paths(
    seeds: Sequence[runs.Run],
    panel: Panel,
    count: int,
    future: pd.DataFrame | None = None,
    *,
    conformal: str = "none",
    levels: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Sample paths over the next steps, whose steps go together as in the train rows.

    Each step has the quantiles that `forecast_seeds` gives; the order is that of the levels which outcomes of
    train windows had in their forecasts: of these there are many, and their order hardly depends on how well
    the model fits them. Paths of different series are drawn independently.

    Args:
      panel: series that can be forecast.
      count: paths of each series.
      future: see `forecast_next`.
      conformal: see `forecast_seeds`.
      levels: prices or levels in place of the changes that are forecast.
      seed: of the drawing.
    Returns:
      A row a series, path and step: its date, the series' name if there are several, `path` from 1 on, and
      `value`, a return as decimal, or a level.
    Raises:
      UserError: a number of paths or a seed that cannot be; or see `forecast_seeds`.
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= MAX_PATHS:
        raise UserError(f"paths: found {count!r}, expected a whole number from 1 to {MAX_PATHS:,}.")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UserError(f"seed: found {seed!r}, expected a whole number from 0 on.")
    model = seeds[0].config.model
    own_tails = model.quantile_head == "student_t" and conformal == "none"
    asked = FINE_LEVELS if own_tails else model.quantiles
    checked_levels(asked, model.quantiles)
    table = forecast_seeds(seeds, panel, future, asked if own_tails else None, conformal)
    steps, names = model.prediction_length, [f"{level:g}" for level in asked]
    forecast = table[names].to_numpy().reshape(-1, steps, len(names))
    samples = quantiles_at(forecast, asked, path_levels(count))
    past = _past_scores(seeds) if steps > 1 else np.zeros((1, 1))
    generator = np.random.default_rng(seed)
    paths = np.stack([shuffled(part, path_ranks(past, count, generator)) for part in samples])
    if levels:
        paths = changes_to_levels(paths, panel)
    rows = np.arange(len(table)).reshape(-1, 1, steps).repeat(count, axis=1).ravel()
    drawn = pd.DataFrame({"path": np.tile(np.repeat(np.arange(1, count + 1), steps), len(paths))})
    drawn = drawn.assign(value=paths.ravel()).set_index(table.index[rows].rename("date"))
    if panel.id_column is not None:
        drawn.insert(0, "series", table["series"].to_numpy()[rows])
    return drawn


def _past_scores(seeds: Sequence[runs.Run]) -> Float[np.ndarray, "W P"]:
    """The levels that outcomes of train windows had in their forecasts, as normal scores."""
    first = seeds[0]
    data, model, quantiles = first.data, first.config.model, first.config.model.quantiles
    starts = data.starts["train"]
    starts = starts[np.linspace(0, len(starts) - 1, min(len(starts), MAX_PAST)).astype(int)]
    each = []
    for run in seeds:
        built = build_model(run.config, *cardinalities(data.panel, data.encoding), run.functions)
        each.append(forecast_rows(built, run.parameters, data.series, starts))
    rows = starts[:, None] + model.encoder_length + np.arange(model.prediction_length)
    target = data.panel.frame[data.panel.target].to_numpy(np.float64)[rows]
    return normal_scores(np.sort(average(each), axis=-1), quantiles, target)
