"""The course of a training as one picture. Import it where it is made: matplotlib takes half a second."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from tftjax.model.parameters import PARTS
from tftjax.plots.forecasts import COLORS, save
from tftjax.storage.directories import RunDirectory

MORE_COLORS = (*COLORS, "#777777", "#b0413e")
# Written out: finding them by the size of every label takes as long as the drawing.
EDGES = {"left": 0.05, "right": 0.985, "bottom": 0.1, "top": 0.9, "wspace": 0.22, "hspace": 0.16}


class Panel(NamedTuple):
    """Lines over the epochs: title, and by name in metrics.jsonl the label and the factor of a unit."""

    title: str
    lines: dict[str, tuple[str, float]]
    log: bool = False


PANELS = (
    Panel("loss, 1e-3", {"loss": ("train", 1e3), "val/loss": ("validation", 1e3)}),
    Panel("sigma of the median, bp", {"sigma": ("train", 1e4), "val/sigma": ("validation", 1e4)}),
    Panel(
        "median above 0, %", {"share_positive": ("train", 100.0), "val/share_positive": ("validation", 100.0)}
    ),
    Panel("distinct medians, to 0.01 bp", {"val/distinct_forecasts": ("validation", 1.0)}),
    Panel(
        "entropy of weights, % of even ones'",
        {
            "val/attention_entropy": ("attention", 100.0),
            "val/selection_entropy": ("variable selection", 100.0),
        },
    ),
    Panel("norm of the gradient", {f"gradient_norm/{part}": (part, 1.0) for part in PARTS}, log=True),
    Panel("norm of the update", {f"update_norm/{part}": (part, 1.0) for part in PARTS}, log=True),
    Panel("gradient of output / encoder", {"output_to_encoder_gradient": ("ratio", 1.0)}, log=True),
)


def draw(run: Path, path: Path, title: str) -> None:
    """Draws what metrics.jsonl of a run tells; nothing where it tells nothing.

    Args:
      run: its directory.
      path: the PNG to write.
      title: plain text.
    Raises:
      OSError: the picture cannot be written.
    """
    records = []
    source = RunDirectory(run).metrics
    for line in source.read_text(encoding="utf-8").splitlines() if source.exists() else ():
        with contextlib.suppress(ValueError):  # half a line that a kill left
            records.append(json.loads(line))
    if records:
        save(training(records, title), path)


def training(records: Sequence[Mapping], title: str) -> Figure:
    """Makes a figure with a panel for each of `PANELS`, and the epochs with warnings marked.

    Args:
      records: the epochs' lines; a quantity that they lack is left out.
    """
    figure = Figure(figsize=(12, 7), dpi=100)
    figure.suptitle(title, fontsize=11, parse_math=False)
    grid = figure.subplots(2, 4, sharex=True, gridspec_kw=EDGES)
    epochs = [record["epoch"] for record in records]
    for axes, panel in zip(grid.ravel(), PANELS, strict=True):
        for (name, (label, factor)), color in zip(panel.lines.items(), MORE_COLORS, strict=False):
            if all(name in record for record in records):
                values = [factor * record[name] for record in records]
                axes.plot(epochs, values, color=color, linewidth=1.2, label=label, marker=_marker(records))
        _tidy(axes, panel)
    warned = [record["epoch"] for record in records if record.get("warnings")]
    for axes in grid.ravel():
        for epoch in warned:
            axes.axvspan(epoch - 0.5, epoch + 0.5, color=MORE_COLORS[-1], alpha=0.08, linewidth=0)
    names = dict.fromkeys(name for record in records for name in record.get("warnings", {}))
    seen = f"shaded: epochs with warnings ({', '.join(names)})" if names else "no warnings"
    figure.supxlabel(f"epoch; {seen}", fontsize=9)
    return figure


def _marker(records: Sequence[Mapping]) -> str | None:
    """A line of one epoch would not be seen."""
    return "o" if len(records) == 1 else None


def _tidy(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=9)
    axes.grid(True, color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    if panel.log:
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")  # powers as formulas take a third of the drawing
        axes.yaxis.set_minor_locator(NullLocator())
    if len(axes.get_lines()) > 1:
        axes.legend(fontsize=7, edgecolor="none", framealpha=0.8)
