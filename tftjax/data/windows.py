"""The series as arrays, features first, and windows gathered from it by their start rows, on the device."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float32, Int32

from tftjax.config import UserError
from tftjax.data import scaling
from tftjax.data.feature_sets import CALENDAR
from tftjax.data.panel import Panel, make_panel

Array = jax.Array | np.ndarray


class Series(NamedTuple):
    """A whole panel as arrays, features first: reals standardised, categories from 1 (0: unseen)."""

    observed: Float32[Array, "Vo N"]
    known_real: Float32[Array, "Vk N"]
    known_categorical: Int32[Array, "Vc N"]
    static_real: Float32[Array, "Vs"]
    static_categorical: Int32[Array, "Vsc"]
    target: Float32[Array, "N"]  # decimal returns, not standardised


class Inputs(NamedTuple):
    """A batch of windows, features first, batch last; T = E encoder rows + P target rows."""

    observed: Float32[Array, "Vo E B"]
    known_real: Float32[Array, "Vk T B"]
    known_categorical: Int32[Array, "Vc T B"]
    static_real: Float32[Array, "Vs B"]
    static_categorical: Int32[Array, "Vsc B"]


class Encoding(NamedTuple):
    """What was fitted on train rows, by column name: (center, scale) of reals, values of categoricals."""

    scaler: dict[str, tuple[float, float]]
    categories: dict[str, list]


def gather(
    series: Series, starts: Int32[Array, "B"], encoder_length: int, prediction_length: int
) -> tuple[Inputs, Float32[Array, "B P"]]:
    """The windows that start at rows `starts`, and their targets in decimals.

    A start must lie in 0 .. N - E - P, as those of `window_starts` do: indices are not checked.
    """
    batch = starts.shape[0]
    rows = starts[None, :] + jnp.arange(encoder_length + prediction_length, dtype=jnp.int32)[:, None]  # T B

    def take(array, at):
        return jnp.asarray(array).at[..., at].get(mode="promise_in_bounds")

    inputs = Inputs(
        observed=take(series.observed, rows[:encoder_length]),
        known_real=take(series.known_real, rows),
        known_categorical=take(series.known_categorical, rows),
        static_real=jnp.broadcast_to(series.static_real[:, None], (series.static_real.shape[0], batch)),
        static_categorical=jnp.broadcast_to(
            series.static_categorical[:, None], (series.static_categorical.shape[0], batch)
        ),
    )
    return inputs, take(series.target, rows[encoder_length:].T)


def _reals(panel: Panel) -> tuple[str, ...]:
    return panel.observed + panel.known_real + panel.static_real


def _categoricals(panel: Panel) -> tuple[str, ...]:
    return panel.known_categorical + panel.static_categorical


def fit_encoding(panel: Panel, train_rows: range) -> Encoding:
    """Fit the scaler of every real column and the categories of every other on the train rows alone."""
    frame = panel.frame.iloc[train_rows.start : train_rows.stop]
    names = _reals(panel)
    scaler = scaling.fit(frame[list(names)].to_numpy(np.float64))
    pairs = zip(scaler.center.tolist(), scaler.scale.tolist(), strict=True)
    return Encoding(
        scaler=dict(zip(names, pairs, strict=True)),
        categories={name: scaling.fit_categories(frame[name].to_numpy()) for name in _categoricals(panel)},
    )


def encoding_to_json(encoding: Encoding) -> dict[str, Any]:
    """The encoding as JSON-able lists: they keep the columns' order even where a writer sorts keys."""
    return {
        "scaler": [
            {"name": name, "center": center, "scale": scale}
            for name, (center, scale) in encoding.scaler.items()
        ],
        "categories": [
            {"name": name, "values": list(values)} for name, values in encoding.categories.items()
        ],
    }


def encoding_from_json(content: Mapping[str, Any]) -> Encoding:
    """The encoding that `encoding_to_json` wrote; UserError if a part is missing."""
    try:
        return Encoding(
            scaler={
                item["name"]: (float(item["center"]), float(item["scale"])) for item in content["scaler"]
            },
            categories={item["name"]: list(item["values"]) for item in content["categories"]},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"encoding: found no readable scaler and categories ({error!r}), expected the lists 'scaler'"
            " (name, center, scale) and 'categories' (name, values). What was stored is damaged or of another"
            " version."
        ) from error


def make_series(panel: Panel, encoding: Encoding) -> Series:
    """The panel encoded, as numpy arrays (float32, int32), rows in the panel's order.

    Raises: UserError if the panel's columns are not those, in that order, that the encoding was fitted on: a
        model's weights belong to positions.
    """
    fitted = (*encoding.scaler, *encoding.categories)
    columns = _reals(panel) + _categoricals(panel)
    if fitted != columns:
        raise UserError(
            f"panel: found the columns {', '.join(columns)}, expected those that the encoding was fitted"
            f" on, in that order: {', '.join(fitted)}. Use the data and the feature set of the training run."
        )

    def real(names):
        center, scale = np.array([encoding.scaler[name] for name in names]).reshape(len(names), 2).T
        values = panel.frame[list(names)].to_numpy(np.float64)
        return np.ascontiguousarray(scaling.apply(scaling.Scaler(center, scale), values).T.astype(np.float32))

    def categorical(names):
        encoded = [scaling.encode(panel.frame[name].to_numpy(), encoding.categories[name]) for name in names]
        return np.array(encoded, dtype=np.int32).reshape(len(names), len(panel.frame))

    return Series(
        observed=real(panel.observed),
        known_real=real(panel.known_real),
        known_categorical=categorical(panel.known_categorical),
        static_real=real(panel.static_real)[:, 0],
        static_categorical=categorical(panel.static_categorical)[:, 0],
        target=panel.frame[panel.target].to_numpy(np.float32),
    )


def extend_panel(panel: Panel, steps: int) -> Panel:
    """The panel with `steps` future rows on the weekdays after its last date, to forecast past the end.

    Calendar and static columns are filled, observed ones (the target too) are NaN. Public holidays are not
    looked up. Raises: UserError if a known column cannot be derived from the date.
    """
    unknown = [name for name in panel.known_real + panel.known_categorical if name not in CALENDAR]
    if unknown:
        raise UserError(
            f"panel: the future values of the known columns {', '.join(unknown)} are needed to forecast"
            f" past the last row, and only {', '.join(CALENDAR)} follow from the date."
            " Append rows with them to the data."
        )
    last = panel.frame.index[-1]
    future = pd.bdate_range(last + pd.Timedelta(days=1), periods=steps, name="date").as_unit(
        panel.frame.index.unit
    )
    rows = pd.DataFrame({name: np.full(steps, np.nan) for name in panel.observed}, index=future)
    for name in panel.known_real + panel.known_categorical:
        rows[name] = CALENDAR[name](future)
    for name in panel.static_real + panel.static_categorical:
        rows[name] = panel.frame[name].iloc[0]
    frame = pd.concat([panel.frame, rows])
    return make_panel(
        frame,
        target=panel.target,
        observed=panel.observed,
        known_real=panel.known_real,
        known_categorical=panel.known_categorical,
        static_real=panel.static_real,
        static_categorical=panel.static_categorical,
        staleness=panel.staleness.reindex(frame.index),
        messages=(*panel.messages, f"appended {steps} future weekday rows after {last.date()}"),
    )
