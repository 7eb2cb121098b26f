"""A run's directory: what lies in it, how it is made, replaced and opened.

config.json     the whole config, every default written out
init.json       what was taken from another run's parameters, where `train.init_from` names one
panel.csv       the data as the model saw it, so that a run can be evaluated without its source
panel.json      the columns' roles, and the panel's fingerprint
staleness.csv   days since the release of each low-frequency column's value, if there is one
metrics.jsonl   a line an epoch
checkpoints/    see checkpoint.py
evaluation/     metrics, predictions and plots
interpretation/ see interpret.py
report.html     see report.py
"""

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import NamedTuple

from tftjax.config.loading import Config, changed_keys, from_dict
from tftjax.config.loading import fingerprint as config_fingerprint
from tftjax.data.encoding import encoding_from_json, encoding_to_json
from tftjax.data.panel import PANEL_FILES, ROLES, Panel, read_panel, write_panel
from tftjax.data.prepared import Data, prepare
from tftjax.errors import UserError
from tftjax.files import write_json
from tftjax.storage import checkpoint

try:
    import fcntl
except ImportError:  # not on Windows, where two processes in one run are not kept apart
    fcntl = None

CONTENTS = (
    "config.json",
    *PANEL_FILES,
    "init.json",
    "metrics.jsonl",
    "checkpoints",
    "evaluation",
    "interpretation",
    "report.html",
    "lock",
)
MADE_FIRST = ("config.json",)  # by `create`
PACKAGES = ("tftjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pandas")


@dataclass(frozen=True)
class Run:
    """A trained run, opened: everything that evaluation and prediction need."""

    directory: Path
    config: Config
    data: Data
    parameters: dict
    best_epoch: int


class Ended(NamedTuple):
    """How a member ended.

    Attributes:
      status: "diverged", or the name of a stop rule.
      epoch: the epochs that count.
      best_epoch: the one of the lowest validation loss.
      message: why it diverged.
      evaluated: whether its evaluation is written.
    """

    status: str
    epoch: int
    best_epoch: int
    message: str = ""
    evaluated: bool = False


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a checkpoint's numbers depend on."""
    return {"python": sys.version.split()[0]} | {name: packages.version(name) for name in PACKAGES}


def create(directory: Path, config: Config, panel: Panel, *, overwrite: bool) -> None:
    """Makes a new run directory with its config and data.

    Args:
      overwrite: whether a run that lies there is removed first; nothing but a run ever is.
    Raises:
      UserError: something lies there, or it cannot be written.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        if not overwrite:
            raise UserError(
                f"{directory} exists. Go on with it (--resume), replace it (--overwrite), "
                "or choose another place (--name, --runs)."
            )
        _remove(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{directory}: cannot be made ({error.strerror}). Choose a writable folder with --runs."
        ) from error
    try:
        # The config first: by it a run is told from other folders.
        write_json(directory / "config.json", config.model_dump(mode="json"))
        write_panel(directory, panel)
    except UserError:
        shutil.rmtree(directory, ignore_errors=True)  # half a run would stand in the way of the next start
        raise


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Keeps a run directory for one process; the system frees it when the process ends, however it ends.

    Raises:
      UserError: another process is training there.
    """
    try:
        file = (directory / "lock").open("w")
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror}).") from error
    with file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{directory}: another process is training there. Wait for it, or choose another --name."
            ) from error
        yield


def foreign_files(directory: Path, own: tuple[str, ...] = CONTENTS) -> list[str]:
    """What lies in a directory under names that a run does not give; `.new` is being written."""
    return sorted(path.name for path in directory.iterdir() if path.name.removesuffix(".new") not in own)


def _is_half_made(directory: Path) -> bool:
    """Whether a kill interrupted `create` there: nothing was trained yet."""
    return not (directory / "config.json").exists() and not foreign_files(directory, MADE_FIRST)


