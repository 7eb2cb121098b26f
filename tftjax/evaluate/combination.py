"""Whether a model adds anything: its quantiles combined with others', and tests of encompassing.

A combination is the weighted mean of quantiles, level by level. Validation rows choose its weights, test rows
judge it; in a walk-forward those of each fold. It is made of a single series, as of several the baselines'
forecasts are not kept.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tftjax.evaluate.metrics import Forecast, MetricFunction, Target, pinball
from tftjax.evaluate.scoring import Score, Windows, by_day, score, tests_against
from tftjax.evaluate.significance import diebold_mariano

NUM_OTHERS = 2  # forecasts beside the model in a combination: the best on validation
PARTS = 20  # weights are multiples of a twentieth


def combined(forecasts: Sequence[Forecast], weights: Sequence[float]) -> Forecast:
    """The weighted mean of quantiles, level by level; convex weights keep ascending quantiles ascending."""
    return sum(weight * forecast for weight, forecast in zip(weights, forecasts, strict=True))


def convex_weights(
    forecasts: Sequence[Forecast], target: Target, quantiles: Sequence[float]
) -> tuple[float, ...]:
    """The weights, multiples of a twentieth that sum to 1, whose combination has the least pinball loss.

    Of equal losses, those with the least weight of the first forecast, then of the second.

    Source: Taylor and Bunn 1998, "Combining forecast quantiles using quantile regression", who find that
    convex weights without a constant do best out of sample.
    """
    best, least = (), np.inf
    for parts in itertools.product(range(PARTS + 1), repeat=len(forecasts) - 1):
        weights = tuple(part / PARTS for part in (*parts, PARTS - sum(parts)))
        if weights[-1] >= 0:
            loss = pinball(combined(forecasts, weights), target, quantiles)
            if not loss >= least * (1 - 1e-9):  # rounding is no gain
                best, least = weights, loss
    return best


def slopes(model: Forecast, other: Forecast, target: Target, quantiles: Sequence[float]) -> Forecast:
    """The slope of the pinball loss of `(1 - w) other + w model` at w = 0, from the right.

    (1{y < other} - q) (model - other), with y <= other where the model lies above.
    """
    actual = target[..., None]
    below = np.where(model > other, actual <= other, actual < other)
    return (below - np.asarray(quantiles)) * (model - other)


class Encompassing(NamedTuple):
    """A test of whether a forecast encompasses a model's: whether no weight of the model lowers its loss.

    Attributes:
      weight: the model's in their combination, chosen on validation rows; None where the other has none.
      slope: mean slope of the test rows' pinball loss in the model's weight, at 0; below 0 the model adds.
      t: the slope over its standard error, robust to autocorrelation.
      p: of the slope being 0 or above; small if the model adds something. None: too few days, or the same
        forecast.
    """

    weight: float | None
    slope: float
    t: float | None
    p: float | None


def encompassing(
    windows: Windows, model: Forecast, other: Forecast, quantiles: Sequence[float], weight: float | None
) -> Encompassing:
    """Tests on test rows whether a forecast encompasses the model's: its loss is least without the model.

    The loss is convex in the weight, so it is least at 0 if and only if its expected slope there is not below
    0. No weight is estimated for the test. One-sided, Student's t, errors as in `diebold_mariano`.

    Source: Harvey, Leybourne and Newbold 1998, "Tests for forecast encompassing", whose statistic is that
    slope for squared errors; Giacomini and Komunjer 2005, "Evaluation and combination of conditional quantile
    forecasts", for quantiles.
    """
    daily = by_day(slopes(model, other, windows.target, quantiles).mean(axis=(1, 2)), windows.day)
    test = diebold_mariano(daily, windows.target.shape[1])
    p = None if test.p is None else test.p / 2 if test.difference < 0 else 1 - test.p / 2
    return Encompassing(weight, test.difference, test.t, p)


class Weights(NamedTuple):
    """Weights that validation rows choose.

    Attributes:
      weights: of the model and of the two others that are best on validation, by name, the model's first.
      beside: by name of another forecast, the model's weight beside it alone.
    """

    weights: dict[str, float]
    beside: dict[str, float]


def chosen_weights(
    windows: Windows,
    forecasts: Mapping[str, Forecast],
    losses: Mapping[str, float],
    quantiles: Sequence[float],
) -> Weights | None:
    """The weights of a combination, chosen on validation rows; None if there is nothing to combine with.

    Args:
      windows: of the validation rows.
      forecasts: theirs by name; the model's as "model".
      losses: mean pinball loss of each.
    """
    others = [name for name in forecasts if name != "model"]  # no set: of equal losses the first counts
    ranked = sorted(others, key=lambda name: losses[name])
    if not ranked:
        return None

    def weights(names: Sequence[str]) -> tuple[float, ...]:
        return convex_weights([forecasts[name] for name in names], windows.target, quantiles)

    names = ["model", *ranked[:NUM_OTHERS]]
    beside = {name: weights(["model", name])[0] for name in ranked}
    return Weights(dict(zip(names, weights(names), strict=True)), beside)


def judge_combined(
    windows: Windows,
    combination: Forecast,
    weights: Mapping[str, float],
    forecasts: Mapping[str, Forecast],
    scores: Mapping[str, Score],
    beside: Mapping[str, float | None],
    quantiles: Sequence[float],
    own_metrics: Mapping[str, MetricFunction] = MappingProxyType({}),
) -> dict[str, Any]:
    """A combination judged on test rows, and what the model adds to other forecasts.

    Args:
      windows: of the test rows.
      combination: its quantiles.
      weights: see `Weights`.
      forecasts: those of the model, as "model", and of the others in `beside`.
      scores: of the model and of every other forecast.
      beside: by name of a forecast to which the model may add something, its weight on validation rows.
    Returns:
      `combination` and `encompassing`, as metrics.json has them.
    """
    scored = score(windows, combination, quantiles, own_metrics)
    tests = tests_against(scored, scores, windows.target.shape[1])
    added = {
        name: encompassing(windows, forecasts["model"], forecasts[name], quantiles, weight)._asdict()
        for name, weight in beside.items()
    }
    return {
        "combination": {
            "weights": dict(weights),
            "metrics": scored.metrics,
            "tests": {"days": len(scored.losses), "model": tests.pop("model"), "diebold_mariano": tests},
        },
        "encompassing": added,
    }


def judge_combination(
    windows: Mapping[str, Windows],
    forecasts: Mapping[str, Mapping[str, Forecast]],
    scores: Mapping[str, Mapping[str, Score]],
    quantiles: Sequence[float],
    own_metrics: Mapping[str, MetricFunction] = MappingProxyType({}),
    foreign: Collection[str] = (),
) -> dict[str, Any]:
    """The combination of the model with the two others that are best on validation, judged on test rows.

    Args:
      windows: of each split.
      forecasts: by split and name; the model's as "model".
      scores: theirs.
      foreign: names of the foreign forecasts.
    Returns:
      What `judge_combined` returns, `encompassing` by the best baseline and each foreign forecast. Nothing if
      no other forecast has validation rows.
    """
    losses = {name: scored.metrics["pinball"] for name, scored in scores["val"].items()}
    chosen = chosen_weights(windows["val"], forecasts["val"], losses, quantiles)
    if chosen is None:
        return {}
    test = forecasts["test"]
    mixed = combined([test[name] for name in chosen.weights], list(chosen.weights.values()))
    best = [name for name in chosen.beside if name not in foreign][:1]
    beside = {name: chosen.beside.get(name) for name in (*best, *(name for name in test if name in foreign))}
    return judge_combined(
        windows["test"], mixed, chosen.weights, test, scores["test"], beside, quantiles, own_metrics
    )
