"""Train one run, from config to evaluation: `python -m tftjax.train configs/balanced_01.json`."""

import json
import math
import sys
import time
from pathlib import Path

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from tftjax import files, runtime
from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import Config
from tftjax.data.checks import check_data
from tftjax.data.loading import load_panel
from tftjax.data.prepared import Data, prepare
from tftjax.errors import UserError
from tftjax.evaluate.evaluation import evaluate
from tftjax.evaluate.verdict import summary
from tftjax.model.parameters import control_vectors
from tftjax.storage import checkpoint, runs
from tftjax.storage.directories import RunDirectory
from tftjax.train import monitor, progress, warm_start
from tftjax.train.step import (
    Program,
    TrainState,
    compile_epoch,
    init_state,
    make_program,
    state_from_arrays,
    state_to_arrays,
    train_data,
)


def check_parameters(config: Config, data: Data, folder: Path) -> None:
    """Refuses settings that do not fit the model's parameters, before anything is made or replaced.

    Args:
      folder: what the run, or its sweep, is made in.
    Raises:
      UserError: a pattern that matches no parameter, or a run to start from that does not fit or lies in
        that folder.
    """
    train, source = config.train, config.train.init_from
    if not (train.freeze or train.lr_multipliers or train.gradient_scales or source):
        return
    layout = make_program(config, data, runtime.device_mesh(1)).layout
    control_vectors(layout, train)
    if source is not None:
        if Path(source).resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"train.init_from: {source} lies in {folder}, which this one makes. Use another --name."
            )
        warm_start.read_start(config, data, layout, say=lambda message: None)


def first_state(config: Config, data: Data, program: Program, directory: Path, say) -> TrainState:
    """Returns the state before the first step: drawn by the seed, or of the run `train.init_from`.

    Args:
      config: of this run; its seed and where it starts from may not be the program's.
      directory: of this run; init.json is written there if it starts from another one.
    """
    state = init_state(program, hyperparameters(config), config.train.seed)
    if config.train.init_from is None:
        return state
    start = warm_start.read_start(config, data, program.layout, say)
    files.write_json(RunDirectory(directory).init, start.to_json())
    say(f"{config.name} {start}")
    params = warm_start.start_parameters(state.params, start, program.layout)
    return state._replace(params=params, best_params=params.copy())


def is_finished(state: TrainState, config: Config) -> bool:
    """Whether all epochs are done, or `patience` of them brought no better validation loss."""
    epoch, best_epoch = int(state.epoch), int(state.best_epoch)
    return epoch >= config.train.max_epochs or epoch - best_epoch >= config.train.patience


class Diverged(UserError):
    """A loss that is not finite."""


def epoch_record(
    state: TrainState, metrics: dict, seconds: float, config: Config, num_val_windows: int
) -> dict:
    """Makes an epoch's line of metrics.jsonl: plain numbers, and `warnings`, by name what is worth one.

    Raises:
      Diverged: a loss, or another metric, is not finite; names the step.
    """
    epoch = int(state.epoch)
    steps = int(state.step) // epoch
    losses = np.asarray(metrics["losses"])[:steps]
    record = {name: float(value) for name, value in sorted(metrics.items()) if name != "losses"}
    bad = np.flatnonzero(~np.isfinite(losses))
    wrong = [name for name, value in record.items() if not math.isfinite(value)]
    if bad.size or wrong:
        last_step = epoch * steps
        if bad.size:
            step = last_step - steps + int(bad[0]) + 1
            found = f"the loss became {losses[bad[0]]} at step {step}"
        else:
            name = "val/loss" if "val/loss" in wrong else wrong[0]
            found = f"{name} became {record[name]} after step {last_step}"
        kept = f"the last good checkpoint is kept, of epoch {epoch - 1}" if epoch > 1 else "no checkpoint yet"
        raise Diverged(
            f"{found} (epoch {epoch}); {kept}. Under another --name, try a lower train.learning_rate "
            f"(now {config.train.learning_rate:g}) or train.max_grad_norm "
            f"(now {config.train.max_grad_norm:g})."
        )
    record["output_to_encoder_gradient"] = monitor.gradient_ratio(record)
    num_forecasts = num_val_windows * config.model.prediction_length
    windows = steps * config.train.batch_size
    return {
        "epoch": epoch,
        "improved": int(state.best_epoch) == epoch,
        **record,
        "warnings": monitor.warnings(record, monitor.Watched(config.loss.target_std, num_forecasts)),
        "seconds": seconds,
        "windows_per_s": windows / seconds,
    }


