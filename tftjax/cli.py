"""What every command shares: exit codes, and what is said after Ctrl-C."""

import logging
import sys
from collections.abc import Callable

from tftjax.errors import UserError

# What a command that trains says after Ctrl-C.
STOPPED = (
    "\nstopped; the same command with --resume (in place of --overwrite) goes on from the last finished epoch"
)


class Messages(logging.Handler):
    """Prints what the package logs to standard error, as it is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a message."""
        print(self.format(record), file=sys.stderr)


def exit_code(command: Callable[[], object], stopped: str | None = None) -> int:
    """Runs a command: 0 if it ends well, 2 after an error that the user can mend, 130 after Ctrl-C.

    Args:
        stopped: what to say after Ctrl-C.
    """
    logger = logging.getLogger("tftjax")
    if not any(isinstance(handler, Messages) for handler in logger.handlers):
        logger.addHandler(Messages())
    try:
        command()
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if stopped:
            print(stopped, file=sys.stderr)
        return 130
    return 0
