"""Training for Python: a run, a sweep, a backtest, from a frame, a file or a panel."""

import atexit
import functools
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pandas as pd

from tftjax import runtime
from tftjax.api.arguments import Given, as_json, check_number, frames_of, make_config
from tftjax.api.results import Backtest, LearningRates, Run, Search, Sweep
from tftjax.config.data import SplitDates
from tftjax.config.functions import NO_FUNCTIONS, Functions
from tftjax.config.loading import Config
from tftjax.data.loading import FRAME, check_no_vintages, load_panel, use_panel
from tftjax.data.panel import Panel
from tftjax.data.prepared import Data
from tftjax.data.series.reading import Vintages
from tftjax.data.tables.frames import to_pandas
from tftjax.errors import UserError
from tftjax.plots import drop_absent_backend
from tftjax.report.kinds import kind_of
from tftjax.storage import runs
from tftjax.storage.directories import RunDirectory, SearchDirectory, sweep_of
from tftjax.sweep.ensembles import open_runs
from tftjax.sweep.plan import Member, check_space, make_plan
from tftjax.sweep.run import Trained, conclude, load_data, sweep
from tftjax.sweep.tune import folder as searches
from tftjax.sweep.tune.run import tune
from tftjax.train.run import fit_all_rows, train, try_learning_rates
from tftjax.walkforward import results as walk_results
from tftjax.walkforward.plan import (
    TEST_YEARS,
    TRAIN_YEARS,
    VAL_YEARS,
    YEAR,
    check_history,
    folds,
    last_whole,
    with_folds,
)
from tftjax.walkforward.refit import check_free
from tftjax.walkforward.refit import refit as refit_folds

log = logging.getLogger(__name__)

Table = Any  # a frame of pandas, polars or arrow, the path of a file or a folder, or a `Panel`
Own = Mapping[str, Callable[..., Any]]


def fit(
    data: Table = None,
    config: Given = None,
    *,
    directory: str | Path | None = None,
    seeds: int = 1,
    penalties: Own | None = None,
    metrics: Own | None = None,
    baselines: Own | None = None,
    head: Callable[..., Any] | None = None,
    vintages: Mapping[str, Table] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    track: Sequence[str] = (),
    **fields: Any,
) -> Run:
    """Trains a Temporal Fusion Transformer and judges its forecasts beside baselines.

    Args:
      data: a frame of pandas, polars or arrow with dates in a column or the index; a file or folder; a
        `Panel`. None takes what the config names.
      config: a `Config`, a JSON file, or a dict as in one; None takes the defaults, and the
        head "monotone", whose quantiles never cross.
      directory: where the run is kept. None puts it into a temporary folder that is removed when Python ends.
      seeds: number of seeds; several are averaged, level by level, and their folder is a sweep's:
        `load(directory).run()` opens their mean again.
      penalties: terms of the loss by name, see `PENALTIES` in train/losses.py; weights: `own_weights`.
      metrics: metrics by name, see `METRICS` in evaluate/metrics.py.
      baselines: baselines by name, see `BASELINES` in evaluate/baselines.py.
      head: a quantile head, see `HEADS` in model/heads.py.
      vintages: frames of series with release dates by name, columns observation, release and value: each
        becomes an observed column, made as the section of its name in `data.series` says.
      resume: goes on with the run in the directory, or begins it.
      overwrite: replaces the run in the directory.
      quiet: shows no progress and no summary.
      track: trackers that get every epoch too: "tensorboard", "mlflow".
      fields: settings by their last name (`max_epochs=30`) or dotted (`**{"train.max_epochs": 30}`); and
        `known` and `static`, columns of numbers and categories alike.

    Raises:
      UserError: see the message.
    """
    check_number("seeds", seeds, 1)
    _start()
    functions = _functions(penalties, metrics, baselines, head)
    handed, config = _settle(data, config, fields, functions, vintages)
    panel = _loaded(handed, config)
    place = _place(directory, quiet)
    if directory is not None and "name" not in fields:
        config = make_config(config, {"name": place.name}, functions)
    flags = _flags(resume, overwrite, quiet, functions, track)
    if seeds > 1:
        members = make_plan([config], num_seeds=seeds)
        _sweep(members, panel, place, conclude, flags)
        return Sweep(place, functions).run()
    train(config, place, panel=panel, **flags)
    return Run(place, (runs.open_run(place, functions=functions),))


def find_learning_rate(
    data: Table = None,
    config: Given = None,
    *,
    vintages: Mapping[str, Table] | None = None,
    **fields: Any,
) -> LearningRates:
    """Trains a few hundred steps at learning rates that grow, and suggests one; keeps nothing.

    Args:
      data, config, vintages, fields: see `fit`.

    Raises:
      UserError: see the message.
    """
    _start()
    handed, config = _settle(data, config, fields, NO_FUNCTIONS, vintages)
    return LearningRates(config.name, try_learning_rates(config, _loaded(handed, config)))


