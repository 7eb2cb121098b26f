"""Trackers: what metrics.jsonl has after every epoch, for TensorBoard and MLflow beside the files of a run.

A tracker is a function of a run's, sweep's or search's directory, in the table `TRACKERS`; it returns a
`Sink` of three functions. A member of a sweep has a log of its own below that of the sweep. What a tracker
cannot do is logged once, and training goes on without it.
"""

import contextlib
import importlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tftjax import files
from tftjax.config.loading import Config, settings
from tftjax.errors import UserError, both
from tftjax.storage.directories import RunDirectory, TrainingDirectory
from tftjax.train.loop import Round

WHOLE = ""  # the name of a sweep's or a search's own log, which its members' lie below
SHOWN = ("val/loss", "val/quantile_loss")  # what TensorBoard's table of settings shows beside them
LOCK_SECONDS = 60.0
MLFLOW_BATCH = 100  # values that MLflow takes at once
FINISHED, STOPPED, FAILED = "FINISHED", "KILLED", "FAILED"

log = logging.getLogger(__name__)


class Sink(NamedTuple):
    """A tracker at work on one directory. A member's name is `WHOLE` for a sweep's own log.

    Attributes:
      begin: takes a member's name and settings; the member may have begun in another process.
      epoch: takes a member's name and an epoch's line of metrics.jsonl.
      end: takes a member's name, how it ended, and files to keep: pictures and texts.
    """

    begin: Callable[[str, Mapping[str, Any]], Any]
    epoch: Callable[[str, Mapping[str, Any]], Any]
    end: Callable[[str, str, Sequence[Path]], Any]


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl."""
    return {name: float(value) for name, value in record.items() if isinstance(value, int | float)}


# ---- Trackers --------------------------------------------------------------------------------------------


def tensorboard(directory: TrainingDirectory, name: str, alone: bool) -> Sink:
    """TensorBoard's event files: `tensorboard/`, with a folder a member.

    A training that goes on hides what was logged of the epochs that it trains again.
    """
    from tensorboardX import SummaryWriter
    from tensorboardX.summary import hparams

    writers: dict[str, SummaryWriter] = {}
    begun: dict[str, Mapping[str, Any]] = {}

    def folder(member: str) -> str:
        return str(directory.tensorboard if alone else directory.tensorboard / (member or "sweep"))

    def epoch(member: str, record: Mapping[str, Any]) -> None:
        number = int(record["epoch"])
        if member not in writers:
            writers[member] = writer = SummaryWriter(
                folder(member), purge_step=number if number > 1 else None
            )
            plain = {  # what TensorBoard's table of settings takes
                key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
                for key, value in begun[member].items()
            }
            for summary in hparams(plain, dict.fromkeys(SHOWN)):
                writer.file_writer.add_summary(summary)
        for key, value in numbers(record).items():
            writers[member].add_scalar(key, value, number)
        writers[member].flush()

    def end(member: str, status: str, kept: Sequence[Path]) -> None:
        writer = writers.pop(member, None)
        if writer is None and kept:
            writer = SummaryWriter(folder(member))
        for path in kept:
            if path.suffix == ".png":
                import matplotlib.image

                writer.add_image(path.stem, matplotlib.image.imread(path)[..., :3], dataformats="HWC")
            elif path.suffix == ".md":
                writer.add_text(path.stem, path.read_text(encoding="utf-8"))
        if writer is not None:
            writer.close()

    return Sink(begun.__setitem__, epoch, end)


def mlflow(directory: TrainingDirectory, name: str, alone: bool) -> Sink:
    """Runs of MLflow: the server and the experiment are those of its own environment variables.

    A member of a sweep is a nested run. `mlflow.json` has the ids of the runs, so that a training goes on in
    the same ones.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client, path = MlflowClient(), directory.mlflow

    def known_runs() -> dict[str, str]:
        return dict(files.read_json(path, "Delete it: new runs are made.")) if path.is_file() else {}

    runs = known_runs()

    def experiment() -> str:
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", "tftjax")
        known = client.get_experiment_by_name(title)
        return client.create_experiment(title) if known is None else known.experiment_id

    def run_of(member: str) -> str:
        nested = not (alone or member == WHOLE)
        parent = {"mlflow.parentRunId": run_of(WHOLE)} if nested else {}
        if member not in runs:
            busy = f"{path}: another process holds it."
            with files.lock(directory.mlflow_lock, LOCK_SECONDS, busy):  # parts of a sweep share the file
                runs.update(known_runs())
                if member not in runs:
                    made = client.create_run(experiment(), tags=parent, run_name=member if nested else name)
                    runs[member] = made.info.run_id
                    files.write_json(path, runs)
        return runs[member]

    def begin(member: str, values: Mapping[str, Any]) -> None:
        if member in runs:  # its settings are there, and cannot be set again
            client.update_run(runs[member], status="RUNNING")
            return
        params = [
            Param(key, value if isinstance(value, str) else json.dumps(value))
            for key, value in values.items()
        ]
        for first in range(0, len(params), MLFLOW_BATCH):
            client.log_batch(run_of(member), params=params[first : first + MLFLOW_BATCH])

    def epoch(member: str, record: Mapping[str, Any]) -> None:
        now, step = int(1000 * time.time()), int(record["epoch"])
        metrics = [Metric(key, value, now, step) for key, value in numbers(record).items()]
        client.log_batch(run_of(member), metrics=metrics)

    def end(member: str, status: str, kept: Sequence[Path]) -> None:
        if member not in runs and not kept:
            return
        for path in kept:
            client.log_artifact(run_of(member), str(path))
        client.set_terminated(run_of(member), status=status)

    return Sink(begin, epoch, end)


