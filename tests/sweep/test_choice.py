"""The config to use, in a sentence: on numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from tftjax.evaluate.files import Predictions
from tftjax.sweep.choice import choice, judged_metrics


def table(**losses):
    """results.csv of configs, the validation pinball loss of each seed in 1e-3."""
    rows = [
        {"member": f"{config}-s{seed}", "config": config, "seed": seed, "val/pinball": loss * 1e-3}
        for config, seeds in losses.items()
        for seed, loss in seeds.items()
    ]
    return pd.DataFrame(rows)


def judged(p, *names, difference=-1e-4):
    tests = {"diebold_mariano": {"rolling": {"difference": 0, "p": 1}, "garch": {"difference": difference}}}
    baselines = {"rolling": {"pinball": 3.0}, "garch": {"pinball": 2.0}}
    values = {}
    for name, one in zip(names, p, strict=True):
        tests["diebold_mariano"]["garch"] = {"difference": difference, "p": one}
        copied = {"diebold_mariano": dict(tests["diebold_mariano"])}
        values[name] = {"baselines": baselines, "tests": copied}
    return values


def refuse(name):
    raise AssertionError(f"{name} was read")


def test_several_seeds_are_compared_seed_by_seed():
    results = table(a={1: 2.0, 2: 2.4, 3: 2.2}, b={1: 2.1, 2: 2.8, 4: 9.0})
    # Seeds 1 and 2 differ by 0.1 and 0.4: mean 0.25, standard error 0.15, t of one degree of freedom 12.706.
    assert choice(results, judged((0.5, 0.01), "a", "b"), refuse) == (
        "Use a, the best on validation, though it is not told apart from b (pinball loss lower by 0.2500e-3"
        " [-1.6559, 2.1559], 2 seeds); only b beats garch on validation."
    )


def test_a_lead_that_is_told_apart():
    results = table(a={1: 2.0, 2: 2.4}, b={1: 2.5, 2: 2.9 + 1e-9})
    said = choice(results, judged((0.01, 0.01), "a", "b"), refuse)
    assert said.startswith(
        "Use a, the best on validation: it is told apart from b (pinball loss lower by 0.5"
    )
    assert said.endswith("2 seeds); both beat garch on validation.")
    # Significant, but worse than the baseline.
    worse = choice(results, judged((0.01, 0.01), "a", "b", difference=1e-4), refuse)
    assert worse.endswith("neither beats garch on validation.")


def forecasts(shift, count=100, quantiles=(0.5,)):
    dates = pd.date_range("2020-01-01", periods=count)
    target = np.random.default_rng(0).normal(size=(count, 1))
    median = target + shift * np.where(np.arange(count) % 2, 0.9, 1.1)[:, None]
    forecast = np.repeat(median[..., None], len(quantiles), axis=2)
    return Predictions(dates, np.full(count, ""), forecast, target, quantiles)


def test_one_seed_is_compared_day_by_day():
    results = table(a={1: 0.5}, b={1: 1.0})
    known = {"a-s1": forecasts(0.001), "b-s1": forecasts(0.002)}
    said = choice(results, judged((0.5, 0.5), "a", "b"), known.__getitem__)
    start = "Use a, the best on validation: it is told apart from b (pinball loss lower by 0.5000e-3 ["
    assert said.startswith(start)  # half of 0.001 in the mean
    assert said.endswith("100 dates of one seed); neither beats garch on validation.")
    few = {name: forecasts(0.001 * n, count=10) for n, name in enumerate(known)}
    said = choice(results, judged((None, None), "a", "b"), few.__getitem__)
    assert "though it is not told apart from b (" in said
    assert "10 dates of one seed)" in said


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (forecasts(0.002, quantiles=(0.4, 0.5)), "other quantiles"),
        (forecasts(0.002, count=99), "other rows"),
    ],
)
def test_what_does_not_compare_is_said(other, words):
    known = {"a-s1": forecasts(0.001), "b-s1": other}
    said = choice(table(a={1: 0.5}, b={1: 1.0}), judged((0.5, 0.5), "a", "b"), known.__getitem__)
    start = "Use a, the best on validation, though it cannot be compared with b"
    assert said == f"{start} ({words}); neither beats garch on validation."


def test_no_seed_in_common():
    said = choice(table(a={1: 0.5}, b={2: 1.0}), judged((0.5, 0.5), "a", "b"), refuse)
    assert "though it cannot be compared with b (no seed in common)" in said


def test_one_config():
    only = table(a={1: 2.0})
    assert choice(only, judged((0.01,), "a"), refuse) == "One config, a: it beats garch on validation."
    assert choice(only, judged((0.5,), "a"), refuse) == "One config, a: it does not beat garch on validation."
    none = {"a": {"baselines": {}, "tests": {"diebold_mariano": {}}}}
    assert choice(only, none, refuse) == "One config, a."


def test_the_best_comes_first_and_an_ensemble_judges_its_config():
    results = table(a={1: 3.0}, b={1: 1.0, 2: 2.0}, lost={1: float("nan")})
    members = {name: {"val": {"of": name}} for name in ("a-s1", "b-s1", "b-s2")}

    def order(averaged):
        return [(name, one["of"]) for name, one in judged_metrics(results, members, averaged).items()]

    assert order({"b": {"val": {"of": "both"}}}) == [("b", "both"), ("a", "a-s1")]
    assert order({}) == [("b", "b-s1"), ("a", "a-s1")]
