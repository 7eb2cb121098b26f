"""Directories of runs, sweeps, walk-forwards, searches: the name of all in them; made, locked, removed."""

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tftjax import files
from tftjax.config.loading import Config, from_dict
from tftjax.data.panel import PANEL_FILES
from tftjax.errors import UserError, both

REMEDY = f"Bring a copy back, or train again under another {both('--name')}."


PLACE = both("--name, --runs")
JOINT_SECONDS = 60.0  # for others that make the same directory to be done


def no_folder(path: Path, kind: str = "run", made_by: str = "tftjax train") -> str:
    """The message on a directory that does not exist.

    Args:
      kind: what the directory should be one of.
      made_by: the commands that make one.
    """
    return f"{path}: not a {kind}: no such folder{files.near(path)}. Give a directory that {made_by} made."


class Inside:
    """A descriptor of a file or folder of a fixed name; its value is the path in the `Directory`.

    Args:
      kind: the value's type: Path, or another `Directory`.
    """

    def __init__(self, name: str, kind: Callable[[Path], Any] = Path):
        self.name, self.kind = name, kind

    def __get__(self, directory: "Directory", owner: type | None = None) -> Any:
        return self.kind(directory.path / self.name)


@dataclass(frozen=True)
class Directory:
    """A directory whose contents are its `Inside` attributes."""

    path: Path

    def owns(self, name: str) -> bool:
        """Whether a name is that of an attribute."""
        return name in {i.name for c in type(self).__mro__ for i in vars(c).values() if isinstance(i, Inside)}

    def foreign(self) -> list[str]:
        """Names in the directory that it does not own; `<name>.new` is a file that is being written."""
        return sorted(p.name for p in self.path.iterdir() if not self.owns(p.name.removesuffix(".new")))


class EvaluationDirectory(Directory):
    """The files that `evaluate/evaluation.py` writes and describes."""

    metrics = Inside("metrics.json")
    notes = Inside("notes.json")
    predictions = Inside("predictions.csv")
    baselines = Inside("baselines.csv")
    quality = Inside("quality.csv")
    by_series = Inside("by_series.csv")
    conformal = Inside("conformal.json")
    conformal_forecasts = Inside("conformal.csv")
    fan_chart = Inside("fan_chart.png")
    calibration = Inside("calibration.png")
    monitor = Inside("monitor.png")


class InterpretationDirectory(Directory):
    """The files that `interpret/tables.py` and `interpret/attribution.py` write and describe."""

    summary = Inside("summary.json")

    def table(self, name: str) -> Path:
        """The file of a table."""
        return self.path / f"{name}.csv"


class ForecastDirectory(Directory):
    """A forecast that no single run made: an ensemble's, or one over all folds."""

    evaluation = Inside("evaluation", EvaluationDirectory)
    interpretation = Inside("interpretation", InterpretationDirectory)


class TrainingDirectory(Directory):
    """Directory of a run or a sweep.

    Attributes:
      kind: "run" or "sweep".
      made_by: the commands that make one.
      identity: the file by which one is told from other directories: written first and removed last.
      checkpoints: folder of a run's checkpoints; in a sweep such a folder for each program and part.
      report: a page for reading.
      final: record of what a final fit was chosen by; only a final fit has one.
      tensorboard, mlflow, mlflow_lock: what trackers keep, see train/tracking.py.
      lock_file: the file that the process that trains there keeps locked.
    """

    kind: ClassVar[str]
    made_by: ClassVar[str]
    checkpoints = Inside("checkpoints")
    report = Inside("report.html")
    final = Inside("final.json")
    tensorboard = Inside("tensorboard")
    mlflow = Inside("mlflow.json")
    mlflow_lock = Inside("mlflow.lock")
    lock_file = Inside("lock")

    def _read_identity(self) -> dict[str, Any]:
        if not self.path.is_dir():
            raise UserError(no_folder(self.path, self.kind, self.made_by))
        if not self.identity.is_file():
            raise UserError(
                f"{self.path}: not a {self.kind}, as it has no {self.identity.name}"
                f"{files.near(self.identity)}. Give a directory that {self.made_by} made."
            )
        return files.read_json(self.identity, REMEDY)

    def runs(self) -> list["TrainingDirectory"]:
        """What in the directory has a lock of its own."""
        return []