TRACKERS: dict[str, Callable[[TrainingDirectory, str, bool], Sink]] = {
    "tensorboard": tensorboard,
    "mlflow": mlflow,
}
# What each needs: the module, and how it is installed.
NEEDS = {"tensorboard": ("tensorboardX", "tftjax[tensorboard]"), "mlflow": ("mlflow", "mlflow")}


def check_trackers(names: Sequence[str]) -> None:
    """Refuses trackers that are not known or not installed.

    Raises:
      UserError: names the tracker, and what to install.
    """
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"{both('--track')}: found {name!r}, expected {' or '.join(TRACKERS)}.")
        module, package = NEEDS[name]
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(
                f"{both('--track')} {name}: needs {module}, which is not installed. Install it: pip install"
                f" '{package}'."
            ) from error


def kept_files(directory: TrainingDirectory) -> list[Path]:
    """The pictures, tables and pages of a run, sweep, walk-forward or search that a tracker keeps."""
    if isinstance(directory, RunDirectory):
        folder = directory.evaluation
        pictures = [folder.fan_chart, folder.calibration, folder.monitor]
        return [*pictures, folder.metrics, directory.report]
    return [
        *sorted(directory.path.glob("*.png")),
        *sorted(directory.path.glob("*.[cm][sd]*")),
        directory.report,
    ]


# ---- All of them -----------------------------------------------------------------------------------------


class Tracking:
    """The trackers of one training: what each cannot do is logged once, and it gets nothing more.

    Args:
      names: names in `TRACKERS`; none tracks nothing.
      directory: that of the run, sweep or search.
      name: its name.
      alone: whether it is a single run, which has no members.
    """

    def __init__(self, names: Sequence[str], directory: TrainingDirectory, name: str, *, alone: bool = False):
        self._sinks: dict[str, Sink] = {}
        self._open: dict[str, None] = {}  # members that have begun and not ended, in their order
        for tracker in names:
            with self._guarded(tracker):
                self._sinks[tracker] = TRACKERS[tracker](directory, name, alone)

    def update(self, round_: Round, configs: Callable[[str], Config]) -> None:
        """Takes in a round of the loop.

        Args:
          configs: the config of a member, by its name.
        """
        for member, record in round_.records.items():
            if self._sinks and member not in self._open:
                self._open[member] = None
                self._call("begin", member, settings(configs(member)))
            self._call("epoch", member, record)

    def end(self, member: str = WHOLE, kept: Sequence[Path] = (), status: str = FINISHED) -> None:
        """Ends a member's log, or with `WHOLE` that of the sweep.

        Args:
          kept: pictures and texts to keep in it; those that are not there are left out.
          status: how it ended.
        """
        self._open.pop(member, None)
        self._call("end", member, status, [path for path in kept if path.is_file()])

    def _call(self, what: str, *arguments: Any) -> None:
        for tracker, sink in list(self._sinks.items()):
            with self._guarded(tracker):
                getattr(sink, what)(*arguments)

    @contextlib.contextmanager
    def _guarded(self, tracker: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._sinks.pop(tracker, None)
            first = str(error).partition("\n")[0]
            log.warning(
                f"{tracker} failed ({type(error).__name__}: {first}): the training goes on without it"
            )

    def __enter__(self) -> "Tracking":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        status = FINISHED if kind is None else STOPPED if kind is KeyboardInterrupt else FAILED
        for member in list(self._open):
            self.end(member, status=status)
        if status != FINISHED:
            self.end(WHOLE, status=status)
