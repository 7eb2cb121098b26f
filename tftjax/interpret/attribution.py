"""Attributions of trained forecasts to their inputs, over all test windows of one run or of several seeds.

RUN/interpretation/, of several seeds in the folder of their ensemble:
permutation.csv   a row an input: how much the pinball loss rises, in percent, where blocks of the input's
                  rows are shuffled; mean, and standard deviation over shuffles and over seeds
gradients.csv     a row an output, input and step: integrated gradients, mean and mean of the absolute value
dependence.csv    a row an input, value and quantile: the mean forecast of the first step where each window
                  has that input's path of a window in which its last known value is near this one
agreement.csv     a row a seed: rank correlation of the first two with the mean selection weights, and the
                  share that integrated gradients miss of what they divide up
and a picture of each but the last. Forecasts are returns as decimals.

Sources: Fisher, Rudin and Dominici 2019, "All models are wrong, but many are useful" (permutation);
Sundararajan, Taly and Yan 2017, "Axiomatic attribution for deep networks" (integrated gradients); Friedman
2001, "Greedy function approximation" (partial dependence).
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int
from scipy.stats import spearmanr

from tftjax import files
from tftjax.data.panel import blocks
from tftjax.data.prepared import cardinalities
from tftjax.data.windows import Inputs, Series, gather
from tftjax.evaluate.formatting import RATIO
from tftjax.evaluate.metrics import pinball
from tftjax.interpret.tables import variable_names
from tftjax.interpret.weights import CHUNK, collect
from tftjax.model.forecast import forecast_batch, forecast_rows
from tftjax.model.parameters import build_model
from tftjax.model.tft import TemporalFusionTransformer
from tftjax.storage import runs
from tftjax.storage.directories import ForecastDirectory, make

SHUFFLES = 5
DONORS = 50  # windows whose paths of an input stand for one value
NODES = 32  # points of the path of integrated gradients
LEVELS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)  # of the last known values, which dependence is asked at
OUTPUTS = ("median", "spread")  # of the first step; the spread is that of the outermost quantiles


# By table: what its numbers are, in which unit, and when one is NaN.
CAPTIONS = {
    "permutation": "rise_percent: how much the pinball loss rises, in percent, where an input's rows are"
    " shuffled; sd_of_shuffles and sd_of_seeds in the same unit, the latter NaN of a single seed.",
    "gradients": "mean and mean_absolute: integrated gradients of the next step's median and spread, as"
    " decimals of a return; step 0 is the last known row. sd_of_seeds: that of mean, NaN of a single seed.",
    "dependence": "mean: the quantile, as decimals of a return, where an input's last value is near value, in"
    " the input's own unit; z is the same in standard deviations of the train rows. value is NaN where series"
    " have scales of their own, and of a target in units of a volatility. sd_of_seeds: that of mean, NaN of a"
    " single seed.",
    "agreement": "Spearman's rank correlation with the selection weights, -1 to 1, NaN of fewer than three"
    " inputs or where all are alike; gradients_miss: share of the forecast that integrated gradients miss.",
}


class Attributions(NamedTuple):
    """The tables of a run or of several seeds; CAPTIONS has their units, and says when a number is NaN.

    Attributes:
      permutation: a row an input: the rise of the loss where it is shuffled, in percent.
      gradients: a row an output, input and step: integrated gradients, as decimals of a return.
      dependence: a row an input, value and quantile: the mean forecast, as decimals of a return.
      agreement: a row a seed: rank correlations with the selection weights.
    """

    permutation: pd.DataFrame
    gradients: pd.DataFrame
    dependence: pd.DataFrame
    agreement: pd.DataFrame

    def _repr_html_(self) -> str:
        tables = self._asdict().items()
        return "".join(f"<p><b>{n}</b>. {CAPTIONS[n]}</p>{table._repr_html_()}" for n, table in tables)


def attribute(seeds: Sequence[runs.Run], directory: ForecastDirectory) -> Attributions:
    """Makes the attributions of all test windows, and writes tables and pictures.

    Args:
      seeds: runs of one config on the same data.
      directory: where their `interpretation` goes.

    Raises:
      UserError: a final fit, which has no test rows, or files that cannot be written.
    """
    for run in seeds:
        runs.check_judged(run.directory)
    starts = seeds[0].data.starts["test"]
    shuffled = [permutation(run, starts) for run in seeds]
    by_step, misses = zip(*(gradients(run, starts) for run in seeds), strict=True)
    moved = [dependence(run, starts) for run in seeds]
    tables = Attributions(
        _of_seeds(shuffled, ["kind", "variable"], ["rise_percent", "sd_of_shuffles"]),
        _of_seeds(by_step, ["output", "kind", "variable", "step"], ["mean", "mean_absolute"]),
        _of_seeds(moved, ["variable", "z", "value", "quantile"], ["mean"]),
        pd.DataFrame(
            {"seed": run.config.train.seed, **agreement(run, starts, *own), "gradients_miss": miss}
            for run, miss, *own in zip(seeds, misses, shuffled, by_step, strict=True)
        ),
    )
    place = directory.interpretation
    make(place.path)
    for name, table in tables._asdict().items():
        write = partial(table.to_csv, index=False, float_format="%.6g")
        files.replace_file(place.table(name), write)
    _draw(seeds, place.path, tables)
    return tables


def _of_seeds(tables: Sequence[pd.DataFrame], keys: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """The mean of tables of equal rows, and the standard deviation of their first value; NaN for one."""
    stacked = np.stack([table[list(values)].to_numpy(np.float64) for table in tables])
    result = tables[0][list(keys)].copy()
    result[list(values)] = stacked.mean(axis=0)
    alone = len(tables) == 1
    return result.assign(sd_of_seeds=np.nan if alone else stacked[:, :, 0].std(axis=0, ddof=1))


def _inputs_of(run: runs.Run) -> list[tuple[str, str, str, int]]:
    """Each input that has a row a day: kind, name, field of `Series`, and its row there."""
    fields = {
        "observed": "observed",
        "observed category": "observed_categorical",
        "known": "known_real",
        "known category": "known_categorical",
    }
    return [
        (kind, name, field, row)
        for kind, field in fields.items()
        for row, name in enumerate(getattr(run.data.panel, field))
    ]


def _model(run: runs.Run) -> TemporalFusionTransformer:
    return build_model(run.config, *cardinalities(run.data.panel, run.data.encoding), run.functions)


def shuffled_blocks(rows: range, length: int, random: np.random.Generator) -> Int[np.ndarray, " N"]:
    """The rows of a range, cut into blocks of so many rows, the blocks in random order.

    >>> sorted(shuffled_blocks(range(3, 8), 2, np.random.default_rng(0)).tolist())
    [3, 4, 5, 6, 7]
    """
    blocks_of_rows = np.split(np.arange(rows.start, rows.stop), np.arange(length, len(rows), length))
    return np.concatenate([blocks_of_rows[place] for place in random.permutation(len(blocks_of_rows))])


def permutation(run: runs.Run, starts: Int[np.ndarray, " W"]) -> pd.DataFrame:
    """The rise of the pinball loss where the rows of one input are shuffled by block, in percent.

    A block has as many rows as a window, so that a window sees two blocks at most: an input's course within
    days stays, and what it says of these days is lost. Rows are shuffled within a series. Inputs that say
    the same stand in for each other: each alone may look as if it were not needed. The target's scale is no
    input, and stays.

    Args:
      starts: first rows of the windows.
    Returns:
      A row an input: kind, variable, the mean rise over shuffles and its standard deviation.
    """
    model, series, random = _model(run), run.data.series, np.random.default_rng(0)
    lengths = run.config.model.encoder_length, run.config.model.prediction_length
    used = np.unique(starts[:, None] + np.arange(sum(lengths)))
    orders = [_shuffled_rows(run, used, sum(lengths), random) for _ in range(SHUFFLES)]
    targets = np.asarray(series.target, np.float64)[starts[:, None] + lengths[0] + np.arange(lengths[1])]

    def loss(of: Series) -> float:
        return pinball(forecast_rows(model, run.parameters, of, starts), targets, run.config.model.quantiles)

    base, rows = loss(series), []
    for kind, name, field, row in _inputs_of(run):
        rises = [100 * (loss(_with_rows(series, field, row, order)) / base - 1) for order in orders]
        found = {"rise_percent": np.mean(rises), "sd_of_shuffles": np.std(rises, ddof=1)}
        rows.append({"kind": kind, "variable": name, **found})
    return pd.DataFrame(rows)


def _shuffled_rows(
    run: runs.Run, used: Int[np.ndarray, " U"], length: int, random: np.random.Generator
) -> Int[np.ndarray, " N"]:
    """All rows of the panel, with those that are used shuffled by block within their series."""
    order = np.arange(len(run.data.panel.frame))
    for _, rows in blocks(run.data.panel.frame, run.data.panel.id_column):
        own = used[(used >= rows.start) & (used < rows.stop)]
        if len(own):
            order[own[0] : own[-1] + 1] = shuffled_blocks(range(own[0], own[-1] + 1), length, random)
    return order


def _with_rows(series: Series, field: str, row: int, order: Int[np.ndarray, " N"]) -> Series:
    """The series with the rows of one input in another order, and with them their gaps and ages."""
    place = {field: row}
    if series.present is not None and field in ("observed", "observed_categorical"):
        place["present"] = row + (len(series.observed) if field == "observed_categorical" else 0)
    if series.known_present is not None and field == "known_real":
        place["known_present"] = row
    if series.age is not None and field == "observed" and len(series.age) == len(series.observed) > 1:
        place["age"] = row  # else ages are of steps
    changed = {name: np.array(getattr(series, name)) for name in place}
    for name, row in place.items():
        changed[name][row] = changed[name][row, order]
    return series._replace(**changed)


def _chunks(run: runs.Run, starts: Int[np.ndarray, "*_ W"], compute: Any) -> Iterator[Any]:
    """Results of a compiled function of parameters, series and starts, a chunk of windows at a time."""
    series = jax.device_put(run.data.series)
    for first in range(0, starts.shape[-1], CHUNK):
        chunk = starts[..., first : first + CHUNK]
        count = chunk.shape[-1]
        # One shape, so one program.
        padded = np.concatenate([chunk, np.repeat(chunk[..., -1:], CHUNK - count, axis=-1)], axis=-1)
        results = jax.device_get(compute(run.parameters, series, padded))
        yield jax.tree.map(lambda leaf, count=count: leaf[..., :count].astype(np.float64), results)


class Integrated(NamedTuple):
    """Integrated gradients of B windows; O outputs, the first step's median and spread.

    Attributes:
      observed, known: attributions to each number at each step.
      error: what they miss of the difference between the forecast and that of mean inputs.
      difference: this difference.
    """

    observed: Float[Any, "O Vo E B"]
    known: Float[Any, "O Vk T B"]
    error: Float[Any, "O B"]
    difference: Float[Any, "O B"]


@functools.cache
def _compiled_gradients(model: TemporalFusionTransformer) -> Any:
    """`integrated` of the windows that begin at some rows, as a compiled function."""

    def of_windows(parameters, series, starts):
        inputs, _ = gather(series, starts, model.config.encoder_length, model.config.prediction_length)
        return integrated(model, parameters, inputs)

    return jax.jit(of_windows)


def _outputs(forecast: Float[Array, "B P Q"], quantiles: tuple[float, ...]) -> Float[Array, "O B"]:
    first = forecast[:, 0]
    return jnp.stack([first[:, quantiles.index(0.5)], first[:, -1] - first[:, 0]])


def integrated(model: TemporalFusionTransformer, parameters: Mapping, inputs: Inputs) -> Integrated:
    """Integrated gradients along the line from the mean of each number, which is 0, to the window's values.

    Categories, static inputs and the scale stay as they are in the window. By the midpoint rule.
    """
    ends = inputs.observed, inputs.known_real

    def outputs(reals):
        observed, known = reals
        moved = inputs._replace(observed=observed, known_real=known)
        return _outputs(forecast_batch(model, parameters, moved)[0], model.config.quantiles)

    def at(share):
        return jax.tree.map(lambda end: share * end, ends)

    def add(total, share):
        _, pullback = jax.vjp(outputs, at(share))
        count = len(OUTPUTS)
        seeds = jnp.broadcast_to(jnp.eye(count)[:, :, None], (count, count, len(inputs.scale)))
        # Windows do not meet in the model: a sum over them has each window's own gradient.
        gradient = [pullback(seed)[0] for seed in seeds]
        return jax.tree.map(lambda t, *parts: t + jnp.stack(parts) / NODES, total, *gradient), None

    zeros = jax.tree.map(lambda end: jnp.zeros((len(OUTPUTS), *end.shape)), ends)
    mean, _ = jax.lax.scan(add, zeros, (jnp.arange(NODES) + 0.5) / NODES)
    observed, known = jax.tree.map(lambda gradient, end: gradient * end[None], mean, ends)
    difference = outputs(ends) - outputs(at(0.0))
    found = observed.sum(axis=(1, 2)) + known.sum(axis=(1, 2))
    return Integrated(observed, known, found - difference, difference)


def gradients(run: runs.Run, starts: Int[np.ndarray, " W"]) -> tuple[pd.DataFrame, float]:
    """Integrated gradients of the first step's median and spread, by input and step, over all windows.

    Args:
      starts: first rows of the windows.
    Returns:
      A row an output, input and step (0: the last known row), in return units: mean, and mean of the
      absolute value. And the mean of `Integrated.error`'s absolute value as a share of the difference's, of
      the output where it is larger; an output that is the same everywhere, as the spread of a single level,
      has no share.
    """
    parts = list(_chunks(run, starts, _compiled_gradients(_model(run))))
    whole = Integrated(*(np.concatenate(leaves, axis=-1) for leaves in zip(*parts, strict=True)))
    panel, encoder_length = run.data.panel, run.config.model.encoder_length
    named = {"observed": (panel.observed, whole.observed), "known": (panel.known_real, whole.known)}
    tables = []
    for kind, (names, values) in named.items():
        for output, of_output in zip(OUTPUTS, values, strict=True):
            for name, own in zip(names, of_output, strict=True):
                columns = {"output": output, "kind": kind, "variable": name}
                columns |= {"step": np.arange(len(own)) - encoder_length + 1, "mean": own.mean(axis=-1)}
                tables.append(pd.DataFrame(columns | {"mean_absolute": np.abs(own).mean(axis=-1)}))
    errors, differences = (np.abs(part).mean(axis=1) for part in (whole.error, whole.difference))
    moves = differences > 0
    miss = (errors[moves] / differences[moves]).max(initial=0.0)
    return pd.concat(tables, ignore_index=True), float(miss)


@functools.cache
def _compiled_swapped(model: TemporalFusionTransformer) -> Any:
    """The first step's quantiles [Q B] where one number's path is other windows', as a compiled function."""

    def swapped(parameters, series, starts, number):
        lengths = model.config.encoder_length, model.config.prediction_length
        inputs, others = (gather(series, of, *lengths)[0] for of in starts)
        count = len(inputs.observed)
        chosen = jnp.arange(count + len(inputs.known_real)) == number

        def swap(own, other, chosen):
            if own is None:
                return None
            chosen = jnp.pad(chosen, (0, len(own) - len(chosen)))  # gaps are of categories too
            return jnp.where(chosen[:, None, None], other, own)

        inputs = inputs._replace(
            observed=swap(inputs.observed, others.observed, chosen[:count]),
            present=swap(inputs.present, others.present, chosen[:count]),
            known_real=swap(inputs.known_real, others.known_real, chosen[count:]),
            known_present=swap(inputs.known_present, others.known_present, chosen[count:]),
        )
        # The last values before the forecast; of known inputs those of the step forecast.
        last = jnp.concatenate([others.observed[:, -1], others.known_real[:, lengths[0]]])
        return forecast_batch(model, parameters, inputs)[0][:, 0].T, last

    return jax.jit(swapped)


