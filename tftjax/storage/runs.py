"""Runs: begun, gone on with, and opened."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata as packages
from pathlib import Path
from typing import Any, NamedTuple

from tftjax.config.functions import NO_FUNCTIONS, Functions, check_at_hand
from tftjax.config.loading import Config, changed_keys, from_dict
from tftjax.config.loading import fingerprint as config_fingerprint
from tftjax.data.encoding import encoding_from_json, encoding_to_json
from tftjax.data.panel import ROLES, Panel, read_panel, write_panel
from tftjax.data.prepared import Data, prepare
from tftjax.errors import UserError
from tftjax.files import check, read_json, write_json
from tftjax.storage import checkpoint, directories
from tftjax.storage.directories import RunDirectory, sweep_of

RAISABLE = ("train.max_epochs", "train.patience")  # decide when training ends, and nothing before that
PACKAGES = ("tftjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pandas")


@dataclass(frozen=True)
class Run:
    """A trained run, opened: everything that evaluation and prediction need."""

    directory: Path
    config: Config
    data: Data
    parameters: dict
    best_epoch: int
    functions: Functions = NO_FUNCTIONS


class Ended(NamedTuple):
    """How a member ended.

    Attributes:
      status: "diverged", or the name of a stop rule.
      epoch: number of epochs trained; of a member that diverged, up to the last good one.
      best_epoch: the epoch of the lowest validation loss.
      message: why the member diverged; else empty.
      evaluated: whether the member's evaluation is written.
    """

    status: str
    epoch: int
    best_epoch: int
    message: str = ""
    evaluated: bool = False

    @property
    def may_go_on(self) -> bool:
        """Whether the last of all epochs was the best: more of them may give a better one."""
        return self.status == "finished" and self.best_epoch == self.epoch


class Final(NamedTuple):
    """The record of a final fit, on all rows, for a number of epochs that another run chose.

    Attributes:
      source: directory of the other run, seen from that of the final fit.
      chosen_epoch: the other run's best epoch.
      epochs: epochs of the final fit.
      trained_until: date of the last train row.
      chosen_until: date of the other run's last validation row.
      verdict: the other run's verdict, in a line.
      identity: the other run's `identity`.
    """

    source: str
    chosen_epoch: int
    epochs: int
    trained_until: str
    chosen_until: str
    verdict: str
    identity: str


def read_final(directory: Path) -> Final | None:
    """The record of a final fit; None of any other run.

    Raises:
      UserError: it is damaged.
    """
    path = RunDirectory(directory).final
    if not path.is_file():
        return None
    return check(read_json(path, directories.REMEDY), Final, path, directories.REMEDY)


def identity(run: Run) -> str:
    """The fingerprint, in 12 hex digits, of what makes a run's forecasts: the same for every retraining.

    What may change from one training of a config to the next has no part in it: RAISABLE, `evaluation`,
    `notes`, and `loss.target_std`, which may follow the data. A final fit has its source's.
    """
    final = read_final(run.directory)
    if final is not None:
        return final.identity
    raw = run.config.model_dump(mode="json", exclude={"notes", "evaluation"})
    for key in (*RAISABLE, "loss.target_std"):
        section, name = key.split(".")
        del raw[section][name]
    return config_fingerprint(from_dict(raw, str(run.directory)))[:12]


def check_judged(directory: Path) -> None:
    """Refuses to judge a final fit.

    Raises:
      UserError: names the run that can be judged in its place.
    """
    final = read_final(directory)
    if final is not None:
        raise UserError(
            f"{directory}: a final fit is trained on all rows, so that none are left to judge it by. Take the"
            f" run that chose its epochs: {os.path.normpath(directory / final.source)}."
        )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a checkpoint's numbers depend on."""
    return {"python": sys.version.split()[0]} | {name: packages.version(name) for name in PACKAGES}


@contextlib.contextmanager
def claim(
    directory: Path, config: Config, panel: Panel, *, resume: bool = False, overwrite: bool = False
) -> Iterator[bool]:
    """`directories.claim` of a run's directory.

    A run to go on with takes new settings of `evaluation`, which have no part in training, and higher ones of
    RAISABLE; the metrics of its evaluation, which are by the old ones, are removed.

    Raises:
      UserError: see `directories.claim`; or the run to go on with has another config or other data.
    """
    run = RunDirectory(directory)
    write, check = (partial(step, run, config, panel) for step in (_write, _check_same))
    with directories.claim(run, write, check, resume=resume, overwrite=overwrite) as goes_on:
        if goes_on:
            _bring_up_to_date(run, config, panel)
        yield goes_on


def _write(run: RunDirectory, config: Config, panel: Panel) -> None:
    write_json(run.config, config.model_dump(mode="json"))
    write_panel(run.path, panel)


