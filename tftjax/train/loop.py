"""The training loop, of one member or of many: it alone decides, writes and shows; an engine computes.

Members are independent: each is at an epoch of its own, and what is kept between two epochs is one
`TrainState` a member, on the host. A member that has ended has the checkpoint of a run in its own directory.
What lives is saved every `train.checkpoint_every` epochs: a single member as that same checkpoint, several
as one checkpoint of all their states, which costs a fraction of many. Killed at any moment, it goes on in the
same bits.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tftjax import files
from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import Config
from tftjax.config.train import TrainConfig
from tftjax.errors import UserError, both
from tftjax.storage import checkpoint, runs
from tftjax.storage.directories import RunDirectory
from tftjax.storage.runs import Ended
from tftjax.train import monitor, warm_start
from tftjax.train.engine import Engine, OutOfMemory, Rounding, Training, stack, unstack
from tftjax.train.step import Program, TrainState, init_state, state_from_arrays, state_to_arrays

NOBODY: Mapping[str, str] = MappingProxyType({})
JOINT = 64  # members of a joint checkpoint, at most: while it is written, their states lie in memory thrice

log = logging.getLogger(__name__)


class Round(NamedTuple):
    """An epoch of all live members.

    Attributes:
      records: the lines of metrics.jsonl, by name of the member.
      seconds: the time of the epoch and of writing its results.
      live: number of members that go on.
      epochs_left: epochs of all members together, at most, those of waiting members included.
    """

    records: dict[str, dict]
    seconds: float
    live: int
    epochs_left: int


class Group(NamedTuple):
    """Members that are trained together, and their shared files.

    Attributes:
      members: members of one static config.
      label: beginning of messages; empty for a run.
      checkpoints: folder of joint checkpoints of live members, beside those that `_save` makes for more of
        them; None for a single run.
      restored: folders of joint checkpoints that may hold states of these members.
      write_ended: writes how members ended; None for a single run.
      judge: ends members after an epoch. It gets the epoch's lines of metrics.jsonl, and why members
        diverged, by name; it returns why others end, by name. None: `STOP_RULES` alone end a member.
      join: the next members, at most so many, where others have ended; of the members' static config and on
        data that one of them has. None: nobody follows.
      keep_ended: whether a member that has ended has a checkpoint in its directory.
      after: by name of a member, the member whose parameters it starts from: it begins when that has ended.
    """

    members: Sequence[Training]
    label: str = ""
    checkpoints: Path | None = None
    restored: Sequence[Path] = ()
    write_ended: Callable[[Mapping[str, Ended]], Any] | None = None
    judge: Callable[[Mapping[str, dict], Mapping[str, str]], Mapping[str, str]] | None = None
    join: Callable[[int], Sequence[Training]] | None = None
    keep_ended: bool = True
    after: Mapping[str, str] = NOBODY


# ---- Ends of members -------------------------------------------------------------------------------------


def all_epochs(state: TrainState, config: TrainConfig) -> bool:
    """Whether `train.max_epochs` are done, or `train.stop_after`."""
    return int(state.epoch) >= config.last_epoch


def all_steps(state: TrainState, config: TrainConfig) -> bool:
    """Whether `train.max_steps` are made."""
    return config.max_steps is not None and int(state.step) >= config.max_steps


def out_of_patience(state: TrainState, config: TrainConfig) -> bool:
    """Whether `train.patience` epochs brought no better validation loss."""
    return int(state.epoch) - int(state.best_epoch) >= config.patience


# By `Ended.status`; the first rule that holds counts. A loss that is not finite ends a member too, and
# `Group.judge` may.
STOP_RULES: dict[str, Callable[[TrainState, TrainConfig], bool]] = {
    "out of steps": all_steps,
    "finished": all_epochs,
    "stopped early": out_of_patience,
}


def ending(state: TrainState, config: TrainConfig) -> str | None:
    """The stop rule that ends a member; None if it goes on."""
    return next((name for name, holds in STOP_RULES.items() if holds(state, config)), None)


class Diverged(UserError):
    """A loss that is not finite."""


def epoch_record(
    state: TrainState, metrics: dict, seconds: float, config: Config, num_val_windows: int
) -> dict:
    """Makes an epoch's line of metrics.jsonl: plain numbers, and `warnings` by name.

    Raises:
      Diverged: a loss or another metric is not finite; names the step.
    """
    epoch = int(state.epoch)
    steps = int(metrics["steps"])
    losses = np.asarray(metrics["losses"])[:steps]
    record = {
        name: float(value) for name, value in sorted(metrics.items()) if name not in ("losses", "steps")
    }
    bad = np.flatnonzero(~np.isfinite(losses))
    wrong = [name for name, value in record.items() if not math.isfinite(value)]
    if bad.size or wrong:
        last_step = int(state.step)
        if bad.size:
            step = last_step - steps + int(bad[0]) + 1
            event = f"the loss became {losses[bad[0]]} at step {step}"
        else:
            name = "val/loss" if "val/loss" in wrong else wrong[0]
            event = f"{name} became {record[name]} after step {last_step}"
        kept = f"the last good checkpoint is kept, of epoch {epoch - 1}" if epoch > 1 else "no checkpoint yet"
        raise Diverged(
            f"{event} (epoch {epoch}); {kept}. Under another {both('--name')}, try a lower"
            f" train.learning_rate (now {config.train.learning_rate:g}) or train.max_grad_norm"
            f" (now {config.train.max_grad_norm:g})."
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


# ---- The loop --------------------------------------------------------------------------------------------


def train_members(
    group: Group,
    engine_type: Callable[[Sequence[Training], Rounding | None], Engine],
    ended: dict[str, Ended],
    show: Callable[[Round], Any],
) -> None:
    """Trains every member until it has ended, writing metrics and checkpoints into its directory.

    A member goes on from its newest whole checkpoint. One that diverges is frozen at its last good epoch; the
    others go on.

    Args:
      group: the members; their run directories are made and locked by the caller.
      engine_type: makes the engine, of the members and the rounding that a checkpoint names.
      ended: how members ended, by name; added to.
      show: shows a round.
    Raises:
      UserError: a disk that cannot be written to, or memory that does not suffice for half the members that
        were tried at once; the checkpoints stay.
      KeyboardInterrupt: Ctrl-C, after the last finished epochs were saved.
    """
    waiting = [member for member in group.members if member.name not in ended]
    if not waiting:
        return
    saved = _restore(group, waiting)
    begun = {one.rounding for one in saved.values()}
    engine = engine_type(group.members, min(begun, default=None))
    template = init_state(engine.program, hyperparameters(waiting[0].config), 0)
    states = {name: state_from_arrays(one.arrays, template) for name, one in saved.items()}
    _say_begun(group, states, begun, engine)
    for member in waiting:
        epoch = int(states[member.name].epoch) if member.name in states else 0
        truncate_metrics(RunDirectory(member.directory).metrics, epoch)
    restored = [member for member in waiting if member.name in states]
    _end(group, engine, restored, states, ended, save=False)
    waiting = [member for member in waiting if member.name not in ended]
    size, halved = len(_ready(group, waiting, ended)), False
    while ready := _ready(group, waiting, ended):
        chunk, rest = ready[:size], _others(waiting, ready[:size])
        try:
            size = engine.prepare(len(chunk))
            if size < len(chunk):
                if group.checkpoints is not None:
                    log.info(f"memory suffices for {size} of {len(chunk)} members at once: others follow")
                continue
            _train_chunk(group, engine, chunk, rest, states, ended, show)
        except OutOfMemory as error:
            if halved or len(chunk) == 1:
                raise UserError(
                    f"out of memory with {len(chunk)} members at once. Free memory and go on"
                    f" ({both('--resume')}), or make train.batch_size or the model smaller."
                ) from error
            size, halved = len(chunk) // 2, True
            log.warning(f"out of memory with {len(chunk)} members at once: going on with {size}")
        waiting = [member for member in (*chunk, *rest) if member.name not in ended]


def _ready(group: Group, waiting: Sequence[Training], ended: Mapping[str, Ended]) -> list[Training]:
    """The members that may begin: all but those that have ended, or start from one that has not."""
    left = [member for member in waiting if member.name not in ended]
    return [m for m in left if m.name not in group.after or group.after[m.name] in ended]


def _others(members: Sequence[Training], chosen: Sequence[Training]) -> list[Training]:
    """The members without some of them."""
    names = {member.name for member in chosen}
    return [member for member in members if member.name not in names]


def _joining(
    group: Group, rest: Sequence[Training], ended: Mapping[str, Ended], room: int
) -> Sequence[Training]:
    """Members that take the places of those that have ended, at most so many."""
    if group.join:
        return group.join(room) if room else ()
    return [member for member in _ready(group, rest, ended) if member.name in group.after][:room]


def _train_chunk(
    group: Group,
    engine: Engine,
    chunk: list[Training],
    rest: list[Training],
    states: dict[str, TrainState],
    ended: dict[str, Ended],
    show: Callable[[Round], Any],
) -> None:
    """Trains some members until each has ended; `states` and `ended` are kept up to date.

    Those that join, of the rest or by `Group.join`, are added to the chunk, which never has more live
    members than at first.
    """
    config = engine.program.config.train
    places = {member.name: place for place, member in enumerate(group.members)}
    places_of_data = {id(member.data): places[member.name] for member in group.members}
    for member in chunk:
        if member.name not in states:
            states[member.name] = first_state(member, engine.program)
    live, unsaved, size = list(chunk), 0, len(chunk)
    try:
        while live:
            started = time.perf_counter()
            results = engine.epoch(
                [states[member.name] for member in live],
                [hyperparameters(member.config) for member in live],
                [places[member.name] for member in live],
            )
            unsaved += 1  # before any state of this epoch is taken in: Ctrl-C saves what it then finds
            records = _take_in(group, engine, live, results, states, ended, time.perf_counter() - started)
            for member in live:
                if member.name in ended:
                    del states[member.name]  # the memory is the next one's
            live = [member for member in live if member.name not in ended]
            for member in _joining(group, rest, ended, size - len(live)):
                if member.name not in states:
                    states[member.name] = first_state(member, engine.program)
                places[member.name] = places_of_data[id(member.data)]
                chunk.append(member)
                live.append(member)
            rest[:] = _others(rest, live)
            if live and unsaved >= config.checkpoint_every:
                _save(group, engine, live, states, unsaved)
                unsaved = 0
            epochs_left = sum(m.config.train.last_epoch - int(states[m.name].epoch) for m in live)
            epochs_left += sum(member.name not in ended for member in rest) * config.last_epoch
            show(Round(records, time.perf_counter() - started, len(live), epochs_left))
    except KeyboardInterrupt:
        if group.write_ended:
            group.write_ended(ended)
        live = [member for member in live if member.name not in ended]
        if unsaved and live:
            _save(group, engine, live, states, unsaved)
        raise


def _take_in(group, engine, live, results, states, ended, seconds) -> dict[str, dict]:
    """Writes an epoch's lines, keeps the new states, and ends members that a rule stops or that diverged."""
    records, diverged = {}, {}
    for member, (state, metrics) in zip(live, results, strict=True):
        num_val = len(member.data.starts["val"])
        try:
            record = epoch_record(state, metrics, seconds / len(live), member.config, num_val)
        except Diverged as error:
            # Its state stays the last good one; the others have never seen it.
            diverged[member.name] = str(error)
            continue
        append_line(RunDirectory(member.directory).metrics, record)
        states[member.name] = state  # after its line: an interruption must not leave a state without one
        records[member.name] = record
    judged = group.judge(records, diverged) if group.judge else {}
    _end(group, engine, live, states, ended, diverged, judged)
    return records


