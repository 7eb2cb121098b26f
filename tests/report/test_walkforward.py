"""What a walk-forward's page says of its configs, by hand; the page itself is in test_walkforward.py."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tftjax.config.loading import from_dict
from tftjax.data.panel import make_panel
from tftjax.report.walkforward import _worth, verdict_of
from tftjax.sweep.plan import Member
from tftjax.walkforward.files import Walk, skills, stormy_days
from tftjax.walkforward.pool import headlines, volatility_name

BETTER = {"difference": -0.1, "low": -0.15, "high": -0.05, "p": 0.001}
LEVEL = {"difference": -0.1, "low": -0.3, "high": 0.1, "p": 0.3}
WORSE = {"difference": 0.1, "low": 0.05, "high": 0.15, "p": 0.001}


def walk(days=260, flat=2.0, **configs):
    """Configs by their tests against two baselines; `best` is the harder one."""
    tests = {
        name: {"days": days, "diebold_mariano": dict(zip(("flat", "best"), own, strict=True))}
        for name, own in configs.items()
    }
    pooled = pd.DataFrame({"pinball": {"flat": flat, "best": 1.0}})
    baselines = {"flat": {"pinball": flat}, "best": {"pinball": 1.0}}
    metrics = {name: {"tests": own, "baselines": baselines} for name, own in tests.items()}
    none = pd.DataFrame()
    return Walk(Path("walk"), (), (), pooled, none, none, metrics, none, "best", {})


@pytest.mark.parametrize(
    ("mark", "said", "configs"),
    [
        ("good", "Has earned its keep: beats all 2 baselines", {"a": (BETTER, BETTER)}),
        ("bad", "Has not earned its keep: beats 1 of 2 baselines", {"a": (BETTER, LEVEL)}),
        ("good", "2 of 2 configs have earned", {"a": (BETTER, BETTER), "b": (BETTER, BETTER)}),
        ("open", "1 of 2 configs have earned", {"a": (BETTER, WORSE), "b": (BETTER, BETTER)}),
        (
            "bad",
            "None of 2 configs has earned its keep: at most 1",
            {"a": (BETTER, LEVEL), "b": (WORSE, WORSE)},
        ),
    ],
)
def test_the_verdict_is_on_every_config(mark, said, configs):
    verdict = verdict_of(walk(**configs))
    assert verdict.mark == mark
    assert verdict.headline.startswith(said)
    assert [point.partition(" ")[0] for point in verdict.points[: len(configs)]] == list(configs)
    assert ("the best of several is better by chance too" in verdict.points[-1]) == (len(configs) > 1)


def test_the_hardest_baseline_is_named_with_every_difference():
    verdict = verdict_of(walk(a=(BETTER, LEVEL), b=(WORSE, WORSE)))
    assert verdict.points[2] == (
        "The best baseline, best, has a pinball loss of 1000.0000e-3; a -10.00 %, 95 % interval"
        " [-30.00, +10.00] %; b +10.00 %, 95 % interval [+5.00, +15.00] %."
    )


def test_bands_are_of_all_forecasts_of_a_panel_and_of_several_steps():
    index = pd.MultiIndex.from_product([["2005", "2006"], ["a", "flat"]], names=["fold", "forecast"])
    config = from_dict({"model": {"prediction_length": 3}}, "test")
    values = {"coverage": {"80": 0.7}, "tests": {"days": 11}}
    given = walk()._replace(
        folds=pd.DataFrame({"test_windows": [7, 7, 13, 13]}, index),  # of series with the same days
        members=[Member("a-s1", "a", config)],
        metrics={"a": values},
        losses=pd.DataFrame(index=range(11)),
    )
    (text,) = _worth(given, "week").parts
    assert text.text == "The 80 % band held 70 % of 60 forecasts on 11 weeks; 80 % would be right."


def test_few_days_have_no_verdict():
    none = dict.fromkeys(("low", "high", "p")) | {"difference": 0.1}
    verdict = verdict_of(walk(days=29, a=(none, none), b=(none, none)))
    assert (verdict.mark, verdict.headline) == ("open", "No verdict: too few dates")
    assert "p =" not in " ".join(verdict.points)


def test_the_forecast_of_a_config_is_its_ensemble_or_its_only_seed():
    rows = [
        ("a of 2", "ensemble", "a"),
        ("a, 1", "seed", "a"),
        ("b, 1", "seed", "b"),
        ("flat", "baseline", "flat"),
    ]
    table = pd.DataFrame(rows, columns=["forecast", "kind", "config"]).set_index("forecast")
    assert [row.Index for row in headlines(list(table.itertuples()))] == ["a of 2", "b, 1"]


def test_skill_of_a_fold_in_which_the_baseline_loses_nothing_is_undefined():
    index = pd.MultiIndex.from_product([["2005", "2006"], ["a", "best"]], names=["fold", "forecast"])
    folds = pd.DataFrame({"pinball": [1.5, 2.0, 1.0, 0.0]}, index)
    walk = Walk(**dict.fromkeys(Walk._fields) | {"folds": folds, "metrics": {"a": {}}, "hardest": "best"})
    found = skills(walk)
    np.testing.assert_array_equal(found["a"], [25.0, np.nan])


def test_stormy_is_above_the_median_of_what_was_known_the_day_before():
    days = pd.bdate_range("2005-01-03", periods=6)
    frame = pd.DataFrame({"r": 0.0, "VIX": [10.0, 40.0, 20.0, 30.0, 5.0, 99.0]}, days)
    panel = make_panel(frame, target="r", observed=("r", "VIX"))
    config = from_dict({}, "test")
    member = Member("control-s42", "control", config)
    walk = Walk(**dict.fromkeys(Walk._fields) | {"members": [member], "losses": pd.DataFrame(index=days[1:])})
    assert volatility_name(panel, walk.members) == "VIX"
    assert stormy_days(walk, panel).tolist() == [
        False,
        True,
        False,
        True,
        False,
    ]  # 10 40 20 30 5, their median 20