class RunDirectory(TrainingDirectory, ForecastDirectory):
    """Directory of a run: one training of one config.

    Attributes:
      config: the whole config, every default written out.
      rows, ages, roles: the data as the model saw it, so that a run can be evaluated without its
        source; see `write_panel`.
      init: record of the parameters taken from the run `train.init_from`, where there is one.
      metrics: losses and metrics, a line an epoch.
    """

    kind, made_by = "run", "tftjax train"
    config = identity = Inside("config.json")
    rows, ages, roles = map(Inside, PANEL_FILES)
    init = Inside("init.json")
    metrics = Inside("metrics.jsonl")

    def read(self) -> Config:
        """Reads the config.

        Raises:
          UserError: the config is missing or damaged.
        """
        return from_dict(self._read_identity(), str(self.config))


class SweepDirectory(TrainingDirectory):
    """Directory of a sweep or a walk-forward.

    Attributes:
      plan: the members and their configs.
      members: folder of the members' runs.
      ensembles: folder of a forecast for each config, the mean of its seeds.
      pooled: in a walk-forward, folder of the forecasts over the test rows of all folds.
      results, ensembles_table, summary_table, summary, metrics_picture, response_picture: a sweep's results,
        see sweep/results.py; a walk-forward has a summary too.
      pooled_table, gains, folds, folds_picture: a walk-forward's results, see walkforward/results.py.
    """

    kind, made_by = "sweep", "tftjax sweep or tftjax walkforward"
    plan = identity = Inside("sweep.json")
    members = Inside("members")
    ensembles = Inside("ensembles")
    pooled = Inside("pooled")
    results = Inside("results.csv")
    ensembles_table = Inside("ensembles.csv")
    summary_table = Inside("summary.csv")
    summary = Inside("summary.md")
    metrics_picture = Inside("metrics.png")
    response_picture = Inside("response.png")
    pooled_table = Inside("pooled.csv")
    gains = Inside("gains.csv")
    folds = Inside("folds.csv")
    folds_picture = Inside("folds.png")

    def member(self, name: str) -> RunDirectory:
        """A member's run."""
        return RunDirectory(self.members / name)

    def ensemble(self, config: str) -> ForecastDirectory:
        """The forecast of a config's seeds together."""
        return ForecastDirectory(self.ensembles / config)

    def pooled_forecast(self, name: str) -> ForecastDirectory:
        """A forecast over all folds."""
        return ForecastDirectory(self.pooled / name)

    def ended(self, part: str = "") -> Path:
        """The file of how members have ended, as far as one part knows; see sweep/parts.py for its label."""
        return self.path / (f"ended-{part}.json" if part else "ended.json")

    def all_ended(self) -> list[Path]:
        """The `ended` files of all parts."""
        return sorted(path for path in self.path.glob("*") if _ENDED.fullmatch(path.name))

    def program_checkpoints(self, program: int, part: str = "") -> Path:
        """Folder of one part's checkpoints of a program's members that have not ended."""
        return self.checkpoints / f"{program}-{part or 0}"

    def all_checkpoints(self, program: int) -> list[Path]:
        """The `program_checkpoints` of all parts."""
        return sorted(self.checkpoints.glob(f"{program}-*"))

    def read(self) -> list[dict[str, Any]]:
        """Reads the members of the plan, as JSON has them.

        Raises:
          UserError: the plan is missing or damaged.
        """
        form = list[dict[str, Any]]
        members = files.check(self._read_identity().get("members"), form, f"{self.plan}, members", REMEDY)
        for name in (str(member.get("name")) for member in members):
            if Path(name).name != name or name in ("", ".", ".."):
                raise UserError(f"{self.plan}: damaged ({name!r} is no name of a member). {REMEDY}")
        return members

    def write(self, members: Sequence[dict[str, Any]]) -> None:
        """Writes the plan."""
        files.write_json(self.plan, {"members": members})

    def owns(self, name: str) -> bool:
        """Whether a name is that of an attribute or of an `ended` file."""
        return super().owns(name) or _ENDED.fullmatch(name) is not None

    def runs(self) -> list[RunDirectory]:
        """The members that have begun."""
        return [RunDirectory(path) for path in self.members.glob("*") if path.is_dir()]

    def foreign(self) -> list[str]:
        """Names in the directory, and in the runs and forecasts in it, that they do not own."""
        foreign, names = super().foreign(), {member.get("name") for member in self.read()}
        parts = [RunDirectory(path) for path in self.members.glob("*")]
        parts += [ForecastDirectory(p) for folder in (self.ensembles, self.pooled) for p in folder.glob("*")]
        for part in parts:
            stranger = isinstance(part, RunDirectory) and part.path.name.removesuffix(".new") not in names
            if stranger or part.path.is_symlink() or not part.path.is_dir():
                foreign.append(part.path.name)
            else:
                foreign += [f"{part.path.name}/{name}" for name in part.foreign()]
        return sorted(foreign)


