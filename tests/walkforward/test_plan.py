"""The walk-forward's command: folds, what they may see, members that are runs, pooled files; bad input."""

import contextlib
import datetime
import json
import shutil
from dataclasses import replace
from pathlib import Path

import browser
import numpy as np
import pandas as pd
import pytest
from fuzz import check
from pages import Reader, assert_shown, assert_works
from tiny import assert_same_arrays, contents, make_rows, metric_lines, no_picture, run_here, write_config

from tftjax.api import training
from tftjax.config.functions import NO_FUNCTIONS
from tftjax.config.loading import from_dict, load
from tftjax.data.loading import load_panel
from tftjax.data.prepared import prepare as prepare_data
from tftjax.errors import UserError
from tftjax.evaluate import compare, evaluation, scoring
from tftjax.evaluate.baselines import BASELINES
from tftjax.evaluate.files import read_predictions
from tftjax.plots import theme
from tftjax.predict.__main__ import main as predict_main
from tftjax.report.__main__ import main as report_main
from tftjax.storage import checkpoint, runs
from tftjax.sweep import run as sweep_run
from tftjax.sweep.__main__ import main as sweep_main
from tftjax.sweep.members import sources
from tftjax.sweep.plan import make_plan
from tftjax.sweep.run import check_starts, load_data
from tftjax.train.__main__ import main as train_main
from tftjax.train.engine import MembersEngine
from tftjax.walkforward import plan as walkforward
from tftjax.walkforward import refit, results
from tftjax.walkforward.__main__ import main as walkforward_main
from tftjax.walkforward.__main__ import make_parser, plan_of
from tftjax.walkforward.files import read_walk
from tftjax.walkforward.plan import folds
from tftjax.walkforward.pool import QUARTERS

