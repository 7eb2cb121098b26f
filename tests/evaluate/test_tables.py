"""Tables and how numbers are written, by hand."""

import math

import pytest

from tftjax.evaluate.formatting import GAIN, LOSS, PERCENT, Format, counted, p_text, relative, share
from tftjax.evaluate.metrics import METRICS, Metric, columns
from tftjax.evaluate.tables import Cell, Summary, Table, best_of, gain_cell, metric_cells

TABLE = Table(
    "Losses",
    ("", "pinball, 1e-3", "a|b"),
    [[Cell("own", "model"), Cell("1.5", "best"), Cell("-")], [Cell("flat"), Cell("2.25"), Cell("[x]")]],
    "Lower is better.",
)


def test_numbers():
    assert LOSS.number(0.00123456) == "1.2346"
    assert LOSS.number(None) == LOSS.number(math.nan) == LOSS.number(-math.inf) == "-"
    assert GAIN.estimate(0.01, -0.005, 0.025, "+") == "+1.00 [-0.50, +2.50]"
    assert GAIN.estimate(0.01, None, 0.025) == "1.00"
    assert GAIN.estimate(None, None, None) == "-"
    assert PERCENT.mean(0.5, 0.125) == "50.0 ± 12.5"
    assert PERCENT.mean(0.5, math.nan) == "50.0"
    assert Format(1, 0).number(3.0, "+") == "+3"
    assert (share(0.1234), share(0.1234, 0), share(None)) == ("12.3 %", "12 %", "-")
    assert [p_text(p) for p in (None, math.nan, 0.0004, 0.0123, 0.5)] == [
        "-",
        "-",
        "p < 0.001",
        "p = 0.012",
        "p = 0.50",
    ]
    assert (relative(0.5, 2.0), relative(0.5, 0.0), relative(None, 2.0)) == (0.25, None, None)
    assert (counted(1, "seed"), counted(1200, "day")) == ("1 seed", "1,200 days")


def test_markdown():
    lines = [
        "|  | pinball, 1e-3 | a\\|b |",
        "|---|---|---|",
        "| own | **1.5** | - |",
        "| flat | 2.25 | [x] |",
    ]
    assert TABLE.markdown().splitlines() == [*lines, "", "Lower is better."]
    text = Summary("Both", ["Read this.", TABLE]).markdown()
    assert text == f"# Both\n\nRead this.\n\n## Losses\n\n{TABLE.markdown()}\n"


def test_terminal():
    lines = ["      pinball,", "          1e-3   a|b", "own       1.5*     -", "flat      2.25   [x]"]
    assert TABLE.terminal().splitlines() == [*lines, "", "Lower is better."]
    assert Summary("", ["Read this.", TABLE]).terminal() == f"Read this.\n\nLosses\n{TABLE.terminal()}"


def test_what_does_not_fit_the_terminal_follows_below():
    wide = Table("", ("", *"abcde"), [[Cell("row"), *(Cell(letter * 22) for letter in "abcde")]])
    blocks = wide.terminal().split("\n\n")
    assert [block.splitlines()[0].split() for block in blocks] == [["a", "b", "c"], ["d", "e"]]
    assert [block.splitlines()[1].split() for block in blocks] == [
        ["row", *(letter * 22 for letter in "abc")],
        ["row", *(letter * 22 for letter in "de")],
    ]
    long = Table("", ("", "words"), [[Cell("row"), Cell("many words " * 20)]]).terminal()
    assert max(map(len, long.splitlines())) <= 80
    assert long.count("many") == 20


def test_columns_are_those_of_the_metrics_that_there_are():
    names = ["pinball", "pinball_by_quantile/0.1", "coverage/50", "coverage/90", "quality/HEALTHY", "mae"]
    shown = columns(names)
    assert [column.metric for column in shown] == ["pinball", "coverage/50", "quality/HEALTHY"]
    assert shown[1].title == "50 % interval covers, %"
    assert [
        column.metric for column in columns(["test/coverage/50", "test/coverage/80", "val/crps"], "test/")
    ] == ["coverage/80"]


def test_the_best_of_a_column(monkeypatch):
    monkeypatch.setitem(METRICS, "score", Metric(lambda *_: 0.0, "score", Format(1, 0), "higher"))
    rows = [
        {"pinball": 0.002, "coverage/80": 0.75, "sigma": 0.1, "score": 3.0},
        {"pinball": 0.001, "coverage/80": 0.84, "sigma": 0.2},
        {"pinball": 0.001, "coverage/80": math.nan, "sigma": 0.3, "score": 4.0},
    ]
    shown = columns(rows[0])
    best = best_of(rows, shown)
    # Coverage is best where it is nearest to 0.8; sigma has no merit.
    assert best == pytest.approx({"pinball": 0.001, "coverage/80": 0.04, "score": -4.0})
    cells = [metric_cells(row, shown, best) for row in rows]
    assert [[cell.text for cell in row] for row in cells] == [
        ["2.0000", "75.0", "1000.0", "3"],
        ["1.0000", "84.0", "2000.0", "-"],
        ["1.0000", "-", "3000.0", "4"],
    ]
    assert [[bool(cell.mark) for cell in row] for row in cells] == [
        [False] * 4,
        [True, True, False, False],
        [True, False, False, True],
    ]
    assert not any(cell.mark for cell in metric_cells(rows[2], shown, {}))
    bounded = rows[0] | {"coverage_low/80": 0.7, "coverage_high/80": 0.79}
    assert metric_cells(bounded, shown, {})[1].text == "75.0 [70.0, 79.0]"


@pytest.mark.parametrize(
    ("test", "text", "mark"),
    [
        ({"difference": -0.1, "low": -0.3, "high": 0.1, "p": 0.3}, "+5.00 [-5.00, +15.00] p = 0.30", ""),
        (
            {"difference": -0.2, "low": -0.3, "high": -0.1, "p": 0.01},
            "+10.00 [+5.00, +15.00] p = 0.010",
            "good",
        ),
        ({"difference": 0.2, "low": 0.1, "high": 0.3, "p": 0.0}, "-10.00 [-15.00, -5.00] p < 0.001", "bad"),
        ({"difference": 0.0, "low": None, "high": None, "p": None}, "+0.00", ""),
    ],
)
def test_a_gain_is_above_zero_where_the_loss_is_below_the_baseline_s(test, text, mark):
    assert gain_cell(test, 2.0) == Cell(text, mark)
    assert gain_cell(test, 0.0).text.startswith("-")
