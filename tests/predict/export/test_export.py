"""Exported models: the quantiles of `predict` in a process that has jax and numpy alone; what is refused."""

import dataclasses
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from tiny import contents, untrained

import tftjax
from tftjax import predict, runtime
from tftjax.config.functions import Functions
from tftjax.config.loading import load
from tftjax.data.loading import load_panel
from tftjax.data.panel import make_panel
from tftjax.data.prepared import target_days
from tftjax.data.scales import target
from tftjax.data.tables.transforms import in_return_unit
from tftjax.data.windows import make_series
from tftjax.errors import UserError
from tftjax.evaluate.calibration.calibrated import Calibration
from tftjax.files import write_json
from tftjax.predict.export import forecast
from tftjax.predict.export.__main__ import main
from tftjax.predict.export.folder import FILES, export
from tftjax.storage import runs

pytest.importorskip("flatbuffers")
pytestmark = pytest.mark.usefixtures("in_process")

P, ROWS = 2, 211  # steps of an untrained run, rows of its tables
# Reads requests from standard input, where nothing but jax, numpy and flatbuffers can be imported.
ALONE = """
import importlib.abc, json, sys
class Refusal(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"tftjax", "flax", "pandas", "optax", "pydantic", "statsmodels", "arch"}:
            raise ModuleNotFoundError(f"refused: {name}")
sys.meta_path.insert(0, Refusal())
sys.path.insert(0, sys.argv[1])
import forecast
forecast = forecast.load()
print(json.dumps([forecast(*request) for request in json.load(sys.stdin)]))
"""


def alone(folder, *requests):
    """The forecasts of an exported model in a process of its own, as frames."""
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # a single device
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder)],
        input=json.dumps(requests),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [pd.DataFrame(table) for table in json.loads(done.stdout)]


def loaded(folder, *requests):
    """The same in this process: it spares the import of jax, and a compilation that optimises."""
    model = forecast.load(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a category that training did not have; other tests look at that
        return [pd.DataFrame(model(*request)) for request in requests]


def predicted(run, frame, future=None):
    table = predict.predict(run, predict.load_rows(run, frame, None, future))
    return in_return_unit(table, run.config.data).reset_index(names="date")


def as_lists(frame):
    """The columns of a frame as JSON has them."""
    return {
        name: values.astype(str).tolist()
        if name == "date"
        else [None if v != v else v for v in values.tolist()]
        for name, values in frame.items()
    }


def assert_same(table, expected, unit=1.0):
    """Dates, series and quantiles are those of `predict`; a return of one is `unit`."""
    assert list(table) == list(expected)
    assert table["date"].tolist() == expected["date"].astype(str).tolist()
    if "series" in table:
        assert table["series"].tolist() == expected["series"].tolist()
    levels = [name for name in expected if name not in ("date", "series")]
    np.testing.assert_allclose(table[levels], expected[levels], rtol=0, atol=1e-6 * unit)


def table_of(*names, rows=ROWS):
    """Returns with clusters of volatility, a level, a mark known beforehand, a category, a sector."""
    parts = []
    for name in names:
        rng = np.random.default_rng(ord(name))
        sigma = 0.01 * np.exp(0.7 * np.sin(np.arange(rows) / 17 + ord(name)))
        part = {"date": pd.bdate_range("2019-01-01", periods=rows), "stock": name}
        part |= {"ret": sigma * rng.standard_t(4, rows), "vix": 1500 * sigma * rng.uniform(0.8, 1.2, rows)}
        part |= {"flow": 5e4 + rng.normal(size=rows), "fee": rng.integers(0, 3, rows) / 10.0}
        part |= {"phase": rng.choice(["low", "mid", "top"], rows), "sector": {"a": "oil"}.get(name, "food")}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def parts_of(frame, steps=P):
    """Rows of the past, and the last ones of each series as those of the future."""
    last = frame.groupby("stock").cumcount(ascending=False) < steps
    return frame[~last].reset_index(drop=True), frame[last].reset_index(drop=True)


COLUMNS = {"target": "ret", "observed": ["vix", "flow"], "known_categorical": ["day_of_week", "month"]}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_scale": "ewma", "return_unit": "percent"},
        {"target_scale": "column:vix", "target_transform": "log_return"},
        {"target_scale": "gjr", "columns": COLUMNS | {"known_real": ["lag_3"]}},
        {"target_scale": "log_scale", "scale_features": True, "volatility": "vix"},
        {"target_scale": "pooled_log_scale", "missing": "mask"},
    ],
    ids=str,
)
def test_the_same_quantiles_as_predict(settings, tmp_path):
    # Of a scale with a long memory, more rows than the program takes.
    long = settings.get("target_scale") in ("ewma", "log_scale")
    rows = table_of("a", rows=613 if long else ROWS).drop(columns=["stock", "fee", "phase", "sector"])
    if settings.get("return_unit") == "percent":
        rows["ret"] *= 100
    if settings.get("target_transform") == "log_return":
        rows["ret"] = 100 * np.exp(rows["ret"].cumsum())
    if settings.get("missing") == "mask":
        rows.loc[rows.index % 7 == 2, "flow"] = np.nan
    # A Christmas, after which a row comes later than usual.
    rows = rows[~rows["date"].isin(pd.to_datetime(["2019-05-01", "2019-10-17"]))].reset_index(drop=True)
    run = untrained(tmp_path / "run", rows, **{"dataset": "frame", "columns": COLUMNS} | settings)
    folder = export([run], tmp_path / "model")
    history = json.loads((folder / "model.json").read_text())["history"]
    assert not long or history < len(rows) - 9
    unit = 100 if settings.get("return_unit") == "percent" else 1
    shorter, forecasts = rows[:-9], [predicted(run, rows), predicted(run, rows[:-9])]
    # Other rows have other forecasts: the comparison can fail.
    assert np.abs(forecasts[0].iloc[:, 1:].to_numpy() - forecasts[1].iloc[:, 1:].to_numpy()).max() > 1e-4
    requests = [
        [as_lists(given), as_lists(expected[["date"]])]
        for given, expected in zip((rows, shorter), forecasts, strict=True)
    ]
    for table, expected in zip(loaded(folder, *requests), forecasts, strict=True):
        assert_same(table, expected, unit)


