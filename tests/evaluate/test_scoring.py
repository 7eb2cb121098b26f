"""What is said of a forecast: losses by day, tests for one series and for several, the verdict."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from tftjax.config.evaluation import EvaluationConfig
from tftjax.config.loading import from_dict
from tftjax.data.panel import make_panel
from tftjax.data.prepared import prepare
from tftjax.data.volatility import ewma_volatility
from tftjax.evaluate.formatting import p_text
from tftjax.evaluate.metrics import pinball, pinball_losses
from tftjax.evaluate.scoring import Windows, by_day, divisions, judge, modes_by_series, regime_metrics, score
from tftjax.evaluate.significance import MIN_DAYS, diebold_mariano, pesaran_timmermann
from tftjax.evaluate.tables import against_baselines
from tftjax.evaluate.verdict import (
    among_the_best,
    count_baselines,
    count_beaten,
    hardest,
    in_paragraphs,
    in_words,
    quality_text,
    verdict,
)
from tftjax.storage import runs

QUANTILES = (0.1, 0.5, 0.9)
SETTINGS = EvaluationConfig(quality_window=11)


def make_case(days=67, steps=3, second=53, constant=False):
    """A forecast of two series, the second of which begins later; or of one."""
    rng = np.random.default_rng(0)
    count = days + second
    target = rng.normal(0, 0.01, (count, steps))
    middle = (
        np.full((count, steps), 0.001) if constant else 0.5 * target + rng.normal(0, 0.01, (count, steps))
    )
    forecast = middle[..., None] + np.array([-0.012, 0, 0.012])
    day = np.concatenate([np.arange(days), np.arange(days - second, days)])
    series = [slice(0, days)] + ([slice(days, count)] if second else [])
    return Windows(target, day, series), forecast


def judged(windows, forecast, others):
    return judge(
        windows,
        forecast,
        QUANTILES,
        score(windows, forecast, QUANTILES),
        {name: score(windows, other, QUANTILES) for name, other in others.items()},
        modes=modes_by_series(windows, forecast, QUANTILES, SETTINGS),
        settings=SETTINGS,
        periods_a_year=252.0,
    )


def test_losses_by_day_by_hand():
    # Of three days the last has one window, and counts for less: the mean is that of the five windows.
    np.testing.assert_allclose(by_day(np.array([1.0, 2, 3, 4, 5]), np.array([0, 1, 2, 0, 1])), [3, 4.2, 1.8])


def test_a_score_is_what_it_says():
    windows, forecast = make_case()
    found = score(windows, forecast, QUANTILES)
    losses = pinball_losses(forecast, windows.target, QUANTILES)
    assert found.losses.mean() == pytest.approx(found.metrics["pinball"])
    assert found.by_series == pytest.approx((losses[:67].mean(), losses[67:].mean()))
    below = [(windows.target[:, 0] <= forecast[:, 0, place]).mean() for place in range(3)]
    np.testing.assert_allclose(found.share_below, below)


def test_differences_are_by_day_and_know_how_far_steps_reach():
    windows, forecast = make_case(steps=7)
    other = forecast + 0.003
    found = judged(windows, forecast, {"other": other})["tests"]
    assert found["days"] == 67
    differences = score(windows, forecast, QUANTILES).losses - score(windows, other, QUANTILES).losses
    assert found["diebold_mariano"]["other"] == diebold_mariano(differences, 7)._asdict()
    assert found["diebold_mariano"]["other"]["lags"] == 6
    assert found["diebold_mariano"]["other"]["difference"] < 0


def test_tests_of_single_returns_are_for_a_single_series():
    windows, forecast = make_case(second=0)
    tests = judged(windows, forecast, {})["tests"]
    assert tests["pesaran_timmermann"] == pesaran_timmermann(forecast[:, 0, 1], windows.target[:, 0])
    assert tests["value_at_risk"]["0.1"]["violations"] == (windows.target[:, 0] < forecast[:, 0, 0]).sum()
    assert tests["value_at_risk"]["0.9"]["violations"] == (windows.target[:, 0] > forecast[:, 0, 2]).sum()
    assert tests["value_at_risk"]["0.9"]["expected"] == pytest.approx(6.7)
    assert 0 <= tests["pit"]["p"] <= 1
    assert set(judged(*make_case(), {})["tests"]) == {"days", "diebold_mariano", "confidence_set"}


def test_the_model_and_its_baselines_are_compared_at_once():
    windows, forecast = make_case()
    found = judged(windows, forecast, {"same": forecast, "far": forecast + 0.05})
    assert found["tests"]["confidence_set"] == {"model": 1.0, "same": 1.0, "far": 0.0}
    sentence = (
        "All compared at once, these cannot be told from the best (95 % model confidence set): model, same."
    )
    assert among_the_best(found) == in_paragraphs(found)[-1] == sentence
    best = "All compared at once, model is the best (95 % model confidence set)."
    assert among_the_best(judged(windows, forecast, {"far": forecast + 0.05})) == best
    few = judged(*make_case(days=MIN_DAYS - 1, second=0), {"same": forecast[: MIN_DAYS - 1]})
    assert few["tests"]["confidence_set"] == {}
    assert len(in_paragraphs(few)) == 2
    assert among_the_best({"tests": {}}) == ""  # of an evaluation before there was one


def test_baselines_of_equal_forecasts_count_once():
    windows, forecast = make_case()
    far, again = forecast + 0.05, forecast + 0.05 * (1 + 1e-12)
    found = judged(windows, forecast, {"far": far, "near": forecast + 1e-9, "again": again})
    assert (count_beaten(found), count_baselines(found), hardest(found["baselines"])) == (1, 2, "near")
    assert verdict(found).startswith("beats 1 of 2 baselines (DM p < 0.05); ")
    note = against_baselines(found, "Test rows").note
    assert note.endswith(" again forecasts what far does: they count as one baseline.")
    worse = judged(windows, far, {"a": forecast, "b": forecast})
    assert verdict(worse) == "beats 0 of 1 baselines (DM p < 0.05); is worse than a = b (p < 0.001)"
    assert in_words(worse).endswith(
        "Of 1 simpler methods it is better than 0, worse than 1, and cannot be told from 0."
    )


def test_quality_windows_stay_within_a_series():
    windows, forecast = make_case(days=20, second=15)
    modes = modes_by_series(windows, forecast, QUANTILES, SETTINGS)
    assert [len(part) for part in modes] == [10, 5]
    found = judged(windows, forecast, {})
    assert sum(found["quality"].values()) == pytest.approx(1)
    assert sum(found["quality_random"].values()) == pytest.approx(1)
    assert set(judged(*make_case(days=9, second=0), {})["quality"].values()) == {None}


def test_a_constant_forecast_divides_by_nothing():
    windows, forecast = make_case(second=0, constant=True)
    found = judged(windows, forecast, {"same": forecast})
    assert "correlation" not in found
    assert found["tests"]["pesaran_timmermann"] == {"statistic": None, "p": None}
    assert found["quality"]["STRONG_COLLAPSE"] == found["quality_random"]["STRONG_COLLAPSE"] == 1
    assert found["tests"]["diebold_mariano"]["same"]["p"] is None
    json.dumps(found, allow_nan=False)


def test_the_same_forecast_has_the_same_bits():
    assert judged(*make_case(), {}) == judged(*make_case(), {})


def test_verdict():
    def test(difference, p):
        return {"difference": difference, "p": p}

    found = {"vix": test(-1e-6, 0.41), "ewma": test(-1e-5, 0.0004), "gjr": test(1e-5, 0.012)}
    metrics = {"tests": {"days": 300, "diebold_mariano": found | {"same": test(0.0, None)}}}
    assert verdict(metrics) == (
        "beats 1 of 4 baselines (DM p < 0.05); cannot be told from vix (p = 0.41), same (no difference);"
        " is worse than gjr (p = 0.012)"
    )
    metrics["tests"]["diebold_mariano"] = {"ewma": found["ewma"]}
    assert verdict(metrics) == "beats 1 of 1 baselines (DM p < 0.05)"
    metrics["tests"] = {"days": MIN_DAYS - 1, "diebold_mariano": {"vix": test(-1e-6, None)}}
    assert verdict(metrics) == "no verdict: 29 dates are too few for a test, which takes 30"


def test_quality_for_reading():
    found = {"STRONG_COLLAPSE": 0.2, "NEUTRAL": 0.8, "HEALTHY": 0.0, "DEGRADED": 0.0}
    metrics = {"quality": found, "quality_random": dict.fromkeys(found, 0.25)}
    assert quality_text(metrics) == (
        "of the time NEUTRAL 80 % (chance 25 %), STRONG_COLLAPSE 20 % (chance 25 %),"
        " HEALTHY 0 % (chance 25 %)"
    )
    nothing = dict.fromkeys(found)
    assert "fewer rows" in quality_text({"quality": nothing, "quality_random": nothing})


def test_p_for_reading():
    values = [0.00099, 0.001, 0.0499, 0.0999, 0.1, 1.0, None]
    texts = ["p < 0.001", "p = 0.001", "p = 0.050", "p = 0.100", "p = 0.10", "p = 1.00", "-"]
    assert [p_text(value) for value in values] == texts


# ---- Regimes --------------------------------------------------------------------------------------------

ROWS, E, P = 101, 5, 2
RAW = {
    "model": {
        "encoder_length": E,
        "prediction_length": P,
        "quantiles": [0.1, 0.5, 0.75],
        "attention": {
            "regime": {"by": "thresholds", "column": "x", "num_regimes": 3, "thresholds": [-0.5, 1]}
        },
    }
}


def frame(name=None):
    rng = np.random.default_rng(5 if name is None else len(name))
    values = {
        "y": rng.normal(size=ROWS) * np.exp(np.sin(np.arange(ROWS) / 9)) / 100,
        "x": rng.normal(size=ROWS),
    }
    rows = pd.DataFrame(values, index=pd.bdate_range("2020-01-01", periods=ROWS))
    return rows if name is None else rows.assign(name=name)


def opened(tmp_path, rows=None, raw=None):
    """A run that needs no parameters."""
    if rows is None:
        panel = make_panel(frame(), target="y", observed=("y", "x"))
    else:
        roles = {"observed": ("y", "x"), "static_categorical": ("name",), "id_column": "name"}
        panel = make_panel(rows, target="y", **roles)
    config = from_dict(RAW if raw is None else raw, "x")
    return runs.Run(tmp_path, config, prepare(panel, config), {}, 1)


def test_by_a_column_and_thresholds(tmp_path):
    run = opened(tmp_path)
    last_rows = np.array([20, 33, 47, 90])
    run.data.panel.frame.iloc[last_rows, 1] = [-0.5, -0.4, 1.0, 1.1]
    by_volatility, by_column = divisions(run, last_rows)
    assert by_column.name == "x"
    assert by_column.labels == ("up to -0.5", "-0.5 to 1", "above 1")
    np.testing.assert_array_equal(by_column.regime, [0, 1, 1, 2])
    assert by_volatility.name == "volatility"


def test_by_thirds_of_the_train_windows_volatility(tmp_path):
    run = opened(tmp_path)
    train = run.data.starts["train"] + E - 1
    (division, _) = divisions(run, train)
    assert division.labels == ("calm", "middle", "stormy")
    np.testing.assert_allclose(np.bincount(division.regime), len(train) / 3, atol=1)
    volatility = ewma_volatility(frame()["y"].to_numpy())[train]
    assert volatility[division.regime == 0].max() < volatility[division.regime == 1].min()
    assert volatility[division.regime == 1].max() < volatility[division.regime == 2].min()


def test_what_is_forecast_does_not_tell_the_regime(tmp_path):
    run = opened(tmp_path)
    starts = run.data.starts["test"]
    last_rows = starts + E - 1
    before = divisions(run, last_rows[:1])
    changed = run.data.panel.frame.copy()
    changed.iloc[last_rows[0] + 1 :] *= 50
    data = dataclasses.replace(run.data, panel=dataclasses.replace(run.data.panel, frame=changed))
    after = divisions(dataclasses.replace(run, data=data), last_rows[:1])
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.regime, other.regime)


def test_each_series_has_thirds_of_its_own(tmp_path):
    wild = frame("wilder")
    wild["y"] *= 20
    rows = pd.concat([frame("mild"), wild])
    raw = {"model": {**RAW["model"], "attention": {}}}
    run = opened(tmp_path, rows, raw)
    train = run.data.starts["train"] + E - 1
    (division,) = divisions(run, train)
    for block in run.data.blocks:
        own = division.regime[(train >= block.rows.start) & (train < block.rows.stop)]
        np.testing.assert_allclose(np.bincount(own), len(own) / 3, atol=1)


def test_metrics_of_the_parts_add_up_to_the_whole(tmp_path):
    run = opened(tmp_path)
    rows = run.data.starts["val"][:, None] + E + np.arange(P)
    returns = run.data.panel.frame["y"].to_numpy()
    rng = np.random.default_rng(0)
    levels = run.config.model.quantiles
    forecasts = {name: np.sort(rng.normal(size=(*rows.shape, 3))) / 100 for name in ("model", "flat")}
    found = regime_metrics(run, rows, forecasts)
    assert list(found) == ["volatility", "x"]
    for parts in found.values():
        counts = [part["windows"] for part in parts.values()]
        assert sum(counts) == len(rows)
        for name in forecasts:
            of = [
                part if name == "model" else part["baselines"]["flat"]
                for part in parts.values()
                if len(part) > 1
            ]
            mean = np.average([part["pinball"] for part in of], weights=[c for c in counts if c])
            assert mean == pytest.approx(pinball(forecasts[name], returns[rows], levels))


def test_an_empty_regime_has_no_metrics(tmp_path):
    run = opened(tmp_path)
    rows = run.data.starts["val"][:1, None] + E + np.arange(P)
    found = regime_metrics(run, rows, {"model": np.zeros((1, P, 3))})
    parts = found["volatility"].values()
    assert sorted(part["windows"] for part in parts) == [0, 0, 1]
    assert all(part == {"windows": 0} for part in parts if not part["windows"])
