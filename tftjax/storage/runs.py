"""Runs: begun, gone on with, and opened."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata as packages
from pathlib import Path
from typing import Any, NamedTuple

from tftjax.config.functions import NO_FUNCTIONS, Functions, check_at_hand
from tftjax.config.loading import Config, changed_keys, digest, from_dict
from tftjax.config.loading import fingerprint as config_fingerprint
from tftjax.data.encoding import encoding_from_json, encoding_to_json
from tftjax.data.newest import written_like
from tftjax.data.panel import ROLES, Panel, read_panel, write_panel
from tftjax.data.prepared import AFTER_LOADING, Data, prepare
from tftjax.errors import UserError, both
from tftjax.files import check, read_json, write_json
from tftjax.storage import checkpoint, directories
from tftjax.storage.directories import RunDirectory, SweepDirectory, sweep_of

RAISABLE = ("train.max_epochs", "train.patience")  # decide when training ends, and nothing before that
AFTER_TRAINING = ("functions.metrics", "functions.baselines")  # judge what came out, and nothing before that
# What a retraining of a config may change: which rows are read and when they end, and what follows from them.
RETRAINING = (
    *RAISABLE,
    "data.dataset",
    "data.start",
    "data.end",
    "data.split_dates",
    "data.events",
    "loss.target_std",
    *AFTER_TRAINING,
)
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
    """The end of a member's training.

    Attributes:
      status: "diverged", the name of a stop rule, or "pruned" in a search.
      epoch: number of epochs trained; of a member that diverged, up to the last good one.
      best_epoch: the epoch of the lowest validation loss.
      message: why the member diverged or was pruned; else empty.
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

    It is of the settings that differ from their defaults, so that a setting that a later version adds leaves
    it as it is. What may change from one training of a config to the next has no part in it: `RETRAINING`,
    `evaluation`, `notes` and `name`, which stands beside it. A final fit has its source's.
    """
    final = read_final(run.directory)
    if final is not None:
        return final.identity
    sections = run.config.model_dump(
        mode="json", exclude_defaults=True, exclude={"notes", "name", "evaluation"}
    )
    settings = {f"{name}.{key}": value for name, values in sections.items() for key, value in values.items()}
    return digest({key: value for key, value in settings.items() if key not in RETRAINING})[:12]


def check_judged(directory: Path) -> None:
    """Refuses to judge a final fit.

    Raises:
      UserError: names the run that can be judged in its place.
    """
    final = read_final(directory)
    if final is None:
        return
    source = source_of(directory, final)
    advice = f"Take the run that chose its epochs: {source}."
    if not source.is_dir():
        advice = f"The run that chose its epochs is no longer in {source}: take that, wherever it is now."
    raise UserError(
        f"{directory}: a final fit is trained on all rows, so that none are left to judge it by. {advice}"
    )


def path_to_source(source: Path, directory: Path) -> str:
    """`Final.source`: the way from a final fit's directory, so that both can be moved together."""
    return os.path.relpath(source.resolve(), directory.resolve())


def source_of(directory: Path, final: Final) -> Path:
    """The directory of the run that a final fit comes from, wherever Python or a command was started."""
    return (directory.resolve() / final.source).resolve()


def copy(run: Run, directory: Path) -> Run:
    """Copies a run into another directory, whose name becomes its own, and opens it there.

    Raises:
      UserError: something lies there, or the name is none of a run.
    """
    raw = read_config(run.directory).model_dump(mode="json") | {"name": directory.name}
    config = from_dict(raw, f"the copy of {run.directory}")
    copy_folder(run.directory, directory)
    write_json(RunDirectory(directory).config, config.model_dump(mode="json"))
    return open_run(directory, run.data, run.functions)


def copy_folder(folder: Path, target: Path) -> None:
    """Copies a run's, a sweep's or a walk-forward's directory; a final fit still knows what it comes from.

    Raises:
      UserError: something lies there.
    """
    if target.exists():
        raise UserError(f"{target} exists. Choose another place.")
    shutil.copytree(folder, target)
    for part in (target, *(run.path for run in SweepDirectory(target).runs())):
        final, before = read_final(part), folder / part.relative_to(target)
        if final is not None:
            final = final._replace(source=path_to_source(source_of(before, final), part))
            write_json(RunDirectory(part).final, final._asdict())


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a checkpoint's numbers depend on; and 64 bits, where on."""
    import jax  # half a second, which reading a run need not pay

    found = {"python": sys.version.split()[0]} | {name: packages.version(name) for name in PACKAGES}
    return found | ({"JAX_ENABLE_X64": "1"} if jax.config.jax_enable_x64 else {})


@contextlib.contextmanager
def claim(
    directory: Path,
    config: Config,
    panel: Panel,
    *,
    resume: bool = False,
    overwrite: bool = False,
    like: Path | None = None,
) -> Iterator[bool]:
    """`directories.claim` of a run's directory; `like` is a run's that was claimed for the same panel.

    A run to go on with takes new settings of `evaluation`, and other metrics and baselines, which have no
    part in training, and higher ones of RAISABLE; the metrics of its evaluation, which are by the old ones,
    are removed.

    Raises:
      UserError: see `directories.claim`; or the run to go on with has another config or other data.
    """
    run = RunDirectory(directory)
    write, check = partial(_write, run, config, panel, like), partial(_check_same, run, config, panel)
    with directories.claim(run, write, check, resume=resume, overwrite=overwrite) as goes_on:
        if goes_on:
            _bring_up_to_date(run, config, panel)
        yield goes_on


