"""A run from its config to its evaluation."""

import logging
import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tftjax import runtime
from tftjax.config.functions import EVERY_KIND, IN_TRAINING, NO_FUNCTIONS, Functions, call, check_at_hand
from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import Config, changed_keys, from_dict
from tftjax.config.train import TrainConfig
from tftjax.data.checks import check_data, with_own_spread
from tftjax.data.encoding import encoding_from_json
from tftjax.data.loading import check_made_like, load_panel
from tftjax.data.newest import newest_rows
from tftjax.data.panel import Panel
from tftjax.data.prepared import Data, prepare, target_days
from tftjax.errors import UserError, both
from tftjax.evaluate.baselines import BASELINES
from tftjax.evaluate.evaluation import evaluate
from tftjax.evaluate.formatting import counted
from tftjax.evaluate.metrics import METRICS
from tftjax.evaluate.tables import wrapped
from tftjax.evaluate.verdict import read_verdict, summary
from tftjax.files import check_picture, write_json
from tftjax.model.parameters import control_vectors
from tftjax.storage import checkpoint, runs
from tftjax.storage.directories import RunDirectory, SweepDirectory, sweep_of
from tftjax.storage.runs import Ended
from tftjax.train import monitor, pictures, progress, warm_start
from tftjax.train.engine import BatchEngine, MembersEngine, Training
from tftjax.train.learning_rates import RangeTest, range_test
from tftjax.train.loop import Diverged, Group, Round, train_members
from tftjax.train.losses import PENALTIES
from tftjax.train.step import make_program
from tftjax.train.tracking import Tracking, check_trackers, kept_files

log = logging.getLogger(__name__)

OWN_SPREAD = "the train target's own spread, as no penalty has a weight"


# Names that a function that is handed in cannot have: of a built-in one, or of other parts of metrics.json.
TAKEN = {
    "penalties": tuple(PENALTIES),
    "metrics": (*METRICS, "baselines", "tests", "trading", "quality", "quality_random", "regimes"),
    "baselines": (*BASELINES, "model"),
    "head": (),
}


def check_functions(config: Config, functions: Functions, kinds: tuple[str, ...] = EVERY_KIND) -> None:
    """Refuses functions that are not those of the config, or that a compiled program cannot hold.

    Args:
      kinds: kinds of which every function of the config is needed.

    Raises:
      UserError: names the function, and what is wrong with it.
    """
    check_at_hand(config.functions, functions, kinds)
    for kind, group in functions._asdict().items():
        for name in group:
            if name in TAKEN[kind]:
                raise UserError(f"{kind}: {name!r} is taken by one that is built in. Choose another name.")
    unknown = [name for name in config.loss.own_weights if name not in functions.penalties]
    if unknown:
        found = ", ".join(functions.penalties) or "none"
        raise UserError(
            f"loss.own_weights: {unknown[0]!r} is no penalty that was handed in (those are: {found}). Correct"
            " the name, or hand in the function: tftjax.fit(penalties={...})."
        )
    model = config.model
    quantiles = model.quantiles
    sizes = config.train.batch_size, model.prediction_length, len(quantiles)
    values = hyperparameters(config)
    for name, penalty in functions.penalties.items():
        _check_traced(
            "penalties", name, lambda f, p=penalty: p(f, quantiles, values), sizes, (), "one number"
        )
    for name, head in functions.head.items():
        raw = sizes[::-1]
        _check_traced("head", name, lambda f, h=head: h(f, quantiles), raw, raw, "quantiles, steps, windows")


