"""The forecast of a run as one function of raw rows, in jax: what `data` does in numpy, and the network."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Float, Int

from tftjax.data.encoding import Encoding, Scaler, categorical_columns
from tftjax.data.feature_sets import OF_THE_DATE, RELATIVE_INDEX, lag_of, source_of
from tftjax.data.panel import Panel
from tftjax.data.prepared import cardinalities
from tftjax.data.scales.target import LOG_SCALE, rows_needed
from tftjax.data.windows import Classical, Series, gather
from tftjax.model.forecast import forecast_batch
from tftjax.model.parameters import build_model
from tftjax.predict.export import scales
from tftjax.storage.runs import Run

PLATFORMS = ("cpu", "cuda")
CHANGES = {  # transforms of the target that need the row before
    "return": lambda now, before: now / before - 1.0,
    "log_return": lambda now, before: jnp.log(now) - jnp.log(before),
    "difference": lambda now, before: now - before,
}


def raw_columns(panel: Panel) -> tuple[str, ...]:
    """The columns of numbers that the program takes of each row, but the features of the calendar."""
    real = panel.observed + panel.known_real + panel.static_real
    made = {*lags(panel), RELATIVE_INDEX} & {*panel.about.get("made", ())}
    return tuple(name for name in real if name not in made)


def lags(panel: Panel) -> dict[str, int]:
    """The known columns that are observed ones of rows before, and how many rows."""
    made = panel.about.get("made", OF_THE_DATE)
    return {name: lag_of(name) for name in panel.known_real if name in made and lag_of(name)}


def rows_before(run: Run) -> int:
    """Number of a series' first rows that are only there to make columns of the others."""
    panel = run.data.whole
    return max((0, *lags(panel).values())) + (panel.about.get("target_transform", "none") in CHANGES)


def row_counts(run: Run) -> tuple[int, int]:
    """The number of past rows that the program takes, and of those that a forecast needs."""
    encoding, encoder_length = run.data.encoding, run.config.model.encoder_length
    fewest = run.config.model.fewest_rows
    least = max(fewest, rows_needed(encoding.target_scale, encoding.scales, fewest < encoder_length))
    most = encoder_length + scales.memory(encoding)
    return max(most, least) + rows_before(run), least


def export_program(seeds: Sequence[Run]) -> bytes:
    """The forecast of a run, or the mean of several seeds', as a serialised program.

    Its arguments, for B series and R rows, those of the future included:
      rows: [B R V] float64, raw columns and the calendar's features; NaN before a series' first row, and of
        observed columns in the future.
      codes: [B T C] int32, observed, known and static categories of the encoder's rows and the future's; 0:
        unknown.
      number: [B] int32, that of each series among those in training; their count if it was not.
    It returns quantiles [B P Q] float64, ascending, in the unit of the run's data.
    """
    first = seeds[0]
    panel, model_config, encoding = first.data.whole, first.config.model, first.data.encoding
    percent = 100.0 if first.config.data.return_unit == "percent" else 1.0

    def forecast(rows, codes, number):
        quantiles = jnp.stack([_quantiles(run, rows, codes, number) for run in seeds]).mean(axis=0)
        return percent * jnp.sort(quantiles, axis=-1)

    num_rows = row_counts(first)[0] + model_config.prediction_length
    num_reals = len(_names(panel, encoding))
    num_codes = len(categorical_columns(panel))
    length = model_config.encoder_length + model_config.prediction_length
    with jax.enable_x64(True):
        (batch,) = export.symbolic_shape("batch")
        shapes = (
            jax.ShapeDtypeStruct((batch, num_rows, num_reals), np.float64),
            jax.ShapeDtypeStruct((batch, length, num_codes), np.int32),
            jax.ShapeDtypeStruct((batch,), np.int32),
        )
        return bytes(export.export(jax.jit(forecast), platforms=PLATFORMS)(*shapes).serialize())


def may_miss(run: Run) -> bool:
    """Whether observed columns may lack values."""
    return run.data.series.present is not None or run.data.whole.about.get("missing") == "mask"


def _quantiles(
    run: Run, rows: Float[Array, "B R V"], codes: Int[Array, "B T C"], number: Int[Array, " B"]
) -> Float[Array, "B P Q"]:
    """Quantiles of the return, as decimals."""
    panel, encoding, lengths = run.data.whole, run.data.encoding, run.config.model
    columns = _columns(panel, encoding, rows)
    names = list(columns)
    returns = _since_lags(columns[panel.target], panel)
    source = scales.Source(
        returns,
        {name: jnp.where(jnp.isnan(returns), jnp.nan, columns[name]) for name in panel.observed},
        {name: columns[name] for name in scales.CALENDAR if name in names},
        number,
    )
    columns |= scales.with_scale(encoding, source)
    length = lengths.encoder_length + lengths.prediction_length
    columns = {name: values[:, -length:] for name, values in columns.items()}
    series = _series(run, columns, codes, number)
    if lengths.fewest_rows < lengths.encoder_length:
        position = jnp.cumsum(~jnp.isnan(returns[:, -length:]), axis=1) - 1
        series = series._replace(position=jnp.maximum(position, 0).reshape(-1).astype(jnp.int32))
    model = build_model(run.config, *cardinalities(panel, encoding), run.functions)
    with jax.enable_x64(False):  # the network computes as it does in training
        starts = length * jnp.arange(rows.shape[0], dtype=jnp.int32)
        inputs, _ = gather(series, starts, lengths.encoder_length, lengths.prediction_length)
        parameters = jax.tree.map(jnp.asarray, run.parameters)
        quantiles, _ = forecast_batch(model, parameters, inputs)
    return quantiles.astype(jnp.float64)


