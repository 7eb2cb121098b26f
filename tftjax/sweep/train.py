"""Trains the members of a sweep's program to their ends; killed at any moment, it goes on in the same bits.

Members are independent: each is at an epoch of its own, and what is kept between two calls of the program is
one `TrainState` a member, on the host. `ended.json` holds the members that have ended, and how; a checkpoint
of the whole program holds the states of the others.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tftjax.errors import UserError
from tftjax.storage import checkpoint, runs
from tftjax.storage.directories import RunDirectory, SweepDirectory, lock
from tftjax.sweep.members import Ended, write_ended
from tftjax.sweep.plan import Member
from tftjax.sweep.program import (
    Executable,
    MemberProgram,
    compile_slots,
    initial_state,
    members_that_fit,
    repacking_saves,
    run_epoch,
)
from tftjax.sweep.step import stack, unstack
from tftjax.train.run import (
    Diverged,
    append_line,
    epoch_record,
    first_state,
    is_finished,
    save_state,
    truncate_metrics,
)
from tftjax.train.step import TrainState, state_from_arrays, state_to_arrays


class Round(NamedTuple):
    """One call of the program, as a display needs it.

    Attributes:
      records: the epoch's line of each member that trained, by name.
      seconds: of the call, with what was written after it.
      live: members of this program that will be trained on.
      epochs_left: of all of them together, at most.
    """

    records: dict[str, dict]
    seconds: float
    live: int
    epochs_left: int


class Trainer(NamedTuple):
    """What stays the same while a program's members are trained.

    Attributes:
      shared: the program.
      number: the program's, from 1.
      folder: of the sweep.
      host: the process's number, 0 if there is one only: each has files of its own.
      say: called with messages.
      show: called with every Round.
    """

    shared: MemberProgram
    number: int
    folder: Path
    host: int
    say: Callable[[str], Any]
    show: Callable[[Round], Any]

    def run(self, member: Member) -> RunDirectory:
        """The member's run directory."""
        return SweepDirectory(self.folder).member(member.name)

    @property
    def checkpoints(self) -> Path:
        """Where this process's checkpoints of the program lie."""
        return SweepDirectory(self.folder).program_checkpoints(self.number, self.host)


def train_members(trainer: Trainer, members: Sequence[Member], ended: dict[str, Ended]) -> None:
    """Trains all members until each has ended; writes what a run writes, into each member's directory.

    Args:
      members: of one program, their run directories made.
      ended: read at the start, added to.
    Raises:
      UserError: a disk that cannot be written to, or memory that does not suffice for half a chunk.
      KeyboardInterrupt: after the last finished epochs were saved.
    """
    waiting = [member for member in members if member.name not in ended]
    if not waiting:
        return
    states = _restore(trainer, waiting)
    with contextlib.ExitStack() as locks:
        for member in waiting:
            locks.enter_context(lock(trainer.run(member)))
            truncate_metrics(trainer.run(member).metrics, _epoch(states, member))
        size, halved = len(waiting), False
        while waiting:
            chunk, rest = waiting[:size], waiting[size:]
            try:
                executable = compile_slots(trainer.shared, chunk[0], len(chunk))
                fitting = members_that_fit(trainer.shared, executable, chunk[0], len(chunk))
                if fitting < len(chunk):
                    size = fitting
                    trainer.say(f"memory suffices for {size} of {len(chunk)} members at once: others follow")
                    continue
                _train_chunk(trainer, chunk, states, ended, executable, len(rest))
            except (MemoryError, jax.errors.JaxRuntimeError) as error:
                out_of_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
                if not out_of_memory:
                    raise
                if halved or len(chunk) == 1:
                    raise UserError(
                        f"out of memory with {len(chunk)} members at once. Free memory and --resume, or make "
                        "train.batch_size or the model smaller."
                    ) from error
                size, halved = len(chunk) // 2, True
                trainer.say(f"out of memory with {len(chunk)} members at once: going on with {size}")
            waiting = [member for member in (*chunk, *rest) if member.name not in ended]


def _epoch(states: dict[str, TrainState], member: Member) -> int:
    return int(states[member.name].epoch) if member.name in states else 0


def _restore(trainer: Trainer, waiting: Sequence[Member]) -> dict[str, TrainState]:
    """Newest states that any process's checkpoints hold of these members; the others begin anew."""
    template, states = initial_state(trainer.shared, waiting[0]), {}
    for folder in SweepDirectory(trainer.folder).all_checkpoints(trainer.number):
        saved = checkpoint.restore_latest(folder, trainer.say)
        names = saved.metadata["members"] if saved else []
        for member in waiting:
            if member.name not in names:
                continue
            arrays = {"state": unstack(saved.arrays["state"], names.index(member.name))}
            state = state_from_arrays(arrays, template)
            if int(state.epoch) >= _epoch(states, member):
                states[member.name] = state
    if states:
        first = min(int(state.epoch) for state in states.values())
        trainer.say(f"program {trainer.number}: {len(states)} members go on after epoch {first}")
    return states