def test_short_windows_and_inputs_made_by_their_names(tmp_path):
    """Of a whole window, and of one of the fewest rows, after four for the lags, with a new category."""
    columns = {"target": "ret", "observed": ["vix"], "observed_categorical": ["phase"]}
    columns |= {"known_real": ["lag_2", "lag_4_of_vix", "relative_index"]}
    rows = table_of("a").drop(columns=["stock", "fee", "flow", "sector"])
    data = {"dataset": "frame", "columns": columns}
    run = untrained(tmp_path / "run", rows, model={"min_encoder_length": 3}, **data)
    folder = export([run], tmp_path / "model")
    given = rows, rows.iloc[-8:].replace({"phase": {"low": "other"}})
    forecasts = [predicted(run, part) for part in given]
    assert np.abs(forecasts[0].iloc[:, 1:] - forecasts[1].iloc[:, 1:]).to_numpy().max() > 1e-4
    pairs = zip(given, forecasts, strict=True)
    tables = loaded(folder, *([as_lists(part), as_lists(expected[["date"]])] for part, expected in pairs))
    for table, expected in zip(tables, forecasts, strict=True):
        assert_same(table, expected)
    with pytest.raises(UserError, match=r"found 3 rows .*, a lag of 4 rows, .*: expected at least 4 rows"):
        predicted(run, rows.iloc[-7:])
    with pytest.raises(ValueError, match="rows: too few rows: found 2, expected 3"):
        forecast.load(folder)(as_lists(rows.iloc[-6:]), as_lists(forecasts[0][["date"]]))


def test_known_numbers_that_are_missing(tmp_path):
    """In rows, in the future, and of a lag at the steps that it does not reach."""
    columns = {"target": "ret", "observed": ["vix"], "known_real": ["fee", "lag_1"]}
    rows = table_of("a").drop(columns=["stock", "phase", "sector", "flow"])
    rows.loc[rows.index % 5 == 1, "fee"] = np.nan
    given, ahead = rows[:-P], rows[-P:].assign(fee=[0.1, np.nan])
    data = {"dataset": "frame", "columns": columns, "missing_known": "mask"}
    run = untrained(tmp_path / "run", given, **data)
    folder = export([run], tmp_path / "model")
    futures = ahead, ahead.assign(fee=[0.1, 0.1])
    forecasts = [predicted(run, given, future[["date", "fee"]]) for future in futures]
    assert np.abs(forecasts[0].iloc[:, 1:] - forecasts[1].iloc[:, 1:]).to_numpy().max() > 1e-4
    tables = loaded(folder, *([as_lists(given), as_lists(future)] for future in futures))
    for table, expected in zip(tables, forecasts, strict=True):
        assert_same(table, expected)


