"""The error that a user can mend, and how what was found is shown in it."""

from collections.abc import Iterable


class UserError(Exception):
    """A mistake the user can mend; the message names the place, the fault, the expectation and the remedy."""


# What stands for a command's flag in Python, where it is not the keyword of its name.
IN_PYTHON = {
    "--resume": "resume=True",
    "--overwrite": "overwrite=True",
    "--name": "directory=",
    "--name, --runs": "directory=",
    "--final": "run.refit()",
    "--warm-start": "warm_start=True",
    "--sample": "num_samples=",
}


def both(flag: str) -> str:
    """A flag of a command and what stands for it in Python, for a message that either may get.

    >>> both("--as-of"), both("--resume")
    ('--as-of, in Python as_of=', '--resume, in Python resume=True')
    """
    keyword = flag.removeprefix("--").replace("-", "_") + "="
    return f"{flag}, in Python {IN_PYTHON.get(flag, keyword)}"


def cut(text: str, length: int = 80) -> str:
    """A text for a message; of a long one, such as after a quote that is never closed, its beginning.

    >>> cut("a" * 100, 3), cut("abc", 3)
    ('aaa ... (100 characters)', 'abc')
    """
    return text if len(text) <= length else f"{text[:length]} ... ({len(text)} characters)"


def listed(names: Iterable[object]) -> str:
    """Names for a message, divided by commas; of very many, or of endless ones, the beginning."""
    return cut(", ".join(map(str, names)), 500)
