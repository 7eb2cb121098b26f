"""The series as arrays, features first, and windows gathered from it by their start rows, on the device."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Int32

from tftjax.config import UserError
from tftjax.data import scaling
from tftjax.data.alignment import PERIODS
from tftjax.data.feature_sets import CALENDAR
from tftjax.data.panel import Panel, make_panel

Array = jax.Array | np.ndarray


FOLLOWING = {"daily": "B", "weekly": "W-FRI", "monthly": "BME"}  # expected dates of the next rows


class Series(NamedTuple):
    """A whole panel as arrays, features first: reals standardised, categories from 1 (0: unseen)."""

    observed: Float32[Array, "Vo N"]
    known_real: Float32[Array, "Vk N"]
    known_categorical: Int32[Array, "Vc N"]
    static_real: Float32[Array, "Vs"]
    static_categorical: Int32[Array, "Vsc"]
    target: Float32[Array, "N"]  # decimal returns, not standardised
    volatility: Float32[Array, "N"] | None = None  # that the target is divided by, as known at each row


class Inputs(NamedTuple):
    """A batch of windows, features first, batch last; T = E encoder rows + P target rows."""

    observed: Float32[Array, "Vo E B"]
    known_real: Float32[Array, "Vk T B"]
    known_categorical: Int32[Array, "Vc T B"]
    static_real: Float32[Array, "Vs B"]
    static_categorical: Int32[Array, "Vsc B"]
    volatility: Float32[Array, "B"] | None = None  # the window's, known at its last encoder row


class Encoding(NamedTuple):
    """What was fitted on train rows, by column name: (center, scale) of reals, values of categoricals."""

    scaler: dict[str, tuple[float, float]]
    categories: dict[str, list]
    target_scale: str = "none"  # as in the config: then the target's scaler is of return over volatility


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

    observed, volatility = take(series.observed, rows[:encoder_length]), None
    if series.volatility is not None:
        # The past too is seen in units of what is known at the window's end.
        volatility = take(series.volatility, rows[encoder_length - 1])
        observed = jnp.concatenate([observed[:1] / volatility[None, None, :], observed[1:]])
    inputs = Inputs(
        observed=observed,
        known_real=take(series.known_real, rows),
        known_categorical=take(series.known_categorical, rows),
        static_real=jnp.broadcast_to(series.static_real[:, None], (series.static_real.shape[0], batch)),
        static_categorical=jnp.broadcast_to(
            series.static_categorical[:, None], (series.static_categorical.shape[0], batch)
        ),
        volatility=volatility,
    )
    return inputs, take(series.target, rows[encoder_length:].T)


def _reals(panel: Panel) -> tuple[str, ...]:
    return panel.observed + panel.known_real + panel.static_real


def _categoricals(panel: Panel) -> tuple[str, ...]:
    return panel.known_categorical + panel.static_categorical


def fit_encoding(
    panel: Panel,
    train_rows: range,
    target_scale: str = "none",
    scalings: Mapping[str, str] | None = None,
) -> Encoding:
    """Fit the scaler of every real column and the categories of every other on the train rows alone.

    Args: target_scale: see `scaling.target_volatility`; scalings: by column, a name in SCALINGS other than
        "standard".
    Raises: UserError if one of them names a column that is not there.
    """
    scalings = scalings or {}
    names = _reals(panel)
    unknown = [name for name in scalings if name not in names]
    if unknown:
        raise UserError(
            f"data.scaling: found the column {unknown[0]!r}, expected one of {', '.join(names)}. Correct it."
        )
    frame = panel.frame.iloc[train_rows.start : train_rows.stop]
    columns = {name: frame[name].to_numpy(np.float64) for name in names}
    volatility = _volatility(panel, target_scale)
    if volatility is not None:
        # By the volatility known before the row, as a forecast's is: the first row has none.
        skipped = 1
        if target_scale == "ewma":
            skipped = max(1, min(scaling.EWMA_BURN_IN - train_rows.start, len(train_rows) // 2))
        before = volatility[train_rows.start + skipped - 1 : train_rows.stop - 1]
        columns[panel.target] = columns[panel.target][skipped:] / before
    scaler = {}
    for name, values in columns.items():
        center, scale = scaling.fit(values[:, None], scalings.get(name, "standard"))
        scaler[name] = (float(center[0]), float(scale[0]))
    return Encoding(
        scaler=scaler,
        categories={name: scaling.fit_categories(frame[name].to_numpy()) for name in _categoricals(panel)},
        target_scale=target_scale,
    )


def _volatility(panel: Panel, target_scale: str) -> Float64[np.ndarray, "N"] | None:
    columns = {name: panel.frame[name].to_numpy(np.float64) for name in panel.observed}
    return scaling.target_volatility(target_scale, panel.target, columns)


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
        "target_scale": encoding.target_scale,
    }


def encoding_from_json(content: Mapping[str, Any]) -> Encoding:
    """The encoding that `encoding_to_json` wrote; UserError if a part is missing."""
    try:
        return Encoding(
            scaler={
                item["name"]: (float(item["center"]), float(item["scale"])) for item in content["scaler"]
            },
            categories={item["name"]: list(item["values"]) for item in content["categories"]},
            target_scale=content.get("target_scale", "none"),
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

    observed, volatility = real(panel.observed), _volatility(panel, encoding.target_scale)
    if volatility is not None:
        # Divided by the scaler here, by the window's volatility in `gather`. The center stays away: it is no
        # constant once the volatility is undone, and a fiftieth of the scale.
        target = panel.frame[panel.target].to_numpy(np.float64)
        observed[0] = target / encoding.scaler[panel.target][1]
        volatility = volatility.astype(np.float32)
    return Series(
        observed=observed,
        known_real=real(panel.known_real),
        known_categorical=categorical(panel.known_categorical),
        static_real=real(panel.static_real)[:, 0],
        static_categorical=categorical(panel.static_categorical)[:, 0],
        target=panel.frame[panel.target].to_numpy(np.float32),
        volatility=volatility,
    )


def extend_panel(panel: Panel, steps: int) -> Panel:
    """The panel with `steps` future rows (weekdays, Fridays or last weekdays of months) after its last date.

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
    following = FOLLOWING[panel.about.get("frequency", "daily")]
    future = pd.date_range(last + pd.Timedelta(days=1), periods=steps + 1, freq=following, name="date")
    # The rest of the last row's own period is no step: a month's last trading day may be the 30th of 31.
    period = PERIODS.get(panel.about.get("frequency"), "D")
    future = future[future.to_period(period) > last.to_period(period)][:steps].as_unit(panel.frame.index.unit)
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
        about=panel.about,
        messages=(*panel.messages, f"appended {steps} future rows after {last.date()}"),
    )