def _check_traced(
    kind: str,
    name: str,
    function: Callable[[Any], Any],
    given: tuple[int, ...],
    expected: tuple[int, ...],
    words: str,
) -> None:
    """Traces a function of one float32 array and checks the shape that it returns."""
    where = f"{kind}: {name!r}"

    def traced(forecast: Any) -> Any:
        try:
            return function(forecast)
        except jax.errors.JAXTypeError as error:
            first = str(error).partition("\n")[0]
            raise UserError(
                f"{where} needs a value in Python that is known only while the program runs ({first}). Write"
                " branches with jnp.where or jax.lax.cond, and numbers with jax.numpy."
            ) from error

    result = call(kind, name, jax.eval_shape, traced, jax.ShapeDtypeStruct(given, np.float32))
    if getattr(result, "shape", None) != expected:
        found = getattr(result, "shape", type(result).__name__)
        raise UserError(f"{where} returned shape {found}, expected {expected}: {words}.")


def check_parameters(config: Config, data: Data, folder: Path, functions: Functions = NO_FUNCTIONS) -> None:
    """Refuses settings that do not fit the model's parameters, before anything is made or replaced.

    Args:
      folder: directory of the run or its sweep.
    Raises:
      UserError: a pattern that matches no parameter, or a run to start from that does not fit or lies in
        the folder.
    """
    train, source = config.train, config.train.init_from
    if not (train.freeze or train.lr_multipliers or train.gradient_scales or source):
        return
    layout = make_program(config, data, runtime.device_mesh(1), functions).layout
    control_vectors(layout, train)
    if source is not None:
        if Path(source).resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"train.init_from: {source} lies in {folder}, which this one makes. Use another"
                f" {both('--name')}."
            )
        warm_start.read_start(config, data, layout)


def in_sweep(directory: Path) -> list[Path] | None:
    """Folders of a sweep's joint checkpoints that may hold the run's state; None if it is no member."""
    sweep = sweep_of(directory)
    return None if sweep is None else sorted(sweep.checkpoints.glob("*"))


def each(*listeners: Callable[[Round], Any]) -> Callable[[Round], None]:
    """One listener to the rounds of the loop, of several."""

    def listen(round_: Round) -> None:
        for listener in listeners:
            listener(round_)

    return listen


def fit(
    config: Config,
    data: Data,
    directory: Path,
    quiet: bool = False,
    functions: Functions = NO_FUNCTIONS,
    track: Callable[[Round], Any] = lambda round_: None,
) -> Ended:
    """Trains a run until it has ended; goes on from the newest whole checkpoint.

    Args:
      directory: the run's directory, kept by `runs.claim`.
      quiet: whether to show no progress.
      track: takes each round too.
    Raises:
      Diverged: a loss is not finite; the last good epoch was saved.
      UserError, KeyboardInterrupt: see `train_members`.
    """
    ended: dict[str, Ended] = {}
    member_of = in_sweep(directory)
    group = Group([Training(config.name, config, data, directory, functions)], restored=member_of or ())
    engine = BatchEngine if member_of is None else MembersEngine  # a member ends in the bits of its sweep
    finished = max(checkpoint.epochs(RunDirectory(directory).checkpoints), default=0)
    before = monitor.read_history(directory)[:finished]
    best = min((record["val/loss"] for record in before if "val/loss" in record), default=float("inf"))
    view = progress.RunView(config, finished, best)
    with progress.display(view, quiet) as show:
        train_members(group, engine, ended, each(show, track))
    outcome = ended[config.name]
    if outcome.status == "diverged":
        raise Diverged(outcome.message)
    return outcome