def dependence(run: runs.Run, starts: Int[np.ndarray, " W"]) -> pd.DataFrame:
    """Mean quantiles of the first step by the last value of one number, all other inputs as they are.

    Each window gets the path of that number of another window, chosen at random among the `DONORS` whose last
    value is nearest: a path as there are some, not one that is moved. Values are `LEVELS` of those that the
    windows have: nothing says what a model does beyond. The target's scale stays the window's own.

    Args:
      starts: first rows of the windows.
    Returns:
      A row an input, value and quantile: `z` is the value in standard deviations of the train rows, `value`
      in the column's unit (NaN where series differ, or the target is scaled), `mean` the quantile.
    """
    compute, panel, random = _compiled_swapped(_model(run)), run.data.panel, np.random.default_rng(0)

    def quantiles(number: int, others: Int[np.ndarray, " W"]) -> tuple[np.ndarray, np.ndarray]:
        parts = _chunks(run, np.stack([starts, others]), partial(compute, number=np.int32(number)))
        return tuple(np.concatenate(leaves, axis=-1) for leaves in zip(*parts, strict=True))

    _, last = quantiles(-1, starts)  # swaps none
    rows = []
    for number, name in enumerate(panel.observed + panel.known_real):
        for value in np.unique(np.quantile(last[number], LEVELS).round(6)):
            nearest = np.argsort(np.abs(last[number] - value), kind="stable")[:DONORS]
            donors = random.choice(nearest, len(starts))
            z, means = last[number][donors].mean(), quantiles(number, starts[donors])[0].mean(axis=1)
            common = {"variable": name, "z": z, "value": _in_unit(run, name, z)}
            rows += [
                {**common, "quantile": level, "mean": mean}
                for level, mean in zip(run.config.model.quantiles, means.tolist(), strict=True)
            ]
    return pd.DataFrame(rows)