def _write(run: RunDirectory, config: Config, panel: Panel, like: Path | None) -> None:
    write_json(run.config, config.model_dump(mode="json"))
    write_panel(run.path, panel, like)


def _bring_up_to_date(run: RunDirectory, config: Config, panel: Panel) -> None:
    """Writes the panel if a kill came before it was whole, and takes the settings that may change."""
    if not _has_panel(run):
        write_panel(run.path, panel)
    kept = run.read()
    raised = {"max_epochs": config.train.max_epochs, "patience": config.train.patience}
    train = kept.train.model_copy(update=raised)
    judged = {"evaluation": config.evaluation, "functions": config.functions}
    if kept != kept.model_copy(update=judged) or kept.train != train:
        run.evaluation.metrics.unlink(missing_ok=True)
        if kept.train != train:
            # Of parameters that may not stay the best ones.
            for path in run.interpretation.path.glob("*.csv"):
                path.unlink()
        kept = kept.model_copy(update=judged | {"train": train})
        write_json(run.config, kept.model_dump(mode="json"))


def panel_to_go_on(directory: Path, panel: Panel) -> Panel:
    """The panel as the run in a directory, if there is one to go on with, writes it; see `written_like`."""
    run = RunDirectory(directory)
    return written_like(read_panel(directory), panel) if _has_panel(run) else panel


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
            f"{run.path}: {both('--resume')}, with a changed config:{''.join(changed)}\n"
            f"Resume with the run's own config, or train under another {both('--name')}."
        )
    stored = read_panel(run.path) if _has_panel(run) else panel
    if stored.fingerprint != panel.fingerprint:
        raise UserError(
            f"{run.path}: {both('--resume')}, with changed data: the run was trained on {len(stored.frame)}"
            f" rows to {stored.frame.index[-1].date()}, the data set now has {len(panel.frame)} to "
            f"{panel.frame.index[-1].date()}, or other values. Train under"
            f" another {both('--name')}."
        )


def _refused(run: RunDirectory, config: Config, key: str, old: Any, new: Any) -> str | None:
    """Why a run cannot go on with a new value, perhaps in no more words than that; None if it can."""
    if has_no_part(key, old, new):
        return None
    if key.startswith("functions."):
        return " (SHA-256 of the source): hand in the function that the run was made with"
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


def has_no_part(key: str, old: Any, new: Any) -> bool:
    """Whether a change of a setting has no part in what a training makes of its data."""
    # Before null, the default was "daily"; what it makes of the rows is compared with the data.
    found = key == "data.frequency" and None in (old, new)
    return found or key in ("notes", *AFTER_TRAINING) or key.startswith("evaluation.")


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
        raise UserError(f"{directory}: no checkpoint yet. Go on with its training ({both('--resume')}).")
    check_own_config(directory, saved, config)
    check_at_hand(config.functions, functions)
    if data is None:
        data = prepare(read_panel(directory), config, encoding_from_json(saved.metadata["encoding"]))
    check_own_data(directory, saved, data)
    best_epoch = int(saved.arrays["state"]["best_epoch"])
    return Run(directory, config, data, saved.arrays["params"], best_epoch, functions)


def check_own_config(directory: Path, saved: checkpoint.Checkpoint, config: Config) -> None:
    """Refuses a checkpoint of another config than the run's, such as one that was copied in.

    Args:
      directory: the run's directory.

    Raises:
      UserError: names the settings that differ.
    """
    trained = from_dict(saved.metadata["config"], f"{directory}, checkpoint of epoch {saved.epoch}")
    changed = [
        key
        for key, old, new in changed_keys(trained, config)
        # A copy has a name of its own; for what the rows are made of stands the fingerprint of the data.
        if key not in ("name", *RAISABLE)
        and not has_no_part(key, old, new)
        and (not key.startswith("data.") or key.split(".")[1] in AFTER_LOADING)
    ]
    if changed:
        raise UserError(
            f"{RunDirectory(directory).config}: edited after training, or the checkpoint of epoch"
            f" {saved.epoch} is another run's ({', '.join(changed)}). Bring back what the run was trained"
            f" with, or train under another {both('--name')}."
        )


def check_own_data(directory: Path, saved: checkpoint.Checkpoint, data: Data) -> None:
    """Refuses a checkpoint of other data than the run's.

    Args:
      directory: the run's directory.

    Raises:
      UserError: names the checkpoint.
    """
    if saved.metadata["data_fingerprint"] != data.panel.fingerprint:
        raise UserError(
            f"{RunDirectory(directory).checkpoints}: the checkpoint of epoch {saved.epoch} was trained on"
            f" other data than {directory} has, so it is another run's. Bring back the run's own, or train"
            f" under another {both('--name')}."
        )
