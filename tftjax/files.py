"""Writing files whole or not at all."""

import contextlib
import json
import os
from pathlib import Path

from tftjax.config_errors import UserError


def write_json(path: Path, content: dict) -> None:
    """Writes JSON whole or not at all: to a file beside it, renamed when complete."""
    replace_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Replaces a file in one step, so that a kill leaves the old content or the new.

    Raises:
      UserError: the disk is full or read-only.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # what forbids writing may forbid this too
            temporary.unlink(missing_ok=True)
        raise UserError(
            f"{path}: cannot be written ({error.strerror}). Free space or choose another folder."
        ) from error
