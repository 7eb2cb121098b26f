"""Weights that explain forecasts, collected over any number of windows, and measures of them."""

import functools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import Config
from tftjax.data.prepared import cardinalities
from tftjax.data.windows import Series, gather
from tftjax.errors import UserError
from tftjax.model.attention import MASKS
from tftjax.model.forecast import forecast_batch
from tftjax.model.parameters import build_model
from tftjax.model.regime import GATES
from tftjax.model.staleness import learned_weight
from tftjax.model.tft import TemporalFusionTransformer
from tftjax.storage.runs import Run

CHUNK = 256  # windows at a time, so that what one head gave each window need not be kept
TOLERANCE = 1e-4  # of a sum of weights, in float32


class Weights(NamedTuple):
    """Weights of W windows: selection weights, means over a window's steps; attention, means over heads.

    Attributes:
      encoder: weight of each observed, then known variable in the encoder; sums to 1 over V.
      decoder: weight of each known variable in the decoder; None without known inputs.
      static: weight of each static variable; None without static inputs.
      attention: weight of each step for each prediction step; sums to 1 over T.
      head_attention: each head's attention, the mean over windows.
      head_lags: each head's mean distance, in rows, of the steps attended to.
      head_entropies: each head's entropy of the attention, nats.
      regime: the probability of each regime; None without regimes.
      largest_error: the largest distance from 1 of any sum of weights.
    """

    encoder: Float[np.ndarray, "W V"]
    decoder: Float[np.ndarray, "W Vk"] | None
    static: Float[np.ndarray, "W Vs"] | None
    attention: Float[np.ndarray, "W P T"]
    head_attention: Float[np.ndarray, "H P T"]
    head_lags: Float[np.ndarray, "W H P"]
    head_entropies: Float[np.ndarray, "W H P"]
    regime: Float[np.ndarray, "W R"] | None
    largest_error: float


@functools.cache
def _compiled(model: TemporalFusionTransformer):
    """The model's weights as a compiled function of parameters, series and starts."""

    def weights(parameters, series, starts):
        lengths = model.config.encoder_length, model.config.prediction_length
        inputs, _ = gather(series, starts, *lengths)
        return forecast_batch(model, parameters, inputs)[1]._replace(quantiles=None)

    return jax.jit(weights)


def collect(run: Run, starts: Int[np.ndarray, " W"]) -> Weights:
    """Computes the weights of all windows, a chunk at a time.

    Args:
      starts: first row of each window, at least one.
    Raises:
      UserError: weights that do not sum to 1, as of a run that diverged; names the first.
    """
    model = build_model(run.config, *cardinalities(run.data.panel, run.data.encoding), run.functions)
    series = jax.device_put(run.data.series)
    parts: list[dict] = []
    errors, head_sum = [], 0.0
    for first in range(0, len(starts), CHUNK):
        chunk = starts[first : first + CHUNK]
        padded = np.pad(chunk, (0, CHUNK - len(chunk)), mode="edge")  # one shape, so one program
        output = jax.device_get(_compiled(model)(run.parameters, series, padded))
        output = jax.tree.map(partial(_first, len(chunk)), output)
        errors.append(_check(run, output, first))
        head_sum = head_sum + output.attention.sum(axis=0)
        lags = lags_of(run.config.model.encoder_length, run.config.model.prediction_length)
        part = {
            "encoder": _over_seen(output.encoder_selection, run.data.series, chunk),
            "decoder": None if output.decoder_selection is None else output.decoder_selection.mean(axis=1),
            "static": output.static_selection,
            "attention": output.attention.mean(axis=1),
            "head_lags": np.einsum("bhpt,pt->bhp", output.attention, lags),
            "head_entropies": entropy(output.attention),
            "regime": output.regime,
        }
        parts.append(part)
    joined = {
        name: None if parts[0][name] is None else np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }
    return Weights(**joined, head_attention=head_sum / len(starts), largest_error=max(errors))


def _over_seen(
    weights: Float[np.ndarray, "W E V"], series: Series, starts: Int[np.ndarray, " W"]
) -> Float[np.ndarray, "W V"]:
    """The mean over the steps of each window that are rows of its series."""
    if series.position is None:
        return weights.mean(axis=1)
    encoder_length = weights.shape[1]
    rows = np.minimum(series.position[starts + encoder_length - 1] + 1, encoder_length)
    seen = np.arange(encoder_length)[::-1] < rows[:, None]
    return np.einsum("wev,we->wv", weights, seen) / rows[:, None]


def _first(count: int, leaf: np.ndarray) -> np.ndarray:
    return leaf[:count].astype(np.float64)


def _check(run: Run, output, first: int) -> float:
    """The largest distance from 1 of a sum of weights in a chunk."""
    largest = 0.0
    for name in ("attention", "encoder_selection", "decoder_selection", "static_selection", "regime"):
        weights = getattr(output, name)
        if weights is None:
            continue
        error = np.abs(weights.sum(axis=-1) - 1.0).reshape(len(weights), -1).max(axis=1)
        bad = np.flatnonzero(~(error <= TOLERANCE))  # not `>`, which NaN would pass
        if bad.size:
            raise UserError(
                f"{run.directory}: the weights {name} of window {first + int(bad[0])} sum to"
                f" {weights[bad[0]].sum(axis=-1).ravel()[0]:.6g}, expected 1. The run diverged or its"
                " checkpoint is damaged: train it again."
            )
        largest = max(largest, float(error.max()))
    return largest


