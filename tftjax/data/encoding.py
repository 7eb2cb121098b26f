"""Scalers by column and series and categories: pure fits on train rows, pure applications, the JSON form."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Int32, Shaped

from tftjax.config.model import PLAIN, AttentionConfig
from tftjax.data.conditions import fit_usual_ages, regime_values
from tftjax.data.panel import Panel, blocks
from tftjax.data.scales.target import LOG_SCALE, fit_scales, scale_of, with_scale
from tftjax.data.volatility import MIN_VOLATILITY, volatility_column
from tftjax.errors import UserError

MIN_SHARE_OF_VOLATILITY = 0.01  # of the median volatility; calmer rows do not count for the target's scaler


class Scaler(NamedTuple):
    """Scalers of V columns, or of one column in V series, in the columns' units.

    Attributes:
      center: subtracted from a value.
      scale: divisor of the difference.
    """

    center: Float[np.ndarray, "V"]
    scale: Float[np.ndarray, "V"]


def _robust(values: Float[np.ndarray, "N V"]) -> tuple[np.ndarray, np.ndarray]:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    # 1.349 quartile ranges make a standard deviation of a normal distribution. Where the quartiles meet (a
    # column that mostly stands still), the standard deviation takes its place.
    spread = (high - low) / 1.349
    return median, np.where(spread > 0, spread, values.std(axis=0))


# Values [N V] -> (center [V], scale [V]).
SCALINGS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "standard": lambda values: (values.mean(axis=0), values.std(axis=0)),  # population standard deviation
    "robust": _robust,  # median, quartile range
    "none": lambda values: (np.zeros(values.shape[1]), np.ones(values.shape[1])),
}


def fit_scaler(values: Float[np.ndarray, "N V"], scaling: str = "standard") -> Scaler:
    """Center and scale of each column by an entry of SCALINGS; a constant column gets scale 1.

    Raises:
      ValueError: no row, or a value that is not finite.
    """
    if len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"fit_scaler: expected rows of finite values, got {values.shape} with NaN, inf or no row"
        )
    # Rounding can give a constant column a tiny spread, so constancy is asked for by itself.
    constant = values.max(axis=0) == values.min(axis=0)
    center, scale = SCALINGS[scaling](values)
    if scaling == "none":
        return Scaler(center, scale)
    return Scaler(np.where(constant, values[0], center), np.where(constant, 1.0, scale))


def apply_scaler(scaler: Scaler, values: Float[np.ndarray, "*N V"]) -> Float[np.ndarray, "*N V"]:
    """(values - center) / scale, column by column."""
    return (values - scaler.center) / scaler.scale


def fit_categories(values: Shaped[np.ndarray, "N"]) -> list:
    """The distinct values, sorted, as plain ints or strings; what is missing is none.

    >>> fit_categories(np.array([3, 1, 3]))
    [1, 3]
    """
    return sorted(set(values[~pd.isna(values)].tolist()))


def encode_categories(values: Shaped[np.ndarray, "N"], categories: Sequence) -> Int32[np.ndarray, "N"]:
    """The position of each value in `categories`, from 1; 0 for an unknown value.

    >>> encode_categories(np.array([3, 1, 2]), [1, 3]).tolist()
    [2, 1, 0]
    """
    position = pd.Index(list(categories), dtype=object).get_indexer(pd.Index(values.tolist(), dtype=object))
    return (position + 1).astype(np.int32)


class Encoding(NamedTuple):
    """Scalers and categories that were fitted on train rows.

    Attributes:
      series: names of the series; one empty name for a panel without an id.
      scaler: scalers of real columns by column, an entry a series.
      categories: distinct values of categorical columns, by column.
      target_scale: `data.target_scale`; unless "none", the target's scaler is of return over volatility.
      scales: parameters of the target's scale; see `fit_scales`.
      staleness: `model.attention.staleness.mode`.
      usual_ages: days, by low-frequency column; empty under mode "none".
      regime_column: `model.attention.regime.column`.
      classical: parts of the classical forecast that the head corrects, by name; else empty.
    """

    series: tuple[str, ...]
    scaler: dict[str, Scaler]
    categories: dict[str, list]
    target_scale: str = "none"
    scales: tuple[dict[str, Any], ...] = ()
    staleness: str = "none"
    usual_ages: Mapping[str, float] = {}
    regime_column: str | None = None
    classical: Mapping[str, list] = {}


def real_columns(panel: Panel) -> tuple[str, ...]:
    """The panel's columns of numbers, in the order in which a model takes them."""
    return panel.observed + panel.known_real + panel.static_real


