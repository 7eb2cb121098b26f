"""Train one run, from config to evaluation: `python -m tftjax.train configs/balanced_01.json`."""

import argparse
import json
import sys
from collections.abc import Sequence

from tftjax.cli import STOPPED, add_training_flags, command_parser, exit_code, training_flags


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "train",
        """
        Trains one config and judges what came out. The folder runs/NAME gets a checkpoint after every epoch,
        and at the end the forecasts of the validation and test rows beside baselines, with pictures. It ends
        when the validation loss has not fallen for train.patience epochs, or after train.max_epochs.

        Ctrl-C stops it without loss: --resume goes on.
        """,
        "configs/balanced_01.json",
        "configs/balanced_01.json --set train.max_epochs=5 --name short",
    )
    parser.add_argument("config", help="a JSON file, such as configs/balanced_01.json")
    add_training_flags(parser, "run", "the config's")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Trains one config, with checkpoints every epoch, and evaluates the result."""
    arguments = make_parser().parse_args(argv)
    # jax takes half a second to import: not before the flags are known to be right.
    from tftjax import runtime
    from tftjax.config.loading import load
    from tftjax.train.run import train

    runtime.configure()

    def command() -> None:
        named = [f"name={json.dumps(arguments.name)}"] if arguments.name is not None else []
        config = load(arguments.config, [*arguments.set, *named])
        train(config, arguments.runs / config.name, **training_flags(arguments))

    return exit_code(command, STOPPED)


if __name__ == "__main__":
    sys.exit(main())