def train(
    config: Config,
    directory: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    panel: Panel | None = None,
    functions: Functions = NO_FUNCTIONS,
    track: Sequence[str] = (),
) -> dict[str, dict]:
    """Trains a config into a run directory and evaluates it.

    Args:
      resume: go on with the run in the directory, or begin it.
      overwrite: replace the run in the directory.
      quiet: print nothing but the messages that need action.
      panel: the data; None loads what the config names.
      functions: functions that were handed in, which the config records.
      track: names in `TRACKERS`.
    Returns:
      The metrics of `evaluate`.
    Raises:
      UserError: see the parts; nothing that a user made is lost.
    """
    if config.data.final_fit:
        raise UserError(
            "data.final_fit: leaves no rows to choose an epoch by. Leave it out, and make a final fit after"
            f" a run has chosen one ({both('--final')})."
        )
    check_trackers(track)
    check_functions(config, functions)
    saved = checkpoint.restore_latest(RunDirectory(directory).checkpoints) if resume else None
    # Fitted once: another number of threads or version of a library would fit another scale.
    encoding = None if saved is None else encoding_from_json(saved.metadata["encoding"])
    data = prepare(load_panel(config.data) if panel is None else panel, config, encoding)
    check_data(config, data)
    given, config = config, with_own_spread(config, data)
    if saved is None:
        check_parameters(config, data, directory, functions)

    with runs.claim(directory, config, data.whole, resume=resume, overwrite=overwrite):
        if not quiet:
            _introduce(config, data, directory)
            if config != given:
                print(f"loss.target_std {config.loss.target_std:g}: {OWN_SPREAD}")
        with Tracking(track, RunDirectory(directory), config.name, alone=True) as tracking:
            update = partial(tracking.update, configs=lambda _: config)
            outcome = fit(config, data, directory, quiet, functions, update)
            run = runs.open_run(directory, data, functions)  # a large panel is not held twice
            evaluated = evaluate(run)
            pictures.draw(run, evaluated)
            tracking.end(config.name, kept_files(RunDirectory(directory)))
    if not quiet:
        folder = RunDirectory(directory).evaluation.path
        epoch_text = _epoch_text(outcome, config.train)
        print(f"\n{summary(evaluated.metrics, [epoch_text, f'evaluation in {folder}'])}")
    return evaluated.metrics


def find_learning_rate(config: Config, path: Path, *, overwrite: bool = False) -> None:
    """Prints the learning rate that a range test suggests, and draws its losses.

    Args:
      path: the picture.
      overwrite: whether a file there is replaced.
    Raises:
      UserError: there is one, its name is no PNG's, or the data do not fit the config.
    """
    from tftjax.plots import theme, training

    check_picture(path, overwrite=overwrite)
    tested = try_learning_rates(config)
    theme.save(path, training.rates_drawing(*tested, config.name))
    print(
        f"the mean loss of {len(tested.losses)} seeds is lowest at a rate of {tested.lowest:.2g};"
        f" to take, a tenth of it:\n  --set train.learning_rate={tested.suggested:g}"
        f"   (now {config.train.learning_rate:g})\nwrote {path}"
    )


def try_learning_rates(config: Config, panel: Panel | None = None) -> RangeTest:
    """The range test of a config's learning rate; see `range_test`.

    Args:
      panel: the data; None loads what the config names.
    Raises:
      UserError: the data do not fit the config.
    """
    data = prepare(load_panel(config.data) if panel is None else panel, config)
    check_data(config, data)
    return range_test(with_own_spread(config, data), data)


def fit_all_rows(config: Config, directory: Path, panel: Panel) -> runs.Run:
    """Trains a config on all rows for all its epochs; nothing validates, and nothing is judged.

    For callers that hold rows back themselves; of others, `train` chooses the epoch, and `refit` follows.

    Raises:
      UserError: see `train`.
    """
    raw = config.model_dump(mode="json")
    config = from_dict(raw | {"data": raw["data"] | {"final_fit": True}}, "the config")
    data = prepare(panel, config)
    check_data(config, data)
    config = with_own_spread(config, data)
    check_parameters(config, data, directory)
    with runs.claim(directory, config, data.whole):
        fit(config, data, directory, quiet=True)
        return runs.open_run(directory, data)


def _epoch_text(outcome: Ended, train: TrainConfig) -> str:
    """The best epoch in words, and how to go on where it is the last of all epochs."""
    best = f"best epoch {outcome.best_epoch}"
    if not outcome.may_go_on or train.keep == "last":
        waited = counted(outcome.epoch - outcome.best_epoch, "epoch")
        why = f": stopped after {waited} without a better validation loss"
        return f"{best} of {outcome.epoch}{why if outcome.status == 'stopped early' else ''}"
    return (
        f"{best} is the last: validation was still falling; to go on: --resume"
        f" --set train.max_epochs={(more := 2 * outcome.epoch)}, in Python resume=True, max_epochs={more}"
    )