YEARS = ["--first-test", 2004, "--last-test", 2006, "--train-years", 2]
ROWS = 1640  # weekdays from 2001-01-01 to 2007-04-13
SEEDS = ["--seeds", 2]
WALK = [*YEARS, "--first-test", 2005, *SEEDS]  # two folds


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Two configs of one program, and one that scales its target."""
    folder = tmp_path_factory.mktemp("configs")
    train = {"max_epochs": 2, "batch_size": 64}
    path = write_config(folder, make_rows(ROWS), train=train)
    content = json.loads(path.read_text())
    (folder / "control.json").write_text(json.dumps(content | {"loss": {}}))
    return [folder / "control.json", path]


def plan(*arguments):
    return plan_of(make_parser().parse_args([str(argument) for argument in arguments]))


# ---- Folds -----------------------------------------------------------------------------------------------


def test_members_are_configs_in_folds(configs):
    members, folder = plan(*configs, *YEARS, *SEEDS)
    assert folder.name == "walk"
    assert [m.name for m in members][:5] == [
        "control-2004-s42",
        "control-2004-s43",
        "tiny-2004-s42",
        "tiny-2004-s43",
        "control-2005-s42",
    ]
    assert len(members) == 12
    assert {(m.group, m.fold) for m in members} == {
        (g, y) for g in ("control", "tiny") for y in ("2004", "2005", "2006")
    }
    dates = members[4].config.data.split_dates
    assert [str(date) for date in dates.model_dump().values()] == [
        "2002-01-01",
        "2004-01-01",
        "2005-01-01",
        "2006-01-01",
    ]
    expanding, _ = plan(configs[1], *YEARS, "--expanding", "--test-years", 2)
    assert [m.config.data.split_dates.train.year for m in expanding] == [2001, 2001]
    assert [m.config.data.split_dates.end.year for m in expanding] == [2006, 2008]


def months(*arguments, **lengths):
    """The months in which train, validation and test rows of each fold begin, and the test rows end."""
    found = folds(*arguments, **lengths)
    assert {date.day for fold in found for date in fold.model_dump().values()} == {1}
    return [[f"{date:%Y-%m}" for date in fold.model_dump().values()] for fold in found]


def test_folds_of_months_by_hand():
    short = {"train_months": 5, "val_months": 2, "test_months": 1}
    assert months("2006-12", "2007-01", **short) == [
        ["2006-05", "2006-10", "2006-12", "2007-01"],
        ["2006-06", "2006-11", "2007-01", "2007-02"],
    ]
    # Tests begin in November, December, January, February: two trainings, the second for the last alone.
    assert months("2006-11", "2007-02", **short, train_every=3) == [
        ["2006-04", "2006-09", "2006-11", "2007-02"],
        ["2006-07", "2006-12", "2007-02", "2007-03"],
    ]
    # A last year means its last month; quarters half a year apart.
    assert [fold[2:] for fold in months("2006-04", 2007, **short | {"test_months": 3}, stride_months=6)] == [
        ["2006-04", "2006-07"],
        ["2006-10", "2007-01"],
        ["2007-04", "2007-07"],
        ["2007-10", "2008-01"],
    ]
    expanding = months("2006-12", "2007-01", **short, expanding=True)
    assert [fold[0] for fold in expanding] == ["2006-05", "2006-05"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stride_months": 0}, "stride 0 months"),
        ({"stride_months": 6}, "stride_months=: found 6, expected at least the 12 months of a test"),
        ({"train_every": 0}, "a training for every 0 tests"),
        ({"train_every": 2, "stride_months": 24}, "train_every=: found 2 with a stride of 24"),
        ({"test_months": -1}, "test -1"),
        ({"first_test": "2006-13"}, "first_test=: found '2006-13', expected a year such as 2006, or a month"),
        ({"last_test": "06-2007"}, "last_test=: found '06-2007'"),
        ({"first_test": 0}, "first_test=: found 0"),
    ],
)
def test_months_that_give_no_folds(given, message):
    with pytest.raises(UserError, match=message):
        folds(**{"first_test": 2006, "last_test": 2007} | given)


def test_the_last_test_that_data_have_whole():
    def last(day, *length):
        return walkforward.last_whole(pd.bdate_range("2001-01-02", day), *length)

    assert last("2006-12-26", 1, None) == "2006-01"  # but for a week of holidays
    assert last("2006-12-20", 1, None) == "2005-12"
    assert last("2007-03-27", 1, 3) == "2007-01"
    assert last("2007-03-20", 1, 1) == "2007-02"


def test_a_fold_sees_nothing_of_what_comes_after(configs):
    """Rows from a split on are changed: scalers, and all that windows of earlier splits hold, stay."""
    steps = 3
    config = load(configs[1], [f"model.prediction_length={steps}", "data.target_scale=ewma"])
    panel = load_panel(config.data)

    def prepare(dates, changed):
        frame = panel.frame.copy()
        frame.iloc[changed, frame.columns.get_indexer(panel.observed)] *= -3.0
        data = config.data.model_copy(update={"split_dates": dates})
        return prepare_data(replace(panel, frame=frame), config.model_copy(update={"data": data}))

    for dates in (fold for fold in folds(2004, 2006, train_years=2) if fold.test.year != 2005):
        whole = prepare(dates, [])
        steps_of = {
            split: starts[:, None] + config.model.encoder_length + np.arange(steps)
            for split, starts in whole.starts.items()
        }
        # Between the targets of two splits lie as many rows as a window has steps.
        assert steps_of["train"].max() + steps < steps_of["val"].min()
        assert steps_of["val"].max() + steps < steps_of["test"].min()
        years = [panel.frame.index[rows.ravel()].year for rows in steps_of.values()]
        year = dates.test.year
        assert [set(found) for found in years] == [{year - 3, year - 2}, {year - 1}, {year}]
        for later in ("val", "test"):
            first = getattr(whole.blocks[0].splits, later).start
            other = prepare(dates, slice(first, None))
            for name, array in whole.series._asdict().items():
                known = (slice(None), slice(None, first)) if np.ndim(array) == 2 else slice(None, first)
                if array is not None:
                    np.testing.assert_array_equal(array[known], getattr(other.series, name)[known])
            assert not np.array_equal(whole.series.target, other.series.target)


def history(first, last, path, train_years):
    """`check_history` of data between two days."""
    members = walkforward.with_folds(make_plan([path]), folds(2004, 2006, train_years=train_years))
    days = pd.bdate_range(first, last)
    return walkforward.check_history(members, {member.name: days for member in members})


def test_train_years_must_be_there(configs):
    assert history("2001-01-02", "2006-12-29", configs[1], 2) == []
    with pytest.raises(UserError, match=r"data begin on 2001-01-02.*at most 2 .*at least 2005"):
        history("2001-01-02", "2006-12-29", configs[1], 3)
    with pytest.raises(UserError, match=r"at most 1 .*at least 2005"):  # 2001 is not whole
        history("2001-03-01", "2006-12-29", configs[1], 2)
    monthly = folds("2004-02", "2004-03", train_months=30, val_months=3, test_months=1)
    members = walkforward.with_folds(make_plan([configs[1]]), monthly)
    assert [member.name for member in members] == ["tiny-2004-02-s42", "tiny-2004-03-s42"]
    assert [str(member.config.data.split_dates.train) for member in members] == ["2001-05-01", "2001-06-01"]
    assert [member.tests for member in members] == [("2004-02-01",), ("2004-03-01",)]
    days = {member.name: pd.bdate_range("2001-07-02", "2004-04-15") for member in members}
    with pytest.raises(UserError, match=r"fewer --train-months.*at most 28 .*at least 2004-04"):
        walkforward.check_history(members, days)
    days = {member.name: pd.bdate_range("2001-05-02", "2004-03-19") for member in members}
    assert walkforward.check_history(members, days) == [
        "fold 2004-03 is tested to 2004-03-19, where the data end"
    ]
    (message,) = history("2001-01-02", "2006-09-29", configs[1], 2)
    assert message == "fold 2006 is tested to 2006-09-29, where the data end"


# ---- Bad input -------------------------------------------------------------------------------------------


def fails(capsys, *arguments):
    assert walkforward_main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    return error


@pytest.mark.usefixtures("in_process")
def test_bad_arguments_make_nothing(configs, tmp_path, capsys):
    path = configs[1]
    place = ["--runs", tmp_path / "runs"]
    assert "tests from 2006 to 2004" in fails(capsys, path, "--first-test", 2006, "--last-test", 2004, *place)
    assert "--seeds, in Python seeds=: found 0" in fails(capsys, path, *YEARS, *place, "--seeds", 0)
    assert "train 0" in fails(capsys, path, *YEARS, "--train-years", 0, *place)
    late = ["--first-test", 2006, "--last-test", 2008, "--train-years", 2]
    error = fails(capsys, path, *late, *place)
    assert "tiny-2008-s42: data.split: found 0 test rows" in error
    error = fails(capsys, path, *YEARS, "--train-years", 9, *place)
    assert "data begin on 2001-01-01" in error
    # To 2007: years of training that are left before the fold's validation, and no first test year.
    assert "Give fewer --train-years, in Python train_years= (at most 2 for this fold)." in error
    assert "data.purge 0" in fails(capsys, path, *YEARS, *place, "--set", "data.purge=0")
    levels = ["--set", "model.quantiles=[0.1,0.5,0.9]"]
    assert "missing.json" in fails(capsys, tmp_path / "missing.json", *YEARS, *place)
    other = tmp_path / "other.json"
    content = json.loads(path.read_text())
    other.write_text(json.dumps(content | {"model": content["model"] | {"quantiles": [0.1, 0.5, 0.9]}}))
    assert "do not compare" in fails(capsys, path, other, *YEARS, *place)
    assert "two configs of one name" in fails(capsys, path, other, path, *YEARS, *levels, *place)
    other.write_text(json.dumps(content | {"data": content["data"] | {"end": "2006-06-30"}}))
    assert "forecast different test rows" in fails(capsys, path, other, *YEARS, *place)
    assert not (tmp_path / "runs").exists()


# ---- The command -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def without_pictures_of_members():
    """The walk-forward's own picture is drawn; those of its members are a run's."""
    save = theme.save

    def its_own(path, drawing):
        (save if path.name == "folds.png" else no_picture)(path, drawing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theme, "save", its_own)
        yield


@pytest.fixture(scope="module")
def walked(configs, shared_baselines, tmp_path_factory):
    """A walk-forward of two configs and two seeds: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("walked")
    with without_pictures_of_members():
        out, err = run_here(walkforward_main, *configs, *WALK, "--runs", folder)
    assert err == ""
    return folder / "walk", out


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_member_is_a_single_run_of_its_dates(walked, configs, tmp_path, monkeypatch):
    """Beside folds with more windows; the single run is trained on two devices, which round differently."""
    dates = {"train": "2002-01-01", "val": "2004-01-01", "test": "2005-01-01", "end": "2006-01-01"}
    changes = ["--set", f"data.split_dates={json.dumps(dates)}", "--set", "train.seed=43"]
    monkeypatch.setattr(evaluation, "score_baselines", scoring.score_baselines)  # its own, to compare
    run_here(train_main, configs[1], *changes, "--name", "tiny-2005-s43", "--runs", tmp_path)
    single, member = tmp_path / "tiny-2005-s43", walked[0] / "members" / "tiny-2005-s43"
    assert runs.read_config(single) == runs.read_config(member)
    for line, line_1 in zip(metric_lines(member), metric_lines(single), strict=True):
        np.testing.assert_allclose(line["loss"], line_1["loss"], rtol=1e-4)
        np.testing.assert_allclose(line["val/loss"], line_1["val/loss"], rtol=1e-4)
    ours, theirs = (read_predictions(path, "test") for path in (member, single))
    assert ours.dates.equals(theirs.dates)
    np.testing.assert_allclose(ours.forecast, theirs.forecast, atol=2e-5)
    assert set(ours.dates.year) == {2005}
    ours, theirs = (json.loads((p / "evaluation/metrics.json").read_text()) for p in (member, single))
    assert ours["test"]["baselines"] == theirs["test"]["baselines"]