def fit_without_judging(
    data: Table,
    config: Given = None,
    *,
    directory: str | Path | None = None,
    vintages: Mapping[str, Table] | None = None,
    **fields: Any,
) -> Run:
    """Trains on all rows for all epochs; nothing is validated or tested.

    Args:
      data, config, directory, vintages, fields: see `fit`.

    Raises:
      UserError: see the message.
    """
    _start()
    handed, config = _settle(data, config, fields, NO_FUNCTIONS, vintages)
    panel = _loaded(handed, config) or load_panel(config.data)
    place = _place(directory, quiet=True)
    return Run(place, (fit_all_rows(config, place, panel),))


def fit_sweep(
    data: Table = None,
    configs: Given | Sequence[Given] = None,
    *,
    directory: str | Path | None = None,
    seeds: int = 1,
    grid: Mapping[str, Sequence[Any]] | None = None,
    space: Mapping[str, Any] | None = None,
    num_samples: int = 0,
    penalties: Own | None = None,
    metrics: Own | None = None,
    baselines: Own | None = None,
    head: Callable[..., Any] | None = None,
    vintages: Mapping[str, Table] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    track: Sequence[str] = (),
    **fields: Any,
) -> Sweep:
    """Trains configs x grid x sample x seeds side by side on the same data, and compares them.

    Args:
      data: see `fit`.
      configs: one config or several, each as in `fit`.
      directory: see `fit`.
      seeds: number of seeds of each config.
      grid: values by dotted key, such as `{"loss.std_weight": [0, 0.1]}`.
      space: ranges by dotted key that points are drawn from, as in a file for `--space`.
      num_samples: number of points.
      penalties, metrics, baselines, head, vintages: see `fit`.
      resume, overwrite, quiet, track, fields: see `fit`.

    Raises:
      UserError: see the message.
    """
    check_number("seeds", seeds, 1)
    check_number("num_samples", num_samples)
    _start()
    functions = _functions(penalties, metrics, baselines, head)
    several = configs if isinstance(configs, list | tuple) else [configs]
    settled = [_settle(data, config, fields, functions, vintages) for config in several]
    handed, first = settled[0]
    axes = [f"{key}={','.join(map(json.dumps, _values(key, given)))}" for key, given in _items("grid", grid)]
    if space is not None:
        space = as_json(space, "space")
        check_space(space, "space")
    members = make_plan(
        [config for _, config in settled],
        grid=axes,
        space=space,
        num_samples=num_samples,
        num_seeds=seeds,
    )
    flags = _flags(resume, overwrite, quiet, functions, track)
    place = _place(directory, quiet)
    _sweep(members, _loaded(handed, first), place, conclude, flags)
    return Sweep(place, functions)


def backtest(
    config: Given = None,
    data: Table = None,
    *,
    first_test: int | str,
    last_test: int | str | None = None,
    train_years: int = TRAIN_YEARS,
    val_years: int = VAL_YEARS,
    test_years: int = TEST_YEARS,
    train_months: int | None = None,
    val_months: int | None = None,
    test_months: int | None = None,
    stride_months: int | None = None,
    train_every: int = 1,
    expanding: bool = False,
    warm_start: bool = False,
    refit: bool = False,
    seeds: int = 1,
    directory: str | Path | None = None,
    penalties: Own | None = None,
    metrics: Own | None = None,
    baselines: Own | None = None,
    head: Callable[..., Any] | None = None,
    vintages: Mapping[str, Table] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    track: Sequence[str] = (),
    **fields: Any,
) -> Backtest:
    """Trains anew for every test year, quarter or month, and judges the forecasts of all together.

    Args:
      config, data, seeds, directory, penalties and what follows: see `fit`.
      first_test: year (2006) or month ("2006-04") in which the first test begins.
      last_test: year or month in which the last test begins; None takes the last one that the data has whole.
      train_years, val_years, test_years: years that a training learns from, that choose its epoch, that it
        forecasts; train_months, val_months, test_months: months in place of these.
      stride_months: months from one test to the next; None for the test's length, so that they join up.
      train_every: number of tests that one training forecasts before the next training.
      expanding: trains on all rows before, from the first fold's on.
      warm_start: starts each fold from the best parameters of the fold before, seed by seed.
      refit: trains each fold once more, with its validation rows, for its best epoch, in DIRECTORY-refit.

    Raises:
      UserError: see the message.
    """
    lengths = {"train_years": train_years, "val_years": val_years, "test_years": test_years}
    lengths |= {"train_months": train_months, "val_months": val_months, "test_months": test_months}
    lengths |= {"stride_months": stride_months, "train_every": train_every}
    _check_counts(seeds=seeds, **lengths)
    folds(first_test, first_test if last_test is None else last_test, **lengths)  # before data are read
    _start()
    functions = _functions(penalties, metrics, baselines, head)
    handed, config = _settle(data, config, fields, functions, vintages)
    panel = _loaded(handed, config) or load_panel(config.data)
    last_test = last_test or last_whole(panel.frame.index, test_years, test_months)
    dates = folds(first_test, last_test, **lengths, expanding=expanding)
    members, flags = make_plan([config], num_seeds=seeds), _flags(resume, overwrite, quiet, functions, track)
    return _walk_forward(members, dates, lengths, panel, _place(directory, quiet), warm_start, refit, flags)


