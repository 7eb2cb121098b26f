"""Series that training never sees: their rows, their scale, what they have no part in."""

import json

import numpy as np
import pandas as pd
import pytest

from tftjax.config.data import DataConfig
from tftjax.config.loading import from_dict
from tftjax.data.checks import findings
from tftjax.data.encoding import encoding_from_json, encoding_to_json, fit_encoding
from tftjax.data.panel import make_panel, select_rows
from tftjax.data.prepared import prepare, train_targets
from tftjax.data.scales import log_scale
from tftjax.data.scales.target import LOG_SCALE, with_scale
from tftjax.data.splits import Splits, make_blocks, seen_only
from tftjax.data.windows import make_series
from tftjax.errors import UserError

NAMES = ("a", "b", "c")
ROWS = 167
HALF = {"split": [0.5, 0.25, 0.25]}


def returns_of(name, rows=ROWS):
    """Stormy and calm stretches; each series is twice as wild as the one before."""
    rng = np.random.default_rng(ord(name))
    sigma = 0.01 * 2.0 ** NAMES.index(name) * np.exp(0.7 * np.sin(np.arange(rows) / 23))
    return sigma * rng.standard_t(6, rows)


def panel_of(names=NAMES, rows=ROWS, **changed):
    days = pd.bdate_range("2001-01-01", periods=rows)
    parts = [
        pd.DataFrame({"y": changed.get(name, returns_of(name, rows)), "x": 1.0 + ord(name), "id": name}, days)
        for name in names
    ]
    return make_panel(
        pd.concat(parts), target="y", observed=("y", "x"), static_categorical=("id",), id_column="id"
    )


def config_of(**data):
    content = {"data": {"unseen": ["b"], "target_scale": "pooled_log_scale", **HALF, **data}}
    content["model"] = {"hidden_size": 4, "encoder_length": 3, "quantile_head": "correction"}
    return from_dict(content | {"train": {"batch_size": 8, "static_dropout": 0.5}}, "test")


def test_unseen_series_have_the_test_rows_and_the_others_the_rest():
    panel = panel_of(rows=20)
    config = DataConfig(split=(0.5, 0.25, 0.25), unseen=("b",))
    _, blocks = make_blocks(panel, config, 2, 1)
    assert [block.splits for block in blocks] == [
        Splits(range(0, 10), range(10, 15), range(15, 15)),
        Splits(range(20, 20), range(30, 30), range(35, 40)),
        Splits(range(40, 50), range(50, 55), range(55, 55)),
    ]
    assert [block.earlier for block in blocks] == [range(0, 10), range(20, 30), range(40, 50)]
    assert [block.is_unseen for block in blocks] == [False, True, False]
    seen, (first, last) = seen_only(panel, blocks)
    assert seen.frame["id"].tolist() == ["a"] * 20 + ["c"] * 20
    assert (last.rows, last.splits.train, last.earlier) == (range(20, 40), range(20, 30), range(20, 30))
    assert seen_only(seen, (first, last))[0] is seen
    everyone = DataConfig(final_fit=True, unseen=("b",))  # a final fit learns from all
    assert [len(block.splits.train) for block in make_blocks(panel, everyone, 2, 1)[1]] == [20] * 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("d",), r"data\.unseen: found 'd', expected names of series of the data \(a, b, c\)"),
        (NAMES, r"data\.unseen: found all series of the data, expected some to train on"),
    ],
)
def test_other_names_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        make_blocks(panel_of(rows=20), DataConfig(unseen=names), 2, 1)


def test_a_single_series_has_no_unseen_ones():
    frame = pd.DataFrame({"y": returns_of("a")}, pd.bdate_range("2001-01-01", periods=ROWS))
    with pytest.raises(UserError, match=r"data\.unseen: found 'b', .*it has no data\.columns\.id"):
        make_blocks(make_panel(frame, target="y", observed=("y",)), DataConfig(unseen=("b",)), 2, 1)


def test_settings_that_cannot_forecast_unseen_series_are_refused():
    with pytest.raises(UserError, match=r"data\.target_scale: .*'pooled_log_scale', 'ewma' or a column"):
        config_of(target_scale="gjr")
    with pytest.raises(UserError, match=r"static_dropout above 0 with data\.unseen"):
        from_dict({"data": {"unseen": ["b"]}}, "test")


