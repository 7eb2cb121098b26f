"""Train on the data that comes with the software, and say what came out: `python -m tftjax.demo`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tftjax import runtime
from tftjax.cli import STOPPED, command_parser, exit_code
from tftjax.config.loading import from_dict
from tftjax.evaluate.tables import Summary, against_baselines
from tftjax.evaluate.verdict import opening
from tftjax.report.kinds import report
from tftjax.train.run import train

CONFIG = {
    "name": "demo",
    "notes": "next-day S&P 500 returns, 1990 to 2018, in units of their moving volatility",
    "data": {"target_scale": "ewma"},
    "train": {"learning_rate": 2e-3, "max_epochs": 12, "patience": 4},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Trains on next-day S&P 500 returns for some seconds, and shows the forecast beside its baselines."""
    parser = command_parser("demo", main.__doc__, "--runs runs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs; default: runs")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier demo")
    arguments = parser.parse_args(argv)
    runtime.configure()

    def command() -> None:
        directory = arguments.runs / "demo"
        print(f"training on the embedded data into {directory}: about half a minute", flush=True)
        metrics = train(from_dict(CONFIG, "demo"), directory, overwrite=arguments.overwrite, quiet=True)
        test = metrics["test"]
        print("\n" + Summary("", [*opening(test), against_baselines(test, "Test rows")]).terminal())
        (page,) = report([directory])
        print(f"\nall of it on a page: {page}\nyour own table: tftjax init my.csv")

    return exit_code(command, STOPPED)


if __name__ == "__main__":
    sys.exit(main())
