"""Reading JSON, writing files whole or not at all, and keeping them for one process."""

import contextlib
import difflib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tftjax.errors import UserError, cut

if TYPE_CHECKING:
    import pandas as pd


def near(path: Path) -> str:
    """The names beside a path that does not exist, up to five like it first, as part of a sentence."""
    folder = path.parent
    if not folder.is_dir():
        return f" (there is no folder {folder} either)"
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    nearest = difflib.get_close_matches(path.name, names, n=5, cutoff=0.4) or names[:10]
    return f" (in {folder} there are: {', '.join(nearest)})" if nearest else f" ({folder} is empty)"


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
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}). {remedy}") from error


def check(content: Any, form: Any, where: Path | str, remedy: str) -> Any:
    """Checks what JSON held against a type, and returns it as one: of a named tuple's fields, the tuple.

    Args:
      form: anything that pydantic knows; no value is taken for one of another type.
      where: what the error's message calls the content.
      remedy: advice in the error's message, a sentence.
    Raises:
      UserError: names the first key that is missing or of another type.
    """
    import pydantic

    try:
        return pydantic.TypeAdapter(form).validate_python(content, strict=True)
    except pydantic.ValidationError as error:
        detail = error.errors(include_url=False)[0]
        key = ".".join(map(str, detail["loc"]))
        found = f"found {cut(json.dumps(detail['input'], default=str))}: {detail['msg']}"
        found = "missing" if detail["type"] in ("missing", "missing_argument") else found
        raise UserError(f"{where}: damaged{f', key {key}' if key else ''}: {found}. {remedy}") from error


def read_csv(
    path: Path,
    remedy: str,
    *,
    texts: Sequence[str] = (),
    numbers: Sequence[str] = (),
    dates: Sequence[str] = (),
    as_text: Sequence[str] = (),
    is_number: Callable[[str], bool] = lambda name: False,
) -> "pd.DataFrame":
    """Reads a table that this package wrote.

    Only an empty cell is a missing value: a series may be called NA, null or nan.

    Args:
      remedy: advice in the error's message, a sentence.
      texts, dates: columns that have a value in every row.
      numbers: columns that may lack values.
      as_text: columns that need not be there; their cells are not taken for numbers.
      is_number: tells other columns of numbers, by name, which need not be there.
    Raises:
      UserError: the file is missing or damaged; names the column.
    """
    import pandas as pd  # 0.3 s, which who only writes need not pay

    try:
        text = dict.fromkeys((*texts, *dates, *as_text), str)
        table = pd.read_csv(path, keep_default_na=False, na_values=[""], low_memory=False, dtype=text)
        lacking = [name for name in (*texts, *numbers, *dates) if name not in table]
        if lacking:
            raise ValueError(f"no column {', '.join(lacking)}")
        for name in (*numbers, *filter(is_number, table)):
            if table[name].dtype.kind not in "iuf":
                raise ValueError(f"column {name}: something other than a number")
        for name in (*texts, *dates):
            if table[name].isna().any():
                raise ValueError(f"column {name}: an empty cell")
        for name in dates:
            days = pd.to_datetime(table[name], format="%Y-%m-%d", errors="coerce")
            if days.isna().any():
                raise ValueError(f"column {name}: {cut(table[name][days.isna()].iloc[0])!r} is no date")
            table[name] = days
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}). {remedy}") from error
    return table


def check_picture(path: Path, *, overwrite: bool | None = None) -> None:
    """Refuses a place for a picture that has something already, or whose name is no PNG's.

    Args:
      overwrite: whether a file there is replaced; None: the command has no such flag.
    Raises:
      UserError: names the path.
    """
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: not a picture's name. Give the path of a .png file.")
    if path.exists() and not overwrite:
        advice = "remove it" if overwrite is None else "replace it: --overwrite"
        raise UserError(f"{path} exists. Choose another file, or {advice}.")


def write_json(path: Path, content: dict) -> None:
    """Writes JSON whole or not at all: to a file beside it, renamed when complete."""
    replace_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Replaces a file in one step; see `replace_file`."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Replaces a file in one step, so that a kill or a loss of power leaves the old content or the new.

    Args:
      write: writes the new content to a path.
    Raises:
      UserError: the disk is full or read-only.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.unlink(missing_ok=True)  # what a kill left, or a link that leads elsewhere
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
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
