"""Write report.html into runs, sweeps or walk-forwards: `python -m tftjax.report DIRECTORY...`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tftjax.cli import command_parser, exit_code
from tftjax.report.kinds import report


def main(argv: Sequence[str] | None = None) -> int:
    """Writes report.html into the directory of each run, sweep or walk-forward."""
    parser = command_parser("report", main.__doc__, "runs/balanced_01")
    parser.add_argument("directory", type=Path, nargs="+", help="such as runs/balanced_01")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: [print(path) for path in report(arguments.directory)])


if __name__ == "__main__":
    sys.exit(main())