@pytest.mark.parametrize("transform", ["none", "return"])
def test_calibrated_as_predict_calibrates(transform, tmp_path):
    """Two series, of which one ends earlier, and two steps: outcomes of a day move both series' shifts."""
    rows = table_of("a", "b").drop(columns=["fee", "phase", "sector"])
    if transform == "return":
        rows["ret"] = rows.groupby("stock")["ret"].transform(lambda part: 50 * np.exp(part.cumsum()))
    rows = rows[(rows["stock"] == "a") | (rows["date"] < rows["date"].max() - pd.Timedelta(days=9))]
    columns = {"id": "stock", "target": "ret", "observed": ["vix"]}
    data = {"dataset": "frame", "columns": columns, "target_scale": "ewma", "target_transform": transform}
    run = untrained(tmp_path / "run", rows, **data)
    levels = run.config.model.quantiles
    shifts = np.linspace(-0.4, 0.5, P * len(levels)).reshape(P, -1)
    until = str(target_days(run.data.panel, run.data.blocks, "val")[-1])
    kept = Calibration("split", list(levels), 50, until, shifts.tolist())
    (run.directory / "evaluation").mkdir(parents=True)
    write_json(run.directory / "evaluation" / "conformal.json", kept._asdict())
    val = {"date": until, "split": "val", "series": "a", "step": [1, 2], "actual": 0.0}
    val = pd.DataFrame(val | {f"{level:g}": level for level in levels})
    val.to_csv(run.directory / "evaluation" / "predictions.csv", index=False)
    model = forecast.load(export([run], tmp_path / "model"))
    panel, given = predict.load_rows(run, rows, None), as_lists(rows[["date", "stock", "ret", "vix"]])
    tables = {
        how: predict.forecast_seeds([run], panel, conformal=how) for how in ("none", "split", "adaptive")
    }
    for how, expected in tables.items():
        ahead = as_lists(expected.reset_index(names="date").rename(columns={"series": "stock"}))
        assert_same(pd.DataFrame(model(given, ahead, how)), expected.reset_index(names="date"))
    for one, other in (("none", "split"), ("split", "adaptive")):  # the comparison can fail
        assert np.abs(tables[one].iloc[:, 1:] - tables[other].iloc[:, 1:]).to_numpy().max() > 1e-4
    with pytest.raises(ValueError, match="conformal: found 'spilt', expected one of none, split, adaptive"):
        model(given, ahead, "spilt")


def test_a_run_without_an_evaluation_has_no_calibration(tmp_path):
    rows = table_of("a")
    run = untrained(tmp_path / "run", rows, dataset="frame", columns={"target": "ret"})
    model, ahead = forecast.load(export([run], tmp_path / "model")), {"date": ["2019-10-23", "2019-10-24"]}
    with pytest.raises(ValueError, match=r"no calibration: .*run"):
        model(rows, ahead, "split")
    assert set(model(rows, ahead)) >= {"date", "0.5"}


def test_a_new_listing_has_the_scale_of_the_rows_that_there_are(tmp_path, caplog):
    """Under windows that may be short, from 20 rows on."""
    rows, _ = parts_of(table_of("a", "b"))
    columns = {"id": "stock", "target": "ret"}
    data = {"dataset": "frame", "columns": columns, "target_scale": "ewma"}
    model, train = {"min_encoder_length": 3}, {"static_dropout": 0.5}
    run = untrained(tmp_path / "run", rows, model=model, train=train, **data)
    new = table_of("d").iloc[-21:]
    with caplog.at_level("WARNING"):
        expected = predicted(run, new)
    assert "1 series with fewer than 75 rows, whose scale (ewma) is of the rows that there are" in caplog.text
    loader = forecast.load(export([run], tmp_path / "model"))
    ahead = as_lists(expected.rename(columns={"series": "stock"}))
    with pytest.warns(UserWarning, match="d: stock d not in a, b: counts as unknown"):
        assert_same(pd.DataFrame(loader(new, ahead)), expected)
    panel = load_panel(run.config.data, new)
    weights = 0.94 ** np.arange(20, -1, -1)
    sigma = np.sqrt((weights * new["ret"] ** 2).sum() / weights.sum())
    np.testing.assert_allclose(make_series(panel, run.data.encoding).volatility[-1], sigma, rtol=1e-6)
    with pytest.raises(UserError, match="expected at least 20 rows"):
        predicted(run, new.iloc[2:])
    with pytest.raises(ValueError, match="d: too few rows: found 19, expected 20"):
        loader(new.iloc[2:], ahead)


