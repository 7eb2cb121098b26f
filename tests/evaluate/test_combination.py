"""Combinations of quantiles and tests of encompassing, by hand."""

import json

import numpy as np
import pytest

from tftjax.evaluate import tables
from tftjax.evaluate.combination import combined, convex_weights, encompassing, judge_combination, slopes
from tftjax.evaluate.formatting import p_text
from tftjax.evaluate.metrics import pinball, pinball_losses
from tftjax.evaluate.scoring import Windows, score
from tftjax.evaluate.verdict import combination_line

LEVELS = (0.1, 0.5, 0.9)
DAYS, STEPS = 211, 2


def make_windows(seed=0, days=DAYS):
    target = np.random.default_rng(seed).normal(0, 0.01, (days, STEPS))
    return Windows(target, np.arange(days), [slice(0, days)])


def around(middle, width=0.012):
    """Quantiles around medians."""
    return middle[..., None] + np.array([-width, 0, width])


def flat(windows, level=0.0, width=0.012):
    """The same quantiles every day."""
    return around(np.full(windows.target.shape, level), width)


def test_weights_with_a_known_optimum():
    """Medians of -1 and 3 are 0, the target, at the weights 3/4 and 1/4; a third of 10 has no part."""
    target = np.zeros((5, 2))
    x, y, z = (np.full((5, 2, 1), value) for value in (-1.0, 3.0, 10.0))
    assert convex_weights([x, y], target, [0.5]) == (0.75, 0.25)
    assert convex_weights([z, y, x], target, [0.5]) == (0.0, 0.25, 0.75)
    np.testing.assert_array_equal(combined([x, y], (0.75, 0.25)), 0)
    # The levels share the weights; up to one half the levels' losses change by the same, one up, one down.
    both = np.array([[[-1.0, 1.0]]]), np.array([[[1.0, 3.0]]])
    losses = [pinball(combined(both, (w, 1 - w)), np.array([[2.0]]), [0.1, 0.9]) for w in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(losses, [(0.1 * 1 + 0.1 * 1) / 2, (0.1 * 2 + 0.9 * 0) / 2, (0.3 + 0.9) / 2])
    assert convex_weights(both, np.array([[2.0]]), [0.1, 0.9]) == (0.0, 1.0)


def test_of_equal_losses_the_first_forecast_has_the_least_weight():
    windows = make_windows()
    same = flat(windows, 0.003)
    worse = flat(windows, 0.02)
    assert convex_weights([same, same.copy()], windows.target, LEVELS) == (0.0, 1.0)
    assert convex_weights([same, worse, same.copy()], windows.target, LEVELS) == (0.0, 0.0, 1.0)


def test_the_slope_by_hand_and_by_a_small_step():
    target = np.array([[1.0], [1.0], [1.0], [1.0]])
    other = np.array([[[3.0]], [[0.0]], [[1.0]], [[1.0]]])
    model = np.array([[[1.0]], [[2.0]], [[3.0]], [[0.0]]])
    # Above the target the loss rises by 0.75 a unit of forecast, below it falls by 0.25; on it, as the model.
    expected = [0.75 * -2, -0.25 * 2, 0.75 * 2, -0.25 * -1]
    np.testing.assert_allclose(slopes(model, other, target, [0.25]).ravel(), expected)
    step = 1e-6
    moved = pinball_losses(combined([model, other], (step, 1 - step)), target, [0.25])
    np.testing.assert_allclose((moved - pinball_losses(other, target, [0.25])).ravel() / step, expected)


def test_encompassing_against_a_regression_on_a_constant():
    import statsmodels.api as sm
    from scipy import stats

    windows = make_windows()
    other = flat(windows)
    noise = np.random.default_rng(1).normal(0, 0.01, windows.target.shape)
    found = encompassing(windows, around(0.1 * windows.target + noise), other, LEVELS, 0.4)
    daily = slopes(around(0.1 * windows.target + noise), other, windows.target, LEVELS).mean(axis=(1, 2))
    fit = sm.OLS(daily, np.ones(DAYS)).fit(cov_type="HAC", cov_kwds={"maxlags": 4}, use_t=True)
    assert found.weight == 0.4
    assert found.slope == pytest.approx(daily.mean())
    assert found.t == pytest.approx(fit.tvalues[0])
    assert found.p == pytest.approx(stats.t.cdf(fit.tvalues[0], DAYS - 1))
    # A model that points the other way would have a negative weight: it adds nothing.
    away = encompassing(windows, around(-0.5 * windows.target), other, LEVELS, None)
    assert away.slope > 0
    assert away.p > 0.99


def judged(model, others, foreign=(), val_only=()):
    """`judge_combination` of forecasts that are made from windows."""
    windows = {"val": make_windows(1, 101), "test": make_windows(2)}
    makers = {"model": model, **others}
    forecasts = {
        split: {
            name: make(windows[split])
            for name, make in makers.items()
            if split == "test" or name not in val_only
        }
        for split in windows
    }
    scores = {
        split: {name: score(windows[split], forecast, LEVELS) for name, forecast in of.items()}
        for split, of in forecasts.items()
    }
    return judge_combination(windows, forecasts, scores, LEVELS, foreign=foreign), scores["test"], forecasts


def test_a_model_that_knows_the_truth_gets_all_weight():
    found, scores, _ = judged(
        lambda w: around(w.target, 1e-5), {"flat": flat, "wide": lambda w: flat(w, 0.0, 1.0)}
    )
    assert found["combination"]["weights"] == {"model": 1.0, "flat": 0.0, "wide": 0.0}
    assert found["combination"]["metrics"] == scores["model"].metrics
    assert found["combination"]["tests"]["model"]["difference"] == 0
    assert list(found["encompassing"]) == ["flat"]
    assert found["encompassing"]["flat"]["weight"] == 1
    assert found["encompassing"]["flat"]["p"] < 1e-6
    json.dumps(found, allow_nan=False)


def test_a_model_equal_to_the_baseline_adds_nothing():
    found, *_ = judged(flat, {"flat": flat, "high": lambda w: flat(w, 0.03)})
    assert found["combination"]["weights"] == {"model": 0.0, "flat": 1.0, "high": 0.0}
    assert found["encompassing"] == {"flat": {"weight": 0.0, "slope": 0.0, "t": None, "p": None}}
    metrics = found | {"pinball": 1.0, "tests": {"days": DAYS, "diebold_mariano": {}}}
    said = (
        "no test of what the model adds to flat (weight 0 on validation, too few dates, or the same forecast)"
    )
    assert combination_line(metrics).endswith(f"; {said}.")


def test_the_two_best_on_validation_take_part_and_foreign_ones_are_tested():
    others = {name: lambda w, at=at: flat(w, at) for name, at in (("a", 0.02), ("b", 0.0), ("c", 0.03))}
    others |= {"far": lambda w: flat(w, 0.01), "late": lambda w: flat(w, 0.005)}
    half = lambda w: around(0.5 * w.target)  # noqa: E731
    found, scores, forecasts = judged(half, others, ["far", "late"], ["late"])
    assert list(found["combination"]["weights"]) == ["model", "b", "far"]
    assert list(found["combination"]["tests"]["diebold_mariano"]) == ["a", "b", "c", "far", "late"]
    assert list(found["encompassing"]) == ["b", "far", "late"]
    assert found["encompassing"]["late"]["weight"] is None
    weights = found["combination"]["weights"].values()
    mixed = combined([forecasts["test"][name] for name in ("model", "b", "far")], list(weights))
    target = make_windows(2).target
    assert found["combination"]["metrics"]["pinball"] == pytest.approx(pinball(mixed, target, LEVELS))
    difference = pinball(mixed, target, LEVELS) - scores["model"].metrics["pinball"]
    assert found["combination"]["tests"]["model"]["difference"] == pytest.approx(difference)
    assert judged(half, {})[0] == {}


def test_of_equal_ones_the_first_take_part():
    """By their order, which is the same in every process; that of a set of names is not."""
    names = ["zeta", "beta", "mu", "alpha", "rho", "chi"]
    found, *_ = judged(lambda w: around(0.5 * w.target), dict.fromkeys(names, flat))
    assert list(found["combination"]["weights"]) == ["model", "zeta", "beta"]


def test_in_words_and_as_a_table():
    found, scores, _ = judged(
        lambda w: around(0.3 * w.target), {"flat": flat, "high": lambda w: flat(w, 0.03)}
    )
    tests = {
        "days": DAYS,
        "diebold_mariano": {name: {"p": 0.5, "difference": 0} for name in ("flat", "high")},
    }
    metrics = scores["model"].metrics | found | {"tests": tests}
    line = combination_line(metrics)
    weights = found["combination"]["weights"]
    named = ", ".join(f"{name} {weight:g}" for name, weight in weights.items() if weight)
    assert line.startswith(f"Combination, weights chosen on validation ({named}): beats ")
    assert " of 2 baselines, the model alone 0; its pinball loss minus the model's: " in line
    p = p_text(found["encompassing"]["flat"]["p"])
    weight = found["encompassing"]["flat"]["weight"]
    assert line.endswith(f"; the model adds to flat (weight {weight:g} on validation, encompassing {p}).")
    metrics["encompassing"]["flat"]["p"] = 0.06
    assert "it is not shown that the model adds to flat (" in combination_line(metrics)
    table = tables.combination(metrics)
    assert [row[0].text for row in table.rows] == ["combination", "model"]
    assert table.rows[0][1].text == f"{1e3 * found['combination']['metrics']['pinball']:.4f}"
    assert combination_line(scores["model"].metrics) == ""
    assert tables.combination(scores["model"].metrics) is None