class SearchDirectory(TrainingDirectory):
    """Directory of a search.

    Attributes:
      settings: what is searched: config, space, seeds, sampler, pruner, and the data's fingerprint.
      storage: every trial, in the form of Optuna's journal; a process that writes there keeps storage_lock.
      asking: kept by a process while it takes its next trial.
      processes: folder with a folder for each process that takes part: its lock and its checkpoints.
      trials: folder with a folder for each trial and seed: its metrics.jsonl.
      table, importance, best, summary: a search's results, see sweep/tune/results.py.
    """

    kind, made_by = "search", "tftjax tune"
    settings = identity = Inside("search.json")
    storage = Inside("trials.log")
    storage_lock = Inside("trials.log.lock")
    asking = Inside("asking.lock")
    processes = Inside("processes")
    trials = Inside("trials")
    table = Inside("trials.csv")
    importance = Inside("importance.csv")
    best = Inside("best.json")
    summary = Inside("summary.md")

    def process(self, number: int) -> TrainingDirectory:
        """The folder of a process that takes part, counted from 0."""
        return TrainingDirectory(self.processes / str(number))

    def all_checkpoints(self, number: int) -> list[Path]:
        """The folders of a process's joint checkpoints, see `train.loop`."""
        return sorted(self.process(number).path.glob("checkpoints*"))

    def trial(self, name: str) -> RunDirectory:
        """The folder of a trial's seed; it holds no run that could be opened."""
        return RunDirectory(self.trials / name)

    def runs(self) -> list[TrainingDirectory]:
        """The folders of the processes."""
        return [TrainingDirectory(path) for path in sorted(self.processes.glob("*")) if path.is_dir()]

    def read(self) -> dict[str, Any]:
        """Reads the settings.

        Raises:
          UserError: they are missing or damaged.
        """
        return self._read_identity()


_ENDED = re.compile(r"ended(-\d+-of-\d+)?\.json")


def sweep_of(run: Path) -> SweepDirectory | None:
    """The sweep that a run, or an ensemble, is part of, by its directory; None if it stands alone."""
    path = run.resolve()
    sweep = SweepDirectory(path.parent.parent)
    parts = sweep.member(path.name).path, sweep.ensemble(path.name).path
    return sweep if path in parts and sweep.plan.is_file() else None


