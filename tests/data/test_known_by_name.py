"""Known inputs made by their names: lags of columns, and the relative index of each window."""

import functools

import jax
import numpy as np
import pandas as pd
import pytest
from model.test_forecast import STARTS, outputs, small

from tftjax.config.loading import from_dict
from tftjax.data.checks import check_lags
from tftjax.data.encoding import fit_encoding
from tftjax.data.loading import load_panel
from tftjax.data.windows import gather, make_series, rows_are_shared
from tftjax.errors import UserError
from tftjax.model import forecast
from tftjax.predict.rows import extend_panel

ROWS, E, P = 13, 4, 2
DAYS = pd.bdate_range("2004-01-01", periods=ROWS)
KNOWN = ["lag_2_of_x", "lag_3", "relative_index"]


def table(later=0.0, since=ROWS):
    """Two series; what is observed from a row on is other by `later`."""
    rows = np.arange(2.0 * ROWS)
    frame = pd.DataFrame({"y": rows**2 / 1e4, "x": np.sqrt(rows), "id": "a"}).assign(date=[*DAYS, *DAYS])
    frame.loc[ROWS:, "id"] = "b"
    frame.loc[frame["date"] >= DAYS[min(since, ROWS - 1)], ["x", "y"]] += later
    return frame


def settings(known=KNOWN, missing="refuse"):
    columns = {"target": "y", "id": "id", "observed": ["x"], "known_real": known}
    return from_dict({"data": {"dataset": "frame", "columns": columns, "missing": missing}}, "test").data


def windows(panel, encoding=None):
    series = make_series(panel, encoding or fit_encoding(panel, [range(0, 6), range(10, 16)]))
    starts = np.array([0, 1, 3, 4, 11, 14], np.int32)
    return series, jax.jit(gather, static_argnums=(2, 3))(series, starts, E, P)[0]


def test_lags_of_columns_by_hand():
    panel = load_panel(settings(), table())
    rows = np.arange(2.0 * ROWS)
    assert len(panel.frame) == 2 * (ROWS - 3)
    assert any("leading rows dropped: 3, no value of lag_3 before" in message for message in panel.messages)
    np.testing.assert_array_equal(panel.frame["lag_2_of_x"][: ROWS - 3], np.sqrt(rows[1 : ROWS - 2]))
    np.testing.assert_array_equal(panel.frame["lag_3"][ROWS - 3 :], rows[ROWS : 2 * ROWS - 3] ** 2 / 1e4)
    future = extend_panel(panel, P).frame.iloc[[ROWS - 3, ROWS - 2, -2, -1]]
    np.testing.assert_array_equal(
        future["lag_2_of_x"], np.sqrt([ROWS - 2, ROWS - 1, 2 * ROWS - 2, 2 * ROWS - 1])
    )
    np.testing.assert_array_equal(future["lag_3"], np.array([10, 11, 23, 24]) ** 2 / 1e4)
    assert future["x"].isna().all()


def test_the_relative_index_by_hand():
    series, inputs = windows(load_panel(settings(), table()))
    assert series.relative.tolist() == [False, False, True]
    expected = [-3 / 4, -2 / 4, -1 / 4, 0, 1 / 4, 2 / 4]
    np.testing.assert_array_equal(inputs.known_real[2].T, [expected] * 6)
    np.testing.assert_array_equal(inputs.known_real[:2, :, 1], series.known_real[:2, 1 : 1 + E + P])


@pytest.mark.parametrize("last", [3, 6])
def test_what_is_observed_later_changes_no_window(last):
    """Nothing that stands in rows after a window's past is in its inputs; the lags are known at all steps."""
    panel = load_panel(settings(), table())
    encoding = fit_encoding(panel, [range(0, 6), range(10, 16)])
    later = load_panel(settings(), table(later=7.0, since=last + 3 + 1))  # three rows were dropped
    (_, one), (_, two) = windows(panel, encoding), windows(later, encoding)
    ends = np.array([3, 4, 6, 7, 4, 7])  # rows of their series in which the pasts end
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a[..., ends <= last], b[..., ends <= last])
    assert (np.asarray(one.observed != two.observed).any(axis=(0, 1)) == (ends > last)).all()


def test_the_index_is_each_window_s_own_where_rows_are_shared():
    model, tree, series = small(known=("real",))
    series = series._replace(relative=np.array([False, True]))
    assert not rows_are_shared(series)
    found = jax.jit(functools.partial(forecast.map_windows, model, of=outputs))(tree, series, STARTS)
    inputs, _ = gather(series, STARTS, 5, 3)
    expected = jax.jit(lambda i: forecast.forecast_batch(model, tree, i))(inputs)[0]
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)


def test_lags_that_cannot_be():
    with pytest.raises(UserError, match=r"'lag_2_of_z' is made of 'z', which is no observed column \(y, x\)"):
        load_panel(settings(["lag_2_of_z"]), table())
    holes = table()
    holes.loc[6, "x"] = np.nan
    with pytest.raises(UserError, match=r"'lag_2_of_x' has no value on 2004-01-13, as 'x' has none 2 rows"):
        load_panel(settings(missing="mask"), holes)
    panel = load_panel(settings(), table())
    check_lags(panel, 2)
    with pytest.raises(UserError, match=r"'lag_2_of_x' with .* 3: x 2 rows before .* Use lag_3_of_x or more"):
        check_lags(panel, 3)