PANEL = {
    "id": "stock",
    "target": "ret",
    "observed": ["vix"],
    "known_real": ["fee"],
    "known_categorical": ["phase", "day_of_week"],
    "static_categorical": ["sector"],
    "static_real": ["size"],
}


def head(raw, quantiles):
    """A head of one's own."""
    return jnp.sort(jnp.tanh(raw), axis=0)


@pytest.mark.parametrize("scale", ["gjr", "log_scale", "pooled_log_scale"])
def test_a_panel_with_categories(scale, tmp_path, monkeypatch):
    """Of three series, GJR-GARCH cannot be fitted to one; of a fourth, which was not in training."""
    rows, _ = parts_of(table_of("a", "b", "c").assign(size=lambda table: table["stock"].map(ord)))
    shared, fit = scale == "pooled_log_scale", target._garch_fit
    first = rows.loc[rows["stock"] == "a", "ret"].iloc[0]
    monkeypatch.setattr(
        target, "_garch_fit", lambda source, train: None if source.returns[0] == first else fit(source, train)
    )
    run = untrained(
        tmp_path / "run",
        rows,
        functions=Functions() if shared else Functions(head={"head": head}),
        model={"quantile_head": "correction"} if shared else {},
        train={"static_dropout": 0.5 if shared else 0.0},
        dataset="frame",
        columns=PANEL,
        target_scale=scale,
    )
    names = ("b", "d", "a") if shared else ("b", "a")
    given, ahead = parts_of(table_of(*names).assign(size=7.0))
    ahead.loc[0, "phase"] = "never seen"
    if shared:  # in training it began earlier
        given = given[(given["stock"] != "b") | (given["date"] > "2019-02-01")]
    expected = predicted(run, given, ahead)
    folder = export([run], tmp_path / "model")
    (table,) = alone(folder, [as_lists(given), as_lists(ahead)])
    assert_same(table, expected)
    assert table["series"].unique().tolist() == sorted(names)


@pytest.mark.parametrize(
    ("attention", "quantile_head"),
    [
        ({"staleness": {"mode": "attention", "weight": 0.7}}, "student_t"),
        (
            {
                "staleness": {"mode": "variable_selection", "weight": 0.7},
                "regime": {"by": "thresholds", "column": "vix", "thresholds": [15.0]},
            },
            "monotone",
        ),
    ],
)
def test_ages_and_regimes(attention, quantile_head, tmp_path):
    rows = table_of("a").set_index("date")
    panel = make_panel(
        rows,
        target="ret",
        observed=("ret", "vix", "flow"),
        staleness=pd.DataFrame({"flow": np.arange(ROWS) % 7.0, "vix": 2.0}, index=rows.index),
    )
    run = untrained(tmp_path / "run", panel, model={"attention": attention, "quantile_head": quantile_head})
    expected = predict.forecast_next(run, panel)
    model = forecast.load(export([run], tmp_path / "model"))
    given, ahead = rows.reset_index(), {"date": expected.index.astype(str)}
    ages = {"flow age": np.arange(ROWS) % 7.0, "vix age": 2.0}
    table = pd.DataFrame(model(given.assign(**ages), ahead)).drop(columns="date")
    np.testing.assert_allclose(table, np.sort(expected), rtol=0, atol=1e-6)
    older = pd.DataFrame(model(given.assign(**ages | {"flow age": 90.0}), ahead)).drop(columns="date")
    assert np.abs(older - table).to_numpy().max() > 1e-6


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The shared run, exported by the command."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "configure", lambda: None)
        assert main([str(trained.directory), "--out", str(folder)]) == 0
    return folder