def _end(
    group,
    engine,
    members,
    states,
    ended,
    diverged: Mapping[str, str] = NOBODY,
    judged: Mapping[str, str] = NOBODY,
    *,
    save: bool = True,
) -> None:
    """Adds members that diverged, or that a rule or `judge` ends, to `ended`, after their checkpoints."""
    over, reasons = {}, {**judged, **diverged}
    for member in members:
        state = states[member.name]
        status = "diverged" if member.name in diverged else ending(state, member.config.train)
        status = status or ("pruned" if member.name in judged else None)
        if status:
            message = "" if status in STOP_RULES else reasons[member.name]
            over[member.name] = Ended(status, int(state.epoch), int(state.best_epoch), message)
            if save and group.keep_ended and int(state.epoch):
                save_state(member, state, engine.program, engine.rounding)
            if status == "diverged" and group.label:
                log.warning(f"{member.name} diverged and is frozen, the others go on: {message}")
    over |= _without_start(group, {**ended, **over})
    ended |= over
    if over and group.write_ended:
        group.write_ended(ended)


def _without_start(group: Group, ended: Mapping[str, Ended]) -> dict[str, Ended]:
    """How members end that cannot begin: what they start from diverged before its first checkpoint."""
    lost = {name for name, how in ended.items() if how.status == "diverged" and not how.epoch}
    found: dict[str, Ended] = {}
    for member in group.members:  # in the order of the plan, so that a source stands before
        source = group.after.get(member.name)
        if source in lost and member.name not in ended:
            lost.add(member.name)
            found[member.name] = Ended("diverged", 0, 0, f"{source}, which it starts from, has no checkpoint")
    return found


