import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from tftjax.config.data import DataConfig
from tftjax.data.encoding import encoding_from_json, encoding_to_json, fit_encoding
from tftjax.data.loading import load_panel
from tftjax.data.panel import make_panel
from tftjax.data.scales.target import TARGET_SCALES
from tftjax.data.splits import single_block, window_starts
from tftjax.data.windows import gather, make_series, windows_alone
from tftjax.errors import UserError
from tftjax.predict.rows import extend_panel

N, E, P = 17, 5, 3
DATES = pd.bdate_range("2018-12-10", periods=N)  # ends on Tuesday 2019-01-01


def tiny_panel():
    """Reals of every role, whose values tell column and row; static ones too."""
    row = np.arange(N, dtype=np.float64)
    frame = pd.DataFrame(
        {
            "y": row / 100,
            "x": 100 + row**2,
            "holiday_share": row % 3,
            "day_of_week": DATES.day_of_week.to_numpy().astype(np.int64),
            "size": 7.0,
            "country": "us",
        },
        index=DATES,
    )
    return make_panel(
        frame,
        target="y",
        observed=("y", "x"),
        known_real=("holiday_share",),
        known_categorical=("day_of_week",),
        static_real=("size",),
        static_categorical=("country",),
        messages=("made by hand",),
    )


def calendar_panel():
    panel = tiny_panel()
    return make_panel(
        panel.frame,
        target="y",
        observed=("y", "x"),
        known_categorical=("day_of_week",),
        static_real=("size",),
        static_categorical=("country",),
        messages=panel.messages,
    )


def test_encoding_is_fitted_on_train_rows_only():
    encoding = fit_encoding(tiny_panel(), [range(0, 3)])
    assert list(encoding.scaler) == ["y", "x", "holiday_share", "size"]
    np.testing.assert_allclose(encoding.scaler["y"], [[0.01], [0.01 * np.sqrt(2 / 3)]])
    np.testing.assert_allclose(encoding.scaler["x"], [[100 + 5 / 3], [np.sqrt(26 / 9)]])  # 100, 101, 104
    assert encoding.scaler["size"] == (7.0, 1.0)  # constant
    assert encoding.categories == {"day_of_week": [0, 1, 2], "country": ["us"]}


def test_series_by_hand():
    panel = tiny_panel()
    series = make_series(panel, fit_encoding(panel, [range(0, 3)]))
    shapes = [(2, N), (1, N), (1, N), (1, 1), (1, 1), (N,), (N,), (1,), (1,)]
    assert [array.shape for array in jax.tree.leaves(series)] == shapes
    assert [array.dtype for array in jax.tree.leaves(series)] == [
        np.dtype(t) for t in ("f4", "f4", "i4", "f4", "i4", "f4", "i4", "f4", "f4")
    ]
    np.testing.assert_allclose(series.observed[0, :3], [-np.sqrt(1.5), 0, np.sqrt(1.5)], rtol=1e-6)
    np.testing.assert_allclose(series.observed[1, 4], (116 - 100 - 5 / 3) / np.sqrt(26 / 9), rtol=1e-6)
    np.testing.assert_array_equal(
        series.known_categorical[0, :6], [1, 2, 3, 0, 0, 1]
    )  # Thursday, Friday: unseen
    np.testing.assert_array_equal(series.static_real, [[0]])
    np.testing.assert_array_equal(series.static_categorical, [[1]])
    np.testing.assert_allclose(series.target, np.arange(N) / 100, rtol=1e-6)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_gather_by_hand(wrap):
    panel = tiny_panel()
    series = make_series(panel, fit_encoding(panel, [range(0, N)]))
    starts = np.array([9, 0], dtype=np.int32)
    call = wrap(partial(gather, encoder_length=E, prediction_length=P))
    inputs, target = call(jax.tree.map(jnp.asarray, series), jnp.asarray(starts))
    assert [a.shape for a in jax.tree.leaves(inputs)] == [
        (2, E, 2),
        (1, E + P, 2),
        (1, E + P, 2),
        (1, 2),
        (1, 2),
        (2,),
        (2,),
    ]
    np.testing.assert_allclose(target, [[0.14, 0.15, 0.16], [0.05, 0.06, 0.07]], rtol=1e-6)
    for b, start in enumerate(starts):
        np.testing.assert_array_equal(inputs.observed[:, :, b], series.observed[:, start : start + E])
        np.testing.assert_array_equal(inputs.known_real[:, :, b], series.known_real[:, start : start + E + P])
        np.testing.assert_array_equal(
            inputs.known_categorical[:, :, b], series.known_categorical[:, start : start + E + P]
        )
        np.testing.assert_array_equal(inputs.static_real[:, b], series.static_real[:, 0])
        np.testing.assert_array_equal(inputs.static_categorical[:, b], series.static_categorical[:, 0])


