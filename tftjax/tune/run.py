"""A search from its space to its results: trials in batches, trained by the loop of `train`.

A batch is what one compiled program trains: trials that share their static settings, as many at once as keep
all devices busy. A trial that is pruned makes room for the next one, whose floats are inputs of the same
program. Static settings are drawn once a batch; where the space has none, all trials are one batch.
"""

import contextlib
import itertools
import json
import logging
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tftjax import files, runtime
from tftjax.config.functions import NO_FUNCTIONS, Functions
from tftjax.config.loading import Config, changed_keys, from_dict
from tftjax.config.section import show
from tftjax.data.checks import with_own_spread
from tftjax.data.loading import load_panel
from tftjax.data.panel import Panel
from tftjax.data.prepared import Data
from tftjax.errors import UserError, both, listed
from tftjax.evaluate.formatting import LOSS
from tftjax.storage import directories
from tftjax.storage.directories import REMEDY, SearchDirectory
from tftjax.storage.runs import Ended
from tftjax.sweep.plan import MAX_SEEDS, static_settings
from tftjax.sweep.run import load_data
from tftjax.train import progress
from tftjax.train.engine import MembersEngine, Training
from tftjax.train.loop import Group, Round, train_members
from tftjax.train.monitor import read_history
from tftjax.train.run import check_functions, check_parameters, each
from tftjax.train.tracking import FAILED, FINISHED, STOPPED, Tracking, check_trackers, kept_files
from tftjax.tune import results
from tftjax.tune.space import (
    Space,
    Values,
    as_setting,
    check_searchable,
    given_point,
    grid_points,
    static_keys,
    trial_members,
)
from tftjax.tune.study import (
    PRUNERS,
    SAMPLERS,
    Study,
    ask,
    import_optuna,
    is_pruned,
    open_study,
    running,
)
from tftjax.tune.view import SearchView

LOSS_NAME = "val/quantile_loss"
BUSY = 0.9  # the least share of the devices that a batch keeps busy
GPU_MEMBERS = 32  # that a GPU trains at once
BATCH_WIDTHS = 4  # trials of a batch of one choice of static settings, in those at once
SEED_STEP = 1_000_003  # from one trial's proposal to the next
ASKING_SECONDS = 60.0  # for another process to take its next trial
WITHOUT_EFFECT = ("name", "notes", "train.checkpoint_every")  # and the section evaluation: on the trials

log = logging.getLogger(__name__)


class Search(NamedTuple):
    """What is searched; what makes it another search, but for the directory.

    Attributes:
      config: the config that trials differ from by values of the space.
      space: see `sweep.plan.check_space`.
      seeds: seeds of each trial.
      sampler: name in `SAMPLERS`.
      pruner: name in `PRUNERS`.
    """

    config: Config
    space: Space
    seeds: int
    sampler: str
    pruner: str


@dataclass
class Programs:
    """The programs of a search, each compiled at its first batch and kept.

    Attributes:
      panel: the data of all trials.
      functions: functions that were handed in.
      folder: the search's directory.
      data: the prepared data, by the JSON of the static settings.
      engines: the engine of these, which has the compiled program.
    """

    panel: Panel
    functions: Functions
    folder: Path
    data: dict[str, Data] = field(default_factory=dict)
    engines: dict[str, MembersEngine] = field(default_factory=dict)

    def trainings(self, members: Sequence[Any]) -> list[Training]:
        """The members of a trial, as the loop takes them, with the data that their program is for.

        Raises:
          UserError: a config that does not fit the data, or names parameters that there are none of.
        """
        key = static_key(members[0].config)
        if key not in self.data:
            data = load_data(members[:1], mixed_data=False, panel=self.panel)[members[0].name]
            check_parameters(members[0].config, data, self.folder, self.functions)
            self.data[key] = data
        data, trials = self.data[key], SearchDirectory(self.folder)
        return [
            Training(m.name, with_own_spread(m.config, data), data, trials.trial(m.name).path, self.functions)
            for m in members
        ]

    def engine(self, members: Sequence[Training], devices: int | None = None) -> MembersEngine:
        """The engine of members that `trainings` has returned; it has the program of the batch before."""
        key = static_key(members[0].config)
        if key not in self.engines:
            self.engines[key] = MembersEngine(members)
        self.engines[key].numbers = [0] * len(members)  # they share one data set
        return self.engines[key]