# ---- Warm starts -----------------------------------------------------------------------------------------


def train_warm(path, folder, *flags, code=0):
    """The walk-forward of a config, each fold from the one before; trained, and nothing is evaluated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_run, "_evaluate", lambda *arguments: arguments[-1]())
        patch.setattr(results, "conclude", lambda trained: "")
        command = [path, *WALK, "--warm-start", "--name", "warm", "--runs", folder]
        run_here(walkforward_main, *command, *flags, code=code)
    return folder / "warm"


@pytest.fixture(scope="module")
def warm(configs, tmp_path_factory):
    return train_warm(configs[1], tmp_path_factory.mktemp("warm"))


def assert_same_training(a, b):
    saved = [checkpoint.restore_latest(path / "checkpoints").arrays for path in (a, b)]
    assert_same_arrays(*saved)
    assert metric_lines(a) == metric_lines(b)


@pytest.mark.slow
def test_a_fold_starts_from_the_best_parameters_of_the_one_before(walked, warm):
    cold = walked[0]
    for seed in (42, 43):
        first, second = (f"tiny-{year}-s{seed}" for year in (2005, 2006))
        assert_same_training(warm / "members" / first, cold / "members" / first)
        assert not (warm / "members" / first / "init.json").exists()
        start = json.loads((warm / "members" / second / "init.json").read_text())
        source = runs.open_run(warm / "members" / first)
        assert start["source"] == str(warm / "members" / first)
        assert (start["epoch"], start["new"], start["left"]) == (source.best_epoch, [], [])
        first_epochs = [metric_lines(folder / "members" / second)[0]["loss"] for folder in (warm, cold)]
        assert first_epochs[0] < first_epochs[1]


@pytest.mark.slow
def test_a_warm_walk_forward_that_was_killed_ends_in_the_same_bits(warm, configs, tmp_path, monkeypatch):
    """Killed in the last epoch of the first fold, and in the second fold's first."""
    epoch, calls = MembersEngine.epoch, []

    def killed(self, *arguments):
        calls.append(len(arguments[0]))
        if len(calls) in (2, 4):
            raise KeyboardInterrupt
        return epoch(self, *arguments)

    monkeypatch.setattr(MembersEngine, "epoch", killed)
    train_warm(configs[1], tmp_path, code=130)
    train_warm(configs[1], tmp_path, "--resume", code=130)
    train_warm(configs[1], tmp_path, "--resume")
    assert calls == [2] * 6
    for name in (path.name for path in (warm / "members").iterdir()):
        assert_same_training(warm / "members" / name, tmp_path / "warm" / "members" / name)