def _in_unit(run: runs.Run, name: str, z: float) -> float:
    """A number in its column's unit; NaN where it has another one in each series or window."""
    scaler, panel = run.data.encoding.scaler[name], run.data.panel
    scaled = name == panel.target and run.data.series.volatility is not None
    if scaled or len(np.unique(scaler.center)) > 1 or len(np.unique(scaler.scale)) > 1:
        return float("nan")
    return float(scaler.center[0] + z * scaler.scale[0])


def agreement(
    run: runs.Run, starts: Int[np.ndarray, " W"], shuffled: pd.DataFrame, by_step: pd.DataFrame
) -> dict[str, float]:
    """Spearman's rank correlation of attributions with the encoder's mean selection weights, over inputs.

    NaN for fewer than three inputs, or where all are alike.

    Args:
      shuffled, by_step: tables of `permutation` and `gradients`.
    """
    names = variable_names(run)["encoder"]
    weights = dict(zip(names, collect(run, starts).encoder.mean(axis=0).tolist(), strict=True))
    rises = shuffled.set_index("variable")["rise_percent"]
    found = {"permutation": _rank_correlation(rises, weights)}
    for output, rows in by_step.groupby("output", sort=False):
        totals = rows.groupby("variable", sort=False)["mean_absolute"].sum()
        found[f"gradients_of_{output}"] = _rank_correlation(totals, weights)
    return found


