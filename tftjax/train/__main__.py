"""Train one run, from config to evaluation: `python -m tftjax.train configs/balanced_01.json`."""

import json
import sys
from collections.abc import Sequence

from tftjax import runtime
from tftjax.cli import STOPPED, add_training_flags, command_parser, exit_code, training_flags
from tftjax.config.loading import load
from tftjax.train.run import train


def main(argv: Sequence[str] | None = None) -> int:
    """Trains one config, with checkpoints every epoch, and evaluates the result."""
    parser = command_parser("train", main.__doc__, "configs/control.json --set train.max_epochs=30")
    parser.add_argument("config", help="a JSON file, such as configs/balanced_01.json")
    add_training_flags(parser, "run", "the config's")
    arguments = parser.parse_args(argv)
    runtime.configure()

    def command() -> None:
        named = [f"name={json.dumps(arguments.name)}"] if arguments.name is not None else []
        config = load(arguments.config, [*arguments.set, *named])
        train(config, arguments.runs / config.name, **training_flags(arguments))

    return exit_code(command, STOPPED)


if __name__ == "__main__":
    sys.exit(main())
