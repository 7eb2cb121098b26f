"""Train on the simulated data that come with the software, and say what came out: `python -m tftjax.demo`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tftjax.cli import STOPPED, command_parser, exit_code, importing

CONFIG = {
    "name": "demo",
    "notes": "simulated next-day returns (GJR-GARCH), in units of their moving volatility",
    "data": {"dataset": "synthetic", "target_scale": "ewma"},
    "train": {"learning_rate": 2e-3, "max_epochs": 12, "patience": 4},
}


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "demo",
        """
        Trains on simulated daily returns, which come with the software, for about half a minute, and shows
        the forecast beside its baselines, then the verdict. Writes runs/demo with a page to look at. The
        returns follow GJR-GARCH with Student's t: no forecast can be better than that one.
        """,
        "",
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of runs; default: runs"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier demo")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Trains on simulated returns for some seconds, and shows the forecast beside its baselines."""
    arguments = make_parser().parse_args(argv)

    def command() -> None:
        # Not before the flags are known to be right, and where Ctrl-C is caught: it takes a second.
        with importing():
            from tftjax import runtime
            from tftjax.config.loading import from_dict
            from tftjax.evaluate.tables import Summary, against_baselines
            from tftjax.evaluate.verdict import in_paragraphs
            from tftjax.report.kinds import report
            from tftjax.train.run import train

        runtime.configure()
        directory = arguments.runs / "demo"
        print(f"training on simulated returns into {directory}: about half a minute", flush=True)
        metrics = train(from_dict(CONFIG, "demo"), directory, overwrite=arguments.overwrite, quiet=True)
        test = metrics["test"]
        (page,) = report([directory])
        parts = [
            against_baselines(test, "Test rows"),
            f"all of it on a page: {page}",
            *in_paragraphs(test),
            "your own table: tftjax init my.csv",
        ]
        print("\n" + Summary("", parts).terminal())

    return exit_code(command, STOPPED)


if __name__ == "__main__":
    sys.exit(main())