@pytest.mark.slow
def test_a_refit_of_a_warm_walk_forward_starts_where_its_folds_started(warm, configs, monkeypatch):
    """And nothing of it waits for anything: its sources lie in the folder that chose."""
    planned = []

    def sweep(members, data, folder, *_):
        check_starts([members], data, folder, NO_FUNCTIONS)
        planned.extend(members)

    monkeypatch.setattr(refit, "sweep", sweep)
    members, folder = plan(configs[1], *WALK, "--warm-start", "--name", "warm", "--runs", warm.parent)
    refit.refit(folder, load_data(members, mixed_data=False), None)
    before = [None, None, *(str(warm / "members" / f"tiny-2005-s{seed}") for seed in (42, 43))]
    assert [member.config.train.init_from for member in planned] == before
    assert sources(refit.folder_of(folder), planned) == {}
    assert list(sources(folder, planned).values()) == ["tiny-2005-s42", "tiny-2005-s43"]


def test_a_warm_start_is_a_setting_of_every_fold_but_the_first(configs):
    members, folder = plan(configs[1], *YEARS, *SEEDS, "--warm-start", "--train-every", 2)
    assert [member.config.train.init_from for member in members] == [
        None,
        None,
        str(folder / "members" / "tiny-2004-s42"),
        str(folder / "members" / "tiny-2004-s43"),
    ]
    assert [member.tests for member in members[1:3]] == [("2004-01-01", "2005-01-01"), ("2006-01-01",)]


