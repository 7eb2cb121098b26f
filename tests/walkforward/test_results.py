"""Pooling of folds and what is said of it, on numbers worked out by hand."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from tftjax.config.evaluation import EvaluationConfig
from tftjax.config.loading import Config
from tftjax.config.train import TrainConfig
from tftjax.evaluate.combination import Weights
from tftjax.evaluate.files import Predictions
from tftjax.evaluate.formatting import BASIS_POINTS
from tftjax.evaluate.metrics import METRICS, Metric
from tftjax.storage.runs import Ended
from tftjax.sweep.members import claim, write_ended
from tftjax.sweep.plan import Member
from tftjax.walkforward.files import read_walk
from tftjax.walkforward.pool import EWMA, Fold, headlines, join_folds, pooled_forecasts, predictions_table
from tftjax.walkforward.results import folds_table, gains_table, judge_all, write_tables
from tftjax.walkforward.summary import all_at_once, gain_data, make_summary, seeds

LEVELS = (0.1, 0.5, 0.75)


def predictions(days, series, target):
    forecast = np.zeros((len(days), 1, 3))
    return Predictions(pd.DatetimeIndex(days), np.array(series), forecast, np.array(target)[:, None], LEVELS)


def constant(*medians):
    """Forecasts whose quantiles lie 1 below the median, on it and 1 above it."""
    return np.array(medians)[:, None, None] + np.array([-1.0, 0.0, 1.0])


def make_fold(name, days, target, volatility, series=None, **forecasts):
    series = series or [""] * len(days)
    facts = dict.fromkeys(("train_from", "val_from", "test_from"), days[0])
    facts |= {"test_to": days[-1], "test_windows": len(days)}
    values = {key.replace("_", "-"): constant(*medians) for key, medians in forecasts.items()}
    return Fold(name, facts, predictions(days, series, target), np.array(volatility), values)


@pytest.fixture
def folds():
    """Two days, then three; config a with two seeds; the baseline's median is always 0, of the targets' too.

    Seed 2 of config b diverged in 2006.
    """
    return (
        make_fold(
            "2005",
            ["2005-03-01", "2005-03-02"],
            [0.0, 0.0],
            [10.0, 30.0],
            a_2005_s1=[0.5, 0.5],
            a_2005_s2=[-0.5, 0.5],
            b_2005_s1=[2.0, 2.0],
            b_2005_s2=[4.0, 4.0],
            flat=[0.0, 0.0],
            odd=[9.0, 9.0],
        ),
        make_fold(
            "2006",
            ["2006-03-01", "2006-03-02", "2006-03-03"],
            [0.0, 4.0, 0.0],
            [20.0, 40.0, 5.0],
            a_2006_s1=[1.0, 4.0, 0.0],
            a_2006_s2=[1.0, 2.0, 0.0],
            b_2006_s1=[6.0, 6.0, 6.0],
            flat=[0.0, 0.0, 0.0],
        ),
    )


def members():
    found = []
    for fold in ("2005", "2006"):
        for group in ("a", "b"):
            for seed in (1, 2):
                name = f"{group}-{fold}-s{seed}"
                found.append(Member(name, group, Config(name=name, train=TrainConfig(seed=seed)), fold))
    return found


@pytest.fixture
def pooled(folds, caplog):
    """The pool, its forecasts by name, and what was logged."""
    pool = join_folds(folds, "VIX")
    forecasts = pooled_forecasts(pool, members())
    return pool, {p.name: p for p in forecasts}, list(caplog.messages)


def test_what_has_a_forecast_in_every_fold(pooled):
    _, forecasts, said = pooled
    assert list(forecasts) == [
        "a, ensemble of 2",
        "a, seed 1",
        "a, seed 2",
        "b, ensemble of 2",
        "b, seed 1",
        "flat",
    ]
    assert said == [
        "left out b, seed 2: it diverged in the fold 2006",
        "left out the baseline odd: it has no forecast in the fold 2006",
    ]
    medians = {name: forecast.forecast[:, 0, 1].tolist() for name, forecast in forecasts.items()}
    assert medians["a, seed 2"] == [-0.5, 0.5, 1.0, 2.0, 0.0]
    assert medians["a, ensemble of 2"] == [0.0, 0.5, 1.0, 3.0, 0.0]
    assert medians["b, ensemble of 2"] == [3.0, 3.0, 6.0, 6.0, 6.0]  # of the seed that there is
    folders = [forecast.folder for forecast in forecasts.values()]
    assert folders == ["a-ensemble", "a-s1", "a-s2", "b-ensemble", "b-s1", "flat-baseline"]
    assert [p.name for p in headlines(list(forecasts.values()))] == ["a, ensemble of 2", "b, ensemble of 2"]


def test_seeds_without_an_ensemble(folds, caplog):
    alone = [member for member in members() if member.config.train.seed == 1]
    forecasts = pooled_forecasts(join_folds(folds, "VIX"), alone)
    assert [p.name for p in headlines(forecasts)] == ["a, seed 1", "b, seed 1"]
    lost = [member for member in members() if member.config.train.seed == 2]
    assert "a, seed 2" in [p.name for p in pooled_forecasts(join_folds(folds, "VIX"), lost)]
    assert "left out b: no seed of it is trained in every fold" in caplog.messages


def test_a_member_that_has_no_plan_is_left_out_as_one_that_diverged(folds, caplog):
    """A refit has no member of what diverged when validation chose."""
    kept = [member for member in members() if member.name != "b-2006-s2"]
    forecasts = pooled_forecasts(join_folds(folds, "VIX"), kept)
    assert [p.name for p in headlines(forecasts)] == ["a, ensemble of 2", "b, ensemble of 2"]
    assert "left out b, seed 2: it diverged in the fold 2006" in caplog.messages


def losses_by_hand(median, target):
    """Pinball of the levels 0.1, 0.5 and 0.75 at median - 1, median and median + 1."""
    errors = target - (median + np.array([-1.0, 0.0, 1.0]))
    return [max(q * e, (q - 1) * e) for q, e in zip(LEVELS, errors, strict=True)]


def test_pooled_pinball_and_gains_by_hand(pooled):
    pool, forecasts, _ = pooled
    targets = [0.0, 0.0, 0.0, 4.0, 0.0]
    own = np.array([losses_by_hand(m, t) for m, t in zip([0.0, 0.5, 1.0, 3.0, 0.0], targets, strict=True)])
    flat = np.array([losses_by_hand(0.0, t) for t in targets])
    assert own[0].tolist() == pytest.approx([0.1, 0, 0.25])
    metrics = judge_all(pool, list(forecasts.values()), EvaluationConfig(), 252.0)
    assert metrics["a, ensemble of 2"]["pinball"] == pytest.approx(own.mean())
    assert metrics["flat"]["pinball"] == pytest.approx(flat.mean())
    test = metrics["a, ensemble of 2"]["tests"]["diebold_mariano"]["flat"]
    assert test["difference"] == pytest.approx(own.mean() - flat.mean())
    assert test["p"] is None  # too few days
    gains = gains_table(pool, list(forecasts.values()))
    gains = gains[gains["forecast"] == "a, ensemble of 2"].set_index("part")
    # Volatility 10 30 20 40 5, its upper third above 26.7: days 2 and 4 are stormy. Level 0.1 is the tail.
    stormy, tail = [1, 3], [0]
    whole = (own - flat).mean()
    inside = (own - flat)[np.ix_(stormy, tail)].sum() / 15
    assert gains.loc["stormy tails", "difference"] == pytest.approx(inside)
    assert gains.loc["stormy tails", "pinball"] == pytest.approx(own[stormy, 0].mean())
    assert gains.loc["stormy tails", "baseline_pinball"] == pytest.approx(flat[stormy, 0].mean())
    assert gains.loc["stormy", "windows"] == 2
    assert gains.loc["all", "difference"] == pytest.approx(whole)
    for parts in (("calm", "stormy"), ("centre", "tails")):
        assert gains.loc[list(parts), "difference"].sum() == pytest.approx(whole)


def test_folds_by_hand(pooled):
    pool, forecasts, _ = pooled
    table = folds_table(pool, list(forecasts.values())).set_index(["fold", "forecast"])
    row = table.loc[("2006", "a, seed 1")]
    expected = np.mean([losses_by_hand(m, t) for m, t in [(1.0, 0.0), (4.0, 4.0), (0.0, 0.0)]])
    assert row["pinball"] == pytest.approx(expected)
    assert (row["directional_accuracy"], row["directional_base_rate"]) == (1.0, 1.0)
    assert (row["kind"], row["seed"], row["test_windows"]) == ("seed", 1, 3)
    assert pd.isna(table.loc[("2005", "flat"), "directional_accuracy"])  # no return but zero


def test_each_test_of_a_training_has_its_row(folds):
    """The second fold is tested twice, on two days and on one, and a third test has no day."""
    several = folds[1]._replace(tests=("2006-02-01", "2006-03-03", "2006-04-01"))
    pool = join_folds((folds[0]._replace(tests=("2005-03-01",)), several), "VIX")
    forecasts = pooled_forecasts(pool, members())
    table = folds_table(pool, forecasts).set_index(["fold", "forecast"])
    assert list(table.index.unique("fold")) == ["2005-03", "2006-02", "2006-03"]
    first, second = (table.loc[(test, "a, seed 1")] for test in ("2006-02", "2006-03"))
    expected = np.mean([losses_by_hand(m, t) for m, t in [(1.0, 0.0), (4.0, 4.0)]])
    assert first["pinball"] == pytest.approx(expected)
    assert second["pinball"] == pytest.approx(np.mean(losses_by_hand(0.0, 0.0)))
    assert [*first[["test_from", "test_to", "test_windows"]]] == ["2006-03-01", "2006-03-02", 2]
    assert [*second[["test_from", "test_to", "test_windows"]]] == ["2006-03-03", "2006-03-03", 1]
    assert first["train_from"] == second["train_from"] == "2006-03-01"
    years = [
        fold._replace(tests=tests)
        for fold, tests in zip(folds, (("2005-01-01",), ("2006-01-01",) * 2), strict=True)
    ]
    assert list(folds_table(join_folds(years, "VIX"), forecasts)["fold"].unique()) == ["2005", "2006"]


def walk_of(folder, pool, forecasts):
    """The walk-forward as its files hold it, all members finished but for seed 2 of b in 2006."""
    metrics = judge_all(pool, forecasts, EvaluationConfig(), 252.0)
    with claim(folder, members()):
        pass
    lost = {"b-2006-s2": "diverged"}
    ended = {m.name: Ended(lost.get(m.name, "finished"), 5, 4) for m in members()}
    write_ended(folder, "", ended)
    for member in members():
        directory = folder / "members" / member.name / "evaluation"
        directory.mkdir(parents=True)
        left_out = {"odd": "no data"} if member.fold == "2006" else {}
        notes = {"left_out": left_out, "volatility_column": None}
        (directory / "notes.json").write_text(json.dumps(notes))
    write_tables(folder, pool, forecasts, metrics)
    return read_walk(folder), metrics


def row_of(text, name):
    """The cells of the first row with that heading."""
    return next(line for line in text.splitlines() if line.startswith(f"| {name} |"))[:-2].split(" | ")


def test_the_picture_s_gains_by_hand(pooled, tmp_path):
    pool, forecasts, _ = pooled
    walk, _ = walk_of(tmp_path / "walk", pool, list(forecasts.values()))
    gains = gain_data(walk, np.array([False, True, False, True, False]))
    name = "a, ensemble of 2"
    flat = np.mean(losses_by_hand(0.0, 0.0))
    assert gains.hardest == "flat"
    assert gains.losses.index[3] == pd.Timestamp("2006-03-02")
    one = walk.folds.loc[("2005", name), "pinball"]
    assert gains.skills[name]["2005"] == pytest.approx(100 * (1 - one / flat))
    assert gains.spans["test_from"].astype(str).tolist() == ["2005-03-01", "2006-03-01"]
    assert gains.stormy.tolist() == [False, True, False, True, False]


def test_the_summary(pooled, tmp_path):
    pool, forecasts, _ = pooled
    walk, metrics = walk_of(tmp_path / "walk", pool, list(forecasts.values()))
    assert walk.hardest == "flat"
    summary = make_summary(walk, "VIX")
    text, shown = summary.markdown(), summary.terminal()
    assert "# Walk-forward: 2 folds, 5 test dates from 2005-03-01 to 2006-03-03" in text
    assert "5 dates are too few for a test" in text
    assert "- a, ensemble of 2: no verdict" in text
    assert "From the second fold on" not in text
    start = {"train": {"init_from": str(walk.folder / "members" / "a-2005-s1")}}
    warm = walk.members[0]._replace(name="a-2006-s1", config=Config(name="a-2006-s1", **start))
    assert "From the second fold on" in make_summary(walk._replace(members=[warm]), "VIX").markdown()
    last = summary.markdown().strip().splitlines()[-1]
    assert re.fullmatch(r"\w+.*\. (Has|No verdict).*\.", last), last
    assert "left out: b-2006-s2." in text
    assert "odd is left out, in fold 2006: no data." in text
    assert "Stormy: VIX on the row before" in text
    assert "p =" not in text
    own, other, flat = (metrics[name]["pinball"] for name in ("a, ensemble of 2", "b, ensemble of 2", "flat"))
    gain, worse = (f"{100 * (1 - loss / flat):+.2f}" for loss in (own, other))
    assert f"\n| flat | {gain} | {worse} |" in text
    assert f"\n| all | {gain} | {worse} |" in text
    assert row_of(text, "2006")[1:6] == [*["2006-03-01"] * 3, "2006-03-03", "3"]
    assert max(map(len, shown.splitlines())) <= 80
    assert gain in next(line for line in shown.splitlines() if line.startswith("all "))


def test_all_forecasts_are_compared_at_once(pooled, tmp_path):
    pool, forecasts, _ = pooled
    walk, _ = walk_of(tmp_path / "walk", pool, list(forecasts.values()))
    assert list(walk.losses) == ["a, ensemble of 2", "b, ensemble of 2", "flat"]
    assert all_at_once(walk) is None  # five days
    days = np.tile(walk.losses.to_numpy(), (12, 1)) + [0, 0, 9] * np.random.default_rng(0).random((60, 1))
    longer = walk._replace(losses=pd.DataFrame(days, columns=list(walk.losses)))
    rows = {row[0].text: [cell.text for cell in row] for row in all_at_once(longer).rows}
    assert rows["flat"][2:] == ["no", "p < 0.001"]
    assert rows["a, ensemble of 2"][2:] == ["yes", "p = 1.00"]
    assert (
        "## All at once"
        in make_summary(
            longer._replace(losses=longer.losses.set_index(pd.bdate_range("2005-03-01", periods=60))), "VIX"
        ).markdown()
    )


def test_means_over_seeds_by_hand(pooled, tmp_path):
    pool, forecasts, _ = pooled
    walk, metrics = walk_of(tmp_path / "walk", pool, list(forecasts.values()))
    rows = {row[0].text: row for row in seeds(walk).rows}
    assert list(rows)[:4] == ["a, mean of 2 seeds", "a, ensemble of 2", "a, seed 1", "a, seed 2"]
    one, two = (metrics[f"a, seed {seed}"]["pinball"] for seed in (1, 2))
    # Of two values the standard error is half of their distance.
    assert rows["a, mean of 2 seeds"][1].text == f"{500 * (one + two):.4f} ± {500 * abs(one - two):.4f}"
    flat = metrics["flat"]["pinball"]
    assert rows["a, seed 1"][2].text == f"{100 * (one / flat - 1):+.2f}"
    assert "b, mean of 2 seeds" not in rows  # one of them diverged


def test_an_ensemble_without_a_whole_seed_is_in_the_summary(folds, tmp_path):
    """Each seed of b diverged in a fold, the other one is trained there."""
    folds[0].forecasts.pop("b-2005-s1")
    pool = join_folds(folds, "VIX")
    everything = pooled_forecasts(pool, members())
    assert [p.name for p in everything if p.config == "b"] == ["b, ensemble of 2"]
    text = make_summary(walk_of(tmp_path / "walk", pool, everything)[0], "VIX").markdown()
    for title, name in (("All test dates together", "b, ensemble of 2"), ("Seeds", "a, mean of 2 seeds")):
        assert f"\n| {name} |" in text.partition(f"## {title}")[2].partition("##")[0]


def test_a_new_metric_is_in_every_table(pooled, tmp_path, monkeypatch):
    def reach(forecast, target, quantiles):
        return 1e-4 * float(np.ptp(forecast[..., 1]))

    monkeypatch.setitem(METRICS, "reach", Metric(reach, "reach, bp", BASIS_POINTS, "lower"))
    pool, forecasts, _ = pooled
    walk, metrics = walk_of(tmp_path / "walk", pool, list(forecasts.values()))
    assert metrics["a, ensemble of 2"]["reach"] == pytest.approx(3e-4)  # its medians lie between 0 and 3
    assert "reach" in pd.read_csv(tmp_path / "walk" / "folds.csv")
    summary = make_summary(walk, "VIX")
    text = summary.markdown()
    tables = [part for part in summary.parts if not isinstance(part, str)]
    assert [table.title for table in tables if "reach, bp" in table.head] == [
        "All test dates together",
        "Seeds one by one",
    ]
    place = tables[0].head.index("reach, bp")
    assert row_of(text, "a, ensemble of 2")[place] == "3.0"
    assert row_of(text, "flat")[place] == "**0.0**"
    assert "reach" in summary.terminal()


def _gains(volatility, num_series):
    """The tests of a forecast against a baseline in a panel of series with the same 40 days twice."""
    rng, names = np.random.default_rng(3), "xyz"[:num_series]
    folds = []
    for year in ("2005", "2006"):
        days = [f"{year}-03-{day + 1:02}" for day in range(20)]
        target, medians = rng.normal(size=(2, 20)).tolist()
        folds.append(
            make_fold(
                year,
                days * num_series,
                target * num_series,
                np.concatenate([volatility(number, days) for number in range(num_series)]),
                series=np.repeat([*names], 20).tolist() if num_series > 1 else None,
                **{f"a_{year}_s1": medians * num_series, "flat": [0.0] * 20 * num_series},
            )
        )
    pool = join_folds(folds, EWMA)
    only = [Member(f"a-{year}-s1", "a", Config(train=TrainConfig(seed=1)), year) for year in ("2005", "2006")]
    forecasts = pooled_forecasts(pool, only)
    gains = gains_table(pool, forecasts)
    judged = judge_all(pool, forecasts, EvaluationConfig(), 252.0)["a, seed 1"]["tests"]
    return gains.set_index("part"), judged["diebold_mariano"]["flat"]


def test_p_is_clustered_by_day():
    """Three series that are alike tell no more than one: what is tested is the mean of each day."""

    def same(_, days):
        return np.arange(len(days)) * 1.0

    columns = ["difference", "low", "high", "t", "p", "lags"]
    (one, judged_one), (three, judged_three) = _gains(same, 1), _gains(same, 3)
    np.testing.assert_allclose(three[columns].to_numpy(float), one[columns].to_numpy(float), rtol=1e-9)
    assert three["windows"].tolist() == (3 * one["windows"]).tolist()
    np.testing.assert_allclose([*judged_three.values()], [*judged_one.values()], rtol=1e-9)
    assert 0 < judged_one["p"] < 1


def test_a_wild_series_has_calm_days_too():
    """Stormy is told from calm by each series' own upper third."""

    def wilder(number, days):
        return 10.0**number * (1 + np.arange(len(days)))

    gains, _ = _gains(wilder, 2)
    alone, _ = _gains(wilder, 1)
    np.testing.assert_allclose(gains.loc["stormy", "difference"], alone.loc["stormy", "difference"])
    assert gains.loc["stormy", "windows"] == 2 * alone.loc["stormy", "windows"] > 0


