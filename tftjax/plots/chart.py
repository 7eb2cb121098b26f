"""The numbers of a figure as one value, for what draws itself: a page's script, and plotly in notebooks."""

import base64
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from tftjax.errors import UserError
from tftjax.plots.theme import LIGHT, Key

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class Line(NamedTuple):
    """A line, dots or bars: a value for each place on the axis; nan where there is none."""

    key: Key
    values: np.ndarray


class Band(NamedTuple):
    """An area between two lines."""

    key: Key
    low: np.ndarray
    high: np.ndarray


class Chart(NamedTuple):
    """A plot over one axis.

    Attributes:
      x: dates, numbers or names, ascending where they have an order.
      y_title: title of the other axis, with the unit.
      bands: areas, the widest first.
      lines: lines, dots and bars.
      shaded: first and last place of each stretch that is shaded, under `shade`.
      log: whether the other axis is logarithmic.
      form: format of a value that a page says, as of `Unit`.
    """

    x: Sequence[Any]
    y_title: str
    lines: Sequence[Line]
    bands: Sequence[Band] = ()
    x_title: str = ""
    shaded: Sequence[tuple[int, int]] = ()
    shade: Key | None = None
    log: bool = False
    form: str = "+.3g"


def opacities(bands: Sequence[Band]) -> list[float]:
    """The opacity of each band on top of those before it, so that together they are as dark as their keys."""
    totals = [0.0, *(band.key.opacity for band in bands)]
    return [(above - below) / (1 - below) for below, above in itertools.pairwise(totals)]


def plotly_figure(charts: Sequence[Chart], title: str) -> "Figure":
    """The charts below each other, as a figure of plotly.

    Raises:
      UserError: plotly is not installed.
    """
    try:
        from plotly.subplots import make_subplots
    except ImportError as error:
        raise UserError(
            'engine "plotly": plotly is not installed. Install the extra: pip install "tftjax[plots]".'
        ) from error
    figure = make_subplots(rows=len(charts), cols=1, vertical_spacing=0.4 / max(len(charts), 4))
    for row, chart in enumerate(charts, start=1):
        for trace in (*_areas(chart), *(_trace(chart, line) for line in chart.lines)):
            figure.add_trace(trace, row=row, col=1)
        for first, last in chart.shaded:
            style = {"fillcolor": LIGHT[chart.shade.color], "opacity": chart.shade.opacity, "line_width": 0}
            figure.add_vrect(x0=chart.x[first], x1=chart.x[last], row=row, col=1, **style)
        figure.update_yaxes(title=chart.y_title, type="log" if chart.log else None, row=row, col=1)
        figure.update_xaxes(title=chart.x_title, row=row, col=1)
    height = 420 if len(charts) == 1 else 260 * len(charts)
    return figure.update_layout(title=title, template="plotly_white", hovermode="x unified", height=height)


def _areas(chart: Chart) -> list[Any]:
    """Two lines for each band; the second fills the area to the first."""
    from plotly import graph_objects

    traces = []
    for band, alpha in zip(chart.bands, opacities(chart.bands), strict=True):
        color = tuple(int(LIGHT[band.key.color][place : place + 2], 16) for place in (1, 3, 5))
        for values, side in ((band.low, "lower"), (band.high, "upper")):
            traces.append(
                graph_objects.Scatter(
                    x=list(chart.x),
                    y=values,
                    mode="lines",
                    line_width=0,
                    name=f"{band.key.label}, {side}",
                    legendgroup=band.key.label,
                    showlegend=side == "upper",
                    fill="tonexty" if side == "upper" else None,
                    fillcolor=f"rgba({color[0]}, {color[1]}, {color[2]}, {alpha:.3f})",
                )
            )
    return traces


def _trace(chart: Chart, line: Line) -> Any:
    from plotly import graph_objects

    key, common = line.key, {"x": list(chart.x), "y": line.values, "name": line.key.label}
    if key.shape == "band":
        return graph_objects.Bar(marker_color=LIGHT[key.color], opacity=key.opacity, **common)
    if key.shape in ("dot", "square"):
        return graph_objects.Scatter(mode="markers", marker_color=LIGHT[key.color], **common)
    dash = {"dashed": "dash", "dotted": "dot"}.get(key.shape, key.shape)
    return graph_objects.Scatter(mode="lines", line={"color": LIGHT[key.color], "dash": dash}, **common)


def packed(chart: Chart) -> dict[str, Any]:
    """A chart over dates for a page's script, as JSON: numbers in steps of 16 bits, in base 64.

    A number is off by a 131,068th of its line's range at most. A year of seven quantiles takes 6 KB.
    """
    days = pd.DatetimeIndex(chart.x).to_numpy().astype("datetime64[D]").astype(np.int64)
    return {
        "x": _bits(days),
        "title": chart.y_title,
        "form": chart.form,
        "bands": [_styled(band.key, low=_scaled(band.low), high=_scaled(band.high)) for band in chart.bands],
        "lines": [_styled(line.key, values=_scaled(line.values)) for line in chart.lines],
        "shade": chart.shade.label if chart.shade else None,
        "shaded": [list(stretch) for stretch in chart.shaded],
    }


def _styled(key: Key, **numbers: Any) -> dict[str, Any]:
    return {"label": key.label, "color": key.color, "shape": key.shape, "opacity": key.opacity, **numbers}


def _scaled(values: np.ndarray) -> list[Any]:
    """The unit of a step, the steps from the middle, and the middle; -32768 is no number."""
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    # Of the range, not of the largest: levels lie far from zero and near each other.
    middle = float(f"{(low + high) / 2:.8g}")
    unit = float(f"{max(high - middle, middle - low) / 32767:.6g}") or 1.0
    steps = np.rint((np.where(finite, values, middle) - middle) / unit)
    return [unit, _bits(np.where(finite, np.clip(steps, -32767, 32767), -32768)), middle]


def _bits(numbers: np.ndarray) -> str:
    return base64.b64encode(numbers.astype("<i2").tobytes()).decode()