def static_key(config: Config) -> str:
    """What members of one program have in common."""
    return json.dumps(static_settings(config), sort_keys=True)


@dataclass
class Flight:
    """A trial in training.

    Attributes:
      trial: Optuna's.
      members: a member a seed.
      losses: by member, the pinball loss of the parameters kept so far, after each epoch.
      failure: why a member diverged; empty if none did.
    """

    trial: Any
    members: list[Training]
    losses: dict[str, list[float]] = field(default_factory=dict)
    failure: str = ""

    def take_in(self, name: str, record: Mapping[str, Any]) -> None:
        """Takes in a line of a member's metrics.jsonl; of a member that goes on, all lines."""
        if name not in self.losses:
            self.losses[name] = kept_losses(self._history(name))
            return
        kept = self.losses[name]
        kept.append(record[LOSS_NAME] if record["improved"] else kept[-1])

    def last_loss(self, name: str) -> float:
        """The loss of the parameters that a member has kept."""
        if name not in self.losses:  # it had ended before a kill
            self.losses[name] = kept_losses(self._history(name))
        return self.losses[name][-1]

    def _history(self, name: str) -> list[dict[str, Any]]:
        return read_history(next(member.directory for member in self.members if member.name == name))


def kept_losses(records: Sequence[Mapping[str, Any]]) -> list[float]:
    """The pinball loss of the epoch that is the best so far, after each epoch."""
    losses: list[float] = []
    for record in records:
        losses.append(record[LOSS_NAME] if record["improved"] or not losses else losses[-1])
    return losses


