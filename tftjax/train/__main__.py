"""Train one run, from config to evaluation: `python -m tftjax.train configs/balanced_01.json`."""

import argparse
import json
import sys
from collections.abc import Sequence

from tftjax import runtime
from tftjax.cli import STOPPED, add_training_flags, exit_code, training_flags
from tftjax.config.loading import load
from tftjax.data.loading import load_panel
from tftjax.storage import runs
from tftjax.train.run import check_same_config, refit, train


def main(argv: Sequence[str] | None = None) -> int:
    """Trains one config, with checkpoints every epoch, and evaluates the result; or its final fit."""
    parser = argparse.ArgumentParser(prog="python -m tftjax.train", description=main.__doc__)
    parser.add_argument("config", help="a JSON file, such as configs/balanced_01.json")
    add_training_flags(parser, "run", "the config's")
    parser.add_argument(
        "--final",
        action="store_true",
        help="after a run of this config: train it anew on all rows, for daily use, into NAME-final",
    )
    arguments = parser.parse_args(argv)
    runtime.configure()

    def command() -> None:
        named = [f"name={json.dumps(arguments.name)}"] if arguments.name is not None else []
        config = load(arguments.config, [*arguments.set, *named])
        directory = arguments.runs / config.name
        if arguments.final:
            run = runs.open_run(directory)
            check_same_config(config, run)
            place = directory.with_name(f"{directory.name}-final")
            refit(run, place, panel=load_panel(config.data), **training_flags(arguments))
        else:
            train(config, directory, **training_flags(arguments))

    return exit_code(command, STOPPED)


if __name__ == "__main__":
    sys.exit(main())
