"""Scales of a target: their parameters as JSON, the same sigma as the baselines', what cannot be fitted."""

import json
import logging
import re

import numpy as np
import pandas as pd
import pytest

from tftjax.config.data import DataConfig
from tftjax.config.loading import from_dict
from tftjax.data.encoding import encoding_from_json, encoding_to_json, fit_encoding, with_target_scale
from tftjax.data.panel import make_panel
from tftjax.data.scales import log_scale
from tftjax.data.scales.target import LOG_SCALE, TARGET_SCALES, rows_needed
from tftjax.data.windows import make_series
from tftjax.errors import UserError
from tftjax.evaluate.baselines import BASELINES, Task

ROWS, TRAIN = 331, range(0, 251)


def panel_of(returns, vix, **columns):
    frame = pd.DataFrame(
        {"y": returns, "VIX": vix, **columns}, pd.bdate_range("2001-01-01", periods=len(vix))
    )
    return make_panel(frame, target="y", observed=("y", "VIX", *columns))


def calm_and_stormy(num_rows=ROWS, seed=2):
    rng = np.random.default_rng(seed)
    sigma = 0.01 * np.exp(0.7 * np.sin(np.arange(num_rows) / 23))
    return sigma * rng.standard_t(6, num_rows), 1000 * sigma * np.exp(0.1 * rng.normal(size=num_rows))


@pytest.mark.parametrize("scale", ["ewma", "gjr", "log_scale", "column:VIX"])
def test_what_is_stored_gives_the_same_scale(scale):
    panel = panel_of(*calm_and_stormy())
    encoding = fit_encoding(panel, [TRAIN], scale)
    text = json.dumps(encoding_to_json(encoding), allow_nan=False)
    again = encoding_from_json(json.loads(text))
    expected = make_series(panel, encoding)
    for name, array in make_series(panel, again)._asdict().items():
        np.testing.assert_array_equal(array, getattr(expected, name))
    assert with_target_scale(panel, again).observed == ("y", "VIX", LOG_SCALE)


@pytest.mark.parametrize(("scale", "baseline"), [("log_scale", "log_scale"), ("gjr", "gjr_garch")])
def test_the_scale_is_the_sigma_of_the_baseline(scale, baseline):
    returns, vix = calm_and_stormy()
    panel = panel_of(returns, vix)
    rows = np.arange(260, 330)
    task = Task(returns, {"VIX": vix}, TRAIN, rows[:, None], (0.1, 0.9), panel.frame.index, "VIX")
    low, high = BASELINES[baseline](task)[:, 0].T  # both are sigma times a constant
    scaled = with_target_scale(panel, fit_encoding(panel, [TRAIN], scale))
    sigma = np.exp(scaled.frame[LOG_SCALE].to_numpy())[rows - 1]
    ratio = (high - low) / sigma
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_rows_of_the_future_have_no_scale():
    returns, vix = calm_and_stormy()
    returns[-2:], vix[-2:] = np.nan, np.nan
    panel = panel_of(returns, vix)
    for scale in ("ewma", "gjr", "log_scale"):
        known = with_target_scale(panel, fit_encoding(panel, [TRAIN], scale)).frame[LOG_SCALE]
        assert np.isnan(known.to_numpy()).tolist() == [False] * (ROWS - 2) + [True, True]


def test_a_fit_that_fails_falls_back_and_says_so(caplog):
    returns, vix = calm_and_stormy()
    short = panel_of(returns, vix)
    with caplog.at_level(logging.WARNING):
        encoding = fit_encoding(short, [range(0, 23)], "log_scale")  # fewer rows than features
    assert "data.target_scale 'log_scale' could not be fitted: ewma takes its place" in caplog.text
    expected = make_series(short, fit_encoding(short, [range(0, 23)], "ewma"))
    np.testing.assert_array_equal(make_series(short, encoding).volatility, expected.volatility)


def test_the_volatility_is_chosen_by_name():
    returns, vix = calm_and_stormy()
    panel = panel_of(returns, np.ones(ROWS), VXO=vix)
    found = fit_encoding(panel, [TRAIN], "log_scale", volatility="VXO").scales[0]
    assert found["volatility"] == "VXO"
    with pytest.raises(UserError, match=r"data\.volatility: found 'VXN', expected one of .*: VIX, VXO"):
        fit_encoding(panel, [TRAIN], "log_scale", volatility="VXN")


