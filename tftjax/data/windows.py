"""Series as arrays, features first, and windows gathered from them by their start rows, on the device."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int32

from tftjax.data.conditions import ages_of, regime_values
from tftjax.data.encoding import (
    Encoding,
    Scaler,
    apply_scaler,
    categorical_columns,
    encode_categories,
    real_columns,
    scalers_of,
    with_target_scale,
)
from tftjax.data.feature_sets import RELATIVE_INDEX, lag_of
from tftjax.data.panel import Panel, blocks
from tftjax.data.scales.log_scale import fit_student_t
from tftjax.data.scales.target import LOG_SCALE
from tftjax.errors import UserError

Array = jax.Array | np.ndarray

DAYS_A_YEAR = 365.25


class Classical(NamedTuple):
    """A classical forecast of the scaled target, from train rows: the same for every window.

    Attributes:
      shocks: quantiles of each step; times the scale known at a window's end they are filtered historical
        simulation.
      density: location, logarithm of the scale and degrees of freedom of the Student t of each step.
    """

    shocks: Float32[Array, "Q P"]
    density: Float32[Array, "3 P"]


class Series(NamedTuple):
    """A whole panel of S series as arrays, features first: reals standardised, categories from 1 (0: unseen).

    The rows of the series follow each other; a window lies within one.
    """

    observed: Float32[Array, "Vo N"]  # 0 where a value is missing
    known_real: Float32[Array, "Vk N"]
    known_categorical: Int32[Array, "Vc N"]
    static_real: Float32[Array, "Vs S"]
    static_categorical: Int32[Array, "Vsc S"]
    target: Float32[Array, "N"]  # decimal returns, not standardised
    row_series: Int32[Array, "N"]  # number of each row's series
    center: Float32[Array, "S"]  # center of the target's scaler
    scale: Float32[Array, "S"]  # scale of the target's scaler
    volatility: Float32[Array, "N"] | None = None  # divisor of the target, known at each row
    present: Bool[Array, "V N"] | None = None  # of observed reals, then categories; None: no value is missing
    age: Float32[Array, "A N"] | None = None  # see data/conditions.py; None: no variant asks for it
    regime: Float32[Array, "N"] | None = None  # column that tells regimes; None: no regimes by a column
    classical: Classical | None = None  # None: the head corrects no forecast
    weight: Float32[Array, "N"] | None = None  # of a window in training, by its first target row; None: 1
    observed_categorical: Int32[Array, "Voc N"] | None = None  # None: there is none
    position: Int32[Array, "N"] | None = None  # rows of the series before each; None: all windows are whole
    relative: Bool[Array, "Vk"] | None = None  # which known real is the relative index; None: none is
    known_present: Bool[Array, "Vk N"] | None = None  # None: known numbers lack no value
    known_until: Int32[Array, "Vk"] | None = None  # steps ahead at which each is known; None: all are


class Inputs(NamedTuple):
    """A batch of windows, features first, batch last; T = E encoder rows + P target rows.

    A forecast is `center + scale * output`: they undo the target's scaler, and its volatility.
    """

    observed: Float32[Array, "Vo E B"]
    known_real: Float32[Array, "Vk T B"]
    known_categorical: Int32[Array, "Vc T B"]
    static_real: Float32[Array, "Vs B"]
    static_categorical: Int32[Array, "Vsc B"]
    center: Float32[Array, "B"]
    scale: Float32[Array, "B"]
    present: Bool[Array, "V E B"] | None = None  # of observed reals, then categories; None: none is missing
    age: Float32[Array, "A E B"] | None = None  # a step's, A = 1, days; or each observed variable's
    regime: Float32[Array, "B"] | None = None  # the regime's column at the last encoder row
    classical: Classical | None = None
    weight: Float32[Array, "B"] | None = None  # None: 1
    observed_categorical: Int32[Array, "Voc E B"] | None = None
    seen: Bool[Array, "E B"] | None = None  # steps that are rows of the series; None: all
    known_present: Bool[Array, "Vk T B"] | None = None


def gather(
    series: Series, starts: Int32[Array, "B"], encoder_length: int, prediction_length: int
) -> tuple[Inputs, Float32[Array, "B P"]]:
    """The windows that start at rows `starts`, and their targets in decimals.

    A start must be one of `window_starts`: indices are not checked. Where it lies before the series' first
    row, that row stands in the steps before it, which are not `seen`.
    """
    rows = starts[None, :] + jnp.arange(encoder_length + prediction_length, dtype=jnp.int32)[:, None]  # T B

    def take(array, at):
        return jnp.asarray(array).at[..., at].get(mode="promise_in_bounds")

    seen = None
    if series.position is not None:
        begun = take(series.position, rows[encoder_length - 1])
        rows = jnp.maximum(rows, (rows[encoder_length - 1] - begun)[None])
        seen = begun[None] >= jnp.arange(encoder_length - 1, -1, -1)[:, None]
    past, number = rows[:encoder_length], take(series.row_series, starts if seen is None else rows[0])
    observed = take(series.observed, past)
    center, scale = take(series.center, number), take(series.scale, number)
    if series.volatility is not None:
        # The past too is seen in units of the volatility known at the window's end.
        volatility = take(series.volatility, past[-1])
        observed = jnp.concatenate([observed[:1] / volatility[None, None, :], observed[1:]])
        center, scale = volatility * center, volatility * scale
    known_real = take(series.known_real, rows)
    if series.relative is not None:
        steps = jnp.arange(1 - encoder_length, prediction_length + 1, dtype=jnp.float32) / encoder_length
        known_real = jnp.where(series.relative[:, None, None], steps[None, :, None], known_real)
    known_present = None if series.known_present is None else take(series.known_present, rows)
    if series.known_until is not None:
        ahead = jnp.arange(1 - encoder_length, prediction_length + 1)
        known_present &= ahead[None, :, None] <= series.known_until[:, None, None]
    inputs = Inputs(
        observed=observed,
        known_real=known_real,
        known_categorical=take(series.known_categorical, rows),
        static_real=take(series.static_real, number),
        static_categorical=take(series.static_categorical, number),
        center=center,
        scale=scale,
        present=None if series.present is None else take(series.present, past),
        age=None if series.age is None else take(series.age, past),
        regime=None if series.regime is None else take(series.regime, past[-1]),
        classical=jax.tree.map(jnp.asarray, series.classical),
        weight=None if series.weight is None else take(series.weight, rows[encoder_length]),
        observed_categorical=None
        if series.observed_categorical is None
        else take(series.observed_categorical, past),
        seen=seen,
        known_present=known_present,
    )
    return inputs, take(series.target, rows[encoder_length:].T)


def rows_are_shared(series: Series) -> bool:
    """Whether a row is the same in all windows that hold it."""
    return series.volatility is None and series.relative is None and series.known_until is None


NOT_BY_ROW = (  # of `Series`
    "static_real",
    "static_categorical",
    "center",
    "scale",
    "classical",
    "relative",
    "known_until",
)


def windows_alone(
    series: Series, starts: Int32[np.ndarray, " W"], encoder_length: int, prediction_length: int
) -> tuple[Series, Int32[np.ndarray, " W"]]:
    """The rows of some windows, one window after another, and where each then starts; on the host.

    A program for them is the same however many rows there were: it need not be compiled anew each day.
    """
    length = encoder_length + prediction_length
    rows = starts[:, None] + np.arange(length)
    if series.position is not None:  # some begin before their series
        last = starts[:, None] + encoder_length - 1
        rows = np.maximum(rows, last - series.position[last])
    rows = rows.ravel()
    kept = {
        name: leaf[..., rows]
        for name, leaf in series._asdict().items()
        if leaf is not None and name not in NOT_BY_ROW
    }
    return series._replace(**kept), np.arange(0, len(rows), length, dtype=np.int32)


def fit_classical(
    series: Series, starts: Int32[np.ndarray, " W"], lengths: tuple[int, int], quantiles: Sequence[float]
) -> Classical:
    """The classical forecast that fits the windows of all series; on the host.

    Args:
      starts: first rows of the windows.
      lengths: rows of the encoder, and steps.
      quantiles: levels of the shocks.
    """
    encoder_length, steps = lengths
    last = starts + encoder_length - 1
    number = series.row_series[last]
    volatility = np.float32(1) if series.volatility is None else series.volatility[last]
    center, scale = series.center[number] * volatility, series.scale[number] * volatility
    targets = series.target[last[:, None] + 1 + np.arange(steps)]
    scaled = ((targets - center[:, None]) / scale[:, None]).astype(np.float64)
    density = [fit_student_t(values) for values in scaled.T]
    shocks = np.quantile(scaled, quantiles, axis=0)
    return Classical(shocks.astype(np.float32), np.array(density, np.float32).T)


def recency_weights(
    dates: pd.DatetimeIndex, first_targets: Int32[np.ndarray, " W"], half_life: float
) -> Float32[np.ndarray, " N"]:
    """Weights of rows that halve with every half-life of age, with mean 1 over the train windows.

    Args:
      first_targets: the first target row of each train window; the last date among them has age 0.
      half_life: years.
    """
    number = dates.to_numpy().astype("datetime64[D]").astype(np.float64)
    age = (number[first_targets].max() - number) / DAYS_A_YEAR
    weights = 0.5 ** (np.maximum(age, 0) / half_life)
    return (weights / weights[first_targets].mean()).astype(np.float32)


def window_weights(
    panel: Panel,
    first_targets: Int32[np.ndarray, " W"],
    steps: int,
    factor: Float32[np.ndarray, " N"] | None = None,
) -> Float32[np.ndarray, " N"]:
    """Weights of the train windows by the panel's column, at their first target rows; 1 in other rows.

    A window has the mean weight of its target rows; the mean over the train windows is 1.

    Args:
      first_targets: the first target row of each train window.
      steps: target rows of a window.
      factor: other weights, which multiply.

    Raises:
      UserError: no train window has a weight above 0.
    """
    column = panel.frame[panel.weight].to_numpy(np.float64)
    found = column[first_targets[:, None] + np.arange(steps)].mean(axis=1)
    found = found if factor is None else found * factor[first_targets]
    if not found.mean() > 0:
        raise UserError(
            f"{panel.about.get('dataset', 'panel')}, column {panel.weight!r}: found weights of 0 alone in the"
            " target rows of the train windows, expected one above 0. Correct them, or move the split."
        )
    weights = np.ones(len(column), np.float32)
    weights[first_targets] = found / found.mean()
    return weights


def make_series(panel: Panel, encoding: Encoding, *, short_windows: bool = False) -> Series:
    """The panel encoded, as numpy arrays (float32, int32), rows in the panel's order.

    A series that was not in training has code 0 and the scalers of the median series.

    Args:
      short_windows: whether windows may begin before a series' first row.

    Raises:
      UserError: the panel's columns are not those, in that order, that the encoding was fitted on (a model's
        weights belong to positions), or see `with_scale`.
    """
    parts = blocks(panel.frame, panel.id_column)
    panel = with_target_scale(panel, encoding)
    fitted = (*encoding.scaler, *encoding.categories)
    columns = real_columns(panel) + categorical_columns(panel)
    if fitted != columns:
        raise UserError(
            f"panel: found the columns {', '.join(columns)}, expected those that the encoding was fitted"
            f" on, in that order: {', '.join(fitted)}. Use the data and the feature set of the training run."
        )
    scalers = scalers_of(encoding, [name for name, _ in parts])
    lengths = [len(rows) for _, rows in parts]
    observed = _scaled(panel.frame, panel.observed, scalers, lengths)
    target = panel.frame[panel.target].to_numpy(np.float64)
    target_scaler, volatility = scalers[panel.target], None
    if encoding.target_scale != "none":
        # Divided by the scaler here, by the window's volatility in `gather`. The center stays away: it is no
        # constant once the volatility is undone, and a fiftieth of the scale.
        observed[0] = target / np.repeat(target_scaler.scale, lengths)
        volatility = np.exp(panel.frame[LOG_SCALE].to_numpy(np.float64)).astype(np.float32)
    missing = np.isnan(observed)
    absent = np.concatenate([missing, panel.frame[list(panel.observed_categorical)].isna().to_numpy(bool).T])
    in_past = absent[1:] & ~absent[:1]  # rows of the future have no target, and lie in no window's past
    known_real = _scaled(panel.frame, panel.known_real, scalers, lengths)
    unknown = np.isnan(known_real)
    static = panel.frame.iloc[[rows.start for _, rows in parts]]
    return Series(
        observed=np.where(missing, np.float32(0.0), observed),
        known_real=np.where(unknown, np.float32(0.0), known_real),
        known_categorical=_encoded(panel.frame, panel.known_categorical, encoding),
        static_real=_scaled(static, panel.static_real, scalers, [1] * len(parts)),
        static_categorical=_encoded(static, panel.static_categorical, encoding),
        target=target.astype(np.float32),
        row_series=np.repeat(np.arange(len(parts), dtype=np.int32), lengths),
        center=target_scaler.center.astype(np.float32),
        scale=target_scaler.scale.astype(np.float32),
        volatility=volatility,
        present=~absent if in_past.any() else None,
        age=ages_of(panel, encoding.staleness, encoding.usual_ages),
        regime=regime_values(panel, encoding.regime_column),
        classical=Classical(*(np.array(part, np.float32) for part in encoding.classical.values()))
        if encoding.classical
        else None,
        position=np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
        if short_windows
        else None,
        known_present=~unknown if panel.masks_known and panel.known_real else None,
        **_of_some(panel, encoding),
    )


def _of_some(panel: Panel, encoding: Encoding) -> dict[str, np.ndarray]:
    """The fields of `Series` that only some columns need."""
    arrays, made = {}, panel.about.get("made", ())
    if panel.observed_categorical:
        arrays["observed_categorical"] = _encoded(panel.frame, panel.observed_categorical, encoding)
    if RELATIVE_INDEX in made:
        arrays["relative"] = np.array([name == RELATIVE_INDEX for name in panel.known_real])
    lags = [lag_of(name) if name in made else None for name in panel.known_real]
    if panel.masks_known and any(lags):
        arrays["known_until"] = np.array([lag or np.iinfo(np.int32).max for lag in lags], np.int32)
    return arrays


def _scaled(
    frame: pd.DataFrame, names: Sequence[str], scalers: Mapping[str, Scaler], lengths: list[int]
) -> Float32[np.ndarray, "V N"]:
    """Columns in units of their scalers; `lengths` rows of each series follow each other."""
    scaled = np.empty((len(names), len(frame)), np.float32)
    for row, name in enumerate(names):
        scaler = Scaler(*(np.repeat(part, lengths) for part in scalers[name]))
        scaled[row] = apply_scaler(scaler, frame[name].to_numpy(np.float64))
    return scaled


def _encoded(frame: pd.DataFrame, names: Sequence[str], encoding: Encoding) -> Int32[np.ndarray, "V N"]:
    encoded = [encode_categories(frame[name].to_numpy(), encoding.categories[name]) for name in names]
    return np.array(encoded, dtype=np.int32).reshape(len(names), len(frame))