def make(path: Path) -> Path:
    """Makes a folder with its parents, unless it exists.

    Raises:
      UserError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made ({error.strerror}). Choose a writable folder.") from error
    return path


def lock(directory: TrainingDirectory, seconds: float = 0.0) -> contextlib.AbstractContextManager[None]:
    """Keeps a directory for one process; see `files.lock`.

    Raises:
      UserError: another process is training in the directory, or it cannot be written to.
    """
    busy = f"{directory.path}: another process is training there. Wait for it, or choose another ({PLACE})."
    return files.lock(directory.lock_file, seconds, busy)


def make_joint(directory: TrainingDirectory, write: Callable[[], Any], check: Callable[[], Any]) -> None:
    """Makes a directory in which several processes are to train, or finds it made, while the others wait.

    The lock is free again when it is made: to train, each process locks its own runs in the directory.

    Args:
      write, check: see `claim`; whoever comes first writes.
    Raises:
      UserError: the directory has contents that are not to be used, a process trains all that is in it, or it
        cannot be written to.
    """
    if is_begun(directory):
        check()  # before a lock file is made in something else
    make(directory.path)
    with lock(directory, JOINT_SECONDS):
        check() if is_begun(directory) else write()


@contextlib.contextmanager
def claim(
    directory: TrainingDirectory,
    write: Callable[[], Any],
    check: Callable[[], Any],
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[bool]:
    """Keeps a directory for this process to train in: made anew, or one to go on with.

    Nothing is written into a directory that is not to be used, and nothing removed that another process uses.

    Args:
      write: writes the files that precede training, `identity` first.
      check: raises UserError if this is not the run or sweep to go on with; changes nothing.
      resume: whether to go on with the directory's contents where it has any.
      overwrite: whether to replace the directory's contents.
    Returns:
      A context that holds the lock; its value says whether training goes on.
    Raises:
      UserError: the directory has contents that are not to be used, another process is training in it, or it
        cannot be written to.
    """
    begun = is_begun(directory)
    if begun and resume:
        check()
    elif begun and overwrite:
        _check_removable(directory)
    elif begun:
        raise UserError(
            f"{directory.path} exists. Go on with it ({both('--resume')}), replace it"
            f" ({both('--overwrite')}), or choose another place ({PLACE})."
        )
    make(directory.path)
    with lock(directory):
        if is_begun(directory) and not begun:
            raise UserError(
                f"{directory.path}: another process has just trained there. Choose another place ({PLACE})."
            )
        if not (begun and resume):
            if begun:
                _remove(directory)
            try:
                write()
            except UserError:
                shutil.rmtree(directory.path, ignore_errors=True)  # half of it would stand in the way
                raise
        yield begun and resume


def is_begun(directory: TrainingDirectory) -> bool:
    """Whether the directory has more in it than a kill leaves before `identity` is written."""
    path, first = directory.path, directory.identity.name
    if not path.is_dir():
        return path.exists()
    return not {inside.name for inside in path.iterdir()} <= {f"{first}.new", directory.lock_file.name}


def _check_removable(directory: TrainingDirectory) -> None:
    """Refuses to remove a directory that is not of this kind, or has anything foreign in it."""
    path = directory.path
    if path.is_symlink() or not path.is_dir():
        foreign = ["a link" if path.is_symlink() else "a file"]
    else:
        try:
            directory.read()
            foreign = directory.foreign()
        except UserError:
            foreign = [f"no {directory.identity.name} that is tftjax's"]
    if foreign:
        raise UserError(
            f"{path}: {both('--overwrite')}, removes {directory.kind} directories only, with nothing else in"
            f" them (found {', '.join(foreign[:5])}). Remove it yourself, or choose another place ({PLACE})."
        )


def _remove(directory: TrainingDirectory) -> None:
    """Removes everything in a directory but the lock, which this process holds.

    Raises:
      UserError: another process is training one of its runs, or something cannot be removed.
    """
    with contextlib.ExitStack() as locks:
        for run in directory.runs():
            if run.lock_file.exists():
                locks.enter_context(lock(run))
        try:
            # The identity last: a kill halfway leaves what can still be told from a foreign directory.
            for path in sorted(directory.path.iterdir(), key=lambda path: path == directory.identity):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path != directory.lock_file:
                    path.unlink()
        except OSError as error:
            raise UserError(f"{directory.path}: cannot be removed ({error.strerror}).") from error
