"""A search from its space to its results."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tftjax import files
from tftjax.config.functions import NO_FUNCTIONS, Functions
from tftjax.data.loading import load_panel
from tftjax.data.panel import Panel
from tftjax.errors import UserError, both, listed
from tftjax.storage.directories import SearchDirectory
from tftjax.sweep.plan import MAX_SEEDS
from tftjax.sweep.tune import results
from tftjax.sweep.tune.batch import ASKING_SECONDS, Batch, Programs, Setting, batch_size, trials_at_once
from tftjax.sweep.tune.folder import Search, as_record, take_part
from tftjax.sweep.tune.space import check_searchable, grid_points, trial_members
from tftjax.sweep.tune.study import PRUNERS, SAMPLERS, Study, import_optuna, open_study, running
from tftjax.sweep.tune.view import SearchView
from tftjax.train import progress
from tftjax.train.loop import Group, Round, train_members
from tftjax.train.run import check_functions, each
from tftjax.train.tracking import Tracking, check_trackers, kept_files

log = logging.getLogger(__name__)


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
        view = SearchView(trials)
        with (
            Tracking(track, directory, folder.name) as tracking,
            progress.display(view, quiet) as show,
        ):
            where = directory, processes[0], trials, until, points, view, tracking
            train_batches(Setting(search, study, programs, *where), left_over, processes, show)
            given = search.config, search.space, search.seeds
            text = results.write_results(directory, *given, study, folder.name)
            tracking.end(kept=kept_files(directory))
    if not quiet:
        print(f"\n{text}\nresults in {folder}")


def train_batches(
    setting: Setting,
    left_over: list[list[Any]],
    processes: Sequence[int],
    show: Callable[[Round], Any],
) -> None:
    """Trains batch after batch, until no trial is left.

    Args:
      left_over: trials that were begun before, each list of one batch.
      processes: numbers of the processes whose checkpoints may hold states of these.
      show: shows a round.
    """
    seeds, directory = setting.search.seeds, setting.directory
    while True:
        batch = Batch(setting, batch_size(setting.search.space, seeds))
        members = batch.go_on(left_over.pop(0)) if left_over else []
        members += batch.join(trials_at_once(seeds) * seeds - len(members))
        if batch.exhausted and not members and not left_over:
            return
        group = Group(
            members,
            checkpoints=directory.process(setting.process).checkpoints,
            restored=[path for number in processes for path in directory.all_checkpoints(number)],
            judge=batch.judge,
            join=batch.join,
            keep_ended=False,
        )
        train_members(group, setting.programs.engine, batch.ended, each(batch.track, show))
        batch.settle()


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