def categorical_columns(panel: Panel) -> tuple[str, ...]:
    """The panel's columns of categories, in the order in which a model takes them."""
    return panel.observed_categorical + panel.known_categorical + panel.static_categorical


def fit_encoding(
    panel: Panel,
    train_rows: Sequence[range],
    target_scale: str = "none",
    scalings: Mapping[str, str] | None = None,
    attention: AttentionConfig = PLAIN,
    volatility: str | None = None,
    scale_features: bool = False,
) -> Encoding:
    """Fits the scalers of every real column and the categories of every other on the train rows alone.

    Observed and known columns are scaled series by series; static ones, of which a series has one value, over
    all series.

    Args:
      train_rows: train rows of each series, counted over the whole panel.
      target_scale: see `fit_scales`.
      scalings: names in SCALINGS by column; "standard" for the columns left out.
      attention: settings that say whether ages and a regime's column are needed.
      volatility: `data.volatility`.
      scale_features: `data.scale_features`.

    Raises:
      UserError: a setting names a column that the panel lacks, or a column has no value in train rows; see
        `with_scale`, `fit_usual_ages` and `regime_values`.
    """
    scalings = scalings or {}
    column = volatility_column(panel, volatility)
    scales = fit_scales(panel, train_rows, target_scale, column, scale_features)
    parts = blocks(panel.frame, panel.id_column)
    series = tuple(name for name, _ in parts)
    panel = with_scale(panel, series, target_scale, scales)
    names = real_columns(panel)
    unknown = [name for name in scalings if name not in names]
    if unknown:
        raise UserError(
            f"data.scaling: found the column {unknown[0]!r}, expected one of {', '.join(names)}. Correct it."
        )
    rows = [rows for _, rows in parts]
    scaler = _series_scalers(panel, rows, train_rows, target_scale, scalings)
    scaler |= _static_scalers(panel.frame.iloc[[of.start for of in rows]], panel.static_real, scalings)
    train = np.concatenate([np.arange(rows.start, rows.stop) for rows in train_rows])
    seen = panel.frame[list(categorical_columns(panel))].iloc[train]
    categories = {name: fit_categories(values.to_numpy()) for name, values in seen.items()}
    regime_values(panel, attention.regime.column)
    return Encoding(
        series,
        scaler,
        categories,
        target_scale,
        scales,
        attention.staleness.mode,
        fit_usual_ages(panel, train_rows, attention.staleness),
        attention.regime.column,
    )


def _series_scalers(
    panel: Panel,
    rows: Sequence[range],
    train_rows: Sequence[range],
    target_scale: str,
    scalings: Mapping[str, str],
) -> dict[str, Scaler]:
    """The scalers of each observed and known real column, an entry a series."""
    fitted = [
        _fit_series(panel, of, train, target_scale, scalings)
        for of, train in zip(rows, train_rows, strict=True)
    ]
    return {
        name: Scaler(*_filled(np.concatenate([one[name] for one in fitted], axis=1), name))
        for name in fitted[0]
    }


def _static_scalers(
    first_rows: pd.DataFrame, names: Sequence[str], scalings: Mapping[str, str]
) -> dict[str, Scaler]:
    """The scaler of each static column over all series, repeated for each of them."""
    scalers = {}
    for name in names:
        values = first_rows[[name]].to_numpy(np.float64)
        center, scale = fit_scaler(values, scalings.get(name, "standard"))
        scalers[name] = Scaler(np.repeat(center, len(values)), np.repeat(scale, len(values)))
    return scalers


