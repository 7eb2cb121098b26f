"""Search for the best settings of a config: `tftjax tune CONFIG --space space.json --trials 64`."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from tftjax.cli import (
    STOPPED,
    add_training_flags,
    command_parser,
    exit_code,
    importing,
    rerun,
    training_flags,
)

if __name__ == "__main__":  # before the imports that take a second
    rerun("tune")

from tftjax.config.loading import load
from tftjax.sweep.plan import read_space


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "tune",
        """
        Searches a space of settings for the lowest pinball loss of the validation rows, by Optuna (extra
        `tune`). Trials that fall behind are ended early, and the next take their place in the same compiled
        program. It ends with the best trials, the importance of the settings, the best config as a file that
        trains, and what the best of so many would be by chance alone. Test rows are not looked at.

        A search that was stopped goes on with --resume; a second process with --resume joins one that is
        running.
        """,
        "configs/control.json --space space.json --trials 64",
        "configs/control.json --space space.json --trials 200 --hours 2",
        "configs/control.json --space space.json --trials 200 --resume",
    )
    parser.add_argument("config", help="a JSON file, such as configs/control.json")
    parser.add_argument(
        "--space",
        type=Path,
        required=True,
        metavar="FILE",
        help='JSON with the settings to search and their ranges: {"train.learning_rate": {"low": 1e-4,'
        ' "high": 1e-2, "log": true}, "model.hidden_size": {"choices": [8, 16]}}',
    )
    parser.add_argument(
        "--trials", type=int, required=True, metavar="N", help="trials of the whole search, at most"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        metavar="N",
        help="train each trial from N seeds, and judge it by their mean; default: 3",
    )
    parser.add_argument(
        "--sampler",
        default="tpe",
        metavar="NAME",
        help="tpe proposes what was good before, random does not look, grid takes all combinations of"
        " choices; default: tpe",
    )
    parser.add_argument(
        "--pruner",
        default="median",
        metavar="NAME",
        help="median, hyperband, or none to train every trial to its end; default: median",
    )
    parser.add_argument(
        "--hours",
        type=float,
        metavar="H",
        help="begin no trial later than that; those in training are trained to their end",
    )
    add_training_flags(parser, "search", "the config's, with -search")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Searches a space for the config of the lowest validation loss."""
    arguments = make_parser().parse_args(argv)

    def command() -> None:
        # Not before the flags are known to be right, and where Ctrl-C is caught: it takes a second.
        with importing():
            from tftjax import runtime
            from tftjax.sweep.tune.folder import Search
            from tftjax.sweep.tune.run import tune

        config = load(arguments.config, arguments.set)
        name = arguments.name if arguments.name is not None else f"{config.name}-search"
        load(config, [f"name={json.dumps(name)}"])  # refused if it is no name of a folder
        space = read_space(arguments.space)
        search = Search(config, space, arguments.seeds, arguments.sampler, arguments.pruner)
        runtime.configure()
        flags = training_flags(arguments)
        tune(search, arguments.runs / name, trials=arguments.trials, hours=arguments.hours, **flags)

    return exit_code(command, STOPPED)
