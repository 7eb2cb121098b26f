"""What a target seems to be: returns, a level, percent; and the spread that the loss is divided by."""

import json

import numpy as np
import pandas as pd
import pytest

from tftjax.config.loading import from_dict
from tftjax.data.checks import check_conformal, check_data, check_target, with_own_spread
from tftjax.data.loading import load_panel
from tftjax.data.prepared import prepare
from tftjax.errors import UserError
from tftjax.train.__main__ import main as train_main

RNG = np.random.default_rng(5)
RETURNS = RNG.normal(0, 0.01, 300)
PRICE = 100 * np.cumprod(1 + RETURNS)
SPREAD = np.cumsum(RNG.normal(0, 0.001, 300))  # of both signs, and slow


def config(loss=None, **data):
    content = {"data": {"columns": {"target": "ret"}, **data}, "loss": loss or {}}
    content |= {"model": {"hidden_size": 4, "encoder_length": 5}, "train": {"batch_size": 8, "max_epochs": 1}}
    return from_dict(content, "test")


def check(values, loss=None, **data):
    check_target({"": np.asarray(values)}, "ret", config(loss, **data))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (PRICE, r"values of one sign \(\d[\d.]* to \d[\d.]*\)"),
        (-PRICE, "values of one sign"),
        (np.abs(RETURNS[:21]) + 1e-9, "values of one sign"),  # a volatility
        (SPREAD, r"a correlation of 0\.9\d\d between"),
    ],
)
@pytest.mark.parametrize("data", [{}, {"return_unit": "percent"}])
def test_a_level_is_refused_with_the_remedy(values, found, data):
    with pytest.raises(UserError, match=rf"target 'ret': found {found}.*data.target_transform to \"return\""):
        check(values, **data)
    check(values, target_transform="as_is")


def test_returns_are_no_level():
    check(RETURNS)
    check(np.abs(RETURNS[:20]) + 1e-9)  # twenty rows of one sign happen
    half = np.convolve(RNG.normal(0, 0.004, 320), np.ones(5), "valid")  # overlapping weeks
    check(half)
    with pytest.raises(UserError, match="series 'b', target 'ret': found values of one sign"):
        check_target({"a": RETURNS, "b": np.abs(RETURNS) + 1e-9}, "ret", config())
    with pytest.raises(UserError, match="target is constant"):
        check(np.full(99, 7.0))


PENALTY = {"std_weight": 0.1}
OWN = [  # target's standard deviation, settings, words of the error; None: the data's own spread is used
    (0.045, {}, {}, False),
    (0.06, {}, {}, None),
    (0.0011, {}, {}, None),
    (0.0001, {}, {}, None),
    (1.1, {}, {}, 'seems to be in percent.*return_unit to "percent".*"as_is".*set loss.target_std to 1.1'),
    (0.21, {}, {}, "seems to be in percent"),
    (0.19, {}, {}, None),
    (0.21, {}, {"target_std": 0.2}, False),
    (0.21, {"return_unit": "percent"}, {}, "after division by 100.*no return in percent"),
    (0.0001, {"return_unit": "percent"}, {}, 'hold decimals already: set data.return_unit to "decimal"'),
    (0.0004, {"return_unit": "percent"}, {}, None),
    (8.0, {"target_transform": "as_is"}, {}, None),
    (30.0, {"target_transform": "difference"}, {}, None),
    (0.06, {}, PENALTY, "factor 5.*loss.target_std to about 0.06"),
    (1.1, {}, PENALTY, "in percent and loss.target_std in decimals"),
    (1.1, {"target_transform": "difference"}, PENALTY, "loss.target_std to about 1.1"),
    (0.06, {}, {"crossing_weight": 0.1}, "factor 5"),
]


@pytest.mark.parametrize(("sd", "data", "loss", "words"), OWN)
def test_the_spread_by_case(sd, data, loss, words):
    values = np.array([1.0, -1.0] * 30) * sd
    if isinstance(words, str):
        with pytest.raises(UserError, match=words):
            check(values, loss, **data)
        return
    check(values, loss, **data)


def panel_of(values):
    index = pd.bdate_range("2015-01-05", periods=len(values), name="date")
    return pd.DataFrame({"ret": values}, index=index)


def test_the_data_s_own_spread_takes_the_place_of_one_that_is_far_off():
    settings = config(dataset="frame")
    monthly = np.array([0.0712, -0.0712] * 50)
    data = prepare(load_panel(settings.data, panel_of(monthly)), settings)
    check_data(settings, data)
    own = with_own_spread(settings, data)
    assert own.loss.target_std == 0.0712
    assert own.model_copy(update={"loss": settings.loss}) == settings
    assert with_own_spread(own, data) is own  # a run that goes on finds the same
    near = prepare(load_panel(settings.data, panel_of(monthly / 2)), settings)
    assert with_own_spread(settings, near) is settings
    penalised = config({"marginal_weight": 0.1}, dataset="frame")
    assert with_own_spread(penalised, data) is penalised


@pytest.mark.slow
@pytest.mark.usefixtures("in_process", "quick_evaluation")
def test_monthly_returns_train_without_a_target_std(tmp_path, capsys):
    table = panel_of(np.random.default_rng(1).normal(0, 0.07, 120))
    table.to_csv(tmp_path / "own.csv")
    raw = config().model_dump(mode="json", exclude={"name"})
    raw["data"]["dataset"] = str(tmp_path / "own.csv")
    (tmp_path / "own.json").write_text(json.dumps(raw))
    command = [str(tmp_path / "own.json"), "--runs", str(tmp_path / "runs")]
    assert train_main(command) == 0, capsys.readouterr().err
    kept = json.loads((tmp_path / "runs" / "own" / "config.json").read_text())["loss"]["target_std"]
    assert kept == float(f"{table['ret'].iloc[:84].std(ddof=0):.4g}")
    assert f"loss.target_std {kept:g}: the train target's own spread" in capsys.readouterr().out
    assert train_main([*command, "--resume"]) == 0, capsys.readouterr().err


def test_a_calibration_needs_rows_for_its_outermost_level():
    """Before a training, not at its end: 49 windows for the quantile 0.02."""
    check_conformal(config(), 0)
    asked = from_dict({"evaluation": {"conformal": "adaptive"}}, "test")
    check_conformal(asked, 49)
    with pytest.raises(UserError, match=r"found 48 validation windows.*at least 49 for the quantile 0\.02"):
        check_conformal(asked, 48)
    alone = asked.model_copy(update={"data": asked.data.model_copy(update={"train_on_val": True})})
    check_conformal(alone, 0)
