"""The figure of the course of a training."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from tftjax.model.parts import PARTS
from tftjax.plots.chart import Chart, Line
from tftjax.plots.theme import LIGHT, SERIES, Drawing, Key, Picture, Theme, picture


class Subplot(NamedTuple):
    """Lines over the epochs: title, and by name in metrics.jsonl the label and the factor of a unit."""

    title: str
    lines: dict[str, tuple[str, float]]
    log: bool = False


SUBPLOTS = (
    Subplot("loss, 1e-3", {"loss": ("train", 1e3), "val/loss": ("validation", 1e3)}),
    Subplot("spread of the medians, bp", {"sigma": ("train", 1e4), "val/sigma": ("validation", 1e4)}),
    Subplot(
        "median above 0, %", {"share_positive": ("train", 100.0), "val/share_positive": ("validation", 100.0)}
    ),
    Subplot("distinct medians, to 0.01 bp", {"val/distinct_forecasts": ("validation", 1.0)}),
    Subplot(
        "entropy of weights, % of even ones'",
        {
            "val/attention_entropy": ("attention", 100.0),
            "val/selection_entropy": ("variable selection", 100.0),
        },
    ),
    Subplot("norm of the gradient", {f"gradient_norm/{part}": (part, 1.0) for part in PARTS}, log=True),
    Subplot("norm of the update", {f"update_norm/{part}": (part, 1.0) for part in PARTS}, log=True),
    Subplot("gradient of output / encoder", {"output_to_encoder_gradient": ("ratio", 1.0)}, log=True),
)
# The subplots that watch for collapse: two lines at most, so that they can be told apart on a page.
WATCHED = tuple(subplot for subplot in SUBPLOTS if len(subplot.lines) <= 2)
# Room in px: beside the figure and between columns, for labels of ticks; above a subplot, for its title and a
# legend of two rows; below the last one.
LEFT, RIGHT, BETWEEN, ABOVE, BELOW = 50, 24, 50, 52, 38
SEED, MEAN = Key("a seed's batches", "blue", opacity=0.35), Key("mean, smoothed", "blue")
LOWEST, TAKEN = Key("lowest", "ink", "dotted"), Key("to take", "green", "dashed")
BEST, WARNED = Key("best epoch", "ink", "dotted"), Key("epoch with a warning", "red", "band", 0.14)


def course_drawing(records: Sequence[Mapping[str, Any]], best_epoch: int, name: str) -> Drawing:
    """`course` of at least one epoch, with a title.

    Args:
      name: the run's name, for the title.
    """
    names = dict.fromkeys(warning for record in records for warning in record.get("warnings", {}))
    warned = f"warnings: {', '.join(names)}" if names else "no warnings"
    title = f"{name}: course of training, {warned}"
    return Drawing(partial(course, records=records, best_epoch=best_epoch), title, _keys(records))


def _keys(records: Sequence[Mapping[str, Any]]) -> tuple[Key, ...]:
    """The legend of `course`: of what is in it."""
    return (BEST, WARNED) if any(record.get("warnings") for record in records) else (BEST,)


def course_data(records: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """The lines of `course`, a chart a subplot."""
    epochs = [record["epoch"] for record in records]
    charts = []
    for title, lines, log in SUBPLOTS:
        shown = [
            Line(Key(label, color), np.array([factor * record[name] for record in records]))
            for (name, (label, factor)), color in zip(lines.items(), SERIES, strict=False)
            if all(name in record for record in records)
        ]
        charts.append(Chart(epochs, title, shown, x_title="epoch", log=log))
    return charts


def course(
    figure: Figure,
    theme: Theme,
    records: Sequence[Mapping[str, Any]],
    best_epoch: int | None,
    subplots: Sequence[Subplot] = SUBPLOTS,
) -> None:
    """Draws lines over the epochs, the best epoch and those with warnings marked.

    Args:
      records: lines of metrics.jsonl; a missing quantity is left out.
      best_epoch: None marks none.
    """
    columns = 1 if theme.narrow else 3
    rows = -(-len(subplots) // columns)
    theme.set_height(figure, 215 * rows, 165 * rows)
    _place(figure, theme, rows, columns)
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    epochs = [record["epoch"] for record in records]
    warned = [record["epoch"] for record in records if record.get("warnings")]
    for axes, subplot in zip(grid, subplots, strict=False):
        for (name, (label, factor)), color in zip(subplot.lines.items(), SERIES, strict=False):
            if all(name in record for record in records):
                values = [factor * record[name] for record in records]
                marker = "o" if len(records) == 1 else None  # a line of one epoch would not be seen
                axes.plot(epochs, values, color=LIGHT[color], label=label, linewidth=1.5, marker=marker)
        _describe(axes, subplot)
        for epoch in warned:
            axes.axvspan(epoch - 0.5, epoch + 0.5, color=LIGHT["red"], alpha=0.14, linewidth=0)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=LIGHT["ink"], linewidth=1, linestyle=":")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    for axes in grid[len(subplots) - columns : len(subplots)]:
        axes.set_xlabel("epoch")
        axes.tick_params(labelbottom=True)
    for axes in grid[len(subplots) :]:
        axes.set_visible(False)


def rates_drawing(
    rates: np.ndarray,
    losses: np.ndarray,
    smoothed: np.ndarray,
    lowest: float,
    suggested: float,
    name: str,
) -> Drawing:
    """`rates_curve` with a title.

    Args:
      name: the config's name, for the title.
    """
    marked = {LOWEST: lowest, TAKEN: suggested}
    draw = partial(rates_curve, rates=rates, losses=losses, smoothed=smoothed, marked=marked)
    title = f"{name}: loss while the learning rate grows; to take: {suggested:g}"
    return Drawing(draw, title, (SEED, MEAN, LOWEST, TAKEN))


def rates_curve(
    figure: Figure,
    theme: Theme,
    rates: np.ndarray,
    losses: np.ndarray,
    smoothed: np.ndarray,
    marked: Mapping[Key, float],
) -> None:
    """Draws the loss of a learning-rate range test over the rates.

    Args:
      losses: of batches, by seed and rate.
      smoothed: their mean over seeds, smoothed, by rate; of what is infinite, nothing is drawn.
      marked: rates, by the line that marks them.
    """
    theme.set_height(figure, 260, 220)
    axes = figure.subplots()
    for of_seed in losses:
        axes.plot(rates, 1e3 * of_seed, linewidth=0.6, alpha=SEED.opacity, **SEED.line)
    axes.plot(rates, 1e3 * np.where(np.isfinite(smoothed), smoothed, np.nan), linewidth=2, **MEAN.line)
    for key, rate in marked.items():
        axes.axvline(rate, linewidth=1.2, **key.line)
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss, 1e-3")
    axes.xaxis.set_major_formatter("{x:g}")
    drawn = 1e3 * smoothed[np.isfinite(smoothed)]
    axes.set_ylim(0.7 * drawn.min(), 1.3 * min(drawn.max(), 5 * drawn.min()))


def _place(figure: Figure, theme: Theme, rows: int, columns: int) -> None:
    """Sets the room around subplots: a layout that is made to measure takes half of the drawing."""
    figure.set_layout_engine(None)
    width, height, margin = theme.width, 72 * figure.get_figheight(), theme.margin / 2
    above, below = ABOVE + margin, BELOW + margin
    wide = (width - LEFT - RIGHT - (columns - 1) * BETWEEN) / columns
    high = (height - above - below - (rows - 1) * ABOVE) / rows
    figure.subplots_adjust(
        left=LEFT / width,
        right=1 - RIGHT / width,
        bottom=below / height,
        top=1 - above / height,
        wspace=BETWEEN / wide,
        hspace=ABOVE / high,
    )


def _describe(axes: Axes, subplot: Subplot) -> None:
    """Writes the title with a legend below it, and sets the logarithmic scale."""
    count, columns = len(axes.get_lines()), 3
    rows = -(-count // columns) if count > 1 else 0
    axes.set_title(subplot.title, y=1, pad=6 + 14 * rows)  # without y, it is sought in each drawing
    if rows:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=columns,
            borderaxespad=0.2,
            borderpad=0,
            labelspacing=0.2,
            handlelength=1.2,
            handletextpad=0.4,
            columnspacing=1,
        )
    if subplot.log:
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")  # powers as formulas take a third of the drawing
        axes.yaxis.set_minor_locator(NullLocator())


def course_picture(records: Sequence[Mapping[str, Any]], best_epoch: int | None) -> Picture:
    """The WATCHED subplots of `course` for the page."""
    warned = sum(bool(record.get("warnings")) for record in records)
    sigma = 1e4 * records[-1].get("val/sigma", np.nan)
    return picture(
        "monitor",
        partial(course, records=records, best_epoch=best_epoch, subplots=WATCHED),
        title="Collapse monitor",
        alt=f"{len(records)} epochs, {warned} of them with warnings; at the end the validation medians have a"
        f" spread of {sigma:.1f} bp.",
        legend=_keys(records),
    )