def lags_of(encoder_length: int, prediction_length: int) -> Int[np.ndarray, "P T"]:
    """The number of rows from each step to the step that is forecast; 0 is that step itself.

    >>> lags_of(encoder_length=2, prediction_length=1).tolist()
    [[2, 1, 0]]
    """
    steps = np.arange(encoder_length + prediction_length)
    return (encoder_length + np.arange(prediction_length))[:, None] - steps


def entropy(weights: Float[np.ndarray, "*W T"]) -> Float[np.ndarray, "*W"]:
    """-sum p log p over the last axis, nats: log n for n equal weights.

    >>> entropy(np.array([[0.5, 0.5]])).round(4).tolist()
    [0.6931]
    """
    return -(weights * np.log(np.where(weights > 0, weights, 1.0))).sum(axis=-1)


def recency_correlation(
    attention: Float[np.ndarray, "W P T"], allowed: Bool[np.ndarray, "P T"]
) -> Float[np.ndarray, "W P"]:
    """Pearson's correlation of each window's attention with the steps' order, over the steps allowed.

    Near 1: the later a step, the more weight, whatever it holds. NaN where all weights are equal.
    """
    result = np.full(attention.shape[:2], np.nan)
    for p, seen in enumerate(allowed):
        order = np.flatnonzero(seen).astype(np.float64)
        weights = attention[:, p, seen]
        x, y = order - order.mean(), weights - weights.mean(axis=1, keepdims=True)
        norms = np.sqrt((x**2).sum() * (y**2).sum(axis=1))
        moving = np.ptp(weights, axis=1) > 0
        result[moving, p] = (y[moving] @ x) / norms[moving]
    return result


def distance(p: Float[np.ndarray, "*W T"], q: Float[np.ndarray, "*W T"]) -> Float[np.ndarray, "*W"]:
    """kappa(p, q) = sqrt(1 - sum_j sqrt(p_j q_j)): 0 for equal patterns, 1 for disjoint ones.

    >>> distance(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])).tolist()
    [1.0]

    Lim et al. 2021, section 7.3, with the overlap of Bhattacharyya.
    """
    overlap = np.sqrt(p * q).sum(axis=-1)
    return np.sqrt(np.maximum(1.0 - overlap, 0.0))  # rounding may bring it above 1


def regime_shift(attention: Float[np.ndarray, "W P T"]) -> Float[np.ndarray, " W"]:
    """The distance of each window's attention from the windows' mean pattern, averaged over horizons.

    Lim et al. 2021, section 7.3. All windows are of one series.
    """
    usual = attention.mean(axis=0, keepdims=True)
    return distance(attention, np.broadcast_to(usual, attention.shape)).mean(axis=1)


def attention_summary(run: Run, attention: Float[np.ndarray, "W P T"]) -> dict[str, float]:
    """Measures that tell attention to content from attention to the most recent steps."""
    config = run.config.model
    lengths = config.encoder_length, config.prediction_length
    lags = lags_of(*lengths)
    correlation = recency_correlation(attention, MASKS[config.attention_mask](*lengths))
    summary = {
        "mean_lag": float((attention * lags).sum(axis=2).mean()),
        "own_step": float((attention * (lags == 0)).sum(axis=2).mean()),
        "effective_steps": float(np.exp(entropy(attention)).mean()),
    }
    if np.isfinite(correlation).any():
        summary["recency_correlation"] = float(np.nanmean(correlation))
    return summary


def learned(
    config: Config, observed: Sequence[str], usual_ages: Mapping[str, float], parameters: Mapping
) -> list[dict]:
    """A row for each learned number of the variants in a config; none without a variant.

    Args:
      observed: names of the observed columns, in the model's order.
      usual_ages: usual ages of the low-frequency columns, days.
      parameters: the model's parameters, by name.
    Returns:
      Rows of `what` ("staleness weight" or "gate"), `of` (a head, a variable, a head in a regime), `value`,
      and `start`, the value before training.
    """
    attention, values = config.model.attention, hyperparameters(config)
    rows = []
    modules = {"attention": "attention_staleness", "variable_selection": "encoder_selection_staleness"}
    if attention.staleness.mode != "none":
        raw = jnp.asarray(parameters[modules[attention.staleness.mode]]["raw_weight"])
        heads = [f"head {h + 1}" for h in range(len(raw))] if attention.staleness.per_head else ["all heads"]
        names = observed if attention.staleness.mode == "variable_selection" else heads
        for name, value in zip(names, np.asarray(learned_weight(raw, values)).tolist(), strict=True):
            if attention.staleness.mode == "attention" or name in usual_ages:
                rows.append(_row("staleness weight", name, value, values.staleness_weight))
    if attention.regime.by != "none":
        gates = values.regime_gradient_scale * jnp.asarray(parameters["attention_gates"]["gate"])
        for head, by_regime in enumerate(np.asarray(GATES[attention.regime.renormalise](gates.T))):
            for regime, value in enumerate(by_regime.tolist()):
                rows.append(_row("gate", f"head {head + 1}, regime {regime + 1}", value, 1.0))
    return rows


def _row(what: str, of: str, value: float, start: float) -> dict:
    return {"what": what, "of": of, "value": value, "start": start}