def refit(
    source: runs.Run,
    directory: Path,
    *,
    panel: Panel | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    within: SweepDirectory | None = None,
    track: Sequence[str] = (),
) -> runs.Run:
    """Trains a run's config anew on all rows, for the epochs that its validation chose: for daily use.

    Nothing validates and nothing is tested: the run that it comes from is what can be judged. More rows make
    an epoch of more steps. What validation chose is how far the optimizer went, so the number of epochs is
    scaled to the optimizer steps of the chosen epoch; the epochs of a schedule are scaled alike. Scalers and
    categories are fitted to all rows.

    Args:
      source: a run that has ended and is evaluated.
      directory: the final fit's directory; its name becomes the name in the config.
      panel: the rows; None takes those of the run's data set today, see `newest_rows`.
      resume: go on with the final fit in the directory, or begin it.
      overwrite: replace the final fit in the directory.
      quiet: print nothing but the messages that need action.
      within: the sweep of final fits that the directory lies in.
      track: names in `TRACKERS`.
    Raises:
      UserError: the run is itself a final fit or is not evaluated, the directory is the run's or in another
        sweep, or the panel has other columns than the run's; or see `train`.
    """
    check_trackers(track)
    runs.check_judged(source.directory)
    sweep, allowed = sweep_of(directory), within and SweepDirectory(within.path.resolve())
    if directory.resolve() == source.directory.resolve() or sweep != allowed:
        raise UserError(
            f"{directory}: the run itself, or inside of a sweep. Give a final fit a directory of its own."
        )
    check_functions(source.config, source.functions, IN_TRAINING)
    if panel is None:
        panel, words = newest_rows(source.data.whole, source.config.data)
        log.info(f"data: {words}, to {panel.frame.index.max().date()}")
    else:
        check_made_like(panel, source.data.whole, source.config.data.dataset)
    config, data = _on_all_rows(source, directory.name, panel)
    check_data(config, data)
    if not (resume and checkpoint.epochs(RunDirectory(directory).checkpoints)):
        check_parameters(config, data, directory, source.functions)
    final = _record(source, directory, config, data)
    with runs.claim(directory, config, data.whole, resume=resume, overwrite=overwrite):
        write_json(RunDirectory(directory).final, final._asdict())
        if not quiet:
            _introduce(config, data, directory)
        with Tracking(track, RunDirectory(directory), config.name, alone=True) as tracking:
            update = partial(tracking.update, configs=lambda _: config)
            fit(config, data, directory, quiet, source.functions, update)
        run = runs.open_run(directory, data, source.functions)
    if not quiet:
        print(_final_text(final, source.config.name))
    return run


def _final_text(final: runs.Final, name: str) -> str:
    """What a final fit is, by the name of the run that it comes from."""
    return (
        f"\nfinal fit to {final.trained_until}: {counted(final.epochs, 'epoch')}, the steps of epoch"
        f" {final.chosen_epoch} of {name}, chosen to {final.chosen_until}\n"
        f"Test rows of {name}: {final.verdict.partition(';')[0]}"
    )


def _record(source: runs.Run, directory: Path, config: Config, data: Data) -> runs.Final:
    """The record of the run that a final fit comes from, for its directory."""
    metrics, remedy = RunDirectory(source.directory).evaluation.metrics, f"tftjax evaluate {source.directory}"
    if not metrics.is_file():
        raise UserError(
            f"{metrics}: missing, so the run has not ended or is not evaluated. Go on with it"
            f" ({both('--resume')}), or evaluate it: {remedy}"
        )
    return runs.Final(
        source=runs.path_to_source(source.directory, directory),
        chosen_epoch=source.best_epoch,
        epochs=config.train.last_epoch,
        trained_until=str(max(target_days(data.panel, data.blocks, "train"))),
        chosen_until=str(max(target_days(source.data.panel, source.data.blocks, "val"))),
        verdict=read_verdict(metrics, remedy),
        identity=runs.identity(source),
    )