def _check_counts(**counts: int | None) -> None:
    """Refuses what is no whole number of at least 1, or None, as a UserError."""
    for name, value in counts.items():
        if value is not None:
            check_number(name, value, 1)


def _walk_forward(
    members: Sequence[Member],
    dates: Sequence[SplitDates],
    lengths: Mapping[str, int | None],
    panel: Panel,
    place: Path,
    warm_start: bool,
    refit: bool,
    flags: Mapping[str, Any],
) -> Backtest:
    """Trains the members of all folds, and where it is asked for those of their refits."""
    test_months = lengths["test_months"] or YEAR * lengths["test_years"]
    members = with_folds(members, dates, place if warm_start else None, test_months)
    if refit:
        check_free(place, **flags)
    prepared = _sweep(members, panel, place, walk_results.conclude, flags)
    return Backtest(refit_folds(place, prepared, panel, **flags) if refit else place)


def search(
    data: Table = None,
    config: Given = None,
    *,
    space: Mapping[str, Any],
    trials: int,
    seeds: int = 3,
    sampler: str = "tpe",
    pruner: str = "median",
    hours: float | None = None,
    directory: str | Path | None = None,
    penalties: Own | None = None,
    metrics: Own | None = None,
    baselines: Own | None = None,
    head: Callable[..., Any] | None = None,
    vintages: Mapping[str, Table] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    track: Sequence[str] = (),
    **fields: Any,
) -> Search:
    """Searches a space of settings for the lowest pinball loss of the validation rows: `tftjax tune`.

    Args:
      data: see `fit`.
      config: see `fit`.
      space: ranges by dotted key, as in a file for `--space`.
      trials: trials of the whole search, at most.
      seeds: number of seeds of each trial, which is judged by their mean.
      sampler: "tpe", "random" or "grid".
      pruner: "median", "hyperband" or "none".
      hours: no trial begins later than that.
      resume: goes on with the search in the directory.
      directory, penalties, metrics, baselines, head, vintages: see `fit`.
      overwrite, quiet, track, fields: see `fit`.

    Returns:
      The search; `fit(data, search.best)` trains the best config.

    Raises:
      UserError: see the message.
    """
    for name, value in (("trials", trials), ("seeds", seeds)):
        check_number(name, value, 1)
    _start()
    functions = _functions(penalties, metrics, baselines, head)
    handed, config = _settle(data, config, fields, functions, vintages)
    space = as_json(space, "space")
    check_space(space, "space")
    place = _place(directory, quiet)
    searched = searches.Search(config, space, seeds, sampler, pruner)
    flags = _flags(resume, overwrite, quiet, functions, track)
    panel = _loaded(handed, config)
    hours = None if hours is None else float(hours)
    tune(searched, place, trials=trials, hours=hours, panel=panel, **flags)
    return Search(place)


def load(
    directory: str | Path,
    *,
    penalties: Own | None = None,
    metrics: Own | None = None,
    baselines: Own | None = None,
    head: Callable[..., Any] | None = None,
) -> Run | Sweep | Backtest | Search:
    """Opens what was trained, by Python or by a command.

    Args:
      directory: folder of a run, a sweep, its mean of several seeds, a walk-forward, or a search.
      penalties, metrics, baselines, head: functions that a run was made with; it opens without them.

    Raises:
      UserError: neither of these, or damaged.
    """
    _start()
    place, functions = Path(directory), _functions(penalties, metrics, baselines, head)
    if not RunDirectory(place).config.is_file() and (sweep := sweep_of(place)) is not None:
        return Sweep(sweep.path, functions).run(place.name)
    if SearchDirectory(place).settings.is_file():
        return Search(place)
    kind = kind_of(place)
    if kind == "run":
        return Run(place, (runs.open_run(place, functions=functions),))
    if kind == "sweep" and runs.read_final(place) is not None:
        return Run(place, tuple(open_runs(place, None, functions)))
    if kind == "sweep":
        return Sweep(place, functions)
    if any(functions):
        raise UserError(
            f"{place}: a walk-forward, whose tables are made with the functions of its training. Leave"
            " functions out."
        )
    return Backtest(place)


