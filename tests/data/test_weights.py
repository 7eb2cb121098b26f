"""Weights of rows in training, by a column of a table."""

import numpy as np
import pandas as pd
import pytest

from tftjax.config.loading import from_dict
from tftjax.data.loading import load_panel
from tftjax.data.newest import load_like, without_weights
from tftjax.data.panel import read_panel, split_series, write_panel
from tftjax.data.prepared import prepare
from tftjax.data.windows import window_weights
from tftjax.errors import UserError

ROWS = 67


def frame(**columns):
    rng = np.random.default_rng(3)
    days = pd.bdate_range("2020-01-01", periods=ROWS, name="date")
    return pd.DataFrame({"y": 0.01 * rng.normal(size=ROWS), "w": 1.0 + np.arange(ROWS) % 3, **columns}, days)


def config(weight="w", **train):
    columns = {"target": "y", "weight": weight}
    model = {"encoder_length": 5, "prediction_length": 2}
    return from_dict({"data": {"dataset": "frame", "columns": columns}, "model": model, "train": train}, "t")


def test_a_window_counts_by_the_mean_weight_of_its_target_rows():
    panel = load_panel(config().data, frame(w=[1.0, 3, 0, 5, 2] + [0.0] * (ROWS - 5)))
    starts = np.array([0, 2, 3], np.int32)
    # Means of two rows: 2, 2.5, 3.5; their mean 8 / 3.
    found = window_weights(panel, starts, 2)
    np.testing.assert_allclose(found[starts], [0.75, 0.9375, 1.3125], rtol=1e-6)
    # Times 1, 2, 4: 2, 5, 14; their mean 7.
    factor = np.array([1, 9, 2, 4] + [1] * (ROWS - 4), np.float32)
    found = window_weights(panel, starts, 2, factor)
    np.testing.assert_allclose(found[starts], [2 / 7, 5 / 7, 2], rtol=1e-6)
    with pytest.raises(UserError, match=r"column 'w'.*target rows of the train windows"):
        window_weights(panel, starts + 10, 2)


def test_weights_multiply_with_the_half_life_and_are_no_input():
    panel = load_panel(config().data, frame())
    assert panel.observed == ("y",)
    both, column = prepare(panel, config(half_life=0.2)), prepare(panel, config())
    plain = prepare(load_panel(config(None).data, frame()), config(None, half_life=0.2))
    first = column.starts["train"] + 5
    assert np.ptp(column.series.weight[first]) > 0.4
    product = column.series.weight[first] * plain.series.weight[first]
    np.testing.assert_allclose(both.series.weight[first], product / product.mean(), rtol=1e-5)
    np.testing.assert_array_equal(column.series.observed, plain.series.observed)


def test_a_panel_keeps_its_weights(tmp_path):
    panel = load_panel(config().data, frame())
    write_panel(tmp_path, panel)
    found = read_panel(tmp_path)
    assert (found.weight, split_series(found)[0].weight) == ("w", "w")
    np.testing.assert_array_equal(found.frame["w"], frame()["w"])


def test_rows_to_forecast_from_need_no_weights():
    table = frame()
    table.loc[table.index[-2:], ["y", "w"]] = np.nan  # rows of the future
    panel = load_panel(config().data, table)
    assert len(panel.frame) == ROWS - 2
    bare = frame().drop(columns="w")
    assert load_like(panel, without_weights(config().data), bare).weight is None
    assert load_like(panel, config().data, frame()).weight == "w"  # a final fit has them


@pytest.mark.parametrize(("value", "words"), [(-1.0, "-1"), (np.nan, "no value"), (np.inf, "inf")])
def test_wrong_weights_are_refused_with_their_place(value, words, tmp_path):
    table = frame()
    table.iloc[7, 1] = value
    with pytest.raises(UserError, match=rf"row 7 .*column 'w': found .*{words}"):
        load_panel(config().data, table)
    table.to_csv(tmp_path / "a.csv")
    with pytest.raises(UserError, match=r"a\.csv, line 9, column 'w'"):
        load_panel(config().data.model_copy(update={"dataset": str(tmp_path / "a.csv")}))


def test_weights_of_0_alone_are_refused():
    with pytest.raises(UserError, match="frame, all rows, column 'w': found 0"):
        load_panel(config().data, frame(w=0.0))
