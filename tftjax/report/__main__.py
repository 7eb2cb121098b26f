"""Write report.html into runs, sweeps, walk-forwards, folders: `python -m tftjax.report DIRECTORY...`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tftjax.cli import command_parser, exit_code, importing


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "report",
        """
        Writes report.html into the folder of each run, sweep or walk-forward: one page, the verdict first,
        that needs no other file and opens in any browser. In a folder of them, it is an index of their
        verdicts, with links to their pages.
        """,
        "runs/balanced_01",
        "runs",
    )
    parser.add_argument(
        "directory", type=Path, nargs="+", help="such as runs/balanced_01, or runs for an index of all in it"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Writes report.html into each directory."""
    arguments = make_parser().parse_args(argv)

    def command() -> None:
        # Not before the flags are known to be right, and where Ctrl-C is caught: it takes a second.
        with importing():
            from tftjax import runtime
            from tftjax.report.kinds import report

        runtime.configure()
        for path in report(arguments.directory):
            print(path)

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
