"""The face for Python: what comes in as a frame or a file goes out as frames and figures."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from tiny import ENCODER_LENGTH, QUANTILES, make_rows, without_training, write_config

import tftjax
from tftjax import runtime
from tftjax.api import training
from tftjax.api.arguments import key_of, make_config
from tftjax.config.functions import Functions
from tftjax.config.loading import Config, load
from tftjax.data.loading import load_panel
from tftjax.data.panel import make_panel
from tftjax.evaluate.files import read_predictions
from tftjax.predict import forecast_next
from tftjax.predict.__main__ import main as predict_main
from tftjax.report.__main__ import main as report_main
from tftjax.train.run import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_process", "quick_evaluation")]


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("api"), make_rows(), train={"max_epochs": 2})


@pytest.fixture(scope="module")
def run(config_file, tmp_path_factory):
    return tftjax.fit(config=config_file, directory=tmp_path_factory.mktemp("run") / "r", quiet=True)


@pytest.fixture
def untrained():
    with without_training():
        yield


def test_fit_gives_the_bits_of_the_command_s_program(run, config_file, tmp_path):
    metrics = train(load(config_file), tmp_path / "r", quiet=True)
    frame = run.metrics
    assert frame.loc[("test", "model"), "pinball"] == metrics["test"]["pinball"]
    assert frame.loc[("val", "garch"), "crps"] == metrics["val"]["baselines"]["garch"]["crps"]
    assert list(frame.index.names) == ["split", "forecast"]


def test_forecasts_are_those_of_the_files(run):
    test, frame = read_predictions(run.directory, "test"), run.forecasts
    np.testing.assert_array_equal(frame[QUANTILES], test.forecast[:, 0])
    np.testing.assert_array_equal(frame["actual"], test.target[:, 0])
    assert frame.index.equals(test.dates.rename("date"))
    unconditional = frame[[f"unconditional/{q}" for q in QUANTILES]]
    assert unconditional.drop_duplicates().shape == (1, 7)


def test_predict_and_importance(run):
    table = run.predict(as_of="2001-06-29")
    assert table.index.tolist() == [pd.Timestamp("2001-07-02")]
    assert list(table) == QUANTILES
    weights = run.importance()["mean"]["encoder"]
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert weights.index[0] == "SP500_Returns"
    paths = run.sample_paths(7, as_of="2001-06-29", seed=3)
    assert list(paths) == ["path", "value"]
    np.testing.assert_allclose(paths["value"].median(), table["0.5"].iloc[0])
    with pytest.raises(tftjax.UserError, match="found 48 validation windows"):
        run.predict(conformal="adaptive")
    with pytest.raises(tftjax.UserError, match="as_of: found '06/29/2001', expected a date as YYYY-MM-DD"):
        run.predict(as_of="06/29/2001")
    with pytest.raises(tftjax.UserError, match="split: found 'tset', expected one of train, val, test"):
        run.importance("tset")


def test_the_figures(run):
    for name in ("fan", "calibration", "training", "importance", "attention"):
        figure = getattr(run.plot, name)()
        assert isinstance(figure, Figure), name
        assert figure.get_suptitle().startswith(run.name)
        moving = getattr(run.plot, name)(engine="plotly")
        assert moving.layout.title.text == figure.get_suptitle()
        assert len(moving.data) > 0
    with pytest.raises(tftjax.UserError, match="engine: found 'bokeh', expected 'matplotlib' or 'plotly'"):
        run.plot.fan(engine="bokeh")
    with pytest.raises(tftjax.UserError, match="series: found 'x'"):
        run.plot.fan("x")


def test_words_and_page(run):
    assert f": {run.verdict.partition(';')[0]})" in repr(run)
    assert "baselines" in run.verdict
    html = run._repr_html_()
    assert html.count("<tr") == 1 + len(run.metrics.loc["test"])
    page = run.report()
    assert "<!DOCTYPE html>" in page.read_text(encoding="utf-8")


def test_load_evaluate_save(run, tmp_path):
    opened = tftjax.load(run.directory)
    pd.testing.assert_frame_equal(opened.evaluate(), run.metrics)
    copy = opened.save(tmp_path / "copy")
    twin = copy.forecasts[[f"garch/{q}" for q in QUANTILES]].set_axis(QUANTILES, axis=1)
    metrics = copy.evaluate(forecasts={"twin": twin})["pinball"]
    assert metrics["test", "twin (foreign)"] == pytest.approx(metrics["test", "garch"])
    assert ("val", "twin (foreign)") not in metrics
    pd.testing.assert_frame_equal(copy.predict(), run.predict())
    with pytest.raises(tftjax.UserError, match="exists"):
        opened.save(tmp_path / "copy")
    with pytest.raises(tftjax.UserError, match='name: found "my copy"'):
        opened.save(tmp_path / "my copy")
    assert not (tmp_path / "my copy").exists()


def test_a_saved_run_goes_on_under_its_new_name(run, config_file, tmp_path, monkeypatch):
    copy = run.save(tmp_path / "copy")
    assert (copy.name, tftjax.load(tmp_path / "copy").name) == ("copy", "copy")
    more = {"config": config_file, "max_epochs": 3, "resume": True, "quiet": True}
    assert tftjax.fit(directory=tmp_path / "copy", **more).config.train.max_epochs == 3
    monkeypatch.chdir(tmp_path)
    assert tftjax.load("copy").save("again").name == "again"


def judged_at(final):
    """Where a final fit says that its source lies."""
    with pytest.raises(tftjax.UserError, match="a final fit is trained on all rows") as error:
        final.evaluate()
    return str(error.value).split("judge it by. ")[1]


def test_a_final_fit_finds_its_source_from_everywhere(run, tmp_path, monkeypatch):
    source = run.save(tmp_path / "runs" / "a")
    final = source.refit(quiet=True)
    there = f"Take the run that chose its epochs: {source.directory}."
    assert judged_at(final) == there
    assert judged_at(final.save(tmp_path / "elsewhere" / "deep" / "b")) == there
    (tmp_path / "link").symlink_to(final.directory)
    assert judged_at(tftjax.load(tmp_path / "link")) == there
    monkeypatch.chdir(final.directory)
    assert judged_at(tftjax.load(".")) == there
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").rename(tmp_path / "moved")  # both together
    moved = tftjax.load("moved/a-final")
    assert judged_at(moved) == f"Take the run that chose its epochs: {tmp_path / 'moved' / 'a'}."
    (tmp_path / "moved" / "a").rename(tmp_path / "gone")
    assert judged_at(moved).startswith(f"The run that chose its epochs is no longer in {tmp_path / 'moved'}")
    assert len(moved.predict()) == 1


def test_refit_is_for_daily_use(run, caplog):
    final = run.refit(quiet=True)
    assert final.directory == run.directory.with_name("r-final")
    record = json.loads((final.directory / "final.json").read_text())
    assert (record["source"], record["verdict"]) == ("../r", run.verdict)
    assert final.config.train.stop_after == record["epochs"] == final.trained[0].best_epoch
    opened = tftjax.load(final.directory)
    pd.testing.assert_frame_equal(opened.predict(), final.predict())
    for shown in (repr(final), final.verdict, final._repr_html_()):
        assert "final fit to 2002-03-22" in shown
    for judged in (
        lambda: final.metrics,
        lambda: final.forecasts,
        final.evaluate,
        final.importance,
        final.report,
        final.plot.training,
        final.refit,
    ):
        with pytest.raises(tftjax.UserError, match=r"a final fit is trained on all rows.*/r\."):
            judged()
    with pytest.raises(tftjax.UserError, match="exists"):
        run.refit(quiet=True)
    run.refit(quiet=True, overwrite=True)


def test_a_final_fit_of_a_newer_frame(untrained, tmp_path):
    rows = make_rows()
    run = tftjax.fit(
        rows.iloc[:310],
        feature_set="core_embedded",
        encoder_length=ENCODER_LENGTH,
        hidden_size=4,
        max_epochs=1,
        directory=tmp_path / "r",
        quiet=True,
    )
    assert run.predict().index[0] == rows.index[310]
    rows.to_csv(tmp_path / "newer.csv")
    for number, data in enumerate((rows, tmp_path / "newer.csv")):
        final = run.refit(tmp_path / f"final{number}", data=data, quiet=True)
        assert final.predict().index[0] == rows.index[-1] + pd.offsets.BDay(1)
        assert final.config.data.dataset == ("frame" if number == 0 else str(data))
    with pytest.raises(tftjax.UserError, match=r"the frame: .*in another unit"):
        run.refit(tmp_path / "percent", data=100 * rows, quiet=True)


def test_forecasts_are_in_order(run, caplog):
    values = run.predict().to_numpy()
    assert (np.diff(values, axis=1) >= 0).all()
    raw = forecast_next(run.trained[0], run.trained[0].data.panel).to_numpy()
    np.testing.assert_array_equal(values, np.sort(raw, axis=1))
    crossing = (np.diff(raw, axis=1) < 0).any()
    assert crossing == ("quantiles cross in 1 of 1 forecasts: sorted" in caplog.messages)


def test_nothing_is_replaced_without_a_word(run, config_file):
    with pytest.raises(tftjax.UserError, match="exists"):
        tftjax.fit(config=config_file, directory=run.directory, quiet=True)


def test_seeds_are_averaged(config_file, tmp_path):
    several = tftjax.fit(config=config_file, directory=tmp_path / "s", seeds=2, max_epochs=1, quiet=True)
    parts = [tftjax.Run(each.directory, (each,)) for each in several.trained]
    mean = sum(forecast_next(each, each.data.panel).to_numpy() for each in several.trained) / 2
    np.testing.assert_allclose(several.predict(), np.sort(mean, axis=1), rtol=1e-12)
    mean = sum(part.forecasts[QUANTILES].to_numpy() for part in parts) / 2
    np.testing.assert_allclose(several.forecasts[QUANTILES], mean, rtol=1e-12)
    before = several.metrics
    pd.testing.assert_frame_equal(several.evaluate(), before, rtol=1e-9)
    opened = tftjax.load(several.directory)
    pd.testing.assert_frame_equal(opened.predict(), several.predict())
    assert opened.report() == tmp_path / "s" / "report.html"


def test_the_mean_of_seeds_is_kept_and_fitted_to_all_rows(config_file, tmp_path, capsys):
    """Begun in a temporary folder; its final fit is the mean of the seeds' own."""
    begun = tftjax.fit(config=config_file, seeds=2, max_epochs=1, quiet=True)
    kept = begun.save(tmp_path / "kept")
    assert kept.directory == tmp_path / "kept" / "ensembles" / "tiny"
    sweep = tftjax.load(tmp_path / "kept")
    for same in (kept, sweep.run(), sweep.save(tmp_path / "again").run()):
        pd.testing.assert_frame_equal(same.predict(), begun.predict())
    with pytest.raises(tftjax.UserError, match="exists"):
        begun.save(tmp_path / "kept")
    final = kept.refit(quiet=True)
    assert final.directory == tmp_path / "kept-final"
    runs = [tftjax.Run(each.directory, (each,)) for each in kept.trained]
    singles = [run.refit(tmp_path / run.name, quiet=True).trained[0] for run in runs]
    mean = sum(forecast_next(each, each.data.panel).to_numpy() for each in singles) / 2
    np.testing.assert_allclose(final.predict(), np.sort(mean, axis=1), rtol=1e-4)
    assert kept.verdict in final.verdict
    for same in (tftjax.load(final.directory), final.save(tmp_path / "deep" / "copy")):
        assert same.verdict == final.verdict
        pd.testing.assert_frame_equal(same.predict(), final.predict())
        assert judged_at(same).endswith(f"{kept.directory}.")
    for judged in (final.report, final.refit, final.importance, lambda: final.metrics):
        with pytest.raises(tftjax.UserError, match=r"a final fit is trained on all rows"):
            judged()
    with pytest.raises(tftjax.UserError, match="exists"):
        kept.refit(quiet=True)
    kept.refit(quiet=True, overwrite=True)
    kept.refit(quiet=True, resume=True)
    for place in (tmp_path / "kept", kept.directory, tmp_path / "kept" / "members" / "x"):
        with pytest.raises(tftjax.UserError, match="Give a final fit a directory of its own"):
            kept.refit(place, quiet=True, overwrite=True)
    capsys.readouterr()
    assert predict_main([str(final.directory), "--out", str(tmp_path / "out.csv")]) == 0
    assert kept.verdict.partition(";")[0] in capsys.readouterr().err
    assert report_main([str(final.directory)]) == 2
    assert "a final fit is trained on all rows" in capsys.readouterr().err


