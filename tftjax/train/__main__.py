"""Train one run, from config to evaluation: `python -m tftjax.train configs/balanced_01.json`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tftjax.cli import STOPPED, add_training_flags, command_parser, exit_code, importing, training_flags


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
        "configs/balanced_01.json --final",
        "configs/balanced_01.json --find-learning-rate rates.png",
    )
    parser.add_argument("config", help="a JSON file, such as configs/balanced_01.json")
    add_training_flags(parser, "run", "the config's")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--final",
        action="store_true",
        help="after a run of this config: train it anew on all rows, with the run's settings, for daily use,"
        " into NAME-final",
    )
    instead.add_argument(
        "--find-learning-rate",
        type=Path,
        metavar="PNG",
        help="train a few hundred steps at rates that grow, draw the loss, suggest a rate; keep nothing else",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Trains one config, with checkpoints every epoch, and evaluates the result; or its final fit."""
    arguments = make_parser().parse_args(argv)

    def command() -> None:
        # Not before the flags are known to be right, and where Ctrl-C is caught: it takes a second.
        with importing():
            from tftjax import runtime
            from tftjax.config.loading import load
            from tftjax.data.loading import load_panel
            from tftjax.storage import runs
            from tftjax.train.run import check_same_settings, find_learning_rate, refit, train

        runtime.configure()
        named = [f"name={json.dumps(arguments.name)}"] if arguments.name is not None else []
        config = load(arguments.config, [*arguments.set, *named])
        directory = arguments.runs / config.name
        if arguments.final:
            run = runs.open_run(directory)
            check_same_settings(config, run, [text.partition("=")[0] for text in arguments.set])
            place = directory.with_name(f"{directory.name}-final")
            refit(run, place, panel=load_panel(run.config.data), **training_flags(arguments))
        elif arguments.find_learning_rate is not None:
            find_learning_rate(config, arguments.find_learning_rate, overwrite=arguments.overwrite)
        else:
            train(config, directory, **training_flags(arguments))

    return exit_code(command, STOPPED)


if __name__ == "__main__":
    sys.exit(main())
