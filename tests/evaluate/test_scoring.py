"""What is said of a forecast: losses by day, tests for one series and for several, the verdict."""

import json

import numpy as np
import pytest

from tftjax.config.evaluation import EvaluationConfig
from tftjax.evaluate.formatting import p_text
from tftjax.evaluate.metrics import pinball_losses
from tftjax.evaluate.scoring import Windows, by_day, judge, modes_by_series, score
from tftjax.evaluate.significance import MIN_DAYS, diebold_mariano, pesaran_timmermann
from tftjax.evaluate.verdict import among_the_best, opening, quality_text, verdict

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
    assert among_the_best(found) == opening(found)[-1] == sentence
    best = "All compared at once, model is the best (95 % model confidence set)."
    assert among_the_best(judged(windows, forecast, {"far": forecast + 0.05})) == best
    few = judged(*make_case(days=MIN_DAYS - 1, second=0), {"same": forecast[: MIN_DAYS - 1]})
    assert few["tests"]["confidence_set"] == {}
    assert len(opening(few)) == 2
    assert among_the_best({"tests": {}}) == ""  # of an evaluation before there was one


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