def first_state(member: Training, program: Program) -> TrainState:
    """The state before the first step, drawn by the seed or taken from the run `train.init_from`.

    A member that starts from another run gets an init.json.
    """
    config = member.config
    state = init_state(program, hyperparameters(config), config.train.seed)
    if config.train.init_from is None:
        return state
    start = warm_start.read_start(config, member.data, program.layout)
    files.write_json(RunDirectory(member.directory).init, start.to_json())
    log.info(f"{config.name} {start}")
    params = warm_start.start_parameters(state.params, start, program.layout)
    return state._replace(params=params, best_params=params.copy())


# ---- Files -----------------------------------------------------------------------------------------------


def save_state(member: Training, state: TrainState, program: Program, rounding: Rounding) -> None:
    """Writes the checkpoint of a run into the member's directory."""
    folder, arrays = RunDirectory(member.directory).checkpoints, state_to_arrays(state, program.layout)
    metadata = runs.checkpoint_metadata(member.config, member.data) | rounding._asdict()
    checkpoint.save(folder, int(state.epoch), arrays, metadata, best_epoch=int(state.best_epoch))


def _save(
    group: Group, engine: Engine, live: Sequence[Training], states: Mapping[str, TrainState], rounds: int
) -> None:
    """Writes the states of the live members: a checkpoint of each run, or joint ones of up to JOINT members.

    A member's newest state counts, in whatever joint checkpoint it lies.

    Args:
      rounds: epochs since the last time: a joint checkpoint is numbered by the group's epochs.
    """
    if group.checkpoints is None:
        for member in live:
            save_state(member, states[member.name], engine.program, engine.rounding)
        return
    for begin in range(0, len(live), JOINT):
        share, first = live[begin : begin + JOINT], group.checkpoints
        folder = first.with_name(f"{first.name}-{begin // JOINT}") if begin else first
        arrays = [state_to_arrays(states[member.name], engine.program.layout)["state"] for member in share]
        metadata = {
            "members": [member.name for member in share],
            "data": {member.name: member.data.panel.fingerprint for member in share},
            **engine.rounding._asdict(),
            "versions": runs.versions(),
        }
        number = max(checkpoint.epochs(folder), default=0) + rounds
        checkpoint.save(folder, number, {"state": stack(arrays)}, metadata, best_epoch=None)