FUTURE = {"date": ["2002-03-25"]}


def test_the_command_on_a_run_of_a_ready_made_feature_set(trained, exported, capsys):
    assert sorted(path.name for path in exported.iterdir()) == sorted(FILES)
    rows = trained.rows.reset_index()
    (table,) = alone(exported, [as_lists(rows), FUTURE])
    expected = predict.predict(runs.open_run(trained.directory), load_panel(load(trained.config).data))
    assert_same(table, expected.reset_index(names="date"))
    assert len((exported / "forecast.py").read_text().splitlines()) < 200
    about = json.loads((exported / "model.json").read_text())
    assert about["platforms"] == ["cpu", "cuda"]
    assert about["columns"]["SP500_Returns"] == {
        "role": "target",
        "unit": "return, decimal",
        "missing": False,
    }


def test_nothing_is_overwritten_unless_it_is_said(trained, exported, tmp_path, capsys):
    before = contents(exported)
    assert main([str(trained.directory), "--out", str(exported)]) == 2
    assert re.search(r"exists, and has .*forecast\.py.*or replace it: --overwrite", capsys.readouterr().err)
    assert contents(exported) == before
    (tmp_path / "thesis.tex").write_text("mine")
    assert main([str(trained.directory), "--out", str(tmp_path), "--overwrite"]) == 2
    assert "has thesis.tex. Choose another folder." in capsys.readouterr().err
    for more in ([], ["--overwrite"]):
        assert main([str(trained.directory), "--out", str(tmp_path / "thesis.tex"), *more]) == 2
        message = "thesis.tex: is a file, expected a folder to write. Choose another name."
        assert message in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "mine"
    again = tmp_path / "model"
    shutil.copytree(exported, again)
    (again / "model.json").write_text("{}")
    tftjax.load(trained.directory).export(again, overwrite=True)
    assert contents(again).keys() == before.keys()
    assert forecast.load(again)(trained.rows.reset_index(), FUTURE).keys() >= {"date", "0.5"}


def test_a_seed_more_is_the_mean(tmp_path):
    rows = table_of("a")
    run = untrained(tmp_path / "run", rows, dataset="frame", columns={"target": "ret"})
    other = dataclasses.replace(run, parameters=jax.tree.map(lambda leaf: -leaf, run.parameters))
    export([run, other], tmp_path / "model")
    tables = [predict.forecast_next(one, predict.load_rows(one, rows, None)) for one in (run, other)]
    mean = np.sort(np.mean([table.to_numpy() for table in tables], axis=0))
    table = pd.DataFrame(forecast.load(tmp_path / "model")(rows, {"date": tables[0].index.astype(str)}))
    np.testing.assert_allclose(table.drop(columns="date"), mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("program.bin", lambda content: content[:-1]),
        ("program.bin", lambda content: content[:900] + bytes([content[900] ^ 1]) + content[901:]),
        ("model.json", lambda content: content.replace(b'"steps": 1', b'"steps": 2')),
        ("model.json", lambda content: content[:-9]),
        ("model.json", lambda content: b"[]"),
        ("model.json", None),
    ],
)
def test_damaged_and_foreign_files(exported, tmp_path, name, change):
    folder = shutil.copytree(exported, tmp_path / "model")
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if change:
        assert change(content) != content
        (folder / name).write_bytes(change(content))
    with pytest.raises(ValueError, match=r"model: no exported model, or a damaged one .*; export anew"):
        forecast.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop(columns="AAA_Yield"), "no column 'AAA_Yield'"),
        (lambda rows: rows.drop(columns="date"), "rows: no column 'date'"),
        (lambda rows: rows[::-1], "expected ascending ones, and 1 in the future"),
        (lambda rows: rows.assign(date="2003-01-01"), "expected ascending"),
        (lambda rows: rows.assign(AAA_Yield=np.inf), "no finite quantiles"),
        (lambda rows: rows[:4], "^rows: too few rows: found 4, expected 5 complete ones"),
        (lambda rows: rows.assign(SP500_Returns=rows["SP500_Returns"] * 100), "times training's spread"),
        (
            lambda rows: rows.assign(AAA_Yield=rows["AAA_Yield"].where(rows.index != 317)),
            "rows without .'AAA_Y",
        ),
    ],
)
def test_rows_that_cannot_be_forecast_from(trained, exported, change, message):
    with pytest.raises(ValueError, match=message):
        forecast.load(exported)(change(trained.rows.reset_index()), FUTURE)