def _fit_series(
    panel: Panel, rows: range, train: range, target_scale: str, scalings: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Center and scale, [2 1], of each observed and known real column of one series."""
    frame = panel.frame.iloc[train.start : train.stop]
    columns = {name: frame[name].to_numpy(np.float64) for name in panel.observed + panel.known_real}
    if target_scale != "none":
        # By the volatility known before the row, as a forecast's is: the first row has none.
        burn_in = scale_of(target_scale).burn_in - (train.start - rows.start)
        skipped = max(1, min(burn_in, len(train) // 2))
        before = np.exp(columns[LOG_SCALE][skipped - 1 : len(train) - 1])
        # Where prices stood still, next to no volatility is left, and what follows is out of all proportion.
        known = before[before > 1.001 * MIN_VOLATILITY]  # the floor, but for rounding
        moving = before > (MIN_SHARE_OF_VOLATILITY * np.median(known) if len(known) else 0.0)
        columns[panel.target] = columns[panel.target][skipped:][moving] / before[moving]
    fitted = {}
    for name, values in columns.items():
        present = values[~np.isnan(values)][:, None]
        fitted[name] = np.full((2, 1), np.nan)
        if len(present):
            fitted[name] = np.array(fit_scaler(present, scalings.get(name, "standard")))
    return fitted


def _filled(fitted: Float64[np.ndarray, "2 S"], name: str) -> Float64[np.ndarray, "2 S"]:
    """A series without a value in its train rows gets the median series' scaler."""
    if np.isnan(fitted).all():
        raise UserError(
            f"column {name!r}: found no value in the train rows, expected some: its scaler is fitted on them."
            " Leave the column out, or let the train rows begin or end later."
        )
    return np.where(np.isnan(fitted), np.nanmedian(fitted, axis=1, keepdims=True), fitted)


def scalers_of(encoding: Encoding, names: Sequence[str]) -> dict[str, Scaler]:
    """The scalers of some series, an entry each; one that was not in training has the median series'.

    Args:
      names: the series.
    """
    place = {name: number for number, name in enumerate(encoding.series)}
    numbers = [place.get(name, len(place)) for name in names]

    def chosen(values: Float64[np.ndarray, " S"]) -> Float64[np.ndarray, " _"]:
        return np.append(values, np.median(values))[numbers]

    return {name: Scaler(*map(chosen, scaler)) for name, scaler in encoding.scaler.items()}


def with_target_scale(panel: Panel, encoding: Encoding) -> Panel:
    """The panel with the target's scale as a column; see `with_scale`."""
    return with_scale(panel, encoding.series, encoding.target_scale, encoding.scales)


def encoding_to_json(encoding: Encoding) -> dict[str, Any]:
    """The encoding as lists for JSON, which keep the columns' order even where a writer sorts keys."""
    return {
        "series": list(encoding.series),
        "scaler": [
            {"name": name, "center": scaler.center.tolist(), "scale": scaler.scale.tolist()}
            for name, scaler in encoding.scaler.items()
        ],
        "categories": [
            {"name": name, "values": list(values)} for name, values in encoding.categories.items()
        ],
        "target_scale": encoding.target_scale,
        "scales": list(encoding.scales),
        "staleness": encoding.staleness,
        "usual_ages": [{"name": name, "days": days} for name, days in encoding.usual_ages.items()],
        "regime_column": encoding.regime_column,
        "classical": dict(encoding.classical),
    }


def encoding_from_json(content: Mapping[str, Any]) -> Encoding:
    """Reads what `encoding_to_json` made.

    Raises:
      UserError: a part is missing or of another form.
    """
    try:
        series = tuple(content["series"])
        scaler = {
            item["name"]: Scaler(*(np.array(item[part], np.float64) for part in ("center", "scale")))
            for item in content["scaler"]
        }
        scales = tuple(content["scales"]) if content["target_scale"] != "none" else ()
        if any(array.shape != (len(series),) for pair in scaler.values() for array in pair):
            raise ValueError("not one scaler a series")
        return Encoding(
            series=series,
            scaler=scaler,
            categories={item["name"]: list(item["values"]) for item in content["categories"]},
            target_scale=content["target_scale"],
            scales=scales,
            # Keys that may be absent: then attention has no variant.
            staleness=content.get("staleness", "none"),
            usual_ages={item["name"]: float(item["days"]) for item in content.get("usual_ages", [])},
            regime_column=content.get("regime_column"),
            classical=dict(content.get("classical", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"encoding: found no readable scaler and categories ({error!r}), expected the lists 'scaler'"
            " (name, center, scale) and 'categories' (name, values). What was stored is damaged or of another"
            " version."
        ) from error