def weighed(folds):
    """The folds with weights of a's combination with flat, and none of b's in 2006."""
    first = {"a": Weights({"model": 0.5, "flat": 0.5}, {"flat": 0.25, "odd": 1.0}), "b": None}
    second = {"a": Weights({"model": 0.25, "flat": 0.75}, {"flat": 0.75})}
    return [fold._replace(weights=weights) for fold, weights in zip(folds, (first, second), strict=True)]


def test_a_combination_by_the_weights_of_each_fold(folds):
    pool = join_folds(weighed(folds), "VIX")
    forecasts = pooled_forecasts(pool, members())
    metrics = judge_all(pool, forecasts, EvaluationConfig(), 252.0)
    found = metrics["a, ensemble of 2"]
    # Medians of the ensemble are 0, 0.5, then 1, 3, 0; those of flat 0.
    medians = [0.0, 0.25, 0.25, 0.75, 0.0]
    targets = [0.0, 0.0, 0.0, 4.0, 0.0]
    losses = np.array([losses_by_hand(m, t) for m, t in zip(medians, targets, strict=True)])
    assert found["combination"]["metrics"]["pinball"] == pytest.approx(losses.mean())
    assert found["combination"]["weights"] == {"model": 0.375, "flat": 0.625}
    assert found["combination"]["tests"]["days"] == 5
    assert list(found["encompassing"]) == ["flat"]
    assert found["encompassing"]["flat"]["weight"] == 0.5
    assert "combination" not in metrics["b, ensemble of 2"]
    assert "combination" not in metrics["a, seed 1"]  # of each config its ensemble alone
    for place, divided in zip((0, 1), pool.divide(forecasts[0].forecast), strict=True):
        np.testing.assert_array_equal(divided[:, 0, 1], [[0.0, 0.5], [1.0, 3.0, 0.0]][place])


