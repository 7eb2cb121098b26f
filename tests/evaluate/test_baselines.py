"""Baselines: answers by hand and by other libraries, the model's shape, and no use of later rows."""

import functools
import importlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tftjax.config.loading import from_dict
from tftjax.data.loading import load_panel
from tftjax.data.volatility import VOLATILITY_COLUMNS
from tftjax.errors import UserError
from tftjax.evaluate import baselines
from tftjax.evaluate.baselines import BASELINES, FITTED, POOLED, Task, Unavailable, unconditional_quantiles
from tftjax.evaluate.metrics import pinball

QUANTILES = (0.1, 0.5, 0.9)


def make_task(num_rows=97, train=range(61), first=71, windows=7, steps=3, quantiles=QUANTILES):
    """Returns whose volatility clusters, a VIX that follows it, and a column that says nothing."""
    rng = np.random.default_rng(3)
    volatility = 0.01 * np.exp(0.5 * np.sin(np.arange(num_rows) / 7))
    observed = {
        "VIX": 1000 * volatility * rng.uniform(0.9, 1.1, num_rows),
        "noise": rng.normal(size=num_rows),
    }
    rows = np.arange(first, first + windows)[:, None] + np.arange(steps)
    dates = pd.bdate_range("2001-01-01", periods=num_rows)
    return Task(volatility * rng.normal(size=num_rows), observed, train, rows, quantiles, dates, "VIX")


def simple_task(returns, train, target_rows, quantiles, **observed):
    columns = {name: np.asarray(values, float) for name, values in observed.items()}
    names = [name for name in columns if name in VOLATILITY_COLUMNS]
    dates = pd.bdate_range("2001-01-01", periods=len(returns))
    volatility = names[0] if names else None
    return Task(
        np.asarray(returns, float), columns, train, np.asarray(target_rows), quantiles, dates, volatility
    )


def beside(task):
    """Another series: larger returns, other train rows, other windows."""
    other = make_task(num_rows=83, train=range(2, 57), first=60, windows=5)
    return other._replace(returns=3 * other.returns[::-1], quantiles=task.quantiles)


# Of one series each; those of all series at once have another one beside.
EVERY = BASELINES | {
    name: lambda task, pooled=pooled: pooled([task, beside(task)])[0] for name, pooled in POOLED.items()
}


@functools.cache
def forecast_of(name, train_start=0):
    """A baseline's forecast of the usual task."""
    return EVERY[name](make_task(train=range(train_start, 61)))


def test_unconditional_quantiles_by_hand():
    # Sorted 0 1 2 4; level q lies at position 3 q: 0.25 -> 0.75, 0.5 -> 1.5, 0.9 -> 2.7.
    result = unconditional_quantiles(np.array([4.0, 0.0, 2.0, 1.0]), (0.25, 0.5, 0.9), 5, 2)
    assert result.shape == (5, 2, 3)
    np.testing.assert_allclose(result, np.broadcast_to([0.75, 1.5, 2 + 0.7 * 2], (5, 2, 3)), rtol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_baselines_have_the_shape_of_the_model_and_ascend(name):
    forecast = forecast_of(name)
    assert forecast.shape == (7, 3, 3)
    assert forecast.dtype == np.float64
    assert (np.diff(forecast, axis=-1) > 0).all()


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=5, deadline=None)
@given(cut=st.integers(72, 77), factor=st.floats(-900.0, 900.0), train_start=st.sampled_from([0, 5]))
def test_baselines_are_causal(name, cut, factor, train_start):
    task = make_task(train=range(train_start, 61))
    forecast = forecast_of(name, train_start)
    changed = {column: values.copy() for column, values in {"ret": task.returns, **task.observed}.items()}
    for values in changed.values():
        values[cut:] = np.abs(values[cut:] * factor) + 1
    changed["ret"][cut:] *= -1  # a GJR-GARCH may answer to losses alone
    other = EVERY[name](task._replace(returns=changed.pop("ret"), observed=changed))
    # Windows whose first target row is `cut` or earlier have only older rows to go by.
    before = task.target_rows[:, 0] <= cut
    np.testing.assert_array_equal(other[before], forecast[before])
    if name != "unconditional" and cut < 77 and train_start == 0:  # else GJR-GARCH fits no reaction
        assert not np.array_equal(other, forecast)


