"""From an own table to a verdict without a JSON file written by hand."""

import json
from pathlib import Path

import pandas as pd
import pytest
from tiny import make_rows

from tftjax.cli import main
from tftjax.config.loading import load


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = make_rows()[["SP500_Returns", "AAA_Yield"]]
    (100 * frame).rename_axis("day").to_csv("own.csv")
    return "own.csv"


def test_init_says_what_it_found_and_writes_a_config(table, capsys):
    assert main(["init", table]) == 0
    out = capsys.readouterr().out
    assert "own.csv: 320 daily rows\n" in out
    assert "looks like returns in percent" in out
    assert out.rstrip().endswith("next: tftjax train own.json")
    config = load("own.json")
    assert config.data.columns.target == "SP500_Returns"
    assert config.data.return_unit == "percent"
    assert config.model.quantile_head == "monotone"


def test_init_says_that_steps_may_fall_on_holidays(table, capsys):
    rows = make_rows()[["SP500_Returns"]].rename_axis("day")
    rows.to_csv(table)
    assert main(["init", table]) == 0
    assert "holiday" not in capsys.readouterr().out
    rows.drop(rows.index[[40, 80, 120, 160]]).to_csv(table)
    assert main(["init", table, "--overwrite"]) == 0
    assert "  not set: a next step may fall on a holiday;" in capsys.readouterr().out


def test_init_says_that_rows_have_no_clear_frequency(table, capsys):
    rows = make_rows()[["SP500_Returns"]]
    rows.set_axis(pd.date_range("2000-01-01", periods=320, freq="17D", name="day")).to_csv(table)
    assert main(["init", table]) == 0
    out = capsys.readouterr().out
    assert "own.csv: 320 rows, at no clear frequency\n" in out
    assert "the rows are a median of 17 days apart, which is no frequency" in out.partition("to be mended")[2]


def test_init_replaces_nothing_without_a_word(table, capsys):
    assert main(["init", table]) == 0
    before = Path("own.json").read_text()
    assert main(["init", table, "--target", "AAA_Yield"]) == 2
    assert "own.json exists. Choose another --out, or replace it: --overwrite." in capsys.readouterr().err
    assert Path("own.json").read_text() == before
    assert main(["init", table, "--target", "AAA_Yield", "--overwrite"]) == 0
    assert json.loads(Path("own.json").read_text())["data"]["columns"]["target"] == "AAA_Yield"


def test_init_names_the_file_in_its_errors(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    assert main(["init", "t.csv"]) == 2
    assert "error: t.csv: found no column of dates among a, b" in capsys.readouterr().err
    assert main(["init", "u.csv"]) == 2
    assert "u.csv: no such file (in . there are: t.csv)" in capsys.readouterr().err


@pytest.mark.slow
def test_three_commands_to_a_verdict(table, capsys):
    assert main(["init", table]) == 0
    fast = ["--set", "train.max_epochs=1", "--set", "model.hidden_size=4", "--set", "model.encoder_length=5"]
    assert main(["train", "own.json", *fast]) == 0
    assert "baselines" in capsys.readouterr().out