def _remove(directory: Path) -> None:
    foreign = foreign_files(directory) if directory.is_dir() else [directory.name]
    if directory.is_symlink():
        foreign.append("a link")
    if not foreign and not _is_half_made(directory):
        try:
            read_config(directory)
        except UserError:
            foreign.append("no config.json that is tftjax's")
    if foreign:
        found = ", ".join(foreign)
        raise UserError(
            f"{directory}: --overwrite removes run directories only, and this is none (found {found}). "
            "Remove it yourself, or choose another place (--name, --runs)."
        )
    try:
        # config.json last: a kill halfway leaves what can still be told from a foreign directory.
        for path in sorted(directory.iterdir(), key=lambda path: path.name == "config.json"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        directory.rmdir()
    except OSError as error:
        raise UserError(f"{directory}: cannot be removed ({error.strerror}).") from error


def check_resumable(directory: Path, config: Config, panel: Panel) -> bool:
    """Says whether the directory holds a run to go on with; False if none was begun there.

    Settings of `evaluation` may have changed, as they have no part in training: the run takes the new ones,
    and what was evaluated by the old ones is marked as out of date by removing its metrics.json.

    Raises:
      UserError: it is no run, or config or data have changed (the changes are listed).
    """
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return False
    if not (directory / "config.json").is_file():
        # Only what was written before any training is ever removed: checkpoints are somebody's work.
        if directory.is_dir() and not directory.is_symlink() and _is_half_made(directory):
            shutil.rmtree(directory)
            return False
        raise UserError(f"{directory}: not a run (it has no config.json). Choose another --name or --runs.")
    kept = read_config(directory)
    changed = [change for change in changed_keys(kept, config) if change[0] != "notes"]
    in_training = [change for change in changed if not change[0].startswith("evaluation.")]
    if in_training:
        lines = [f"\n  {key}: the run has {old!r}, now {new!r}" for key, old, new in in_training]
        raise UserError(
            f"{directory}: --resume with a changed config:{''.join(lines)}\n"
            "Resume with the run's own config, or train under another --name."
        )
    if not (directory / "panel.json").exists() and not checkpoint.epochs(directory / "checkpoints"):
        write_panel(directory, panel)  # a kill came before it was complete
    stored = read_panel(directory)
    if stored.fingerprint != panel.fingerprint:
        raise UserError(
            f"{directory}: --resume with changed data: the run was trained on {len(stored.frame)} rows to "
            f"{stored.frame.index[-1].date()}, the data set now has {len(panel.frame)} to "
            f"{panel.frame.index[-1].date()}, or other values. Train under another --name."
        )
    if changed:
        (directory / "evaluation" / "metrics.json").unlink(missing_ok=True)
        kept = kept.model_copy(update={"evaluation": config.evaluation})
        write_json(directory / "config.json", kept.model_dump(mode="json"))
    return True


def read_config(directory: Path) -> Config:
    """Reads a run's config.

    Raises:
      UserError: the directory is missing, no run, or damaged.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise UserError(
            f"{directory}: not a run (it has no config.json). Give a directory that tftjax.train made."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
        return from_dict(content, str(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}). Bring a copy back, or train again.") from error


def checkpoint_metadata(config: Config, data: Data) -> dict:
    """What a checkpoint tells beside its arrays: enough to use the parameters without this package."""
    return {
        "config": config.model_dump(mode="json"),
        "config_fingerprint": config_fingerprint(config),
        "columns": {role: list(getattr(data.panel, role)) for role in ROLES},
        "target": data.panel.target,
        "encoding": encoding_to_json(data.encoding),
        "data_fingerprint": data.panel.fingerprint,
        "versions": versions(),
    }


def open_run(directory: Path, say=print, data: Data | None = None) -> Run:
    """Opens a run with the best parameters of its newest whole checkpoint.

    Args:
      say: called with messages.
      data: the run's, if at hand; None reads what the run stores.
    Raises:
      UserError: no run, no checkpoint yet, none that is whole, or another model than the config's.
    """
    config = read_config(directory)
    saved = checkpoint.restore_latest(directory / "checkpoints", say)
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
            f"{directory / 'config.json'}: edited after training ({', '.join(changed)}). Bring back the "
            "values that the run was trained with, or train under another --name."
        )
    if data is None:
        data = prepare(read_panel(directory), config, encoding_from_json(saved.metadata["encoding"]))
    return Run(directory, config, data, saved.arrays["params"], int(saved.arrays["state"]["best_epoch"]))