@pytest.mark.parametrize("name", EVERY)
def test_baselines_estimate_on_train_rows_only(name):
    """Rows before the train rows and between them and the past of a window have no say in the estimates."""
    task = make_task(num_rows=400, train=range(30, 90), first=393)
    changed = {column: values.copy() for column, values in {"ret": task.returns, **task.observed}.items()}
    for values in changed.values():
        values[100:135] *= 3  # more than a year before the windows, after training
    other = EVERY[name](task._replace(returns=changed.pop("ret"), observed=changed))
    # A filter remembers, a little: 0.94^258 is 1e-7.
    np.testing.assert_allclose(other, EVERY[name](task), rtol=1e-4)


@pytest.mark.parametrize("name", [*FITTED, *POOLED])
def test_the_same_task_gives_the_same_bits(name):
    np.testing.assert_array_equal(EVERY[name](make_task()), forecast_of(name))


def test_unconditional_looks_at_train_rows_only():
    task = simple_task([7, 1, 2, 3, 100, 100], range(1, 4), [[4], [5]], (0.5,))
    np.testing.assert_array_equal(BASELINES["unconditional"](task), [[[2.0]], [[2.0]]])


def test_missing_train_returns_are_refused():
    with pytest.raises(UserError, match="row 1 of them is nan"):
        unconditional_quantiles(np.array([0.1, np.nan]), (0.5,), 1, 1)
    with pytest.raises(UserError, match="there are none"):
        unconditional_quantiles(np.array([]), (0.5,), 1, 1)


def test_rolling_by_hand(monkeypatch):
    monkeypatch.setattr(baselines, "ROLLING_ROWS", 3)
    task = simple_task([9, 1, 5, 4, 2, 8, 0], range(2), [[2, 3], [3, 4], [5, 6]], (0.5,))
    # Medians of 9 1 (all there is), of 9 1 5, and of 5 4 2; one for both steps.
    np.testing.assert_array_equal(BASELINES["rolling"](task)[..., 0], [[5, 5], [5, 5], [4, 4]])


def test_ewma_scaled_by_hand():
    # Weights of the squares: 1; 0.94, 1; 0.94^2, 0.94, 1; ...
    task = simple_task([2.0, -2.0, 3.0, 1.0, -5.0, 7.0], range(0, 4), [[4], [5]], (0.5,))
    before_3 = (0.94**2 * 4 + 0.94 * 4 + 9) / (0.94**2 + 0.94 + 1)
    before_4 = (0.94 * (0.94**2 * 4 + 0.94 * 4 + 9) + 1) / (0.94**3 + 0.94**2 + 0.94 + 1)
    before_5 = (0.94**4 * 4 + 0.94**3 * 4 + 0.94**2 * 9 + 0.94 + 25) / sum(0.94**n for n in range(5))
    scaled = np.median([3.0 / 2.0, 1.0 / np.sqrt(before_3)])  # the first half of the train rows is left out
    forecast = BASELINES["ewma_scaled"](task)
    np.testing.assert_allclose(forecast[:, 0, 0], scaled * np.sqrt([before_4, before_5]), rtol=1e-12)


def test_ewma_scaled_agrees_with_pandas():
    returns = np.random.default_rng(5).normal(0, 0.01, 97)
    task = simple_task(returns, range(71), np.arange(71, 97)[:, None], (0.1, 0.5))
    volatility = np.sqrt(pd.Series(returns**2).ewm(alpha=0.06, adjust=True).mean().to_numpy())
    levels = np.quantile(returns[20:71] / volatility[19:70], (0.1, 0.5))
    forecast = BASELINES["ewma_scaled"](task)
    np.testing.assert_allclose(forecast[:, 0], levels * volatility[70:96, None], rtol=1e-12)