def test_a_calibration_by_the_validation_rows_of_each_fold(folds, tmp_path):
    made = constant(0.0, 0.25), constant(0.25, 0.75, 0.0)
    by_fold = {"a": ("split", made[0]), "b": ("split", made[0])}, {"a": ("split", made[1])}
    folds = [fold._replace(calibrated=found) for fold, found in zip(folds, by_fold, strict=True)]
    pool = join_folds(folds, "VIX")
    walk, metrics = walk_of(tmp_path / "walk", pool, pooled_forecasts(pool, members()))
    medians, targets = [0.0, 0.25, 0.25, 0.75, 0.0], [0.0, 0.0, 0.0, 4.0, 0.0]
    losses = np.array([losses_by_hand(m, t) for m, t in zip(medians, targets, strict=True)])
    found = metrics["a, ensemble of 2"]["conformal"]
    assert found["metrics"]["pinball"] == pytest.approx(losses.mean())
    difference = losses.mean() - metrics["a, ensemble of 2"]["pinball"]
    assert found["tests"]["model"]["difference"] == pytest.approx(difference)
    assert list(found["tests"]["diebold_mariano"]) == ["flat"]
    assert "conformal" not in metrics["b, ensemble of 2"]  # which has none in the second fold
    assert "- a, ensemble of 2. Conformal calibration (split)" in make_summary(walk, "VIX").markdown()