def _on_all_rows(source: runs.Run, name: str, panel: Panel) -> tuple[Config, Data]:
    """The config and the data of a run's final fit."""
    raw = source.config.model_dump(mode="json")
    raw |= {"name": name, "data": raw["data"] | {"final_fit": True}}
    data = prepare(panel, from_dict(raw, f"the final fit of {source.directory}"))
    windows = len(source.data.starts["train"]), len(data.starts["train"])
    raw["train"] |= chosen_steps(source.config.train, source.directory, source.best_epoch, windows)
    return from_dict(raw, f"the final fit of {source.directory}"), data


def chosen_steps(train: TrainConfig, directory: Path, best_epoch: int, windows: tuple[int, int]) -> dict:
    """Settings of `train` with which more rows get the optimizer steps that a run's validation chose.

    Args:
      train: the run's settings.
      directory: its directory; its metrics say whether the averaged parameters were kept.
      best_epoch: the epoch that validation chose.
      windows: numbers of train windows, the run's and those of more rows.
    """
    # Fewer windows than a batch are refused by `check_data`.
    steps, steps_now = (max(count // train.batch_size, 1) for count in windows)
    ratio = steps / steps_now
    epochs = max(1, round(best_epoch * ratio))
    if train.max_steps is not None:
        epochs = min(epochs, math.ceil(train.max_steps / steps_now))
    last = max(epochs, round(train.max_epochs * ratio))
    best = [record for record in monitor.read_history(directory) if record["epoch"] == best_epoch]
    raw = any(record.get("val/averaged") == 0 for record in best)
    return {
        "stop_after": epochs,
        "max_epochs": last,
        "warmup_epochs": min(round(train.warmup_epochs * ratio), last - 1),
        "ema_decay": 0.0 if raw else train.ema_decay,
    }


def check_same_settings(config: Config, run: runs.Run, given: Collection[str]) -> None:
    """Refuses settings that were given and are not the run's; says in which others a config differs from it.

    What has no part in the run's parameters may differ.

    Args:
      config: the config as it is now, with what was given.
      given: dotted keys of settings, or sections, that were given beside the config's file.

    Raises:
      UserError: names the settings that contradict the run's.
    """
    changed = {
        key: f"\n  {key}: the run has {old!r}, now {new!r}"
        for key, old, new in changed_keys(run.config, with_own_spread(config, run.data))
        if key not in runs.RAISABLE and not runs.has_no_part(key, old, new)
    }
    # An override may name a part of a section that is compared whole.
    refused = [
        words
        for key, words in changed.items()
        if any(f"{name}.".startswith(f"{key}.") or f"{key}.".startswith(f"{name}.") for name in given)
    ]
    if refused:
        raise UserError(
            f"{run.directory}: was trained with other settings:{''.join(refused)}\n"
            "Leave them out, as a final fit takes the run's, or train with them first."
        )
    if changed:
        log.warning(
            f"{run.directory} was trained with other settings than the config has; the run's are taken:"
            f"{''.join(changed.values())}"
        )


def _introduce(config: Config, data: Data, directory: Path) -> None:
    dates = data.panel.frame.index
    title = f"{config.name}: {config.notes}" if config.notes else config.name
    print(f"{wrapped(title)}\nrun directory {directory}")
    for message in data.panel.messages:
        print(wrapped(f"data: {message}"))
    for split, starts in data.starts.items():
        if not len(starts):  # of a final fit
            continue
        targets = starts + config.model.encoder_length
        first, last = dates[targets].min(), dates[targets + config.model.prediction_length - 1].max()
        print(f"{split:5} {len(starts):6} windows, target rows {first.date()} to {last.date()}")