@dataclass
class Batch:
    """The trials that a compiled program trains, and those that follow: see the head of this file.

    Attributes:
      search: what is searched.
      study: where trials come from and are told to.
      programs: the programs of the search.
      directory: the search's directory.
      process: the number of this process.
      num_trials: all trials of the search, whoever trains them.
      until: the time, by the monotonic clock, after which no trial begins.
      points: the points of a grid; None of another sampler.
      view: gets a line a trial that has ended.
      tracking: gets every epoch.
      left: trials that may still begin in this batch.
      exhausted: whether no trial is left for any batch of this process.
      static: the static settings as they were drawn; None before the first trial.
      flights: trials in training.
      ended: how members ended, by name.
      configs: the members' configs, by name.
      over: how members ended that `tracking` has not been told of yet, in its words.
    """

    search: Search
    study: Study
    programs: Programs
    directory: SearchDirectory
    process: int
    num_trials: int
    until: float
    points: Sequence[Values] | None
    view: SearchView
    tracking: Tracking
    left: int | float
    exhausted: bool = False
    static: Values | None = None
    flights: list[Flight] = field(default_factory=list)
    ended: dict[str, Ended] = field(default_factory=dict)
    configs: dict[str, Config] = field(default_factory=dict)
    over: dict[str, str] = field(default_factory=dict)

    def judge(self, records: Mapping[str, dict], diverged: Mapping[str, str]) -> dict[str, str]:
        """Ends the members of trials that are pruned or have failed: see `train.loop.Group`."""
        reasons: dict[str, str] = {}
        for flight in self.flights:
            names = [member.name for member in flight.members]
            for name in names:
                if name in records:
                    flight.take_in(name, records[name])
            bad = next((name for name in names if name in diverged), None)
            if bad is not None:
                flight.failure = f"{bad}: {diverged[bad].partition(';')[0]}"
                reasons |= dict.fromkeys(names, f"{bad} diverged")
            elif any(name in records for name in names) and self._is_pruned(flight, names):
                reasons |= dict.fromkeys(names, "pruned")
        return reasons

    def _is_pruned(self, flight: Flight, names: Sequence[str]) -> bool:
        """Whether a trial should end, by the mean over its seeds; one that has ended counts with its last."""
        live = [name for name in names if name not in self.ended]
        epoch = min(len(flight.losses.get(name, ())) for name in live)
        if not epoch:
            return False  # a seed waits for memory
        losses = [
            flight.losses[name] if name in flight.losses else [flight.last_loss(name)] for name in names
        ]
        mean = statistics.fmean(kept[min(epoch, len(kept)) - 1] for kept in losses)
        return is_pruned(flight.trial, epoch, mean)

    def join(self, count: int) -> list[Training]:
        """The members of the next trials, at most so many: see `train.loop.Group`."""
        self.settle()
        members: list[Training] = []
        while count - len(members) >= self.search.seeds and self.left > 0:
            trial = self._next_trial()
            if trial is None:
                self.left = 0
                break
            self.left -= 1
            members += self._begin(trial)
        return members

    def _next_trial(self) -> Any:
        """Takes a trial from the study; None if there is none for this batch."""
        busy = f"{self.directory.path}: another process holds the trials. Wait for it, or end it."
        with files.lock(self.directory.asking, ASKING_SECONDS, busy):
            number = len(self.study.study.get_trials(deepcopy=False))
            self.exhausted = number >= self.num_trials or time.monotonic() >= self.until
            if self.exhausted:
                return None
            point = self._point(number)
            if self.static and any(point.get(key, value) != value for key, value in self.static.items()):
                return None  # another batch's
            seed = (self.search.config.train.seed + number * SEED_STEP) % 2**32
            trial = ask(self.study, self.search.space, {**point, **(self.static or {})}, seed)
            space = self.search.space
            values = {key: as_setting(key, space[key], trial.params[key]) for key in space}
            trial.set_user_attr("values", values)
            trial.set_user_attr("process", self.process)
        return trial

    def _point(self, number: int) -> Values:
        """The values of a trial that are not the sampler's: a grid's; the first is the config as given."""
        if self.points is not None:
            return self.points[number]
        return (given_point(self.search.space, self.search.config) or {}) if number == 0 else {}

    def _begin(self, trial: Any) -> list[Training]:
        """The members of a trial; none of one whose config is refused, which fails."""
        search, values = self.search, trial.user_attrs["values"]
        try:
            members = trial_members(search.config, values, trial.number, search.seeds)
            trainings = self.programs.trainings(members)
        except UserError as error:
            self._tell(trial, "FAIL", message=str(error))
            return []
        if self.static is None:
            self.static = {key: trial.params[key] for key in static_keys(search.space)}
        for training in trainings:
            directories.make(training.directory)
            self.configs[training.name] = training.config
        self.flights.append(Flight(trial, trainings))
        return trainings

    def go_on(self, trials: Sequence[Any]) -> list[Training]:
        """The members of trials that a process which has ended had begun."""
        return [member for trial in trials for member in self._begin(trial)]

    def settle(self) -> None:
        """Tells the study of the trials whose members have all ended."""
        for flight in list(self.flights):
            names = [member.name for member in flight.members]
            if not all(name in self.ended for name in names):
                continue
            self.flights.remove(flight)
            if flight.failure:
                self._tell(flight.trial, "FAIL", message=flight.failure)
                self.over |= dict.fromkeys(names, FAILED)
                continue
            pruned = "pruned" in {self.ended[name].status for name in names}
            losses = [flight.last_loss(name) for name in names]
            self._tell(flight.trial, "PRUNED" if pruned else "COMPLETE", losses)
            self.over |= dict.fromkeys(names, STOPPED if pruned else FINISHED)

    def track(self, round_: Round) -> None:
        """Gives a round to the trackers, and what has ended in it."""
        self.tracking.update(round_, self.configs.__getitem__)
        for name, status in self.over.items():
            self.tracking.end(name, status=status)
        self.over.clear()

    def _tell(self, trial: Any, state: str, losses: Sequence[float] = (), message: str = "") -> None:
        study, states = self.study.study, self.study.optuna.trial.TrialState
        trial.set_user_attr("losses", list(losses))
        trial.set_user_attr("message", message)
        mean = statistics.fmean(losses) if losses else None
        study.tell(trial.number, mean if state == "COMPLETE" else None, state=getattr(states, state))
        epochs = max(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values, default=0)
        words = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}[state]
        text = f"trial {trial.number}: {words} after epoch {epochs}"
        if message:
            log.warning(f"{text}, the others go on: {message}")
        self.view.news.append(f"{text}, {LOSS.number(mean)}" if losses else text)


