"""Ages and regime columns: by hand, gathered, stored, and refused where a variant cannot be had."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from tftjax.config.loading import Config, from_dict
from tftjax.config.model import PLAIN, AttentionConfig, RegimeConfig, StalenessConfig
from tftjax.data.checks import check_data, check_regimes
from tftjax.data.conditions import regime_of, regime_values, variable_ages
from tftjax.data.encoding import encoding_from_json, encoding_to_json, fit_encoding
from tftjax.data.panel import make_panel, read_panel, write_panel
from tftjax.data.prepared import prepare
from tftjax.data.windows import gather, make_series
from tftjax.errors import UserError
from tftjax.predict.rows import extend_panel

N, E, P = 19, 5, 2
CPI = [7.0, 8, 11, 12, 13, 14, 15, 18, 19, 0, 1, 4, 5, 6, 7, 8, 11, 12, 0]
RATE = [0.0, 1, 4, 5, 6, 0, 1, 4, 5, 6, 7, 8, 11, 12, 13, 0, 1, 4, 5]
STEPS = AttentionConfig(staleness=StalenessConfig(mode="attention"))
VARIABLES = AttentionConfig(staleness=StalenessConfig(mode="variable_selection"))
REGIMES = RegimeConfig(by="thresholds", column="vix", thresholds=(15.0,))


def panel(**changes):
    row = np.arange(N, dtype=np.float64)
    index = pd.bdate_range("2019-01-01", periods=N)
    frame = pd.DataFrame(
        {
            "y": np.sin(row) / 100,
            "cpi": row // 9,
            "vix": 12 + row % 4 * 2,
            "rate": row // 5,
            "holiday": row % 3,
            "day_of_week": index.day_of_week.to_numpy().astype(np.int64),
        },
        index=index,
    )
    roles = {"target": "y", "observed": ("y", "cpi", "vix", "rate"), "known_real": ("holiday",)}
    ages = pd.DataFrame({"cpi": CPI, "rate": RATE}, index=index.rename("date"))
    return make_panel(frame.assign(**changes), staleness=ages, **roles)


def fit(attention, data=None):
    return fit_encoding(panel() if data is None else data, [range(0, 9)], attention=attention)


def test_without_a_variant_nothing_is_asked_for():
    encoding = fit(PLAIN)
    assert (encoding.staleness, dict(encoding.usual_ages), encoding.regime_column) == ("none", {}, None)
    series = make_series(panel(), encoding)
    assert series.age is None
    assert series.regime is None
    inputs, _ = gather(series, jnp.array([0, 3]), E, P)
    assert inputs.age is None
    assert inputs.regime is None


def test_usual_ages_are_medians_of_train_rows():
    assert fit(VARIABLES).usual_ages == {"cpi": 13, "rate": 4}
    fresh = dataclasses.replace(panel(), staleness=panel().staleness * 0)
    assert fit(VARIABLES, fresh).usual_ages == {"cpi": 1, "rate": 1}


def test_ages_by_hand():
    data = panel()
    steps = make_series(data, fit(STEPS)).age
    np.testing.assert_array_equal(steps, [(np.array(CPI) + RATE) / 2])
    variables = make_series(data, fit(VARIABLES)).age
    assert variables.dtype == steps.dtype == np.float32
    np.testing.assert_allclose(variables[1], np.array(CPI) / 13, rtol=1e-6)
    np.testing.assert_allclose(variables[3], np.array(RATE) / 4, rtol=1e-6)
    np.testing.assert_array_equal(variables[[0, 2]], np.ones((2, N)))


def test_where_a_column_has_no_age_the_usual_one_stands_in():
    data = panel()
    data.staleness.iloc[4, 0] = np.nan
    np.testing.assert_allclose(variable_ages(data, {"cpi": 12.0, "rate": 4.0})[1, 4], 1)


def test_rows_of_the_future_have_no_age_of_their_own():
    data = panel()
    data = make_panel(data.frame, target="y", observed=data.observed, staleness=data.staleness)
    encoding = fit(VARIABLES, data)
    known, future = (make_series(rows, encoding).age for rows in (data, extend_panel(data, P)))
    np.testing.assert_array_equal(future[:, :N], known)
    np.testing.assert_array_equal(future[:, N:], 1)


@pytest.mark.parametrize("compiled", [False, True])
def test_windows_are_gathered(compiled):
    attention = VARIABLES.model_copy(update={"regime": REGIMES})
    data = panel()
    series = make_series(data, fit(attention))
    function = jax.jit(gather, static_argnums=(2, 3)) if compiled else gather
    inputs, _ = function(series, jnp.array([0, 3, 11]), E, P)
    assert inputs.age.shape == (4, E, 3)
    np.testing.assert_array_equal(inputs.age[:, :, 1], series.age[:, 3:8])
    # At the last encoder row, in the column's own unit.
    np.testing.assert_array_equal(inputs.regime, data.frame["vix"].to_numpy()[[4, 7, 15]])


def test_later_rows_change_no_earlier_age():
    later = panel()
    later.staleness.iloc[10:] += 100
    for attention in (STEPS, VARIABLES):
        before, after = (make_series(data, fit(attention, data)).age for data in (panel(), later))
        np.testing.assert_array_equal(before[:, :10], after[:, :10])
        assert (before != after).any()


def test_the_encoding_is_stored(tmp_path):
    encoding = fit(VARIABLES.model_copy(update={"regime": REGIMES}))
    again = encoding_from_json(json.loads(json.dumps(encoding_to_json(encoding))))
    assert again.usual_ages == {"cpi": 13, "rate": 4}
    assert (again.staleness, again.regime_column) == ("variable_selection", "vix")
    write_panel(tmp_path, panel())
    a, b = make_series(panel(), encoding), make_series(read_panel(tmp_path), again)
    np.testing.assert_array_equal(a.age, b.age)
    np.testing.assert_array_equal(a.regime, b.regime)


def test_an_encoding_from_before_has_no_variant():
    content = encoding_to_json(fit(PLAIN))
    for key in ("staleness", "usual_ages", "regime_column"):
        del content[key]
    assert encoding_from_json(content) == fit(PLAIN)._replace(scaler=encoding_from_json(content).scaler)


def test_regimes_as_the_model_counts_them():
    values = np.array([14.9, 15.0, 15.1, 25.0, 26.0], np.float32)
    np.testing.assert_array_equal(regime_of(values, (15.0, 25.0)), [0, 0, 1, 1, 2])
    # As float32, as on the device: 0.1 is above 0.1 as a double there.
    np.testing.assert_array_equal(regime_of(np.array([0.1], np.float32), (0.1,)), [0])


NO_AGES = "found 'attention', and no observed column of low frequency among y, cpi, vix, rate"


@pytest.mark.parametrize(
    ("attention", "data", "message"),
    [
        (STEPS, {"staleness": pd.DataFrame(index=panel().frame.index)}, NO_AGES),
        (
            VARIABLES,
            {"staleness": panel().staleness.assign(cpi=np.nan)},
            "column 'cpi': found no days since release in any train row",
        ),
        (
            AttentionConfig(regime=REGIMES.model_copy(update={"column": "vxo"})),
            {},
            "column: found 'vxo', expected one of the observed columns: y, cpi, vix, rate",
        ),
        (
            AttentionConfig(regime=REGIMES.model_copy(update={"column": "holiday"})),
            {},
            "'holiday' is not an observed column",
        ),
        (
            AttentionConfig(regime=REGIMES),
            {"frame": panel().frame.assign(vix=[np.nan, *np.ones(N - 1)])},
            r"'vix' has no value in row 0 \(2019-01-01\)",
        ),
    ],
)
def test_what_a_variant_cannot_do_without(attention, data, message):
    with pytest.raises(UserError, match=message):
        fit(attention, dataclasses.replace(panel(), **data))


def test_a_table_without_ages_is_refused_for_a_model_that_was_trained_with_them():
    bare = dataclasses.replace(panel(), staleness=pd.DataFrame(index=panel().frame.index))
    with pytest.raises(UserError, match="no days since release of cpi, rate"):
        make_series(bare, fit(VARIABLES))


def test_rows_of_the_future_need_no_regime():
    frame = panel().frame
    frame.iloc[-1, [0, 2]] = np.nan
    assert np.isnan(regime_values(dataclasses.replace(panel(), frame=frame), "vix")[-1])


def test_a_regime_without_train_windows_is_refused():
    rows = np.arange(4, 9)
    check_regimes(panel(), rows, REGIMES)
    check_regimes(panel(), rows, RegimeConfig())
    beyond = RegimeConfig(by="thresholds", column="vix", num_regimes=3, thresholds=(15.0, 40.0))
    with pytest.raises(UserError, match=r"\[15.0, 40.0\], which leave regime 3 of 3 .* 12, 12, 14, 16, 18:"):
        check_regimes(panel(), rows, beyond)


def test_training_is_refused_before_it_starts():
    raw = {
        "data": {"split": [0.6, 0.2, 0.2]},
        "model": {
            "encoder_length": E,
            "prediction_length": 1,
            "attention": {"regime": {"by": "thresholds", "column": "vix", "thresholds": [99]}},
        },
        "loss": {"target_std": 0.007},
        "train": {"batch_size": 3},
    }
    config: Config = from_dict(raw, "x")
    with pytest.raises(UserError, match="leave regime 2 of 2 without a train window"):
        check_data(config, prepare(panel(), config))
    raw["model"]["attention"]["regime"]["thresholds"] = [15]
    config = from_dict(raw, "x")
    check_data(config, prepare(panel(), config))
