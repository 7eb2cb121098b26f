"""Checkpoints of a run: a nested dict of named arrays, and JSON, written by Orbax; never a class.

`directory/<epoch>` holds the items `arrays` and `metadata`. Orbax alone reads it, without this package:

    import orbax.checkpoint as ocp
    items = ocp.args.Composite(arrays=ocp.args.PyTreeRestore(), metadata=ocp.args.JsonRestore())
    saved = ocp.Checkpointer(ocp.CompositeCheckpointHandler()).restore(path, args=items)

then `saved["arrays"]` is the nested dict and `saved["metadata"]` the JSON (non-finite numbers in Python's
spelling). Its key "checkpoint" holds the format version, the epoch and the sha256 of all names, arrays and
JSON. SHA256SUMS beside the items holds that of every file (`sha256sum -c SHA256SUMS`): damage is detected
and named before Orbax reads anything.

Names in the directory: `<n>` is the checkpoint of epoch n, always complete; `<n>.old` the same while it is
replaced; `<n>.new...` one that is being written; `<n>.trash` one that is being deleted. A kill at any moment
leaves a state that restores.
"""

import contextlib
import datetime
import functools
import hashlib
import json
import logging
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tftjax.errors import UserError

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
KEPT = 2  # newest checkpoints that stay besides the best: a damaged one has a substitute
_RECORD = "checkpoint"  # key of this module's own metadata
_SUMS = "SHA256SUMS"
_LEFTOVER = re.compile(r"\d+\.(trash|new(\.orbax-checkpoint-tmp.*)?)")


class Checkpoint(NamedTuple):
    """State after an epoch: a nested dict of numpy arrays, and the caller's JSON."""

    epoch: int
    arrays: dict[str, Any]
    metadata: dict[str, Any]


def save(directory: Path, epoch: int, arrays: dict, metadata: dict, *, best_epoch: int | None) -> None:
    """Writes the checkpoint of an epoch, whole or not at all, then deletes those that are no longer needed.

    The newest two and the best one stay. Checkpoints of later epochs go too: they belong to a continuation
    that was given up (or are damaged), and the newest must be the one to resume from.

    Args:
      directory: the folder of checkpoints, made if missing.
      epoch: the epoch's number, from 0; replaces a checkpoint of the same epoch.
      arrays: nested dict of numpy or jax arrays with at least one element each; keys are strings without
        "." or "/".
      metadata: what `json.dumps` takes, without the key "checkpoint".
      best_epoch: the epoch whose checkpoint stays however old it is, or None.
    Raises:
      KeyboardInterrupt: Ctrl-C came meanwhile; the checkpoint is written nevertheless.
      UserError: the directory cannot be written to (full, read-only, ...); earlier checkpoints are untouched.
      TypeError, ValueError: arrays or metadata of another form.
    """
    import orbax.checkpoint as ocp  # 0.3 s, which `--help` and plain model code need not pay

    directory = directory.resolve()
    arrays = _to_numpy(arrays, "arrays")
    if _RECORD in metadata:
        raise ValueError(f"metadata has the key {_RECORD!r}, which the checkpoint itself needs: rename it")
    metadata = json.loads(json.dumps(metadata))
    record = {"format_version": FORMAT_VERSION, "epoch": epoch, "sha256": _checksum(epoch, arrays, metadata)}
    items = ocp.args.Composite(
        arrays=ocp.args.PyTreeSave(arrays), metadata=ocp.args.JsonSave({**metadata, _RECORD: record})
    )
    target, old, new = (directory / f"{epoch}{suffix}" for suffix in ("", ".old", ".new"))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _clean(directory)
        with _quiet(), _interrupted_after():
            _checkpointer().save(new, args=items)
            (new / _SUMS).write_text("".join(f"{_file_sum(new / name)}  {name}\n" for name in _files(new)))
            if target.exists():
                target.rename(old)
            new.rename(target)
            _retain(directory, epoch, best_epoch)
            _clean(directory)
    except Exception as error:  # Orbax and TensorStore raise OSError, ValueError, ... for a full disk
        _clean_after_failure(directory)
        raise UserError(
            f"cannot write the checkpoint of epoch {epoch} in {directory}: {_reason(error)}. "
            "Free space or make the directory writable, then resume; earlier checkpoints are untouched."
        ) from error


