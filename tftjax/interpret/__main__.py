"""Tables and pictures of what runs select and attend to: `python -m tftjax.interpret runs/NAME`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tftjax import runtime
from tftjax.cli import command_parser, exit_code
from tftjax.interpret.tables import interpret, table_of
from tftjax.storage import runs


def main(argv: Sequence[str] | None = None) -> int:
    """Writes interpretation/: importance of variables, attention by lag and over time, regime shifts."""
    parser = command_parser("interpret", main.__doc__, "runs/balanced_01")
    parser.add_argument("run", type=Path, nargs="+", help="run directories, such as runs/balanced_01")
    arguments = parser.parse_args(argv)
    runtime.configure()

    def command() -> None:
        summaries = {}
        for directory in arguments.run:
            run = runs.open_run(directory)
            summaries[directory.name] = interpret(run)
        print(table_of(summaries))

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
