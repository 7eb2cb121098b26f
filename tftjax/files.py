"""Reading JSON, writing files whole or not at all, and keeping them for one process."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tftjax.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Reads an object.

    Args:
      remedy: advice in the error's message, a sentence.
    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
        return content
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}). {remedy}") from error


def read_csv(path: Path, **keywords: Any) -> "pd.DataFrame":
    """Reads a table that this package wrote, by pandas' `read_csv` with `keywords`.

    Only an empty cell is a missing value: a series may be called NA, null or nan.
    """
    import pandas as pd  # 0.3 s, which who only writes need not pay

    return pd.read_csv(path, keep_default_na=False, na_values=[""], **keywords)


def write_json(path: Path, content: dict) -> None:
    """Writes JSON whole or not at all: to a file beside it, renamed when complete."""
    replace_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Replaces a file in one step; see `replace_file`."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Replaces a file in one step, so that a kill leaves the old content or the new.

    Args:
      write: writes the new content to a path.
    Raises:
      UserError: the disk is full or read-only.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.unlink(missing_ok=True)  # what a kill left, or a link that leads elsewhere
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # what forbids writing may forbid this too
            temporary.unlink(missing_ok=True)
        raise UserError(
            f"{path}: cannot be written ({error.strerror}). Free space or choose another folder."
        ) from error


@contextlib.contextmanager
def lock(path: Path, seconds: float, busy: str) -> Iterator[None]:
    """Keeps what a lock file stands for; the system frees it when the process ends, however it ends.

    Args:
      path: the lock file; it stays where it is.
      seconds: how long to wait for another process.
      busy: the error's text if that was in vain.
    Raises:
      UserError: another process has it, or it cannot be written.
    """
    import filelock  # 0.05 s, which who only reads need not pay

    if path.is_symlink():
        raise UserError(f"{path}: is a link, expected a file. Remove it.")
    held = filelock.FileLock(path, timeout=seconds)
    try:
        held.acquire()
    except filelock.Timeout as error:
        raise UserError(busy) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}). Choose a writable folder.") from error
    try:
        yield
    finally:
        held.release()