def test_several_series_follow_each_other():
    """Each fold has both series, day after day; the pool has one series after the other."""
    folds = [
        make_fold(
            str(year),
            [f"{year}-03-01", f"{year}-03-02"] * 2,
            [year + 0.1, year + 0.2, year + 0.3, year + 0.4],
            [1.0, 2.0, 3.0, 4.0],
            series=["x", "x", "b", "b"],
            flat=[1.0, 2.0, 3.0, 4.0],
        )
        for year in (2005, 2006)
    ]
    pool = join_folds(folds, EWMA)
    assert pool.series.tolist() == ["x"] * 4 + ["b"] * 4
    np.testing.assert_allclose(
        pool.windows.target[:, 0], [2005.1, 2005.2, 2006.1, 2006.2, 2005.3, 2005.4, 2006.3, 2006.4]
    )
    assert pool.windows.day.tolist() == [0, 1, 2, 3] * 2
    assert pool.windows.series == [slice(0, 4), slice(4, 8)]
    assert pool.fold.tolist() == [0, 0, 1, 1] * 2
    (flat,) = pooled_forecasts(pool, [])
    assert flat.forecast[:, 0, 1].tolist() == [1, 2, 1, 2, 3, 4, 3, 4]
    table = predictions_table(pool, flat.forecast)
    assert table["series"].tolist() == pool.series.tolist()
    assert table["actual"].tolist() == pool.windows.target[:, 0].tolist()
    assert list(table) == ["date", "split", "series", "actual", "0.1", "0.5", "0.75"]
