"""The regression gate: what passes, what fails, and what does not compare."""

import numpy as np
import pandas as pd
import pytest

from tftjax.evaluate import compare
from tftjax.evaluate.significance import Difference, diebold_mariano

LEVELS = (0.1, 0.5, 0.9)
COLUMNS = ["0.1", "0.5", "0.9"]


def write(folder, name, shift=0.0, days=60, steps=1, series=("",), change=lambda table: table):
    """Writes predictions whose quantiles are off by `shift`; returns the run."""
    rng = np.random.default_rng(0)
    tables = []
    for split in ("val", "test"):
        for one in series:
            first = pd.bdate_range("2001-01-01" if split == "val" else "2003-01-01", periods=days)
            rows = [(day + pd.offsets.BDay(s), s + 1) for day in first for s in range(steps)]
            table = pd.DataFrame(rows, columns=["date", "step"])
            table.insert(1, "split", split)
            if one:
                table.insert(2, "series", one)
            table["actual"] = rng.normal(0, 0.01, len(table))
            noise = rng.normal(0, 0.001, len(table))
            for column, level in zip(COLUMNS, (-0.0128, 0.0, 0.0128), strict=True):
                table[column] = level + noise + (shift if split == "test" else 0.0)
            tables.append(table if steps > 1 else table.drop(columns="step"))
    run = folder / name
    (run / "evaluation").mkdir(parents=True)
    change(pd.concat(tables)).to_csv(run / "evaluation" / "predictions.csv", index=False)
    return run


def test_worse_fails_and_better_passes(tmp_path, capsys):
    good, bad = write(tmp_path, "good"), write(tmp_path, "bad", shift=0.01)
    assert compare.main([str(good), str(bad)]) == 1
    out = capsys.readouterr().out
    assert "B minus A, 1e-3 [95 %]: +" in out
    assert "one-sided p < 0.001" in out
    assert "B is significantly worse than A (alpha 0.05)" in out
    assert compare.main([str(bad), str(good)]) == 0
    out = capsys.readouterr().out
    assert "B minus A, 1e-3 [95 %]: -" in out
    assert "one-sided p = 1.00" in out
    assert "not significantly worse" in out
    assert compare.main([str(good), str(bad), "--split", "val"]) == 0  # the same there
    assert "no difference on any date" in capsys.readouterr().out


def test_the_difference_is_that_of_the_chosen_metric(tmp_path):
    a, b = write(tmp_path, "a"), write(tmp_path, "b", shift=0.004)
    tables = [pd.read_csv(run / "evaluation" / "predictions.csv") for run in (a, b)]
    tables = [table[table["split"] == "test"] for table in tables]

    def difference(loss):
        one, other = (loss(table["actual"], table) for table in tables)
        return (other - one).to_numpy()

    def pinball(level):
        def loss(actual, table):
            error = actual - table[f"{level:g}"]
            return np.maximum(level * error, (level - 1) * error)

        return loss

    expected = {
        "pinball": lambda actual, table: sum(pinball(level)(actual, table) for level in LEVELS) / 3,
        "pinball/0.9": pinball(0.9),
        "absolute_error": lambda actual, table: (actual - table["0.5"]).abs(),
        "squared_error": lambda actual, table: (actual - table["0.5"]) ** 2,
    }
    for metric, loss in expected.items():
        found = compare.compare(a, b, metric, "test")
        np.testing.assert_allclose(found[:5], diebold_mariano(difference(loss))[:5], rtol=1e-9)


def test_alpha_is_the_level_of_a_one_sided_test():
    found = diebold_mariano(np.random.default_rng(3).normal(0.15, 1, 200))
    assert found.difference > 0
    assert compare.is_worse(found, found.p / 2 * 1.001)
    assert not compare.is_worse(found, found.p / 2 * 0.999)
    assert not compare.is_worse(found._replace(difference=-1.0), 0.999)


def test_several_series_and_steps_are_one_loss_a_day(tmp_path):
    a, b = (
        write(tmp_path, name, shift, steps=3, series=("x", "y"), days=37)
        for name, shift in (("a", 0.0), ("b", 0.002))
    )
    found = compare.compare(a, b, "absolute_error", "test")
    tables = [pd.read_csv(run / "evaluation" / "predictions.csv") for run in (a, b)]
    losses = [
        (table["actual"] - table["0.5"]).abs()[table["split"] == "test"].to_numpy().reshape(2, 37, 3)
        for table in tables
    ]
    expected = diebold_mariano((losses[1] - losses[0]).mean(axis=(0, 2)), 3)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def part_of(run, place, cut):
    """A run with some of another's predictions."""
    (place / "evaluation").mkdir(parents=True)
    table = cut(pd.read_csv(run / "evaluation" / "predictions.csv"))
    table.to_csv(place / "evaluation" / "predictions.csv", index=False)
    return place