class _Saved(NamedTuple):
    """A member's state as a checkpoint holds it.

    Attributes:
      arrays: the state's arrays, under "state".
      rounding: how the member was trained.
    """

    arrays: dict[str, Any]
    rounding: Rounding


def _restore(group: Group, waiting: Sequence[Training]) -> dict[str, _Saved]:
    """The newest states of these members in any checkpoint, by name; the others begin anew."""
    saved: dict[str, _Saved] = {}

    def take(name: str, state: dict[str, Any], metadata: Mapping[str, Any]) -> None:
        if name not in saved or int(state["epoch"]) >= int(saved[name].arrays["state"]["epoch"]):
            rounding = Rounding(metadata["devices"], metadata.get("emitters", False))
            saved[name] = _Saved({"state": state}, rounding)

    for folder in group.restored:
        together = checkpoint.restore_latest(folder)
        names = together.metadata["members"] if together else []
        for member in waiting:
            if member.name in names:
                own = member.data.panel.fingerprint
                if together.metadata.get("data", {}).get(member.name, own) != own:
                    raise UserError(
                        f"{folder}: its checkpoints are of {member.name} on other data, so of another sweep."
                        " Bring back the sweep's own, or remove them: its members begin anew."
                    )
                state = unstack(together.arrays["state"], names.index(member.name))
                take(member.name, state, together.metadata)
    for member in waiting:
        alone = checkpoint.restore_latest(RunDirectory(member.directory).checkpoints)
        if alone is not None:
            runs.check_own_config(member.directory, alone, member.config)
            runs.check_own_data(member.directory, alone, member.data)
            take(member.name, alone.arrays["state"], alone.metadata)
    return saved


def _say_begun(group: Group, states: Mapping[str, TrainState], begun: set[Rounding], engine: Engine) -> None:
    """Logs the epoch that training goes on from, and whether it can end in the same bits."""
    if not states:
        return
    first = min(int(state.epoch) for state in states.values())
    several = f", {len(states)} members" if len(states) > 1 else ""
    log.info(f"{group.label}going on after epoch {first}{several}")
    if begun != {engine.rounding}:
        most, now = max(begun).devices, engine.rounding.devices
        change = f"begun on {most} {'device' if most == 1 else 'devices'}, going on with {now}"
        if {one.devices for one in begun} == {now}:
            change = "begun with several of XLA's code generators, going on with one"
        log.warning(
            f"{change}: sums are rounded differently, so the result will not be the same to the last bit"
        )


def append_line(path: Path, record: dict) -> None:
    """Adds an epoch's line to metrics.jsonl."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}). Free space, then go on ({both('--resume')})."
        ) from error


def truncate_metrics(path: Path, last_epoch: int) -> None:
    """Drops lines of epochs after the checkpoint, and a line that a kill left half written."""
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
