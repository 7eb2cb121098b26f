"""The picture of a walk-forward. Import it where a picture is made: matplotlib takes half a second."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.dates
import numpy as np
from matplotlib.figure import Figure

from tftjax.errors import UserError
from tftjax.evaluate.metrics import pinball_losses
from tftjax.evaluate.scoring import by_day
from tftjax.plots.forecasts import save
from tftjax.plots.training import MORE_COLORS
from tftjax.walkforward.pool import Pool, Pooled


def draw(path: Path, pool: Pool, shown: Sequence[Pooled], best: Pooled) -> None:
    """Draws each forecast's gain over a baseline: by fold, and added up over time.

    Args:
      path: the PNG to write.
      shown: the forecasts.
      best: the baseline.
    Raises:
      UserError: it cannot be written.
    """
    figure = Figure(figsize=(12, 7), dpi=100, layout="constrained")
    figure.suptitle(f"Walk-forward: pinball gain over {best.name}; above 0 is better", fontsize=11)
    by_fold, over_time = figure.subplots(2, 1)
    losses = {p.name: _losses(pool, p) for p in (*shown, best)}
    place = np.arange(len(pool.folds))
    width = 0.8 / max(1, len(shown))
    dates = np.unique(pool.dates.to_numpy())
    for number, pooled in enumerate(shown):
        color = MORE_COLORS[number % len(MORE_COLORS)]
        gain = losses[best.name] - losses[pooled.name]
        percent = [
            100 * gain[pool.fold == fold].mean() / losses[best.name][pool.fold == fold].mean()
            for fold in place
        ]
        by_fold.bar(place + (number + 0.5) * width - 0.4, percent, width, color=color, label=pooled.name)
        added = np.cumsum(by_day(gain, pool.windows.day)) / losses[best.name].mean() / len(dates)
        over_time.plot(dates, 100 * added, color=color, linewidth=1.3, label=pooled.name)
    by_fold.set_xticks(place, [fold.name for fold in pool.folds])
    by_fold.set_ylabel("gain in the fold, %")
    over_time.set_ylabel("gain so far, % of the whole loss")
    locator = matplotlib.dates.AutoDateLocator()
    over_time.xaxis.set_major_locator(locator)
    over_time.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(locator))
    for axes in (by_fold, over_time):
        axes.axhline(0, color="#444444", linewidth=0.8)
        axes.grid(True, color="#e3e3e3", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    figure.legend(*over_time.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    try:
        save(figure, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}).") from error


def _losses(pool: Pool, pooled: Pooled) -> np.ndarray:
    """Pinball loss of each window."""
    return pinball_losses(pooled.forecast, pool.windows.target, pool.quantiles).mean(axis=(1, 2))