def _bring_up_to_date(run: RunDirectory, config: Config, panel: Panel) -> None:
    """Writes the panel if a kill came before it was whole, and takes the settings that may change."""
    if not _has_panel(run):
        write_panel(run.path, panel)
    kept = run.read()
    raised = {"max_epochs": config.train.max_epochs, "patience": config.train.patience}
    train = kept.train.model_copy(update=raised)
    if kept.evaluation != config.evaluation or kept.train != train:
        run.evaluation.metrics.unlink(missing_ok=True)
        if kept.train != train:
            # Of parameters that may not stay the best ones.
            for path in run.interpretation.path.glob("*.csv"):
                path.unlink()
        kept = kept.model_copy(update={"evaluation": config.evaluation, "train": train})
        write_json(run.config, kept.model_dump(mode="json"))


def _has_panel(run: RunDirectory) -> bool:
    """Whether the panel has been written whole."""
    return run.roles.exists() or bool(checkpoint.epochs(run.checkpoints))


def _check_same(run: RunDirectory, config: Config, panel: Panel) -> None:
    """Refuses to go on with a run of another config or of other data."""
    changed = [
        f"\n  {key}: the run has {old!r}, now {new!r}{refused}"
        for key, old, new in changed_keys(run.read(), config)
        if (refused := _refused(run, config, key, old, new)) is not None
    ]
    if changed:
        raise UserError(
            f"{run.path}: --resume with a changed config:{''.join(changed)}\n"
            "Resume with the run's own config, or train under another --name."
        )
    stored = read_panel(run.path) if _has_panel(run) else panel
    if stored.fingerprint != panel.fingerprint:
        raise UserError(
            f"{run.path}: --resume with changed data: the run was trained on {len(stored.frame)} rows to "
            f"{stored.frame.index[-1].date()}, the data set now has {len(panel.frame)} to "
            f"{panel.frame.index[-1].date()}, or other values. Train under another --name."
        )


def _refused(run: RunDirectory, config: Config, key: str, old: Any, new: Any) -> str | None:
    """Why a run cannot go on with a new value, perhaps in no more words than that; None if it can."""
    if key == "notes" or key.startswith("evaluation."):
        return None
    # Before null, the default was "daily"; what it makes of the rows is compared with the data.
    if key == "data.frequency" and None in (old, new):
        return None
    if key not in RAISABLE:
        return ""
    if new < old:
        return " (it can be raised, not lowered: epochs that were trained stay)"
    if sweep_of(run.path) is not None:
        return " (a member of a sweep keeps the sweep's)"
    if key == "train.max_epochs" and config.train.schedule != "constant":
        return (
            f" (train.schedule {config.train.schedule!r} has spread the learning rate over the"
            f" {old} epochs: more of them would have had another from the start)"
        )
    return None


def read_config(directory: Path) -> Config:
    """Reads a run's config.

    Raises:
      UserError: no run, or a damaged config.
    """
    return RunDirectory(directory).read()


def checkpoint_metadata(config: Config, data: Data) -> dict:
    """Metadata of a checkpoint: enough to use its parameters without this package."""
    return {
        "config": config.model_dump(mode="json"),
        "config_fingerprint": config_fingerprint(config),
        "columns": {role: list(getattr(data.panel, role)) for role in ROLES},
        "target": data.panel.target,
        "encoding": encoding_to_json(data.encoding),
        "data_fingerprint": data.panel.fingerprint,
        "versions": versions(),
    }


def open_run(directory: Path, data: Data | None = None, functions: Functions = NO_FUNCTIONS) -> Run:
    """Opens a run with the best parameters of its newest whole checkpoint.

    Args:
      data: the run's data, if at hand; None reads the panel that the run stores.
      functions: functions that the run was made with; it opens without them.
    Raises:
      UserError: no run, no whole checkpoint, a config that was edited after training, or other functions.
    """
    config = read_config(directory)
    saved = checkpoint.restore_latest(RunDirectory(directory).checkpoints)
    if saved is None:
        raise UserError(f"{directory}: no checkpoint yet. Train it: python -m tftjax.train ... --resume")
    trained = from_dict(saved.metadata["config"], f"{directory}, checkpoint of epoch {saved.epoch}")
    changed = [
        key
        for key, _, _ in changed_keys(trained, config)
        if key.startswith(("model.", "data.split", "data.purge"))
    ]
    if changed:
        raise UserError(
            f"{RunDirectory(directory).config}: edited after training ({', '.join(changed)}). Bring back the "
            "values that the run was trained with, or train under another --name."
        )
    check_at_hand(config.functions, functions)
    if data is None:
        data = prepare(read_panel(directory), config, encoding_from_json(saved.metadata["encoding"]))
    best_epoch = int(saved.arrays["state"]["best_epoch"])
    return Run(directory, config, data, saved.arrays["params"], best_epoch, functions)