def test_common_days_alone(tmp_path, capsys):
    """What one of them lacks is left out of both, and the rest is compared as it is alone."""
    a, b = write(tmp_path, "a"), write(tmp_path, "b", shift=0.004)

    def cut(name, run, rows):
        return part_of(run, tmp_path / name, lambda table: table[table["split"] == "test"].iloc[rows])

    early, late = cut("early", a, slice(0, 50)), cut("late", b, slice(10, 60))
    assert compare.main([str(early), str(late)]) == 2
    error = capsys.readouterr().err
    assert "only the first forecasts 10 dates" in error
    assert error.endswith("Or compare the forecasts that both have: --common.\n")
    compare.main([str(early), str(late), "--common"])
    captured = capsys.readouterr()
    assert f"{early}: left out 10 of 50 forecasts, of 10 dates" in captured.err
    assert f"{late}: left out 10 of 50 forecasts, of 10 dates" in captured.err
    assert "that B is worse: one-sided" in captured.out
    both = cut("a both", a, slice(10, 50)), cut("b both", b, slice(10, 50))
    found = compare.compare(early, late, "pinball", "test", common=True)
    assert found == compare.compare(*both, "pinball", "test")
    few = cut("few", b, slice(25, 60))
    assert compare.main([str(early), str(few), "--common"]) == 2
    assert "found 25 dates, expected at least 30" in capsys.readouterr().err
    other = cut(
        "other", write(tmp_path, "x", change=lambda t: t.assign(actual=t["actual"] + 1)), slice(0, 40)
    )
    assert compare.main([str(early), str(other), "--common"]) == 2
    assert "the actual returns differ in 40 of 40 places" in capsys.readouterr().err


def test_common_forecasts_of_several_series(tmp_path, capsys):
    a = write(tmp_path, "a", series=("x", "y"), days=40)
    b = part_of(a, tmp_path / "b", lambda table: table[table["series"] == "x"].assign(**{"0.5": 0.01}))
    assert compare.main([str(a), str(b), "--common"]) == 1
    assert f"{a}: left out 40 of 80 forecasts, of 40 dates" in capsys.readouterr().err


BAD = {
    "days": ({"days": 59}, "only the first forecasts 1 date, such as 2003-03-25"),
    "steps": ({"steps": 2}, "windows of 1 and 2 steps"),
    "series": ({"series": ("x",)}, "only the first has the series"),
    "actuals": (
        {"change": lambda t: t.assign(actual=t["actual"] * 100)},
        "the actual returns differ in 60 of 60 places, first in the window of 2003-01-01",
    ),
    "quantiles": ({"change": lambda t: t.rename(columns={"0.1": "0.05"})}, "they forecast the quantiles"),
    "gap": (
        {"change": lambda t: t.assign(date=t["date"].replace(pd.Timestamp("2003-01-02"), "2003-01-04"))},
        "only the first forecasts 1 date, such as 2003-01-02",
    ),
    "no test": ({"change": lambda t: t[t["split"] == "val"]}, "0 forecasts of test rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_compare_is_refused_with_the_difference(case, tmp_path, capsys):
    keywords, message = BAD[case]
    a, b = write(tmp_path, "a"), write(tmp_path, "b", **keywords)
    assert compare.main([str(a), str(b)]) == 2
    assert message in capsys.readouterr().err


def test_a_quantile_that_both_have_compares(tmp_path):
    a = write(tmp_path, "a")
    b = write(tmp_path, "b", change=lambda t: t.rename(columns={"0.1": "0.05"}))
    assert compare.main([str(a), str(b), "--metric", "pinball/0.9"]) == 0


def test_bad_input(tmp_path, capsys):
    a, short = write(tmp_path, "a"), write(tmp_path, "short", days=29)
    (tmp_path / "empty").mkdir()
    assert compare.main([str(a), str(tmp_path / "empty")]) == 2
    assert compare.main([str(a), str(tmp_path / "shorts")]) == 2
    assert "shorts: not a run: no such folder (in" in capsys.readouterr().err
    assert compare.main([str(a), str(tmp_path / "empty")]) == 2
    assert "predictions.csv: missing. Make it: tftjax evaluate" in capsys.readouterr().err
    assert compare.main([str(short), str(short)]) == 2
    captured = capsys.readouterr()
    assert "found 29 dates, expected at least 30: too few for a test" in captured.err
    assert "p =" not in captured.out + captured.err
    none = write(tmp_path, "none", change=lambda table: table[table["split"] == "val"])
    assert compare.main([str(none), str(none)]) == 2
    assert "cannot be read (0 forecasts of test rows" in capsys.readouterr().err
    for metric in ("pinbal", "pinball/0.7", "pinball/x", "correlation"):
        assert compare.main([str(a), str(a), "--metric", metric]) == 2
        assert f"--metric {metric}: unknown" in capsys.readouterr().err
    (a / "evaluation" / "predictions.csv").write_text("date,split,actual,0.5\n2003-01-01,test,,0.1\n")
    assert compare.main([str(a), str(a)]) == 2
    assert "cannot be read (a cell holds no finite number)" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        compare.main([str(a), str(a), "--alpha", "5"])
    assert stopped.value.code == 2


def test_numbers_have_the_unit_of_the_other_tables():
    tested = Difference(2e-6, 1e-6, 3e-6, 4.0, 0.01, 1)
    words = "; that B is worse: one-sided p = 0.005"
    assert compare.report(tested, "pinball/0.1") == f", 1e-3 [95 %]: +0.0020 [+0.0010, +0.0030]{words}"
    assert compare.report(tested, "squared_error") == f", 1e-6 [95 %]: +2.0000 [+1.0000, +3.0000]{words}"