DAY = datetime.date(2002, 3, 25)


def test_dates_are_those_of_their_own_zone_at_midnight(trained, exported):
    rows, model = trained.rows.reset_index(), forecast.load(exported)
    days, expected = rows["date"], model(rows, FUTURE)
    zoned = days.dt.tz_localize("Europe/Berlin")
    for cells in (
        zoned,
        days.to_numpy("datetime64[ns]"),
        days.dt.date.tolist(),
        [stamp.to_pydatetime() for stamp in zoned],
        [f" {day}T00:00+01:00" for day in days.dt.date],
        [f"{day}T00:00:00.000Z" for day in days.dt.date],
    ):
        assert model(rows.assign(date=cells), FUTURE) == expected
    assert expected["date"] == [str(DAY)]
    for cell in (DAY, pd.Timestamp(DAY, tz="Asia/Tokyo"), np.datetime64(DAY), "2002-03-25 00:00:00-05:00"):
        assert model(rows, {"date": [cell]}) == expected
    at_night = datetime.datetime(2002, 3, 25, 21, 30)
    for cell in (
        20020325,
        1017014400000,
        "20020325",
        "2002-03-25T09:30",
        at_night,
        "25.03.2002",
        None,
        np.nan,
    ):
        with pytest.raises(ValueError, match=r"future: date: found .*(None|nan|YYYY-MM-DD)"):
            model(rows, {"date": [cell]})
    with pytest.raises(ValueError, match=r"rows: date: found 2.* 16:00:00, expected YYYY-MM-DD"):
        model(rows.assign(date=days + pd.Timedelta(hours=16)), FUTURE)


@pytest.mark.parametrize(
    ("changed", "future", "message"),
    [
        ({"date": ["2002-03-21"]}, FUTURE, r"rows: found columns of .*'date': 1, .*'AAA_Yield': \d{3}"),
        ({"AAA_Yield": []}, FUTURE, "rows: found columns of .*'AAA_Yield': 0"),
        ({"AAA_Yield": 5.0}, FUTURE, "rows: AAA_Yield: .*float"),
        ({"AAA_Yield": {"2002-03-21": 5.0}}, FUTURE, "rows: AAA_Yield: could not convert .*2002-03-21"),
        ({}, {}, "future: no column 'date'"),
        ({}, {"date": []}, "future: found columns of {'date': 0} rows"),
    ],
)
def test_columns_of_unequal_length_and_none(trained, exported, changed, future, message):
    rows = as_lists(trained.rows.reset_index())
    with pytest.raises(ValueError, match=message):
        forecast.load(exported)(rows | changed, future)


def test_no_rows_and_cells_that_hold_no_number(trained, exported):
    rows, model = as_lists(trained.rows.reset_index()), forecast.load(exported)
    for cell, message in (
        ({"value": 5.0}, "not 'dict'"),
        ([5.0], "sequence"),
        ("five", "could not convert string to float: 'five'"),
        (10**400, "int too large"),
    ):
        with pytest.raises(ValueError, match=f"rows: AAA_Yield: .*{message}"):
            model(rows | {"AAA_Yield": [*rows["AAA_Yield"][:-1], cell]}, FUTURE)
    with pytest.raises(ValueError, match="rows: no column 'date'"):
        model({}, FUTURE)
    with pytest.raises(ValueError, match=r"rows: found columns of .*'date': 0"):
        model({name: [] for name in rows}, FUTURE)