def test_a_sweep_and_a_backtest(config_file, tmp_path):
    grid = {"loss.std_weight": [0, 0.1]}
    sweep = tftjax.fit_sweep(
        configs=config_file, directory=tmp_path / "sweep", grid=grid, max_epochs=1, quiet=True
    )
    assert set(sweep.results["loss.std_weight"]) == {0, 0.1}
    assert sweep.ranking[0] == sweep.results.sort_values("val/pinball")["config"].iloc[0]
    assert sweep.run().name == f"{sweep.ranking[0]}-s42"
    assert isinstance(sweep.plot(), Figure)
    assert isinstance(tftjax.load(tmp_path / "sweep"), tftjax.Sweep)


def test_a_backtest_of_months(config_file, tmp_path, capsys):
    """Tests of one month, two of them by one training: each day is forecast once, in one compiled program."""
    walk = tftjax.backtest(
        config_file,
        first_test="2001-11",
        train_months=8,
        val_months=2,
        test_months=1,
        train_every=2,
        directory=tmp_path / "walk",
        max_epochs=1,
    )
    folds = walk.folds.xs("tiny, seed 42", level="forecast")
    assert folds.index.tolist() == ["2001-11", "2001-12", "2002-01", "2002-02"]
    assert folds["train_from"].dt.strftime("%Y-%m").tolist() == ["2001-01", "2001-01", "2001-03", "2001-03"]
    days = [len(pd.bdate_range(month, pd.Timestamp(month) + pd.offsets.MonthEnd())) for month in folds.index]
    assert folds["test_windows"].tolist() == days
    assert "1 program" in capsys.readouterr().out


