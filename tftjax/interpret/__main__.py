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

        --attribution asks instead what the forecasts depend on: how much worse they are where an input is
        shuffled, their integrated gradients by input and day, and their quantiles by an input's value.
        """,
        "runs/balanced_01",
        "runs/penalty/members/*",
        "runs/penalty --config control --attribution",
    )
    parser.add_argument("run", type=Path, nargs="+", help="run directories, such as runs/balanced_01")
    parser.add_argument(
        "--attribution",
        action="store_true",
        help="what the forecasts of the test rows depend on, of a sweep's config with the spread over seeds",
    )
    parser.add_argument("--config", metavar="NAME", help="of a sweep, with --attribution: whose seeds")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Writes interpretation/: importance of variables, attention by lag and over time, regime shifts."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.config is not None and not arguments.attribution:
        parser.error("--config: only with --attribution; of a sweep's runs give the directories")

    def command() -> None:
        # Not before the flags are known to be right, and where Ctrl-C is caught: it takes a second.
        with importing():
            from tftjax import runtime
            from tftjax.interpret.attribution import attribute, text_of
            from tftjax.interpret.tables import interpret, table_of
            from tftjax.storage import runs
            from tftjax.storage.directories import ForecastDirectory
            from tftjax.sweep.ensembles import directory_of, open_runs

        runtime.configure()
        if arguments.attribution:
            for directory in arguments.run:
                seeds = open_runs(directory, arguments.config)
                place = ForecastDirectory(directory_of(seeds))
                print(text_of(attribute(seeds, place), place))
            return
        summaries = {}
        for directory in arguments.run:
            run = runs.open_run(directory)
            summaries[directory.name] = interpret(run)
        print(table_of(summaries))

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
