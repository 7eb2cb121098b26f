"""The forecaster of sktime: that library's own checks, and its numbers against those of the run behind it."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from tiny import ROOT

import tftjax
from tftjax.integrations import sktime as adapter
from tftjax.integrations.sktime import TFTForecaster

if adapter.MISSING is None:
    from sktime.forecasting.base import ForecastingHorizon
    from sktime.forecasting.compose import TransformedTargetForecaster
    from sktime.forecasting.model_evaluation import evaluate
    from sktime.performance_metrics.forecasting.probabilistic import CRPS, PinballLoss
    from sktime.split import ExpandingWindowSplitter
    from sktime.transformations.difference import Differencer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("in_process", "quick_evaluation"),
    pytest.mark.filterwarnings("ignore"),  # sktime and skpro warn of what their own code will change
]
needs_sktime = pytest.mark.skipif(
    adapter.MISSING is not None, reason="the extra sktime is missing: pip install 'tftjax[sktime]'"
)


def tiny(**arguments):
    return TFTForecaster(**TFTForecaster.get_test_params()[0] | arguments)


def noise(index, seed=1):
    return pd.Series(3 + np.random.default_rng(seed).normal(size=len(index)), index, name="level")


@needs_sktime
def test_passes_the_checks_of_sktime(commands):
    """In a process of its own, as they look at signatures, which the tests' check of types hides."""
    command = [sys.executable, "tests/integrations/checks.py"]
    done = subprocess.run(command, cwd=ROOT, env=commands.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    number, failed = json.loads(done.stdout.splitlines()[-1])
    assert number > 400
    assert failed == {}


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(adapter, "MISSING", ImportError("No module named 'sktime'"))
    with pytest.raises(tftjax.UserError, match=r"No module named 'sktime'.*pip install 'tftjax\[sktime\]'"):
        TFTForecaster()


@pytest.fixture(scope="module")
def monthly():
    """A forecaster of 23 months with a known and an observed column, and the known one's next months."""
    months = pd.period_range("2001-02", periods=26, freq="M")
    X = pd.DataFrame({"tax": np.arange(26.0), 7: np.arange(26.0) ** 2}, months)
    y = noise(months[:23])
    forecaster = tiny(observed=[7])
    return forecaster.fit(y, X[:23], fh=[1, 3]), y, X[23:]


@needs_sktime
def test_quantiles_are_those_of_the_run(monthly):
    forecaster, _, X = monthly
    config = forecaster.run_.config
    assert (config.data.columns.known_real, config.data.columns.observed) == (("tax",), ("7",))
    assert (config.model.prediction_length, config.data.target_transform) == (3, "as_is")
    dates = [str(date.date()) for date in forecaster.run_.trained[0].data.panel.frame.index[[0, -1]]]
    assert dates == ["2001-02-28", "2002-12-31"]
    future = pd.DataFrame({"date": X.index.to_timestamp(how="end").normalize(), "tax": X["tax"].to_numpy()})
    direct = forecaster.run_.predict(future=future, quantiles=[0.1, 0.5, 0.9])
    found = forecaster.predict_quantiles(X=X, alpha=[0.9, 0.1])
    assert found.columns.tolist() == [("level", 0.9), ("level", 0.1)]
    assert found.index.equals(X.index[[0, 2]])
    np.testing.assert_array_equal(found, direct[["0.9", "0.1"]].iloc[[0, 2]])
    np.testing.assert_array_equal(forecaster.predict(X=X), direct["0.5"].iloc[[0, 2]])
    interval = forecaster.predict_interval(X=X, coverage=0.8)
    np.testing.assert_array_equal(interval, direct[["0.1", "0.9"]].iloc[[0, 2]])
    copy = pickle.loads(pickle.dumps(forecaster))
    np.testing.assert_array_equal(copy.predict(X=X), direct["0.5"].iloc[[0, 2]])


@needs_sktime
def test_a_text_is_one_name():
    forecaster = TFTForecaster(settings={"known": "month", "batch_size": 4}, observed="vix")
    forecaster._counted, forecaster._rows = False, pd.DataFrame({"y": [1.0], "vix": [2.0], "tax": [3.0]})
    fields = forecaster._fields(pd.DataFrame({"date": pd.date_range("2001-01-31", periods=9, freq="ME")}), 1)
    assert (fields["known"], fields["observed"]) == (["month", "tax"], ["vix"])


@needs_sktime
def test_a_distribution_is_a_sample_of_quantiles(monthly):
    forecaster, _, X = monthly
    proba, levels = forecaster.predict_proba(X=X), [n / 100 for n in range(1, 100)]
    quantiles = forecaster.predict_quantiles(X=X, alpha=levels)["level"].to_numpy()
    assert proba.shape == (2, 1)
    np.testing.assert_allclose(proba.mean()["level"], quantiles.mean(axis=1))
    np.testing.assert_allclose(proba.ppf(0.9)["level"], quantiles[:, 89])
    np.testing.assert_allclose(forecaster.predict_var(X=X)["level"], quantiles.var(axis=1))


@needs_sktime
def test_new_rows_are_forecast_from_by_the_same_weights(monthly):
    forecaster, y, X = monthly
    moved = pickle.loads(pickle.dumps(forecaster))
    more = noise(X.index[:1], seed=2)
    moved.update(more, X[:1])
    later = pd.DataFrame({"tax": [26.0, 27.0, 28.0]}, X.index + 1)
    assert moved.predict(X=later).index.tolist() == [later.index[0], later.index[2]]
    frame = pd.DataFrame(
        {"y": [*y, *more], "tax": np.arange(24.0), "7": np.arange(24.0) ** 2},
        pd.period_range("2001-02", periods=24, freq="M").to_timestamp(how="end").normalize(),
    )
    future = later.set_axis(later.index.to_timestamp(how="end").normalize())
    direct = forecaster.run_.predict(frame, future=future)
    np.testing.assert_array_equal(moved.predict(X=later), direct["0.5"].iloc[[0, 2]])
    with pytest.raises(tftjax.UserError, match="X: found None, expected the values of tax"):
        forecaster.predict()


@needs_sktime
def test_series_of_a_panel_share_a_model_and_end_where_they_end():
    rows = [("b", range(3, 14)), ("a", range(5, 20))]
    index = pd.MultiIndex.from_tuples([(name, time) for name, times in rows for time in times])
    forecaster = tiny().fit(noise(index).to_frame(), fh=[1, 2])
    frame = forecaster.run_.trained[0].data.panel.frame
    # Times that are no dates are counted, over all series.
    spans = frame.groupby("series", observed=True).apply(
        lambda part: [str(d.date()) for d in part.index[[0, -1]]]
    )
    assert spans.to_dict() == {"a": ["1700-01-03", "1700-01-17"], "b": ["1700-01-01", "1700-01-11"]}
    found = forecaster.predict()
    assert found.index.tolist() == [("b", 14), ("b", 15), ("a", 20), ("a", 21)]
    direct = forecaster.run_.predict().set_index("series")["0.5"]
    np.testing.assert_array_equal(found["level"], [*direct["b"], *direct["a"]])
    assert forecaster.predict_proba().mean().index.equals(found.index)


@needs_sktime
def test_each_series_goes_on_after_its_own_last_date(monthly):
    """Weeks: the next dates of two series, of which one ends two weeks earlier; no training is needed."""
    forecaster, _, _ = monthly
    weeks = pd.date_range("2001-01-07", periods=9, freq="W-SUN")
    pairs = [("a", week) for week in weeks] + [("b", week) for week in weeks[:7]]
    other = pickle.loads(pickle.dumps(forecaster))
    other._rows = noise(pd.MultiIndex.from_tuples(pairs)).to_frame()
    other._cutoff = pd.DatetimeIndex([weeks[-1]])  # as sktime has it of a panel, without a frequency
    fh = ForecastingHorizon([1, 3], is_relative=True)
    found = {name: other._index(fh, times).tolist() for name, _, times in adapter._series(other._rows)}
    days = {"a": ["2001-03-11", "2001-03-25"], "b": ["2001-02-25", "2001-03-11"]}
    assert found == {name: [pd.Timestamp(day) for day in own] for name, own in days.items()}
    with pytest.raises(tftjax.UserError, match=r"y: found dates from 2001-01-07 .* without a frequency"):
        other._index(fh, weeks[[0, 1, 4, 6]])


@needs_sktime
def test_validation_chooses_the_epochs_of_a_model_of_all_rows():
    y = noise(pd.date_range("2001-01-01", periods=41))
    forecaster = tiny(validation=0.2).fit(y, fh=[2])
    # 8 of 41 rows validate, the last 2 test, 2 are left out between two splits.
    blocks = forecaster.chosen_.trained[0].data.blocks
    assert blocks[0].splits == (range(0, 27), range(29, 37), range(39, 41))
    (final,) = forecaster.run_.trained
    assert final.data.blocks[0].splits.train == range(0, 41)
    assert ("test", "unconditional") in forecaster.chosen_.metrics.index
    assert forecaster.predict().index.tolist() == [pd.Timestamp("2001-02-12")]


@needs_sktime
def test_splitters_metrics_and_pipelines_work():
    y = noise(pd.date_range("2001-01-01", periods=22)).cumsum()
    cv = ExpandingWindowSplitter(initial_window=20, fh=[1], step_length=1)
    table = evaluate(tiny(), cv, y, scoring=[CRPS(), PinballLoss()], strategy="no-update_params")
    scores = table[["test_CRPS", "test_PinballLoss"]]
    assert scores.shape == (2, 2)
    assert (scores > 0).all(axis=None)
    pipeline = TransformedTargetForecaster([Differencer(), tiny()]).fit(y, fh=[1])
    change = tiny().fit(y.diff().fillna(0.0), fh=[1]).predict()
    np.testing.assert_allclose(pipeline.predict(), y.iloc[-1] + change)


@needs_sktime
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": 3}, "seeds: found 3 with validation 0, expected 1"),
        ({"seeds": 0}, "seeds: found 0, expected a whole number of at least 1"),
        ({"validation": 1.5}, "validation: found 1.5, expected a share from 0 to below 1"),
        (
            {"settings": {"model.prediction_length": 3}},
            "prediction_length', which the forecasting horizon gives",
        ),
        ({"settings": {"hidden_sise": 3}}, "hidden_sise: unknown setting"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(tftjax.UserError, match=message):
        tiny(**arguments).fit(noise(pd.date_range("2001-01-01", periods=20)), fh=[1])


@needs_sktime
def test_names_that_the_forecaster_needs():
    days = pd.date_range("2001-01-01", periods=20)
    with pytest.raises(tftjax.UserError, match="X: found a column 'date'"):
        tiny().fit(noise(days), pd.DataFrame({"date": np.arange(20.0)}, days), fh=[1])