def test_python_has_warm_starts(configs, tmp_path, monkeypatch):
    planned, place = [], tmp_path / "walk"
    monkeypatch.setattr(training, "_start", lambda: None)
    monkeypatch.setattr(training, "_sweep", lambda members, *_: planned.extend(members))
    lengths = {"first_test": 2004, "last_test": 2006, "train_years": 2, "train_every": 2}
    training.backtest(configs[1], **lengths, warm_start=True, directory=place)
    starts = [member.config.train.init_from for member in planned]
    assert starts == [None, str(place / "members" / "tiny-2004-s42")]
    assert planned[0].tests == ("2004-01-01", "2005-01-01")
    training.backtest(configs[1], **lengths, directory=place)
    assert {member.config.train.init_from for member in planned[2:]} == {None}


@pytest.mark.usefixtures("in_process")
def test_warm_starts_that_are_refused(configs, tmp_path, capsys):
    place = ["--runs", tmp_path / "runs", "--warm-start"]
    quarters = [*YEARS, "--test-months", 3, "--last-test", "2004-06"]
    error = fails(capsys, configs[1], *quarters, *place, "--set", "data.val_blocks=2")
    assert "tiny-2004-04-s42: validates" in error
    assert "that tiny-2004-01-s42, which it starts from, is trained on, such as 2003-01-" in error
    error = fails(capsys, configs[1], *YEARS, *place, "--part", "1/2")
    assert "--part: tiny-2005-s42 starts from tiny-2004-s42, which another part may train" in error
    assert not (tmp_path / "runs").exists()


# ---- What a walk-forward writes --------------------------------------------------------------------------