def width(forecast, quantiles, hyperparameters):
    return (forecast[..., -1] - forecast[..., 0]).mean()


def test_own_functions_are_at_hand_again(config_file, tmp_path):
    own = {"metrics": {"first": lambda forecast, target, quantiles: float(target[0, 0])}}
    run = tftjax.fit(
        config=config_file,
        directory=tmp_path / "r",
        penalties={"width": width},
        own_weights={"width": 0.5},
        max_epochs=1,
        quiet=True,
        **own,
    )
    assert run.config.loss.own_weights == {"width": 0.5}
    assert run.metrics.loc[("test", "model"), "first"] == run.forecasts["actual"].iloc[0]
    lines = (run.directory / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["width_penalty"] != 0
    opened = tftjax.load(run.directory)
    with pytest.raises(tftjax.UserError, match=r"tftjax\.load\(\.\.\., metrics=\{'first': f\}\)"):
        opened.evaluate()
    with without_training():
        final = tftjax.load(run.directory, penalties={"width": width}).refit(quiet=True)
    assert final.config.data.final_fit
    assert tftjax.load(run.directory, **own).evaluate()["first"].notna().all()


def test_keywords_are_fields_by_their_last_name():
    assert key_of("max_epochs") == "train.max_epochs"
    with pytest.raises(tftjax.UserError, match=r"^scale: 2 settings have this name.*\"loss\.scale\""):
        key_of("scale")
    with pytest.raises(tftjax.UserError, match=r"max_epoch: unknown setting.*max_epochs"):
        key_of("max_epoch")
    frame = pd.DataFrame({"day": ["2020-01-01"], "ret": [0.1], "vix": [20.0], "fomc": ["no"], "fed": [1]})
    fields = {"target": "ret", "observed": ["vix"], "known": ["fomc", "fed", "month"], "date": "day"}
    config = make_config(None, fields, Functions(), frame)
    columns = config.data.columns
    assert columns.observed == ("vix",)
    assert columns.known_real == ("fed",)
    assert columns.known_categorical == ("fomc", "month")
    assert config.data.dataset == "frame"
    assert config.model.quantile_head == "monotone"  # of a config that is begun here, and of no other
    assert make_config(Config(), {}, Functions()).model.quantile_head == "independent"
    assert make_config(None, {"quantile_head": "independent"}, Functions()) == Config()
    own = make_config(None, {}, Functions(head={"mine": lambda raw, quantiles: raw}))
    assert own.model.quantile_head == "independent"
    raw = {"model": {"encoder_length": ENCODER_LENGTH}}
    dated = make_config(raw, {"start": pd.Timestamp("2021-02-03")}, Functions())
    assert str(dated.data.start) == "2021-02-03"
    assert dated.model.encoder_length == ENCODER_LENGTH
    assert dated.model.quantile_head == "independent"


def test_known_and_static_columns_are_told_apart_however_the_table_comes(tmp_path):
    frame = pd.DataFrame({"date": ["2020-01-01"], "ret": [0.1], "fomc": ["no"], "fed": [1], "cap": [2.5]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    fields = {
        "target": "ret",
        "known": ["fed", "fomc", "month", "lag_5", "days_to_fomc"],
        "static": "cap",
        "events": {"fomc": ["2020-01-29"]},
    }
    for dataset in ("t.csv", "t.parquet"):
        raw = {"data": {"dataset": str(tmp_path / dataset)}}
        columns = make_config(raw, fields, Functions()).data.columns
        assert columns == make_config(None, fields, Functions(), frame).data.columns
        assert columns.known_real == ("fed", "lag_5", "days_to_fomc")
        assert columns.known_categorical == ("fomc", "month")
        assert columns.static_real == ("cap",)
        assert raw == {"data": {"dataset": str(tmp_path / dataset)}}
    missing = {**fields, "dataset": str(tmp_path / "u.csv")}
    with pytest.raises(tftjax.UserError, match=r"data\.dataset: .*u\.csv' is neither"):
        make_config(None, missing, Functions())


def test_values_of_python_become_those_of_json():
    given = {"quantiles": np.array([0.1, 0.5, 0.9]), "split": pd.Series([0.6, 0.2, 0.2]), "seed": np.int64(3)}
    config = make_config({"data": None, "train": {"max_epochs": np.int32(4)}}, given, Functions())
    assert config.model.quantiles == (0.1, 0.5, 0.9)
    assert config.data.split == (0.6, 0.2, 0.2)
    assert (config.train.seed, config.train.max_epochs) == (3, 4)
    with pytest.raises(tftjax.UserError, match='train is "x", expected an object'):
        make_config({"train": "x"}, {"max_epochs": 3}, Functions())
    with pytest.raises(tftjax.UserError, match=r"max_epochs: found <object.*expected text, a number"):
        make_config(None, {"max_epochs": object()}, Functions())


def test_a_grid_of_arrays_and_a_space_are_checked_as_the_command_checks_them(config_file, tmp_path):
    settings = {"configs": config_file, "directory": tmp_path / "s", "quiet": True}
    with pytest.raises(tftjax.UserError, match="a value stands twice"):
        tftjax.fit_sweep(grid={"loss.std_weight": list(np.array([0.1, 0.1]))}, **settings)
    with pytest.raises(tftjax.UserError, match=r"space: loss\.std_weight: found .*low below high"):
        tftjax.fit_sweep(space={"loss.std_weight": {"low": 1, "high": 0}}, num_samples=2, **settings)


# Calls, and what refuses them.
CANNOT_BE_MEANT = {
    "backtest(FRAME, first_test=2002)": r"found DataFrame.*fit\(data, config\), but backtest\(config, data\)",
    "backtest('px.csv', first_test=2002)": r"config: found 'px.csv'.*backtest\(config, data\)",
    "backtest(None, FRAME, first_test='spring')": "first_test=: found 'spring', expected a year such as 2006",
    "backtest(None, FRAME, first_test=2002, last_test=1.5)": "last_test=: found 1.5",
    "backtest(None, FRAME, first_test=2002, stride_months=0)": "stride_months: found 0, expected a whole",
    "fit('my.json')": r"data: found a config \('my.json'\).*as config=",
    "fit({'train': {}})": "data: found a config",
    "fit(FRAME, seeds='3')": "seeds: found '3', expected a whole number of at least 1",
    "fit(FRAME, seeds=0)": "seeds: found 0",
    "fit_sweep(FRAME, seeds=[1, 2])": r"seeds: found \[1, 2\]",
    "fit(FRAME, metrics=[max])": r"metrics: found \[<built-in.*expected a dict",
    "fit_sweep(FRAME, grid={'loss.std_weight': 0.1})": r"std_weight: found 0.1, expected a list",
    "fit_sweep(FRAME, grid=['a'])": r"grid: found \['a'\], expected a dict",
    "fit_sweep(FRAME, space={'train.seed': {'low': 1, 'high': 2}})": "train.seed is not for a sweep",
    "fit_sweep(FRAME, space={'train.learning_rate': {'choices': [1e-3]}})": "found 0 points and a space",
    "fit_sweep(FRAME, num_samples=3)": "num_samples= and .*found 3 points and no space",
    "fit_sweep(FRAME, [{}, {}])": 'Give each config a name .* "name" in a dict',
    "fit(FRAME.rename_axis('Day').reset_index(), target='SP500_Returns')": "in Python date=",
    "fit(FRAME.rename(columns={'SP500_Returns': 'ret'}))": "in Python target=, observed=",
}


def test_what_cannot_be_meant_is_refused_in_words_of_python():
    """In a process of its own, in which no types are checked: as a user has it."""
    code = (
        "from tiny import make_rows\nfrom tftjax import *\nFRAME = make_rows().iloc[:30]\n"
        f"for call in {list(CANNOT_BE_MEANT)!r}:\n"
        "    try:\n        eval(call)\n    except UserError as error:\n"
        "        print(str(error).replace(chr(10), ' '))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for words, line in zip(CANNOT_BE_MEANT.values(), done.stdout.splitlines(), strict=True):
        assert re.search(words, line), line


def test_functions_that_a_config_names_are_asked_for(config_file, tmp_path):
    own = make_config(config_file, {}, Functions(penalties={"width": width}))
    with pytest.raises(tftjax.UserError, match="penalties: the run was made with a function named 'width'"):
        tftjax.fit(config=own, directory=tmp_path / "r")
    with pytest.raises(tftjax.UserError, match=r"own_weights: 'wide' is no penalty .* \(those are: width\)"):
        tftjax.fit(
            config=config_file,
            directory=tmp_path / "r",
            penalties={"width": width},
            own_weights={"wide": 0.1},
        )
    assert not (tmp_path / "r").exists()


def test_a_temporary_folder_is_said_once_with_how_to_keep_it(capsys):
    place = training._place(None, quiet=False)
    assert capsys.readouterr().out.endswith("until Python ends; .save('runs/NAME') of the result keeps it\n")
    assert place.parent.is_dir()
    assert training._place(None, quiet=True) != place
    assert training._place("runs/x", quiet=False) == Path("runs/x")
    assert capsys.readouterr().out == ""


def test_the_import_is_light():
    code = (
        "import time; t = time.perf_counter(); import tftjax, sys;"
        "print(time.perf_counter() - t, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, has_jax = done.stdout.split()
    assert float(seconds) < 0.1
    assert has_jax == "False"
    assert tftjax.__version__


def test_a_process_in_which_jax_has_started_says_once_what_it_costs(config_file, tmp_path):
    code = (
        "import jax, tftjax; jax.numpy.zeros(1).block_until_ready()\n"
        "from tiny import without_training\n"
        "with without_training():\n"
        f"    r = tftjax.fit(config={str(config_file)!r}, max_epochs=1, quiet=True)\n"
        "tftjax.load(r.directory); print(r.verdict)"
    )
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # the devices left out
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cores = runtime.available_cores()
    assert done.stderr.count("jax had started before tftjax, with 1 device") == (cores > 1)
    assert cores == 1 or f"up to {cores} times as long" in done.stderr
    assert "baselines" in done.stdout


def frame_of(num_rows=320):
    return make_rows(num_rows)[["SP500_Returns", "AAA_Yield"]].set_axis(["ret", "aaa"], axis=1)


FIELDS = {
    "target": "ret",
    "observed": ["aaa"],
    "known": ["day_of_week"],
    "encoder_length": ENCODER_LENGTH,
    "hidden_size": 4,
    "num_heads": 1,
    "batch_size": 32,
    "max_epochs": 1,
    "quiet": True,
}


def test_a_frame_gives_the_run_of_its_csv_file(tmp_path):
    frame = frame_of()
    frame.to_csv(tmp_path / "own.csv")
    of_frame = tftjax.fit(frame, directory=tmp_path / "frame", **FIELDS)
    of_file = tftjax.fit(tmp_path / "own.csv", directory=tmp_path / "file", **FIELDS)
    pd.testing.assert_frame_equal(of_frame.metrics, of_file.metrics)
    assert of_frame.config.data.dataset == "frame"
    newer = frame_of(330)
    pd.testing.assert_frame_equal(of_frame.predict(newer), of_file.predict(newer))
    assert of_frame.predict(newer).index[0] > newer.index[-1]
    reopened = tftjax.load(tmp_path / "frame")
    pd.testing.assert_frame_equal(reopened.predict(newer), of_frame.predict(newer))


def test_percent_in_is_percent_out(tmp_path):
    frame = frame_of()
    decimal = tftjax.fit(frame, directory=tmp_path / "d", **FIELDS)
    percent = tftjax.fit(
        frame.assign(ret=100 * frame["ret"]), directory=tmp_path / "p", return_unit="percent", **FIELDS
    )
    np.testing.assert_allclose(percent.predict(), 100 * decimal.predict(), rtol=1e-4)
    np.testing.assert_allclose(percent.forecasts["actual"], 100 * decimal.forecasts["actual"], rtol=1e-6)


def test_a_price_is_forecast_by_its_returns_and_shown_as_levels(untrained, tmp_path):
    price = pd.DataFrame({"close": 100 * (1 + frame_of()["ret"]).cumprod()})
    fields = FIELDS | {"target": "close", "observed": []}
    with pytest.raises(tftjax.UserError, match="target_transform"):
        tftjax.fit(price, directory=tmp_path / "x", **fields)
    run = tftjax.fit(price, directory=tmp_path / "x", target_transform="return", **fields)
    levels, returns = run.predict(levels=True), run.predict()
    np.testing.assert_allclose(levels, price["close"].iloc[-1] * (1 + returns), rtol=1e-9)


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_frames_of_other_libraries(library, tmp_path):
    module = pytest.importorskip(library)
    frame = frame_of().reset_index()
    other = module.from_pandas(frame) if library == "polars" else module.Table.from_pandas(frame)
    run = tftjax.fit(other, directory=tmp_path / "r", **FIELDS)
    assert run.forecasts.index[-1] == frame["date"].iloc[-1]


def test_a_panel_trains_as_the_config_that_names_it(config_file, run, tmp_path):
    config = load(config_file)
    again = tftjax.fit(load_panel(config.data), config, directory=tmp_path / "r", quiet=True)
    pd.testing.assert_frame_equal(again.metrics, run.metrics)


def test_a_panel_is_cut_by_dates_and_keeps_its_columns(untrained, config_file, tmp_path):
    config = load(config_file)
    panel, settings = load_panel(config.data), {"directory": tmp_path / "r", "quiet": True, "max_epochs": 1}
    cut = tftjax.fit(panel, config, start="2001-03-01", **settings)
    assert cut.trained[0].data.whole.frame.index[0] == pd.Timestamp("2001-03-01")
    for name, value in {"target": "vix", "return_unit": "percent", "missing": "mask"}.items():
        with pytest.raises(tftjax.UserError, match="with the panel that was handed in, which has"):
            tftjax.fit(panel, **{name: value}, **settings, overwrite=True)


def test_what_is_no_table_is_named(tmp_path):
    with pytest.raises(tftjax.UserError, match="found list, expected a table"):
        tftjax.fit([1, 2], directory=tmp_path / "r", **FIELDS)
    with pytest.raises(tftjax.UserError, match="no column 'aaa'"):
        tftjax.fit(frame_of().drop(columns="aaa"), directory=tmp_path / "r", **FIELDS)


def test_a_panel_made_by_hand_is_checked(tmp_path):
    frame = frame_of().assign(day_of_week=0)
    roles = {"target": "ret", "observed": ("ret", "aaa"), "known_categorical": ("day_of_week",)}
    holed = make_panel(frame.assign(ret=frame["ret"].where(frame["ret"] != frame["ret"].iloc[7])), **roles)
    with pytest.raises(
        tftjax.UserError, match=f"row of {frame.index[7].date()}, column 'ret': found no value"
    ):
        tftjax.fit(holed, directory=tmp_path / "r", **FIELDS)
    with pytest.raises(tftjax.UserError, match="found an index of int64, expected dates"):
        make_panel(frame.reset_index(drop=True), **roles)