def test_gather_takes_host_arrays_and_panels_without_some_roles():
    panel = make_panel(tiny_panel().frame, target="y", observed=("y",))
    series = make_series(panel, fit_encoding(panel, [range(0, N)]))
    inputs, target = gather(series, np.array([2, 3, 4], dtype=np.int32), E, P)
    assert [a.shape for a in jax.tree.leaves(inputs)] == [
        (1, E, 3),
        (0, E + P, 3),
        (0, E + P, 3),
        (0, 3),
        (0, 3),
        (3,),
        (3,),
    ]
    assert target.shape == (3, P)


def test_windows_alone_are_the_same_windows_in_arrays_of_one_size():
    panel = tiny_panel()
    series = make_series(panel, fit_encoding(panel, [range(0, 11)], target_scale="ewma"))
    starts = np.array([2, 9], np.int32)
    alone, places = windows_alone(series, starts, E, P)
    assert places.tolist() == [0, E + P]
    assert alone.observed.shape == (3, 2 * (E + P))  # with the scale's logarithm
    assert alone.target.tolist() == series.target[[*range(2, 10), *range(9, 17)]].tolist()
    for found, expected in zip(
        jax.tree.leaves(gather(alone, places, E, P)),
        jax.tree.leaves(gather(series, starts, E, P)),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_every_window_of_the_embedded_panel_is_finite_and_its_own_rows():
    panel = load_panel(DataConfig())
    num_rows = len(panel.frame)
    splits = single_block(panel.frame.index, DataConfig(), 20, 1).splits
    series = make_series(panel, fit_encoding(panel, [range(0, splits.train.stop)]))
    starts = window_starts(splits.test, range(num_rows), 20, 1)
    inputs, target = jax.jit(gather, static_argnums=(2, 3))(series, starts, 20, 1)
    assert inputs.observed.shape == (6, 20, len(splits.test))
    assert all(np.isfinite(np.asarray(array)).all() for array in (*jax.tree.leaves(inputs), target))
    np.testing.assert_array_equal(
        target[:, 0], panel.frame["SP500_Returns"].iloc[splits.test.start :].astype("f4")
    )
    # The last encoder row is the row before the target: its own return is not among the inputs.
    np.testing.assert_array_equal(inputs.observed[0, -1, 1:], series.observed[0, splits.test.start : -1])
    assert (np.asarray(inputs.known_categorical) > 0).all()


def test_encoding_survives_json_with_sorted_keys():
    panel = tiny_panel()
    encoding = fit_encoding(panel, [range(0, 7)])
    stored = json.loads(json.dumps(encoding_to_json(encoding), sort_keys=True))
    again = encoding_from_json(stored)
    assert encoding_to_json(again) == encoding_to_json(encoding)
    assert list(again.scaler) == list(encoding.scaler)
    series = (jax.tree.leaves(make_series(panel, fitted)) for fitted in (encoding, again))
    for before, after in zip(*series, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    "damaged", [{}, {"series": [""], "scaler": [{"name": "y"}], "categories": []}, {"scaler": 3}]
)
def test_damaged_encoding_is_refused(damaged):
    with pytest.raises(UserError, match="encoding: found no readable scaler and categories"):
        encoding_from_json(damaged)


def test_an_encoding_of_other_columns_is_refused():
    panel = tiny_panel()
    encoding = fit_encoding(panel, [range(0, 7)])
    swapped = encoding._replace(scaler={name: encoding.scaler[name] for name in reversed(encoding.scaler)})
    with pytest.raises(
        UserError, match=r"found the columns y, x, .*in that order: size, holiday_share, x, y"
    ):
        make_series(panel, swapped)
    with pytest.raises(UserError, match="found the columns y, expected"):
        make_series(make_panel(panel.frame, target="y", observed=("y",)), encoding)


def test_extend_panel_appends_weekdays():
    panel = calendar_panel()
    longer = extend_panel(panel, 4)
    assert [d.isoformat() for d in longer.frame.index[N:].date] == [
        "2019-01-02",
        "2019-01-03",
        "2019-01-04",
        "2019-01-07",
    ]
    pd.testing.assert_frame_equal(longer.frame.iloc[:N], panel.frame, check_freq=False)
    future = longer.frame.iloc[N:]
    assert future["day_of_week"].tolist() == [2, 3, 4, 0]
    assert future["day_of_week"].dtype == np.int64
    assert future["size"].tolist() == [7.0] * 4
    assert future["country"].tolist() == ["us"] * 4
    assert future[["y", "x"]].isna().all(axis=None)
    assert longer.fingerprint != panel.fingerprint
    assert longer.messages == ("made by hand", "appended 4 future rows after 2019-01-01")


def test_the_window_past_the_end_has_only_known_inputs():
    panel = calendar_panel()
    encoding = fit_encoding(panel, [range(0, N)])
    series = make_series(extend_panel(panel, P), encoding)
    inputs, target = gather(series, np.array([N - E], dtype=np.int32), E, P)
    np.testing.assert_array_equal(inputs.observed[:, :, 0], make_series(panel, encoding).observed[:, -E:])
    np.testing.assert_array_equal(
        inputs.known_categorical[0, -P:, 0], [3, 4, 5]
    )  # Wednesday to Friday, from 1
    assert np.isnan(target).all()


def test_extend_embedded_panel():
    longer = extend_panel(load_panel(DataConfig()), 1)
    assert longer.frame.index[-1] == pd.Timestamp("2019-01-01")
    assert longer.frame[["day_of_week", "month"]].iloc[-1].tolist() == [1, 1]
    assert longer.staleness.iloc[-1].isna().all()
    assert len(longer.staleness) == len(longer.frame)


def test_extend_panel_cannot_invent_known_inputs():
    with pytest.raises(UserError, match="future values of the known columns holiday_share"):
        extend_panel(tiny_panel(), 1)


def returns_panel(returns, volatility):
    frame = pd.DataFrame(
        {"y": returns, "VIX": volatility}, index=pd.bdate_range("2018-01-01", periods=len(returns))
    )
    return make_panel(frame, target="y", observed=("y", "VIX"))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_target_scale_by_hand(wrap):
    returns = np.array([0.01, -0.02, 0.03, 0.02, -0.06, 0.04])
    vix = np.array([10.0, 20.0, 10.0, 40.0, 20.0, 80.0])
    panel = returns_panel(returns, vix)
    encoding = fit_encoding(panel, [range(0, 4)], "column:VIX")
    scaled = np.array([-0.02 / 10, 0.03 / 20, 0.02 / 10])  # by the row before; of train rows alone
    np.testing.assert_allclose(np.ravel(encoding.scaler["y"]), [scaled.mean(), scaled.std()])
    series = make_series(panel, encoding)
    call = wrap(partial(gather, encoder_length=2, prediction_length=1))
    inputs, target = call(jax.tree.map(jnp.asarray, series), jnp.array([2, 3], jnp.int32))
    # Rows 3 and 4 are the last before the target.
    np.testing.assert_allclose(inputs.center, scaled.mean() * np.array([40.0, 20.0]), rtol=1e-6)
    np.testing.assert_allclose(inputs.scale, scaled.std() * np.array([40.0, 20.0]), rtol=1e-6)
    np.testing.assert_allclose(
        inputs.observed[0].T,
        [np.array([0.03, 0.02]) / 40 / scaled.std(), np.array([0.02, -0.06]) / 20 / scaled.std()],
        rtol=1e-6,
    )
    # The scale's logarithm is an input, scaled by train rows.
    seen = np.log(vix[:4])
    expected = (np.log([[10.0, 40.0], [40.0, 20.0]]) - seen.mean()) / seen.std()
    np.testing.assert_allclose(inputs.observed[2].T, expected, rtol=1e-5)
    np.testing.assert_allclose(target, [[-0.06], [0.04]], rtol=1e-6)  # returns, whatever the scale


@pytest.mark.parametrize("scale", TARGET_SCALES)
def test_a_target_scale_sees_no_later_row(scale):
    rng = np.random.default_rng(1)
    returns, vix = rng.normal(0, 0.01, 241), np.exp(rng.normal(3, 0.2, 241))
    changed, changed_vix = returns.copy(), vix.copy()
    changed[223:] = -7 * np.abs(changed[223:])
    changed_vix[223:] *= 7
    name = f"{scale}:VIX" if scale == "column" else scale
    before, after = (
        make_series(panel, fit_encoding(panel, [range(0, 223)], name))
        for panel in (returns_panel(returns, vix), returns_panel(changed, changed_vix))
    )
    assert np.isfinite(before.volatility).all()
    np.testing.assert_array_equal(before.volatility[:223], after.volatility[:223])
    np.testing.assert_array_equal(before.observed[:, :223], after.observed[:, :223])
    assert (before.volatility[223:] != after.volatility[223:]).all()


def test_a_target_scale_that_cannot_be():
    panel = returns_panel(np.array([0.01, -0.02, 0.03]), np.array([10.0, 0.0, 10.0]))
    with pytest.raises(UserError, match="column 'VIX' is 0 in row 1, expected values above 0"):
        fit_encoding(panel, [range(0, 3)], "column:VIX")
    with pytest.raises(UserError, match="found 'column:VXO', expected an observed column of the panel: VIX"):
        fit_encoding(panel, [range(0, 3)], "column:VXO")
    with pytest.raises(UserError, match=r"data\.scaling: found the column 'z', expected one of y, VIX"):
        fit_encoding(panel, [range(0, 3)], scalings={"z": "none"})


def test_scalings_by_column():
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    panel = returns_panel(values, values)
    scaler = fit_encoding(panel, [range(0, 5)], scalings={"y": "robust", "VIX": "none"}).scaler
    np.testing.assert_allclose(np.ravel(scaler["y"]), [3.0, 2.0 / 1.349])
    assert scaler["VIX"] == (0.0, 1.0)


def test_the_scale_of_the_target_survives_json():
    panel = returns_panel(np.array([0.01, -0.02, 0.03]), np.ones(3))
    encoding = fit_encoding(panel, [range(0, 3)], "ewma")
    stored = json.loads(json.dumps(encoding_to_json(encoding)))
    assert encoding_from_json(stored).target_scale == "ewma"
    assert encoding_to_json(encoding_from_json(stored)) == stored


@pytest.mark.parametrize("first", [0.0, 1e-6, 0.01])
def test_a_quiet_first_day_does_not_spoil_the_scaler(first):
    returns = np.random.default_rng(1).normal(0, 0.01, 211)
    returns[0] = first
    center, scale = fit_encoding(returns_panel(returns, np.ones(211)), [range(0, 211)], "ewma").scaler["y"]
    assert abs(center) < 0.2
    assert 0.8 < scale < 1.3