def test_vix_scaled_by_hand():
    vix = [10, 20, 40, np.nan, 5, 80]
    task = simple_task([9.0, 1.0, 4.0, 8.0, 1.0, 7.0], range(0, 4), [[4], [5]], (0.5,), VIX=vix)
    # Returns over the VIX of the row before: 1 / 10, 4 / 20, 8 / 40; row 3 has none of its own, so 40 stays.
    np.testing.assert_allclose(BASELINES["vix_scaled"](task)[:, 0, 0], [0.2 * 40, 0.2 * 5], rtol=1e-12)
    named = task._replace(observed={"VIX": np.ones(6), "VXO": task.observed["VIX"]}, volatility="VXO")
    np.testing.assert_allclose(BASELINES["vix_scaled"](named)[:, 0, 0], [8, 1], rtol=1e-12)


@pytest.mark.parametrize("train_start", [0, 1, 2])
def test_vix_scaled_of_a_vix_that_begins_late(train_start):
    returns, vix = [9.0, 1.0, 4.0, 8.0, 1.0, 7.0], [np.nan, 10, 20, 40, 5, 80]
    task = simple_task(returns, range(train_start, 4), [[4], [5]], (0.5,), VIX=vix)
    # The first return with a VIX before it is that of row 2: 4 / 10, 8 / 20.
    np.testing.assert_allclose(BASELINES["vix_scaled"](task)[:, 0, 0], [0.4 * 40, 0.4 * 5], rtol=1e-12)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ({"other": np.ones(6)}, "no column VIX or Realized_Vol_21d"),
        ({"VIX": np.array([1, 2, 0, 4, 5, 6.0])}, "VIX is not above 0"),
        ({"VIX": np.array([np.nan] * 4 + [5, 6])}, "VIX has no value in the train rows"),
        ({"VIX": np.array([np.nan] * 3 + [4, 5, 6])}, "VIX has no value in the train rows"),
        ({"VIX": np.full(6, np.nan)}, "VIX has no value in the train rows"),
    ],
)
def test_vix_scaled_says_why_it_cannot(column, reason):
    with pytest.raises(Unavailable, match=reason):
        BASELINES["vix_scaled"](simple_task(np.arange(6.0), range(0, 4), [[4], [5]], (0.5,), **column))


def test_quantile_regression_is_the_solution_of_its_linear_program():
    from scipy.optimize import linprog

    task = make_task(num_rows=211, train=range(151), first=151, windows=60, quantiles=(0.05, 0.5, 0.9))
    forecast = BASELINES["quantile_regression"](task)
    columns = np.column_stack([np.ones(211), task.returns, *task.observed.values()])
    for step in range(3):
        x, y, expected = columns[: 150 - step], task.returns[1 + step : 151], []
        for level in task.quantiles:
            # Koenker and Bassett's program: residuals u - v, u and v at least 0.
            identity = np.eye(len(y))
            cost = np.concatenate([np.zeros(4), np.full(len(y), level), np.full(len(y), 1 - level)])
            bounds = [(None, None)] * 4 + [(0, None)] * (2 * len(y))
            solved = linprog(cost, A_eq=np.hstack([x, identity, -identity]), b_eq=y, bounds=bounds)
            expected.append(columns[task.target_rows[:, 0] - 1] @ solved.x[:4])
        np.testing.assert_allclose(forecast[:, step], np.sort(np.transpose(expected)), atol=3e-6)


