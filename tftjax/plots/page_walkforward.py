"""The figures of a walk-forward's report."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool
from matplotlib.figure import Figure

from tftjax.plots.page_forecasts import MIN_SKILL_DAYS, shade, skill_over_time
from tftjax.plots.theme import LIGHT, Key, Picture, date_axis, picture

SKILL_DAYS = 252  # a year of trading days


def skill_by_fold(
    losses: pd.DataFrame,
    hardest: str,
    skills: Mapping[str, pd.Series],
    spans: pd.DataFrame,
    stormy: Bool[np.ndarray, " T"] | None,
) -> Picture:
    """By how much each forecast's pinball loss is below a baseline's: by fold, and over rolling days.

    Args:
      losses: by test day, of the forecasts and of the baseline.
      hardest: the baseline.
      skills: by forecast, in percent, by fold.
      spans: test_from and test_to by fold.
      stormy: days to shade; None shades none.
    """
    window = min(SKILL_DAYS, len(losses) // 2)
    starts, ends = (pd.to_datetime(spans[name]) for name in ("test_from", "test_to"))

    def draw(figure: Figure, narrow: bool) -> None:
        grid = figure.subplots(len(skills), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (name, skill) in zip(grid, skills.items(), strict=True):
            if stormy is not None:
                shade(axes, losses.index, stormy)
            colors = [LIGHT["green" if value > 0 else "red"] for value in skill]
            widths = [end - start for start, end in zip(starts, ends, strict=True)]
            axes.bar(starts, skill, widths, align="edge", color=colors, alpha=0.4, linewidth=0)
            if window >= MIN_SKILL_DAYS:
                rolling = skill_over_time(losses, name, hardest, window)
                axes.plot(rolling.index, rolling, color=LIGHT["blue"], linewidth=1.5)
            axes.axhline(0, color=LIGHT["ink"], linewidth=1)
            axes.set_title(name)
        grid[len(grid) // 2].set_ylabel("skill, %")
        date_axis(grid[-1], narrow)

    better = [f"{name} in {int((skill > 0).sum())}" for name, skill in skills.items()]
    said = f"Better than {hardest}, of {len(spans)} folds: {', '.join(better)}"
    shading = (Key("stormy", "orange", "band", 0.18),) if stormy is not None else ()
    height = 130 * len(skills) + 40
    return picture(
        "folds",
        draw,
        title=f"Pinball skill against {hardest}",
        alt=f"{said}.",
        heights=(height, height),
        legend=(
            Key("fold, better", "green", "band", 0.4),
            Key("fold, worse", "red", "band", 0.4),
            Key(f"rolling {window} days", "blue"),
            *shading,
        ),
        caption=f"{said}. Above zero is better.",
    )