def _names(panel: Panel, encoding: Encoding) -> tuple[str, ...]:
    """What the program takes of each row, in order."""
    ages = (f"{name} age" for name in encoding.usual_ages)
    return (*raw_columns(panel), *ages, *(scales.CALENDAR if scales.needs_calendar(encoding) else ()))


def _columns(panel: Panel, encoding: Encoding, rows: Float[Array, "B R V"]) -> dict[str, Float[Array, "B R"]]:
    """The columns by name, returns as decimals, transforms of the target and lags made."""
    names = _names(panel, encoding)
    columns = {name: rows[:, :, place] for place, name in enumerate(names)}
    if panel.about.get("return_unit") == "percent":
        units = panel.about["units"]
        columns |= {name: columns[name] / 100.0 for name in names if units.get(name) == "return"}
    levels = columns[panel.target]
    transform = panel.about.get("target_transform", "none")
    if transform in CHANGES:
        columns[panel.target] = CHANGES[transform](levels, scales.shifted(levels, 1))
    if RELATIVE_INDEX in panel.about.get("made", ()):
        columns[RELATIVE_INDEX] = jnp.zeros_like(levels)
    return columns | {
        name: scales.shifted(columns[source_of(name, panel.target)], lag) for name, lag in lags(panel).items()
    }


def _since_lags(target: Float[Array, "B R"], panel: Panel) -> Float[Array, "B R"]:
    """The target from the first row that has all lags, with which a panel begins."""
    longest = max((0, *lags(panel).values()))
    return jnp.where(jnp.isnan(scales.shifted(target, longest)), jnp.nan, target)


def _series(
    run: Run, columns: dict[str, Float[Array, "B T"]], codes: Int[Array, "B T C"], number: Int[Array, " B"]
) -> Series:
    """`data.windows.make_series` of one window a series."""
    panel, encoding = run.data.panel, run.data.encoding
    # The median series' follows them, for one that was not in training.
    scalers = {
        name: Scaler(*(jnp.asarray(np.append(part, np.median(part)))[number] for part in scaler))
        for name, scaler in encoding.scaler.items()
    }

    def flat(values):  # B T -> one window after another
        return values.reshape(-1)

    def scaled(name):
        center, scale = scalers[name]
        return (columns[name] - center[:, None]) / scale[:, None]

    observed = {name: scaled(name) for name in panel.observed}
    volatility, target = None, columns[panel.target]
    place = jnp.arange(target.shape[0], dtype=jnp.int32)
    if encoding.target_scale != "none":
        observed[panel.target] = target / scalers[panel.target].scale[:, None]
        volatility = flat(jnp.exp(columns[LOG_SCALE])).astype(jnp.float32)
    of_past = _stacked([flat(values) for values in observed.values()], flat(target))
    missing = jnp.isnan(of_past)
    known_real = _stacked([flat(scaled(name)) for name in panel.known_real], flat(target))
    unknown = jnp.isnan(known_real)
    num_seen, num_known = len(panel.observed_categorical), len(panel.known_categorical)
    by_row = codes.transpose(2, 0, 1).reshape(-1, target.size)
    # A category is there or unknown: the loader takes no row without one.
    absent = jnp.concatenate([missing, jnp.zeros((num_seen, target.size), bool)])
    return Series(
        observed=jnp.where(missing, jnp.float32(0.0), of_past),
        known_real=jnp.where(unknown, jnp.float32(0.0), known_real),
        known_categorical=by_row[num_seen : num_seen + num_known],
        static_real=_stacked([scaled(name)[:, -1] for name in panel.static_real], target[:, -1]),
        static_categorical=codes[:, -1, num_seen + num_known :].T,
        target=flat(target).astype(jnp.float32),
        row_series=flat(jnp.broadcast_to(place[:, None], target.shape)),
        center=scalers[panel.target].center.astype(jnp.float32),
        scale=scalers[panel.target].scale.astype(jnp.float32),
        volatility=volatility,
        present=~absent if may_miss(run) else None,
        age=_ages(run, columns),
        regime=flat(columns[regime]).astype(jnp.float32) if (regime := encoding.regime_column) else None,
        classical=Classical(*(np.array(part, np.float32) for part in encoding.classical.values()))
        if encoding.classical
        else None,
        relative=run.data.series.relative,
        known_present=~unknown if panel.masks_known and panel.known_real else None,
        known_until=run.data.series.known_until,
        observed_categorical=by_row[:num_seen] if num_seen else None,
    )


def _stacked(columns: list[Float[Array, " N"]], like: Float[Array, " N"]) -> Float[Array, "V N"]:
    """Columns as float32; none of them is an array too."""
    return jnp.stack(columns).astype(jnp.float32) if columns else jnp.zeros((0, like.shape[0]), jnp.float32)


def _ages(run: Run, columns: dict[str, Float[Array, "B T"]]) -> Float[Array, "A N"] | None:
    """`data.conditions.ages_of`."""
    encoding, usual = run.data.encoding, run.data.encoding.usual_ages
    if encoding.staleness == "none":
        return None
    ages = {name: columns[f"{name} age"].reshape(-1) for name in usual}
    ages = {name: jnp.where(jnp.isnan(age), usual[name], age) for name, age in ages.items()}
    if encoding.staleness == "attention":
        return jnp.mean(jnp.stack([*ages.values()]), axis=0)[None].astype(jnp.float32)
    one = jnp.ones_like(next(iter(ages.values())))
    relative = [ages[name] / usual[name] if name in ages else one for name in run.data.panel.observed]
    return jnp.stack(relative).astype(jnp.float32)