def test_a_column_of_that_name_is_refused():
    returns, vix = calm_and_stormy()
    panel = panel_of(returns, vix)
    taken = panel.frame.assign(**{LOG_SCALE: 1})
    panel = make_panel(taken, target="y", observed=("y", "VIX"), known_categorical=(LOG_SCALE,))
    with pytest.raises(UserError, match="found a column 'log_scale', a name that the target's scale needs"):
        fit_encoding(panel, [TRAIN], "ewma")


def test_every_scale_needs_rows_to_forget():
    assert all(scale.burn_in >= 1 and scale.rows >= 1 for scale in TARGET_SCALES.values())


def test_the_config_has_the_names_of_the_target_scales():
    pattern = DataConfig.model_json_schema()["properties"]["target_scale"]["pattern"]
    assert set(re.findall("[a-z_]+", pattern)) == {"none", *TARGET_SCALES}


def test_an_observed_column_of_that_name_is_refused_too():
    returns, vix = calm_and_stormy()
    panel = panel_of(returns, vix, **{LOG_SCALE: np.arange(ROWS) * 1.0})
    with pytest.raises(UserError, match="found a column 'log_scale', a name that the target's scale needs"):
        fit_encoding(panel, [TRAIN], "ewma")


def features_of(returns, vix, scale="log_scale"):
    """The panel, its encoding with features, and the panel that it makes after a way through JSON."""
    panel = panel_of(returns, vix)
    encoding = fit_encoding(panel, [TRAIN], scale, scale_features=True)
    again = encoding_from_json(json.loads(json.dumps(encoding_to_json(encoding), allow_nan=False)))
    return panel, encoding, with_target_scale(panel, again)


@pytest.mark.parametrize("scale", ["ewma", "gjr", "log_scale", "pooled_log_scale", "column:VIX"])
def test_features_of_the_scale_are_inputs(scale):
    returns, vix = calm_and_stormy()
    panel, encoding, made = features_of(returns, vix, scale)
    expected = log_scale.features(returns, panel.frame.index, vix, None)
    assert made.observed == ("y", "VIX", LOG_SCALE, *expected)
    for name, values in expected.items():
        found, known = made.frame[name].to_numpy(), np.isfinite(values)
        np.testing.assert_array_equal(found[known], values[known])
        mean = values[: TRAIN.stop][known[: TRAIN.stop]].mean()
        np.testing.assert_allclose(found[~known], mean)
        scaler = encoding.scaler[name]
        np.testing.assert_allclose(scaler.center[0], found[: TRAIN.stop].mean())
    assert not np.isfinite(expected["log_volatility_change_5"][:5]).any()  # the means do stand for something
    # The scale itself does not change.
    plain = with_target_scale(panel, fit_encoding(panel, [TRAIN], scale))
    np.testing.assert_array_equal(plain.frame[LOG_SCALE], made.frame[LOG_SCALE])


def test_features_need_the_rows_that_they_remember():
    _, encoding, _ = features_of(*calm_and_stormy(), "column:VIX")
    assert rows_needed("column:VIX", encoding.scales) == 75
    assert rows_needed("column:VIX", [{"column": "VIX"}]) == rows_needed("none", ()) == 1
    assert rows_needed("gjr", encoding.scales) == 250
    assert [rows_needed("ewma", [one], True) for one in ({}, encoding.scales[0])] == [20, 75]


def test_features_see_no_later_row():
    returns, vix = calm_and_stormy()
    _, _, before = features_of(returns, vix)
    row = TRAIN.stop + 20
    returns[row:], vix[row:] = 0.07, 91.0
    _, _, after = features_of(returns, vix)
    pd.testing.assert_frame_equal(before.frame.iloc[:row], after.frame.iloc[:row])
    assert not before.frame.iloc[row].equals(after.frame.iloc[row])


def test_features_need_a_scale_and_names_of_their_own():
    with pytest.raises(UserError, match=r"data\.scale_features: .*set data\.target_scale"):
        from_dict({"data": {"scale_features": True}}, "test")
    returns, vix = calm_and_stormy()
    panel = panel_of(returns, vix, monday=vix)
    with pytest.raises(UserError, match="found a column 'monday', a name that the target's scale needs"):
        fit_encoding(panel, [TRAIN], "ewma", scale_features=True)
    # A scale that could not be fitted has its features all the same.
    short = fit_encoding(panel_of(returns, vix), [range(0, 23)], "log_scale", scale_features=True)
    assert with_target_scale(panel_of(returns, vix), short).frame["monday"].notna().all()