def epochs(directory: Path) -> list[int]:
    """The epochs that have a checkpoint in the directory (perhaps a damaged one), ascending."""
    if not directory.is_dir():
        return []
    names = (re.fullmatch(r"(\d+)(\.old)?", path.name) for path in directory.iterdir() if path.is_dir())
    return sorted({int(name[1]) for name in names if name})


def written_on(directory: Path) -> datetime.date | None:
    """The day, in UTC, on which the newest checkpoint was written; None if Orbax did not record it."""
    try:
        path = directory / str(epochs(directory)[-1]) / "_CHECKPOINT_METADATA"
        seconds = json.loads(path.read_text(encoding="utf-8"))["commit_timestamp_nsecs"] / 1e9
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date()
    except (OSError, ValueError, LookupError, TypeError, OverflowError):
        return None  # a remark on a page, for which no damage is reported


def restore(directory: Path, epoch: int) -> Checkpoint:
    """Reads the checkpoint of an epoch, and verifies that it is exactly as saved.

    Raises:
      UserError: no checkpoint of this epoch, or a damaged one (a changed value, name, shape or dtype).
    """
    directory = directory.resolve()
    if epoch not in epochs(directory):
        known = ", ".join(map(str, epochs(directory))) or "none"
        raise UserError(f"no checkpoint of epoch {epoch} in {directory}; there are: {known}")
    path = _path(directory, epoch)
    try:
        return _read(path, epoch)
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes Orbax, TensorStore or json raise
        raise UserError(
            f"the checkpoint {path} is damaged: {_reason(error)}. Use another epoch's, or train again."
        ) from error


def restore_latest(directory: Path) -> Checkpoint | None:
    """Reads the newest whole checkpoint; None if there has never been one.

    Args:
      directory: the folder of checkpoints; may be missing.
    Raises:
      UserError: all checkpoints are damaged.
    """
    directory = directory.resolve()
    saved_epochs = epochs(directory)
    for epoch in reversed(saved_epochs):
        path = _path(directory, epoch)
        try:
            return _read(path, epoch)
        except UserError:
            raise
        except Exception as error:
            following = "using the one before" if epoch > saved_epochs[0] else "there is none before it"
            log.warning(f"checkpoint {path} is damaged ({_reason(error)}): {following}")
    if saved_epochs:
        raise UserError(
            f"none of the checkpoints in {directory} is whole (epochs {', '.join(map(str, saved_epochs))}): "
            "bring a copy back, or delete the directory and train again"
        )
    return None


def _read(path: Path, epoch: int) -> Checkpoint:
    import orbax.checkpoint as ocp

    try:
        _verify_files(path)
    except FileNotFoundError:
        raise
    except OSError as error:  # no right to read, a disk that fails: nothing says that the file is damaged
        raise UserError(
            f"the checkpoint {path} cannot be read ({error.strerror or error}: {error.filename}). Make it"
            " readable; nothing older is taken in its place."
        ) from error
    items = ocp.args.Composite(arrays=ocp.args.PyTreeRestore(), metadata=ocp.args.JsonRestore())
    with _quiet():
        saved = _checkpointer().restore(path, args=items)
    metadata = dict(saved["metadata"])
    record = metadata.pop(_RECORD)
    if record["format_version"] != FORMAT_VERSION:
        raise UserError(
            f"the checkpoint {path} has format version {record['format_version']}, this program reads "
            f"{FORMAT_VERSION}: use the version of tftjax that wrote it."
        )
    arrays = _to_numpy(saved["arrays"], "arrays")
    if record["epoch"] != epoch or record["sha256"] != _checksum(epoch, arrays, metadata):
        raise ValueError("its contents do not match their checksum")
    return Checkpoint(epoch, arrays, metadata)