def fit(config: Config, data: Data, directory: Path, say, show) -> None:
    """Trains until finished, writing metrics and checkpoints; goes on from the newest whole checkpoint.

    Args:
      directory: a run directory, of `runs.claim`.
      say: called with messages.
      show: a display of `progress`.
    Raises:
      Diverged: after the last good epoch was saved.
      UserError: a disk that cannot be written to; checkpoints stay.
      KeyboardInterrupt: after the last finished epoch was saved.
    """
    mesh = runtime.device_mesh(config.train.batch_size)
    program = make_program(config, data, mesh)
    num_steps = len(data.starts["train"]) // config.train.batch_size
    mesh = runtime.mesh_for_epoch(mesh, program.layout.size, num_steps)
    program = program._replace(mesh=mesh)
    rates = hyperparameters(config)
    saved = checkpoint.restore_latest(RunDirectory(directory).checkpoints, say)
    if saved is None:
        state = first_state(config, data, program, directory, say)
    else:
        state = state_from_arrays(saved.arrays, init_state(program, rates, config.train.seed))
        say(f"going on after epoch {int(state.epoch)}")
        if saved.metadata["devices"] != mesh.size:
            say(
                f"begun on {saved.metadata['devices']} devices, going on with {mesh.size}: sums are rounded "
                "differently, so the result will not be the same to the last bit"
            )
    metrics_file = RunDirectory(directory).metrics
    truncate_metrics(metrics_file, int(state.epoch))
    everywhere = NamedSharding(mesh, PartitionSpec())
    rates, arrays = jax.device_put((jax.tree.map(np.float32, rates), train_data(data)), everywhere)
    run_epoch = compile_epoch(program)
    metadata = runs.checkpoint_metadata(config, data) | {"devices": mesh.size}

    with show(config.name, config.train.max_epochs, int(state.epoch)) as display:
        saved_epoch = int(state.epoch)
        try:
            while not is_finished(state, config):
                started = time.perf_counter()
                new_state, metrics = jax.device_get(
                    run_epoch(jax.device_put(state, everywhere), rates, arrays)
                )
                seconds = time.perf_counter() - started
                record = epoch_record(new_state, metrics, seconds, config, len(data.starts["val"]))
                append_line(metrics_file, record)
                state = new_state  # after its line: an interruption must not leave a state without one
                epoch = int(state.epoch)
                if epoch % config.train.checkpoint_every == 0 or is_finished(state, config):
                    save_state(directory, state, program, metadata)
                    saved_epoch = epoch
                display.update(record)
        except (KeyboardInterrupt, Diverged):
            if int(state.epoch) > saved_epoch:
                save_state(directory, state, program, metadata)
            raise


def save_state(directory: Path, state: TrainState, program: Program, metadata: dict) -> None:
    """Writes the checkpoint of a run."""
    epoch, best_epoch = int(state.epoch), int(state.best_epoch)
    arrays = state_to_arrays(state, program.layout)
    checkpoint.save(RunDirectory(directory).checkpoints, epoch, arrays, metadata, best_epoch=best_epoch)


def append_line(path: Path, record: dict) -> None:
    """Adds an epoch's line to metrics.jsonl."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}). Free space, then --resume."
        ) from error


def truncate_metrics(path: Path, last_epoch: int) -> None:
    """Drops lines of epochs after the checkpoint, and half a line that a kill left."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["epoch"] <= last_epoch:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    files.replace_text(path, "".join(kept))


def train(
    config: Config, directory: Path, *, resume: bool = False, overwrite: bool = False, quiet: bool = False
) -> dict[str, dict]:
    """Trains a config into a run directory and evaluates it.

    Args:
      resume: go on with the run that lies there, or begin it.
      overwrite: replace the run that lies there.
      quiet: print nothing but the messages that need action.
    Returns:
      The metrics of `evaluate`.
    Raises:
      UserError: see the parts; nothing that a user made is lost.
    """
    data = prepare(load_panel(config.data), config)
    check_data(config, data)
    if not (resume and checkpoint.epochs(RunDirectory(directory).checkpoints)):
        check_parameters(config, data, directory)

    def say(message: str) -> None:
        print(message, file=sys.stderr)

    with runs.claim(directory, config, data.whole, resume=resume, overwrite=overwrite):
        if not quiet:
            _introduce(config, data, directory)
        fit(config, data, directory, say, progress.choose(quiet))
        run = runs.open_run(directory, say, data)  # a large panel is not held twice
        metrics = evaluate(run, say=say)
    if not quiet:
        folder = RunDirectory(directory).evaluation.path
        print(f"\nbest epoch {run.best_epoch}; evaluation in {folder}\n{summary(metrics)}")
    return metrics


def _introduce(config: Config, data: Data, directory: Path) -> None:
    dates = data.panel.frame.index
    print(f"{config.name}: {config.notes}\nrun directory {directory}")
    for message in data.panel.messages:
        print(f"data: {message}")
    for split, starts in data.starts.items():
        rows = [getattr(block.splits, split) for block in data.blocks]
        first = min(dates[part.start] for part in rows if part).date()
        last = max(dates[part.stop - 1] for part in rows if part).date()
        print(f"{split:5} {len(starts):6} windows, target rows {first} to {last}")
