"""Tables and pictures of what runs select and attend to: `python -m tftjax.interpret runs/NAME`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tftjax.cli import command_parser, exit_code, importing


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "interpret",
        """
        Shows what trained runs select and attend to: the importance of each input, attention by lag, head and
        date, and how regimes differ. Writes tables and pictures into runs/NAME/interpretation, and prints one
        table of all runs that were given.
        """,
        "runs/balanced_01",
        "runs/penalty/members/*",
    )
    parser.add_argument("run", type=Path, nargs="+", help="run directories, such as runs/balanced_01")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Writes interpretation/: importance of variables, attention by lag and over time, regime shifts."""
    arguments = make_parser().parse_args(argv)

    def command() -> None:
        # Not before the flags are known to be right, and where Ctrl-C is caught: it takes a second.
        with importing():
            from tftjax import runtime
            from tftjax.interpret.tables import interpret, table_of
            from tftjax.storage import runs

        runtime.configure()
        summaries = {}
        for directory in arguments.run:
            run = runs.open_run(directory)
            summaries[directory.name] = interpret(run)
        print(table_of(summaries))

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