def tune(
    search: Search,
    folder: Path,
    *,
    trials: int,
    hours: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    panel: Panel | None = None,
    functions: Functions = NO_FUNCTIONS,
    track: Sequence[str] = (),
) -> None:
    """Searches a space for the config of the lowest validation loss, and writes the results.

    Args:
      search: what is searched.
      folder: the search's directory.
      trials: trials of the whole search, those of before and of other processes included.
      hours: no trial begins later in this process; those in training are trained to their end.
      resume: go on with the search in the folder, or join it beside other processes.
      overwrite: replace the search in the folder.
      quiet: print nothing but the messages that need action.
      panel: the data; None loads what the config names.
      functions: functions that were handed in, which the config records.
      track: names in `train.tracking.TRACKERS`.
    Raises:
      UserError: see the parts; or every trial failed.
    """
    check_search(search, trials, hours)
    check_trackers(track)
    optuna = import_optuna()
    points = grid_points(search.space, "the space") if search.sampler == "grid" else None
    trials = trials if points is None else min(trials, len(points))
    check_functions(search.config, functions)
    panel = load_panel(search.config.data) if panel is None else panel
    directory, programs = SearchDirectory(folder), Programs(panel, functions, folder)
    # Refused before anything is made, as every trial would be.
    programs.trainings(trial_members(search.config, {}, 0, 1))
    record = as_record(search, panel)
    until = math.inf if hours is None else time.monotonic() + 3600 * hours
    with take_part(directory, record, resume=resume, overwrite=overwrite) as processes:
        with files.lock(directory.asking, ASKING_SECONDS, f"{folder}: another process holds the trials."):
            pruner = PRUNERS[search.pruner](optuna, search.config.train.last_epoch)
            study = open_study(optuna, directory, search.sampler, pruner)
            left_over = _left_over(study, processes)
        if not quiet:
            print(f"{trials} trials of {search.seeds} seeds, at most, in {folder}")
        width = trials_at_once(search.seeds)
        view = SearchView(trials)

        def batch() -> Batch:
            left = BATCH_WIDTHS * width if static_keys(search.space) else math.inf
            where = study, programs, directory, processes[0]
            return Batch(search, *where, trials, until, points, view, tracking, left)

        with (
            Tracking(track, directory, folder.name) as tracking,
            progress.display(view, quiet) as display,
        ):
            while True:
                now = batch()
                members = now.go_on(left_over.pop(0)) if left_over else []
                members += now.join(width * search.seeds - len(members))
                if now.exhausted and not members and not left_over:
                    break
                group = Group(
                    members,
                    checkpoints=directory.process(processes[0]).checkpoints,
                    restored=[path for number in processes for path in directory.all_checkpoints(number)],
                    judge=now.judge,
                    join=now.join,
                    keep_ended=False,
                )
                train_members(group, programs.engine, now.ended, each(now.track, display.update))
                now.settle()
            given = search.config, search.space, search.seeds
            text = results.write_results(directory, *given, study, folder.name)
            tracking.end(kept=kept_files(directory))
    if not quiet:
        print(f"\n{text}\nresults in {folder}")


def check_search(search: Search, trials: int, hours: float | None) -> None:
    """Refuses numbers and names that a search cannot have, and a space that would not compare.

    Raises:
      UserError: names the flag, or the key.
    """
    if trials < 1:
        raise UserError(f"{both('--trials')}: found {trials}, expected 1 or more.")
    if not 1 <= search.seeds <= MAX_SEEDS:
        raise UserError(f"{both('--seeds')}: found {search.seeds}, expected 1 to {MAX_SEEDS}.")
    if hours is not None and not 0 < hours < math.inf:
        raise UserError(f"{both('--hours')}: found {hours:g}, expected a number above 0.")
    for flag, name, table in (("--sampler", search.sampler, SAMPLERS), ("--pruner", search.pruner, PRUNERS)):
        if name not in table:
            raise UserError(f"{both(flag)}: found {name!r}, expected one of {', '.join(table)}.")
    check_searchable(search.space, search.config, "the space")