def _rank_correlation(of: pd.Series, weights: Mapping[str, float]) -> float:
    others = np.array([weights[name] for name in of.index])
    ranked = len(of) > 2 and of.nunique() > 1 and len(np.unique(others)) > 1
    return float(spearmanr(of.to_numpy(), others).statistic) if ranked else float("nan")


def text_of(tables: Attributions, directory: ForecastDirectory) -> str:
    """What a terminal shows of attributions: the inputs by the loss without them, and how methods agree.

    Args:
      directory: where the tables are.
    """
    several = len(tables.agreement) > 1
    spread, whose = ("sd_of_seeds", "seeds") if several else ("sd_of_shuffles", "shuffles")
    ranked = tables.permutation.sort_values("rise_percent", ascending=False)
    width = max(map(len, ranked["variable"]))
    lines = [f"{directory.path.name}: rise of the pinball loss where an input's rows are shuffled by block:"]
    lines += [
        f"  {row.variable:{width}} {row.rise_percent:+7.2f} %  (sd over {whose} {getattr(row, spread):.2f})"
        for row in ranked.itertuples()
    ]
    methods = tables.agreement.drop(columns=["seed", "gradients_miss"]).mean()
    words = ", ".join(
        f"{name.replace('_', ' ')} {RATIO.number(value, '+')}" for name, value in methods.items()
    )
    lines.append(f"rank correlation with the selection weights: {words}")
    return "\n".join([*lines, f"tables and pictures in {directory.interpretation.path}"])


def _draw(seeds: Sequence[runs.Run], folder: Any, tables: Attributions) -> None:
    from tftjax.plots import attribution

    name = seeds[0].config.name if len(seeds) == 1 else f"{seeds[0].config.name}, {len(seeds)} seeds"
    attribution.draw(folder, name, tables._asdict())