def _train_chunk(
    trainer: Trainer,
    chunk: Sequence[Member],
    states: dict[str, TrainState],
    ended: dict[str, Ended],
    executable: Executable,
    num_waiting: int,
) -> None:
    """Trains some members until each has ended; `states` and `ended` are kept up to date."""
    config = trainer.shared.program.config.train
    for member in chunk:
        if member.name not in states:
            states[member.name] = first_state(
                member.config,
                trainer.shared.data_of(member),
                trainer.shared.program,
                trainer.run(member).path,
                trainer.say,
            )
    saved = checkpoint.epochs(trainer.checkpoints)
    number, unsaved = max(saved, default=0), 0
    live = list(chunk)
    try:
        while live:
            started = time.perf_counter()
            results = run_epoch(trainer.shared, executable, live, states)
            records = _take_in(trainer, live, states, ended, results, time.perf_counter() - started)
            live = [member for member in live if member.name not in ended]
            number, unsaved = number + 1, unsaved + 1
            if live and unsaved >= config.checkpoint_every:
                _save_program(trainer, number, live, states)
                unsaved = 0
            seconds = time.perf_counter() - started
            epochs_left = sum(config.max_epochs - int(states[member.name].epoch) for member in live)
            epochs_left += num_waiting * config.max_epochs
            trainer.show(Round(records, seconds, len(live), epochs_left))
            executable = _repacked(trainer, executable, live, epochs_left, seconds)
    except KeyboardInterrupt:
        write_ended(trainer.folder, trainer.host, ended)
        live = [member for member in live if member.name not in ended]
        if unsaved and live:
            _save_program(trainer, number, live, states)
        raise
    for member in chunk:  # the memory is the next chunk's
        del states[member.name]


def _take_in(trainer, live, states, ended, results, seconds) -> dict[str, dict]:
    """Writes an epoch's lines; keeps the new states; writes the checkpoints of members that ended with it."""
    records, over = {}, {}
    for member in live:
        state, metrics = results[member.name]
        num_val = len(trainer.shared.data_of(member).starts["val"])
        try:
            record = epoch_record(state, metrics, seconds / len(live), member.config, num_val)
        except Diverged as error:
            # Its state stays the last good one; the others have never seen it.
            last = states[member.name]
            over[member] = Ended("diverged", int(last.epoch), int(last.best_epoch), str(error))
            continue
        append_line(trainer.run(member).metrics, record)
        states[member.name] = state
        records[member.name] = record
        if is_finished(state, member.config):
            done = int(state.epoch) >= member.config.train.max_epochs
            status = "finished" if done else "stopped early"
            over[member] = Ended(status, int(state.epoch), int(state.best_epoch))
    for member, how in over.items():
        if how.epoch:
            metadata = runs.checkpoint_metadata(member.config, trainer.shared.data_of(member))
            metadata |= {"devices": 1}
            save_state(trainer.run(member).path, states[member.name], trainer.shared.program, metadata)
        if how.message:
            trainer.say(f"{member.name} diverged and is frozen, the others go on: {how.message}")
        ended[member.name] = how
    if over:
        write_ended(trainer.folder, trainer.host, ended)
    return records


def _save_program(
    trainer: Trainer, number: int, live: Sequence[Member], states: dict[str, TrainState]
) -> None:
    arrays = [state_to_arrays(states[member.name], trainer.shared.program.layout)["state"] for member in live]
    metadata = {
        "members": [member.name for member in live],
        "devices": trainer.shared.mesh.size,
        "versions": runs.versions(),
    }
    checkpoint.save(trainer.checkpoints, number, {"state": stack(arrays)}, metadata, best_epoch=None)


def _repacked(
    trainer: Trainer, executable: Executable, live: Sequence[Member], epochs_left: int, seconds: float
) -> Executable:
    """A program of fewer slots, when at least half are frozen and that pays for its compilation.

    Where a device trains its members one by one, a frozen slot costs nothing: there it never pays.
    """
    num_live = len(live)
    if not trainer.shared.vectorised or not num_live or num_live > executable.num_slots // 2:
        return executable
    saved = repacking_saves(executable.num_slots, num_live, epochs_left / num_live, seconds)
    if saved <= executable.compile_seconds:
        return executable
    trainer.say(
        f"program {trainer.number}: {num_live} of {executable.num_slots} members go on: packed into a "
        f"smaller program; that takes about {executable.compile_seconds:.0f} s and saves up to {saved:.0f} s"
    )
    return compile_slots(trainer.shared, live[0], num_live)
