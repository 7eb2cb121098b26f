"""The figure of a walk-forward."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool
from matplotlib.figure import Figure

from tftjax.plots.chart import Chart, Line
from tftjax.plots.forecasts import MIN_SKILL_DAYS, shade, skill_over_time, stretches
from tftjax.plots.theme import LIGHT, Drawing, Key, Picture, Theme, date_axis, picture

SKILL_DAYS = 252  # a year of trading days


FOLD = Key("fold", "purple", "dashed")  # of the chart, in place of bars


class Gains(NamedTuple):
    """Gains of forecasts over a baseline.

    Attributes:
      hardest: name of the baseline.
      losses: pinball loss of the forecasts and of the baseline by test day.
      skills: gain of each forecast by fold, in percent.
      spans: test_from and test_to by fold.
      stormy: the test days to shade; None shades none.
    """

    hardest: str
    losses: pd.DataFrame
    skills: Mapping[str, pd.Series]
    spans: pd.DataFrame
    stormy: Bool[np.ndarray, " T"] | None

    @property
    def window(self) -> int:
        """Days over which skill is averaged."""
        return min(SKILL_DAYS, len(self.losses) // 2)

    def so_far(self, name: str) -> pd.Series:
        """A forecast's gain up to each test day, in percent of the baseline's whole loss."""
        whole = self.losses[self.hardest].sum()
        return 100 * (self.losses[self.hardest] - self.losses[name]).cumsum() / whole


def gain_by_fold(figure: Figure, theme: Theme, gains: Gains) -> None:
    """Draws each forecast's gain over the baseline: by fold, over rolling days, and so far."""
    losses, skills = gains.losses, gains.skills
    theme.set_height(figure, 130 * len(skills) + 40)
    starts, ends = (pd.to_datetime(gains.spans[name]) for name in ("test_from", "test_to"))
    widths = [end - start for start, end in zip(starts, ends, strict=True)]
    grid = figure.subplots(len(skills), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, skill) in zip(grid, skills.items(), strict=True):
        if gains.stormy is not None:
            shade(axes, losses.index, gains.stormy)
        colors = [LIGHT["green" if value > 0 else "red"] for value in skill]
        axes.bar(starts, skill, widths, align="edge", color=colors, alpha=0.4, linewidth=0)
        if gains.window >= MIN_SKILL_DAYS:
            rolling = skill_over_time(losses, name, gains.hardest, gains.window)
            axes.plot(rolling.index, rolling, color=LIGHT["blue"], linewidth=1.5)
        axes.plot(losses.index, gains.so_far(name), color=LIGHT["ink"], linewidth=1.2, linestyle=":")
        axes.axhline(0, color=LIGHT["ink"], linewidth=1)
        axes.set_title(name)
    grid[len(grid) // 2].set_ylabel("skill, %")
    date_axis(grid[-1], theme)


def gain_keys(gains: Gains) -> list[Key]:
    """The legend of `gain_by_fold`."""
    keys = [
        Key("fold, better", "green", "band", 0.4),
        Key("fold, worse", "red", "band", 0.4),
        Key(f"rolling {gains.window} dates", "blue"),
        Key("so far, % of the whole loss", "ink", "dotted"),
    ]
    return keys if gains.stormy is None else [*keys, Key("stormy", "orange", "band", 0.18)]


def _on_days(gains: Gains, name: str) -> np.ndarray:
    """A forecast's gain in the fold of each test day."""
    starts = pd.to_datetime(gains.spans["test_from"]).to_numpy()
    folds = np.searchsorted(starts, gains.losses.index.to_numpy(), side="right") - 1
    return gains.skills[name].reindex(gains.spans.index).to_numpy()[folds]


def gain_charts(gains: Gains) -> dict[str, Chart]:
    """The gain of each forecast over rolling days, and so far."""
    days, (_, _, rolling, so_far, *stormy) = gains.losses.index, gain_keys(gains)
    spans = [] if gains.stormy is None else stretches(gains.stormy)
    spans = [(start, min(stop, len(days) - 1)) for start, stop in spans]
    charts = {}
    for name in gains.skills:
        lines = [Line(so_far, gains.so_far(name).to_numpy())]
        if gains.window >= MIN_SKILL_DAYS:
            skill = skill_over_time(gains.losses, name, gains.hardest, gains.window)
            lines.insert(0, Line(rolling, skill.reindex(days).to_numpy()))
        lines.append(Line(FOLD, _on_days(gains, name)))
        charts[name] = Chart(days, "skill, %", lines, shaded=spans, shade=stormy[0] if stormy else None)
    return charts


def gain_drawing(gains: Gains) -> Drawing:
    """`gain_by_fold` with a title."""
    title = f"Walk-forward: pinball skill against {gains.hardest}; above 0 is better"
    return Drawing(partial(gain_by_fold, gains=gains), title, gain_keys(gains))


def gain_picture(gains: Gains) -> Picture:
    """`gain_by_fold` for the page."""
    better = [f"{name} in {int((skill > 0).sum())}" for name, skill in gains.skills.items()]
    text = f"Better than {gains.hardest}, of {len(gains.spans)} folds: {', '.join(better)}"
    return picture(
        "folds",
        partial(gain_by_fold, gains=gains),
        title=f"Pinball skill against {gains.hardest}",
        alt=f"{text}.",
        legend=gain_keys(gains),
        caption=f"{text}. Above zero is better.",
    )._replace(charts=gain_charts(gains))