def _flags(
    resume: bool, overwrite: bool, quiet: bool, functions: Functions, track: Sequence[str]
) -> dict[str, Any]:
    """What all trainings take alike."""
    trackers = (track,) if isinstance(track, str) else tuple(track)
    flags = {"resume": resume, "overwrite": overwrite, "quiet": quiet}
    return flags | {"functions": functions, "track": trackers}


def _functions(
    penalties: Own | None, metrics: Own | None, baselines: Own | None, head: Callable[..., Any] | None
) -> Functions:
    heads = {} if head is None else {getattr(head, "__name__", type(head).__name__): head}
    given = {"penalties": penalties, "metrics": metrics, "baselines": baselines}
    return Functions(**{kind: dict(_items(kind, group)) for kind, group in given.items()}, head=heads)


def _items(name: str, given: Any) -> list[tuple[str, Any]]:
    """The items of a dict, none of None."""
    if given is not None and not isinstance(given, Mapping):
        raise UserError(f"{name}: found {given!r:.80}, expected a dict, with names as its keys.")
    return list((given or {}).items())


def _values(key: str, given: Any) -> list[Any]:
    """The values of an axis of a grid, as JSON holds them."""
    values = as_json(given, key)
    if not isinstance(values, list):
        raise UserError(f"grid: {key}: found {given!r:.80}, expected a list of values, such as [0, 0.1].")
    return values


class _Handed(NamedTuple):
    """What was handed in: a frame or a panel, if any, and vintages by name."""

    frame: pd.DataFrame | None
    panel: Panel | None
    vintages: Vintages


def _settle(
    data: Table, config: Given, fields: Mapping[str, Any], functions: Functions, vintages: Any
) -> tuple[_Handed, Config]:
    """What was handed in, and the config, which has a series for each of the vintages."""
    if isinstance(data, Config | dict) or (isinstance(data, str | Path) and Path(data).suffix == ".json"):
        raise UserError(f"data: found a config ({data!r:.80}), expected a table. Give it as config=.")
    known, frame, panel, dataset = frames_of(vintages), None, None, {}
    if isinstance(data, str | Path):
        dataset = {"dataset": str(data)}
    elif isinstance(data, Panel):
        _check_panel(data)
        check_no_vintages(known, "a panel")
        panel, dataset = data, {"data.dataset": FRAME}
    elif data is not None:
        frame = to_pandas(data)
    config = make_config(config, {**dataset, **fields}, functions, frame)
    named = {name: {} for name in known} | config.model_dump(mode="json")["data"]["series"]
    if len(named) > len(config.data.series):
        config = make_config(config, {"data.series": named}, functions, frame)
    return _Handed(frame, panel, known), config


def _check_panel(panel: Panel) -> None:
    """Refuses a panel that was made by hand, with a row that a table's checks would not let through."""
    missing = panel.frame[panel.target].isna()
    if missing.any():
        day = panel.frame.index[missing.to_numpy()][0].date()
        raise UserError(
            f"panel, row of {day}, column {panel.target!r}: found no value, expected a return in every row."
            " Fill it, or drop the row."
        )


def _loaded(handed: _Handed, config: Config) -> Panel | None:
    """The panel of what was handed in; None if the config names the data."""
    if handed.panel is not None:
        return use_panel(handed.panel, config.data, "the panel that was handed in")
    if handed.frame is None and not handed.vintages:
        return None
    return load_panel(config.data, handed.frame, handed.vintages)


def _sweep(
    members: Sequence[Member],
    panel: Panel | None,
    place: Path,
    ending: Callable[[Trained], str],
    flags: Mapping[str, Any],
) -> dict[str, Data]:
    data = load_data(members, mixed_data=False, panel=panel)
    if members[0].fold:
        days = {name: values.panel.frame.index for name, values in data.items()}
        for message in check_history(members, days):
            log.warning(message)
    sweep(members, data, place, ending, **flags)
    return data


def _place(directory: str | Path | None, quiet: bool) -> Path:
    """The directory; without one, a temporary folder that is removed when Python ends, which is said."""
    if directory is not None:
        return Path(directory)
    folder = Path(tempfile.mkdtemp(prefix="tftjax-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if not quiet:
        print(
            "no directory= was given: what is trained lies in a temporary folder until Python ends;"
            " .save('runs/NAME') of the result keeps it"
        )
    return folder / "run"


@functools.cache
def _start() -> None:
    """Sets the backend up, once; says what it costs if jax has started before."""
    drop_absent_backend()
    runtime.configure()
    cores, count = runtime.available_cores(), jax.local_device_count()
    if jax.default_backend() == "cpu" and count < cores:
        log.warning(
            f"jax had started before tftjax, with {count} device on {cores} cores: a training takes up to"
            f" {cores / count:g} times as long. Call tftjax before any other use of jax, or start Python with"
            f" XLA_FLAGS=--xla_force_host_platform_device_count={cores}."
        )
