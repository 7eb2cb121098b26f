"""Train one run, from config to evaluation: `python -m tftjax.train configs/balanced_01.json`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tftjax import runtime
from tftjax.cli import STOPPED, exit_code
from tftjax.config.loading import load
from tftjax.train.run import train


def main(argv: Sequence[str] | None = None) -> int:
    """Trains one config, with checkpoints every epoch, and evaluates the result."""
    parser = argparse.ArgumentParser(prog="python -m tftjax.train", description=main.__doc__)
    parser.add_argument("config", help="a JSON file, such as configs/balanced_01.json")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="train.max_epochs=5")
    parser.add_argument("--name", help="name of the run; default: the config's")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs; default: runs")
    exclusive = parser.add_mutually_exclusive_group()
    exclusive.add_argument("--resume", action="store_true", help="go on where the run stopped")
    exclusive.add_argument("--overwrite", action="store_true", help="replace the run of this name")
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")
    arguments = parser.parse_args(argv)
    runtime.configure()

    def command() -> None:
        named = [f"name={json.dumps(arguments.name)}"] if arguments.name is not None else []
        config = load(arguments.config, [*arguments.set, *named])
        train(
            config,
            arguments.runs / config.name,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            quiet=arguments.quiet,
        )

    return exit_code(command, STOPPED)


if __name__ == "__main__":
    sys.exit(main())