def _files(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def _file_sum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _verify_files(path: Path) -> None:
    """Raises an error if a file is not as it was written.

    TensorStore checks too, but its failures leave threads behind that print tracebacks of their own.
    """
    sums = dict(reversed(line.split("  ", 1)) for line in (path / _SUMS).read_text().splitlines())
    if not sums:
        raise ValueError(f"{_SUMS} is empty")
    for name, expected in sums.items():
        if _file_sum(path / name) != expected:
            raise ValueError(f"the file {name} has changed or {_SUMS} has")


def _to_numpy(tree: dict, where: str) -> dict[str, Any]:
    """Copies a nested dict with numpy leaves; refuses what Orbax could not give back as it was."""
    copy = {}
    for key, value in tree.items():
        if not isinstance(key, str) or not key or "." in key or "/" in key:
            raise TypeError(
                f"key {key!r} in {where}: a checkpoint needs non-empty strings without '.' or '/'"
            )
        if isinstance(value, dict):
            copy[key] = _to_numpy(value, f"{where}[{key!r}]")
            continue
        leaf = np.asarray(value)
        if leaf.dtype.hasobject or leaf.dtype.kind in "SUMm" or leaf.size == 0:
            raise ValueError(
                f"{where}[{key!r}] is {leaf.dtype}{list(leaf.shape)}: a checkpoint needs a number or more"
            )
        copy[key] = leaf
    return copy


def _leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for key in sorted(tree):
        if isinstance(tree[key], dict):
            yield from _leaves(tree[key], f"{path}/{key}")
        else:
            yield f"{path}/{key}", tree[key]


def _checksum(epoch: int, arrays: dict[str, Any], metadata: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([epoch, metadata], sort_keys=True).encode())
    for path, leaf in _leaves(arrays):
        digest.update(f"\n{path} {leaf.dtype} {leaf.shape}\n".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _path(directory: Path, epoch: int) -> Path:
    """The directory of a checkpoint: `<n>.old` where a kill came during its replacement."""
    path = directory / str(epoch)
    return path if path.exists() else directory / f"{epoch}.old"


def _retain(directory: Path, epoch: int, best_epoch: int | None) -> None:
    present = epochs(directory)
    keep = {*[e for e in present if e <= epoch][-KEPT:], best_epoch}
    for old in present:
        if old not in keep:
            # Renamed first: a kill halfway must not leave half a checkpoint under a checkpoint's name.
            _path(directory, old).rename(directory / f"{old}.trash")


def _clean(directory: Path) -> None:
    """Deletes remains of killed or failed saves, and replaced checkpoints; nothing of any other name."""
    for path in directory.iterdir():
        replaced = path.name.endswith(".old") and path.stem.isdigit() and path.with_suffix("").exists()
        if path.is_dir() and (replaced or _LEFTOVER.fullmatch(path.name)):
            shutil.rmtree(path)


def _clean_after_failure(directory: Path) -> None:
    """Frees the space, repeatedly: TensorStore's threads may still be writing, and make directories anew."""
    for _ in range(10):
        with contextlib.suppress(OSError):
            _clean(directory)
        time.sleep(0.05)


@functools.cache
def _checkpointer():
    """The process's checkpointer. OCDBT, the fastest of Orbax's layouts, has few files, not two an array."""
    import orbax.checkpoint as ocp

    return ocp.Checkpointer(
        ocp.CompositeCheckpointHandler(
            arrays=ocp.PyTreeCheckpointHandler(use_ocdbt=True), metadata=ocp.JsonCheckpointHandler()
        )
    )


@contextlib.contextmanager
def _interrupted_after() -> Iterator[None]:
    """Holds Ctrl-C back to the end: Orbax's event loops lose it, or break halfway with other errors."""
    is_main = threading.current_thread() is threading.main_thread()  # signals come to no other thread
    if not is_main or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background
        yield
        return
    received = []
    previous = signal.signal(signal.SIGINT, lambda *_: received.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous or signal.default_int_handler)
    if received:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax's own lines off stderr for one call: its failures are raised, and reported in our words.

    When one of many writes fails, TensorStore's threads report the others to an event loop that is gone, and
    asyncio reports what nobody awaited: Python prints a traceback for each. These may come late, so after a
    failure both filters stay.
    """
    from absl import logging as absl_logging

    verbosity, hook = absl_logging.get_verbosity(), sys.unraisablehook
    loops = logging.getLogger("asyncio")

    def all_but_the_closed_loop(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    def all_but_what_nobody_awaited(record: logging.LogRecord) -> bool:
        return "exception was never retrieved" not in record.getMessage()

    sys.unraisablehook = all_but_the_closed_loop
    absl_logging.set_verbosity(absl_logging.FATAL)
    loops.addFilter(all_but_what_nobody_awaited)
    try:
        yield
        sys.unraisablehook = hook
        loops.removeFilter(all_but_what_nobody_awaited)
    finally:
        absl_logging.set_verbosity(verbosity)


def _reason(error: Exception) -> str:
    """The first line of an error, short enough for a message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