def trials_at_once(seeds: int) -> int:
    """The least number of trials that keeps the devices busy: more would begin before others are judged."""
    if jax.default_backend() != "cpu":
        return max(2, GPU_MEMBERS // seeds)
    devices = runtime.device_mesh().size
    return next(
        count
        for count in itertools.count(1)
        if count * seeds >= BUSY * devices * math.ceil(count * seeds / devices)
    )


# ---- The directory ---------------------------------------------------------------------------------------


def as_record(search: Search, panel: Panel) -> dict[str, Any]:
    """The search as JSON."""
    config = search.config.model_dump(mode="json")
    return search._asdict() | {"config": config, "data": panel.fingerprint}


@contextlib.contextmanager
def take_part(
    directory: SearchDirectory, record: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Iterator[list[int]]:
    """Makes a search's directory, or finds the one to go on with; keeps a place in it for this process.

    Args:
      record: the search.
    Returns:
      A context; its value has the number of this process, then those of processes that have ended, whose
      trials are this one's now.
    Raises:
      UserError: see `directories.claim`; another search is there, or none to go on with.
    """

    def write() -> None:
        files.write_json(directory.settings, dict(record))

    def check() -> None:
        if difference := first_difference(files.read_json(directory.settings, REMEDY), record):
            raise UserError(
                f"{directory.path}: is a search over something else: {difference}. Go on with the command"
                f" that began it, or search under another {both('--name')}."
            )

    if resume:
        if not directories.is_begun(directory):
            raise UserError(
                f"{directory.path}: no search to go on with. Leave {both('--resume')} out to begin one, or"
                f" correct {directories.PLACE}."
            )
        directories.make_joint(directory, write, check)
    else:
        with directories.claim(directory, write, check, overwrite=overwrite):
            pass
    with contextlib.ExitStack() as locks:
        known = sorted(int(made.path.name) for made in directory.runs() if made.path.name.isdecimal())
        free = [number for number in known if _keep(directory, number, locks)]
        if not free:
            free = [next(n for n in itertools.count(len(known)) if _keep(directory, n, locks))]
        yield free


def _keep(directory: SearchDirectory, number: int, locks: contextlib.ExitStack) -> bool:
    """Keeps a process's folder; returns whether no other process has it."""
    process = directory.process(number)
    directories.make(process.path)
    try:
        locks.enter_context(directories.lock(process))
    except UserError:
        return False
    return True


def first_difference(stored: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """The first thing in which a search differs from a directory's, in words; empty if in nothing."""
    before, now = (from_dict(dict(part["config"]), "the search's config") for part in (stored, record))
    for key, old, new in changed_keys(before, now):
        if key not in WITHOUT_EFFECT and not key.startswith("evaluation."):
            return f"{key} is {show(old)} there, {show(new)} here"
    for key in dict.fromkeys([*stored["space"], *record["space"]]):
        old, new = stored["space"].get(key), record["space"].get(key)
        if old != new:
            return f"{key} in the space is {show(old)} there, {show(new)} here"
    for name in ("seeds", "sampler", "pruner", "data"):
        if stored[name] != record[name]:
            words = "the data's fingerprint" if name == "data" else name
            return f"{words} is {show(stored[name])} there, {show(record[name])} here"
    return ""


def _left_over(study: Study, processes: Sequence[int]) -> list[list[Any]]:
    """The trials that ended processes had begun, by process, the one first whose place this process has.

    One that a kill left before it had its values fails.
    """
    of_process: dict[int, list[Any]] = {number: [] for number in processes}
    for trial in running(study):
        number = trial.user_attrs.get("process")
        if number is None:
            study.study.tell(trial.number, state=study.optuna.trial.TrialState.FAIL)
        elif number in of_process:
            of_process[number].append(trial)
    begun = [trials for trials in of_process.values() if trials]
    if begun:
        log.info(f"going on with trials {listed(trial.number for trials in begun for trial in trials)}")
    return begun