@pytest.mark.slow
def test_pooled_forecasts_are_those_of_the_members(walked):
    folder, out = walked
    years = range(2005, 2007)
    members = {
        seed: [read_predictions(folder / "members" / f"tiny-{year}-s{seed}", "test") for year in years]
        for seed in (42, 43)
    }
    joined = {seed: np.concatenate([part.forecast for part in parts]) for seed, parts in members.items()}
    pooled = read_predictions(folder / "pooled" / "tiny-s43", "test")
    np.testing.assert_array_equal(pooled.forecast, joined[43])
    pooled = read_predictions(folder / "pooled" / "tiny-ensemble", "test")
    np.testing.assert_allclose(pooled.forecast, (joined[42] + joined[43]) / 2, rtol=1e-12)
    assert pooled.dates.is_monotonic_increasing
    assert pooled.dates.is_unique
    assert (pooled.dates[0].date(), pooled.dates[-1].date()) == (
        datetime.date(2005, 1, 3),
        datetime.date(2006, 12, 29),
    )
    baseline = read_predictions(folder / "pooled" / "garch-baseline", "test")
    own = pd.read_csv(folder / "members/tiny-2005-s42/evaluation/baselines.csv")
    rows = baseline.dates.year == 2005
    np.testing.assert_allclose(baseline.forecast[rows, 0, 3], own[own["split"] == "test"]["garch/0.5"])
    assert compare.main([str(folder / "pooled" / name) for name in ("garch-baseline", "tiny-ensemble")]) < 2
    for text in ("2 folds", "\nGain over each baseline\n", "\ntiny, ensemble of 2 ", "\nvix_scaled "):
        assert text in out


