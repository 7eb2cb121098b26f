"""Batches of trials: what one compiled program trains, by the loop of `train`.

Trials of a batch share their static settings; as many are trained at once as keep all devices busy. A trial
that is pruned makes room for the next one, whose floats are inputs of the same program. Static settings are
drawn once a batch; where the space has none, all trials are one batch.
"""

import itertools
import json
import logging
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tftjax import files, runtime
from tftjax.config.functions import Functions
from tftjax.config.hyperparameters import static_settings
from tftjax.config.loading import Config
from tftjax.data.checks import with_own_spread
from tftjax.data.panel import Panel
from tftjax.data.prepared import Data
from tftjax.errors import UserError
from tftjax.evaluate.formatting import LOSS
from tftjax.storage import directories
from tftjax.storage.directories import SearchDirectory
from tftjax.storage.runs import Ended
from tftjax.sweep.plan import Member
from tftjax.sweep.run import load_data
from tftjax.sweep.tune.folder import Search
from tftjax.sweep.tune.space import Space, Values, as_setting, given_point, static_keys, trial_members
from tftjax.sweep.tune.study import Study, ask, is_pruned
from tftjax.sweep.tune.view import SearchView
from tftjax.train.engine import MembersEngine, Rounding, Training
from tftjax.train.loop import Round
from tftjax.train.monitor import read_history
from tftjax.train.run import check_parameters
from tftjax.train.tracking import FAILED, FINISHED, STOPPED, Tracking

LOSS_NAME = "val/quantile_loss"
BUSY = 0.9  # the least share of the devices that a batch keeps busy
GPU_MEMBERS = 32  # that a GPU trains at once
BATCH_WIDTHS = 4  # trials of a batch of one choice of static settings, in those at once
ASKING_SECONDS = 60.0  # for another process to take its next trial
SEED_STEP = 1_000_003  # from one trial's proposal to the next

log = logging.getLogger(__name__)


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

    def trainings(self, members: Sequence[Member]) -> list[Training]:
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

    def engine(self, members: Sequence[Training], begun: Rounding | None = None) -> MembersEngine:
        """The engine of members that `trainings` has returned; it has the program of the batch before."""
        key = static_key(members[0].config)
        if key not in self.engines:
            self.engines[key] = MembersEngine(members, begun)
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


class Setting(NamedTuple):
    """What all batches of a process share.

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


@dataclass
class Batch:
    """The trials that a compiled program trains, and those that follow: see the head of this file.

    Attributes:
      setting: what it shares with other batches.
      left: trials that may still begin in this batch.
      exhausted: whether no trial is left for any batch of this process.
      static: the static settings as they were drawn; None before the first trial.
      flights: trials in training.
      ended: how members ended, by name.
      configs: the members' configs, by name.
      over: how members ended that `tracking` has not been told of yet, in its words.
    """

    setting: Setting
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
        while count - len(members) >= self.setting.search.seeds and self.left > 0:
            trial = self._next_trial()
            if trial is None:
                self.left = 0
                break
            self.left -= 1
            members += self._begin(trial)
        return members

    def _next_trial(self) -> Any:
        """Takes a trial from the study; None if there is none for this batch."""
        busy = f"{self.setting.directory.path}: another process holds the trials. Wait for it, or end it."
        with files.lock(self.setting.directory.asking, ASKING_SECONDS, busy):
            number = len(self.setting.study.study.get_trials(deepcopy=False))
            self.exhausted = number >= self.setting.num_trials or time.monotonic() >= self.setting.until
            if self.exhausted:
                return None
            point = self._point(number)
            if self.static and any(point.get(key, value) != value for key, value in self.static.items()):
                return None  # another batch's
            seed = (self.setting.search.config.train.seed + number * SEED_STEP) % 2**32
            trial = ask(self.setting.study, self.setting.search.space, {**point, **(self.static or {})}, seed)
            space = self.setting.search.space
            values = {key: as_setting(key, space[key], trial.params[key]) for key in space}
            trial.set_user_attr("values", values)
            trial.set_user_attr("process", self.setting.process)
        return trial

    def _point(self, number: int) -> Values:
        """The values of a trial that are not the sampler's: a grid's; the first is the config as given."""
        if self.setting.points is not None:
            return self.setting.points[number]
        search = self.setting.search
        return (given_point(search.space, search.config) or {}) if number == 0 else {}

    def _begin(self, trial: Any) -> list[Training]:
        """The members of a trial; none of one whose config is refused, which fails."""
        search, values = self.setting.search, trial.user_attrs["values"]
        try:
            members = trial_members(search.config, values, trial.number, search.seeds)
            trainings = self.setting.programs.trainings(members)
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
        self.setting.tracking.update(round_, self.configs.__getitem__)
        for name, status in self.over.items():
            self.setting.tracking.end(name, status=status)
        self.over.clear()

    def _tell(self, trial: Any, state: str, losses: Sequence[float] = (), message: str = "") -> None:
        study, states = self.setting.study.study, self.setting.study.optuna.trial.TrialState
        trial.set_user_attr("losses", list(losses))
        trial.set_user_attr("message", message)
        mean = statistics.fmean(losses) if losses else None
        study.tell(trial.number, mean if state == "COMPLETE" else None, state=getattr(states, state))
        epochs = max(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values, default=0)
        words = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}[state]
        text = f"trial {trial.number}: {words} after epoch {epochs}"
        if message:
            log.warning(f"{text}, the others go on: {message}")
        self.setting.view.news.append(f"{text}, {LOSS.number(mean)}" if losses else text)


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


def batch_size(space: Space, seeds: int) -> int | float:
    """The number of trials in a batch: endless where all share a program."""
    return BATCH_WIDTHS * trials_at_once(seeds) if static_keys(space) else math.inf