def test_one_regression_is_fitted_to_all_series():
    panel, train = panel_of(("a", "c")), [range(0, 83), range(ROWS, ROWS + 83)]
    (fitted,) = fit_encoding(panel, train, "pooled_log_scale").scales
    designs = [
        log_scale.matrix(log_scale.features(returns_of(name), panel.frame.index[:ROWS], None, None))
        for name in "ac"
    ]
    rows = np.arange(41, 83)  # half of the train rows are to warm up
    known = np.concatenate([design[rows - 1] for design in designs])
    expected = log_scale.fit(known, np.concatenate([returns_of("a")[rows], returns_of("c")[rows]]))
    np.testing.assert_allclose(fitted["weights"], expected.weights)
    np.testing.assert_allclose(fitted["intercept"], expected.intercept)


def test_the_scale_of_an_unseen_series_is_by_the_regression_of_the_others():
    """It follows from its own rows so far, is the same alone, and is stored."""
    encoding = fit_encoding(panel_of(("a", "c")), [range(0, 83), range(ROWS, ROWS + 83)], "pooled_log_scale")
    stored = json.loads(json.dumps(encoding_to_json(encoding)))
    again = encoding_from_json(stored)
    whole, alone = make_series(panel_of(), again), make_series(panel_of(("b",)), again)
    np.testing.assert_array_equal(alone.volatility, whole.volatility[ROWS : 2 * ROWS])
    np.testing.assert_array_equal(alone.static_categorical, [[0]])
    # Each is twice as wild as the one before, and no number of the series says so.
    sizes = [np.median(part) for part in np.split(whole.volatility, 3)]
    assert sizes[0] < sizes[1] < sizes[2]
    changed = returns_of("b")
    changed[100:] *= 5
    later = make_series(panel_of(("b",), b=changed), again)
    np.testing.assert_array_equal(later.volatility[:100], alone.volatility[:100])
    assert (later.volatility[100:] != alone.volatility[100:]).all()


@pytest.mark.parametrize("scale", ["pooled_log_scale", "ewma", "none"])
def test_unseen_series_have_no_part_in_what_is_fitted(scale):
    config = config_of(target_scale=scale)
    before = prepare(panel_of(), config)
    after = prepare(panel_of(b=returns_of("b") * np.where(np.arange(ROWS) < 125, -3.0, 0.1)), config)
    assert encoding_to_json(after.encoding) == encoding_to_json(before.encoding)
    assert before.encoding.series == ("a", "c")
    assert before.encoding.categories == {"id": ["a", "c"]}
    assert set(train_targets(before.panel, before.blocks)) == {"a", "c"}
    for split, series in (("train", {0, 2}), ("val", {0, 2}), ("test", {1})):
        assert set(before.series.row_series[before.starts[split]]) == series
    np.testing.assert_array_equal(after.series.classical.shocks, before.series.classical.shocks)


def test_the_data_of_a_config_with_unseen_series_are_checked(tmp_path):
    panel_of().frame.to_csv(tmp_path / "table.csv")
    columns = {"id": "id", "target": "y", "observed": ["x"]}
    settings = {"dataset": str(tmp_path / "table.csv"), "columns": columns}
    assert findings(config_of(**settings)) == []
    assert "data.unseen: found 'd'" in findings(config_of(**settings, unseen=["d"]))[0]


@pytest.mark.parametrize("scale", ["gjr", "log_scale"])
def test_a_scale_that_is_fitted_to_each_series_refuses_others(scale):
    panel = panel_of()
    with pytest.raises(UserError, match=f"found the series 'b', .*'{scale}', which is fitted to each series"):
        with_scale(panel, ("a", "c"), scale, ({"fallback": "ewma"},) * 2)


def test_a_pooled_fit_that_fails_falls_back_and_says_so(caplog):
    panel = panel_of(("a", "c"), 11)
    encoding = fit_encoding(panel, [range(0, 9), range(11, 20)], "pooled_log_scale")
    assert encoding.scales == ({"fallback": "ewma"},)
    assert "'pooled_log_scale' could not be fitted: ewma takes its place" in caplog.text
    alone = select_rows(panel_of(), np.arange(ROWS, 2 * ROWS))
    squares = pd.Series(returns_of("b") ** 2).ewm(alpha=0.06).mean()
    np.testing.assert_allclose(make_series(alone, encoding).volatility, np.sqrt(squares), rtol=1e-6)


def test_a_scale_of_all_series_is_stored_once():
    for scale, count in (("ewma", 1), ("column:x", 1), ("gjr", 2)):
        encoding = fit_encoding(panel_of(("a", "c")), [range(0, 83), range(ROWS, ROWS + 83)], scale)
        assert len(encoding.scales) == count
        assert (LOG_SCALE in encoding.scaler) is True