@pytest.mark.slow
def test_tables(walked):
    folder, _ = walked
    pooled = pd.read_csv(folder / "pooled.csv").set_index("forecast")
    assert list(pooled["kind"][:3]) == ["ensemble", "seed", "seed"]
    assert len(pooled) == 6 + len(BASELINES)
    table = pd.read_csv(folder / "folds.csv")
    assert len(table) == 2 * len(pooled)
    assert set(table["val_windows"]) == {261, 259}
    own = table[table["forecast"] == "control, ensemble of 2"]
    mean = np.average(own["pinball"], weights=own["test_windows"])
    np.testing.assert_allclose(mean, pooled.loc["control, ensemble of 2", "pinball"])
    metrics = json.loads((folder / "pooled/control-ensemble/evaluation/metrics.json").read_text())["test"]
    gains = pd.read_csv(folder / "gains.csv")
    gains = gains[(gains["forecast"] == "control, ensemble of 2") & (gains["baseline"] == "garch")]
    gains = gains.set_index("part")["difference"]
    test = metrics["tests"]["diebold_mariano"]["garch"]
    np.testing.assert_allclose(gains["all"], test["difference"])
    for parts in (QUARTERS, ("calm", "stormy"), ("centre", "tails")):
        np.testing.assert_allclose(gains[list(parts)].sum(), gains["all"])
    assert (folder / "folds.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_resume_of_what_is_done_changes_nothing(walked, configs):
    folder, _ = walked
    before = contents(folder)
    run_here(walkforward_main, *configs, *WALK, "--runs", folder.parent, "--resume", "--quiet")
    assert contents(folder) == before


@pytest.mark.slow
def test_predict_takes_the_newest_fold(walked):
    folder, _ = walked
    out, err = run_here(predict_main, folder, "--config", "tiny")
    assert "tiny, ensemble of 2, fold 2006" in err
    assert "2007-04-16" in out
    _, err = run_here(predict_main, folder, code=2)
    assert "control or tiny" in err


@pytest.fixture(scope="module")
def refitted(walked, configs, tmp_path_factory):
    """A copy of the walk-forward with its refit beside it: the folder of both and what was printed."""
    folder = tmp_path_factory.mktemp("refitted")
    shutil.copytree(walked[0], folder / "walk")
    with without_pictures_of_members():
        out, _ = run_here(walkforward_main, *configs, *WALK, "--runs", folder, "--resume", "--refit")
    return folder, out


@pytest.mark.slow
def test_a_refit_has_the_validation_rows_and_the_chosen_epochs(walked, refitted, configs):
    """In a folder of its own; what was there before stays, and what has no validation has no combination."""
    folder, out = refitted
    assert "trained anew on train and validation rows, for the epochs that validation chose" in out
    assert contents(folder / "walk") == contents(walked[0])
    chosen, again = (folder / name / "members" / "tiny-2006-s43" for name in ("walk", "walk-refit"))
    first, second = (runs.open_run(path) for path in (chosen, again))
    windows = [len(run.data.starts["train"]) for run in (first, second)]
    assert windows[1] - windows[0] == 260  # the weekdays of 2005: the purged one is now before the test rows
    assert second.data.blocks[0].splits.test == first.data.blocks[0].splits.test
    steps, more = (count // 64 for count in windows)
    epochs = max(1, round(first.best_epoch * steps / more))
    assert (second.config.train.stop_after, second.best_epoch) == (epochs, epochs)
    tested = [json.loads((path / "evaluation/metrics.json").read_text())["test"] for path in (chosen, again)]
    assert ["combination" in values for values in tested] == [True, False]
    assert len(read_walk(folder / "walk-refit").folds.index.unique("fold")) == 2
    before = contents(folder)
    run_here(walkforward_main, *configs, *WALK, "--runs", folder, "--resume", "--refit", "--quiet")
    assert contents(folder) == before


def test_a_refit_that_is_there_is_refused_before_anything_is_trained(configs, tmp_path):
    """Though the first walk-forward is free to begin."""
    (tmp_path / "walk-refit").mkdir()
    _, err = run_here(walkforward_main, *configs, *WALK, "--runs", tmp_path, "--refit", code=2)
    assert "walk-refit: exists. Go on with both walk-forwards (--resume" in err
    assert not (tmp_path / "walk").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_refit_without_a_member_that_diverged(refitted, configs, tmp_path):
    """It goes on with a refit of the other members, and would refuse one with any other members."""
    both = Path(shutil.copytree(refitted[0], tmp_path / "both"))
    name = "tiny-2006-s42"
    ended = json.loads((both / "walk" / "ended.json").read_text())
    ended[name]["status"] = "diverged"
    (both / "walk" / "ended.json").write_text(json.dumps(ended))
    again = both / "walk-refit"
    identity, ended = (json.loads((again / file).read_text()) for file in ("sweep.json", "ended.json"))
    identity["members"] = [member for member in identity["members"] if member["name"] != name]
    del ended[name]
    (again / "sweep.json").write_text(json.dumps(identity))
    (again / "ended.json").write_text(json.dumps(ended))
    shutil.rmtree(again / "members" / name)
    arguments = [*configs, *WALK, "--runs", both, "--resume", "--refit", "--quiet"]
    _, err = run_here(walkforward_main, *arguments)
    assert f"left out of {again}, as they diverged: {name}" in " ".join(err.split())
    assert not (again / "members" / name).exists()
    assert "tiny, seed 43" in read_walk(again).pooled.index


def test_rows_that_are_trained_on_choose_nothing():
    for data, train in (({}, {}), ({"val_blocks": 2}, {"keep": "last"})):
        with pytest.raises(UserError, match=r"train: .*keep 'last'.*with data\.train_on_val"):
            from_dict({"data": {"train_on_val": True, **data}, "train": train}, "test")
    config = from_dict({"data": {"train_on_val": True}, "train": {"keep": "last"}}, "test")
    assert not config.data.validates_alone
    assert not from_dict({"data": {"val_blocks": 2}}, "test").data.validates_alone
    assert from_dict({}, "test").data.validates_alone


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_parts_are_concluded_as_one(walked, configs, capsys, tmp_path):
    for part in ("2/2", "1/2"):
        out, err = run_here(walkforward_main, *configs, *WALK, "--runs", tmp_path, "--part", part, "--quiet")
        assert (out, err) == ("", "")
    _, err = run_here(sweep_main, "--conclude", tmp_path / "walk", code=2)
    assert "found a walk-forward, expected a sweep. Use tftjax walkforward --conclude" in err
    with pytest.raises(SystemExit, match="2"):
        walkforward_main([str(word) for word in (*configs, *WALK, "--part", "1/2", "--refit")])
    error = " ".join(capsys.readouterr().err.split())
    assert "--refit needs all folds: leave it out of --part, and give it to --conclude" in error
    _, err = run_here(walkforward_main, "--conclude", tmp_path / "walk")
    assert err == ""
    for name in ("pooled.csv", "gains.csv", "folds.csv", "summary.md"):
        assert (tmp_path / "walk" / name).read_bytes() == (walked[0] / name).read_bytes()


# ---- Its page --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(walked):
    """The walk-forward's report, made beside a member's."""
    folder = walked[0]
    assert report_main([str(folder), str(folder / "members" / "tiny-2005-s42")]) == 0
    return folder / "report.html"


@pytest.mark.slow
def test_the_page_says_what_the_files_hold(walked, page):
    folder, found = walked[0], Reader(page.read_text(encoding="utf-8"))
    pooled = pd.read_csv(folder / "pooled.csv").set_index("forecast")
    baselines = pooled[pooled["kind"] == "baseline"]["pinball"]
    hardest, own = baselines.idxmin(), pooled.loc["tiny, ensemble of 2"]
    assert f"The best baseline, {hardest}, has a pinball loss of {1e3 * baselines.min():.4f}e-3" in found.text
    dm = {name: own[f"tests/diebold_mariano/{hardest}/{name}"] for name in ("difference", "low", "high")}
    row = found.row("tiny, ensemble of 2")
    assert row[1] == f"{1e3 * own['pinball']:.4f}"
    assert row[2] == "{difference:+.4f} [{low:+.4f}, {high:+.4f}]".format(
        **{k: 1e3 * v for k, v in dm.items()}
    )
    assert found.row("tiny, seed 43")[1] == f"{1e3 * pooled.loc['tiny, seed 43', 'pinball']:.4f}"
    assert found.row(hardest)[1] == f"{1e3 * baselines.min():.4f}"
    folds = pd.read_csv(folder / "folds.csv").set_index(["fold", "forecast"])
    skill = 100 * (
        1 - folds.loc[(2006, "tiny, ensemble of 2")]["pinball"] / folds.loc[(2006, hardest)]["pinball"]
    )
    row = found.row("2006")
    assert row[1:6] == ["2003-01-01", "2005-01-03", "2006-01-02", "2006-12-29", "260"]
    assert row[-1] == f"{skill:+.2f}"
    base = folds.loc[(2006, hardest)]["directional_base_rate"]
    assert [row[1] for row in found.rows if row[0] == "2006"][1] == f"{100 * base:.1f}"
    gains = pd.read_csv(folder / "gains.csv").set_index(["forecast", "baseline", "part"]).sort_index()
    rows = gains.loc[("control, ensemble of 2", hardest)]
    for part in QUARTERS:
        gain = -100 * rows.loc[part, "difference"] / rows.loc["all", "baseline_pinball"]
        assert found.row(part)[1].startswith(f"{gain:+.2f} [")
    assert "Stormy: Realized_Vol_21d on the row before was in its series' upper third" in found.text
    assert found.row("control")[1:] == ["0.0", "0.0"]  # the settings that vary


@pytest.mark.slow
@pytest.mark.skipif(browser.find() is None, reason="no chromium or chrome, and CHROMIUM is not set")
def test_a_browser_shows_the_page(page, tmp_path):
    with browser.start(browser.find(), tmp_path) as tab:
        assert_shown(tab, page)
        assert_works(tab, page)


@pytest.mark.slow
def test_a_damaged_walk_forward_has_no_page(walked, tmp_path, capsys):
    folder = Path(shutil.copytree(walked[0], tmp_path / "walk"))
    for name in ("pooled/tiny-ensemble/evaluation/metrics.json", "folds.csv", "pooled.csv"):
        (folder / name).write_text("[")
        assert report_main([str(folder)]) == 2
        error = capsys.readouterr().err
        assert Path(name).name in error
        assert (
            "Make it anew: the command that began the walk-forward, with --resume, in Python resume=True."
            in error
        )
    (folder / "gains.csv").unlink()
    assert report_main([str(folder)]) == 2
    assert "the walk-forward is not finished: it has no gains.csv yet" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        "sweep.json",
        "ended.json",
        "folds.csv",
        "gains.csv",
        "pooled.csv",
        "pooled/control-ensemble/evaluation/metrics.json",
        "pooled/control-ensemble/evaluation/predictions.csv",
    ],
)
def test_damaged_files_of_a_walk_forward(name, walked, tmp_path):
    folder = Path(shutil.copytree(walked[0], tmp_path / "walk"))
    check(lambda: read_walk(folder), folder / name, (folder / name).read_bytes(), range(20))