def test_quantile_regression_of_missing_and_constant_columns():
    task = make_task()
    plain = BASELINES["quantile_regression"](task)
    train = task.observed["VIX"][:61]
    filled, missing = task.observed["VIX"].copy(), task.observed["VIX"].copy()
    missing[[7, 72]] = np.nan
    filled[[7, 72]] = np.delete(train, 7).mean()
    observed = {"VIX": missing, "noise": task.observed["noise"]}
    with_nan = BASELINES["quantile_regression"](task._replace(observed=observed))
    with_mean = BASELINES["quantile_regression"](task._replace(observed=observed | {"VIX": filled}))
    np.testing.assert_allclose(with_nan, with_mean, atol=1e-6)
    assert not np.allclose(with_nan, plain, atol=1e-6)
    still = np.where(np.arange(97) < 61, 5.0, np.arange(97.0))
    observed = task.observed | {"still": still, "empty": np.full(97, np.nan)}
    with_still = BASELINES["quantile_regression"](task._replace(observed=observed))
    np.testing.assert_array_equal(with_still, plain)


def test_a_fit_that_does_not_converge_is_unavailable(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_ITERATIONS", 2)
    with pytest.raises(Unavailable, match=r"the 0\.1 quantile failed"):
        BASELINES["quantile_regression"](make_task())
    for name in ("garch", "gjr_garch", "egarch", "log_scale", "gjr_vix"):
        with pytest.raises(Unavailable, match="did not converge"):
            BASELINES[name](make_task()._replace(returns=np.zeros(97)))


RAW = Path(__file__).resolve().parents[3] / "shared" / "data" / "core_proposal_raw"


@pytest.mark.skipif(not RAW.is_dir(), reason="the raw series 1990-2025 are not beside the project")
def test_log_scale_beats_gjr_garch_on_the_sp500():
    """Fitted once on 1990 to 2005, judged on 2006 to 2015."""
    data = {"dataset": str(RAW), "feature_set": "core_proposal", "end": "2015-12-31"}
    frame = load_panel(from_dict({"data": data}, "test").data).frame
    returns, first = frame["SP500_Returns"].to_numpy(), int((frame.index.year < 2006).sum())
    rows = np.arange(first, len(frame))[:, None]
    levels = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
    task = Task(returns, {"VIX": frame["VIX"].to_numpy()}, range(first), rows, levels, frame.index, "VIX")
    losses = {
        name: pinball(BASELINES[name](task), returns[rows], levels)
        for name in ("gjr_garch", "gjr_vix", "log_scale")
    }
    gains = {name: 1 - loss / losses["gjr_garch"] for name, loss in losses.items()}
    assert gains["log_scale"] > 0.008  # 0.98 %
    assert 0.004 < gains["gjr_vix"] < gains["log_scale"]  # 0.62 %


@pytest.mark.parametrize("name", POOLED)
def test_pooled_baselines_learn_from_the_train_rows_of_other_series_alone(name):
    task = make_task()
    other = beside(task)
    forecast = POOLED[name]([task, other])[0]
    for row, same in ((57, True), (56, False)):  # the other's first row after training, and its last before
        returns = other.returns.copy()
        returns[row] *= -5
        found = POOLED[name]([task, other._replace(returns=returns)])[0]
        assert np.array_equal(found, forecast) == same


@pytest.mark.parametrize("train", [range(2), range(60, 61)])
def test_pooled_log_scale_of_a_series_with_fewer_train_rows_than_steps(train):
    """Of the third step it has no train row, and the other series has all of them."""
    task = make_task()
    found = POOLED["pooled_log_scale"]([task, task._replace(train_rows=train)])
    assert all(np.isfinite(values).all() for values in found)


def test_pooled_log_scale_of_one_series_is_log_scale():
    task = make_task(num_rows=401, train=range(331), first=340)
    found = POOLED["pooled_log_scale"]([task])[0]
    np.testing.assert_allclose(found, BASELINES["log_scale"](task), rtol=2e-3)


def test_pooled_log_scale_knows_each_series_level_and_no_unit():
    task = make_task()
    other = beside(task)
    found = POOLED["pooled_log_scale"]([task, other])
    louder = other._replace(
        returns=100 * other.returns, observed=other.observed | {"VIX": 7 * other.observed["VIX"]}
    )
    scaled = POOLED["pooled_log_scale"]([task, louder])
    np.testing.assert_allclose(scaled[0], found[0], rtol=1e-4)
    np.testing.assert_allclose(scaled[1], 100 * found[1], rtol=1e-4)


def test_pooled_log_scale_has_the_quantiles_of_all_train_residuals():
    # In the rows that it is fitted to, as many returns lie below a quantile as its level says: of all series.
    tasks = [make_task(num_rows=401, train=range(301)), make_task(num_rows=350, train=range(307))]
    tasks[1] = tasks[1]._replace(returns=np.abs(tasks[1].returns) ** 3)
    rows = [np.arange(63, len(task.train_rows))[:, None] for task in tasks]
    tasks = [task._replace(target_rows=r) for task, r in zip(tasks, rows, strict=True)]
    found = POOLED["pooled_log_scale"](tasks)
    below = [task.returns[r] <= f[:, 0] for task, r, f in zip(tasks, rows, found, strict=True)]
    np.testing.assert_allclose(np.concatenate(below).mean(axis=0), QUANTILES, atol=1 / 482)
    assert not np.allclose(below[0].mean(axis=0), QUANTILES, atol=0.05)


def test_pooled_log_scale_does_without_a_garch_or_a_volatility(monkeypatch):
    task, still = make_task(), make_task()._replace(returns=np.tile([0.01, -0.01], 49)[:97])
    bare = still._replace(observed={"VIX": np.full(97, np.nan)})
    monkeypatch.setattr(
        baselines.garch_models,
        "fit_garch",
        lambda train, kind, fit=baselines.garch_models.fit_garch: (
            fit(train, kind) if len(set(np.abs(train))) > 1 else None
        ),
    )
    found = POOLED["pooled_log_scale"]([bare, task])
    assert all(np.isfinite(values).all() for values in found)
    with pytest.raises(Unavailable, match="did not converge"):
        POOLED["pooled_log_scale"]([task._replace(returns=np.zeros(97))])


def test_lightgbm_has_the_quantiles_of_the_rows_of_a_leaf(monkeypatch):
    # One tree of two leaves that is taken whole: the quantiles of each half of the rows, whatever its place.
    one_tree = {"num_leaves": 2, "learning_rate": 1.0, "min_data_in_leaf": 20}
    monkeypatch.setattr(baselines, "BOOSTING", baselines.BOOSTING | one_tree)
    monkeypatch.setattr(baselines, "TREES", 1)
    half = np.arange(402) % 2
    shocks = np.random.default_rng(1).permutation(np.linspace(-1, 1, 402)) * (1 + 4 * half)
    fitted = baselines._boosted(importlib.import_module("lightgbm"), half[:, None] * 1.0, shocks, QUANTILES)
    expected = [np.quantile(shocks[half == of], QUANTILES) for of in (0, 1)]
    np.testing.assert_allclose(fitted(np.array([[0.0], [1.0]])), expected, atol=0.03)


def test_lightgbm_of_few_rows_is_log_scale():
    # No leaf has rows enough: the quantiles are those of all residuals, up to interpolation.
    task = make_task(num_rows=801, train=range(701), first=740)
    expected = BASELINES["log_scale"](task)
    np.testing.assert_allclose(BASELINES["lightgbm"](task), expected, atol=0.02 * np.abs(expected).max())


def test_what_is_not_installed_is_told_from_what_fails(monkeypatch):
    def without_openmp(name):
        raise OSError("libgomp.so.1: no such file")

    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(baselines.NotInstalled, match=r"needs the extra: pip install 'tftjax\[lightgbm\]'"):
        BASELINES["lightgbm"](make_task())
    monkeypatch.setattr(baselines.importlib, "import_module", without_openmp)
    with pytest.raises(Unavailable, match=r"cannot be loaded \(libgomp") as found:
        BASELINES["lightgbm"](make_task())
    assert not isinstance(found.value, baselines.NotInstalled)