def test_a_category_is_the_same_as_number_and_as_text(tmp_path):
    rows = table_of("a").assign(phase=lambda table: table["phase"].map({"low": 1, "mid": 2, "top": 3}))
    columns = {"target": "ret", "known_categorical": ["phase"]}
    run = untrained(tmp_path / "run", rows[:-P], dataset="frame", columns=columns)
    model = forecast.load(export([run], tmp_path / "model"))
    given, ahead = (as_lists(part[["date", "ret", "phase"]]) for part in parts_of(rows))
    expected, levels = model(given, ahead), [f"{level:g}" for level in run.config.model.quantiles]
    as_one = predicted(run, rows[:-P], rows[-P:])
    np.testing.assert_allclose(pd.DataFrame(expected)[levels], as_one[levels], rtol=0, atol=1e-6)
    for form in (float, np.float32, str, " {} ".format, "{}.0".format):
        assert model(given, ahead | {"phase": [form(one) for one in ahead["phase"]]}) == expected
        assert model(given | {"phase": [form(one) for one in given["phase"]]}, ahead) == expected
    for unknown in (9, 1.5, "9", "None"):  # the comparison can fail
        with pytest.warns(UserWarning, match=rf"rows: phase {unknown} not in 1, 2, 3: counts as unknown"):
            assert model(given, ahead | {"phase": [unknown] * P}) != expected
    for cell in (None, np.nan, pd.NA, pd.NaT, "", " ", {"phase": 1}, [1]):
        with pytest.raises(ValueError, match="future: phase: found "):
            model(given, ahead | {"phase": [1, cell]})
        with pytest.raises(ValueError, match="rows: phase: found "):
            model(given | {"phase": [cell, *given["phase"][1:]]}, ahead)


def test_a_series_is_the_same_as_number_and_as_text(tmp_path):
    rows = table_of("a", "b").assign(stock=lambda table: table["stock"].map({"a": 7.0, "b": 11.0}))
    columns = {"id": "stock", "target": "ret"}
    run = untrained(tmp_path / "run", rows, dataset="frame", columns=columns)
    model = forecast.load(export([run], tmp_path / "model"))
    given, ahead = (as_lists(part[["date", "ret", "stock"]]) for part in parts_of(rows))
    expected = model(given, ahead)
    assert expected["series"] == ["11", "11", "7", "7"]  # as `predict` names them
    assert model(given, ahead | {"stock": [f" {one} " for one in ahead["stock"]]}) == expected
    with pytest.raises(ValueError, match="rows: stock: found None"):
        model(given | {"stock": [None, *given["stock"][1:]]}, ahead)


def test_a_run_of_before_has_whole_numbers_with_a_point():
    assert [forecast.text(cell, {"1.0": 1, "2": 2}) for cell in (1, 1.0, "1", " 1.0", 2.0, 3.0)] == [
        *["1.0"] * 4,
        "2",
        "3",
    ]


def test_series_and_categories_that_training_did_not_have(tmp_path):
    rows, _ = parts_of(table_of("a", "b"))
    columns = {"id": "stock", "target": "ret", "static_categorical": ["sector"], "known_real": ["fee"]}
    run = untrained(tmp_path / "run", rows, dataset="frame", columns=columns)
    model = forecast.load(export([run], tmp_path / "model"))
    given, ahead = parts_of(table_of("a"))
    for message, changed, future in (
        ("c: stock c not in a, b", given.assign(stock="c"), ahead.assign(stock="c")),
        ("a: sector tech not in food, oil", given.assign(sector="tech"), ahead),
        ("no column 'fee'", given, ahead.drop(columns="fee")),
        ("dates of a: expected ascending ones, and 2 in the future", given, ahead.assign(stock="b")),
        ("expected ascending ones, and 2 in the future", given, ahead[:1]),
        ("rows without .'fee'", given, ahead.assign(fee=[0.1, None])),
    ):
        with pytest.raises(ValueError, match=message):
            model(changed, future)


def test_a_scale_that_cannot_be_exported(tmp_path, monkeypatch):
    rows = table_of("a")
    monkeypatch.setitem(target.TARGET_SCALES, "new", target.TARGET_SCALES["ewma"])
    run = untrained(tmp_path / "run", rows, dataset="frame", columns={"target": "ret"}, target_scale="ewma")
    encoding = run.data.encoding._replace(target_scale="new")
    run = dataclasses.replace(run, data=dataclasses.replace(run.data, encoding=encoding))
    with pytest.raises(UserError, match=r"data\.target_scale: found 'new', which cannot be exported.*ewma"):
        export([run], tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_without_flatbuffers(monkeypatch, trained, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package flatbuffers.*tftjax\[export\]"):
        export([runs.open_run(trained.directory)], tmp_path / "model")
