"""Train many configs and seeds in one compiled program: `python -m tftjax.sweep configs/*.json --seeds 5`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tftjax import runtime
from tftjax.cli import STOPPED, add_training_flags, command_parser, exit_code, training_flags
from tftjax.config.loading import from_dict
from tftjax.errors import UserError
from tftjax.sweep import hosts, plan
from tftjax.sweep.plan import Member
from tftjax.sweep.run import conclude, load_data, sweep


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "sweep", main.__doc__, "configs/control.json --seeds 3 --grid loss.std_weight=0,0.1"
    )
    parser.add_argument("config", nargs="+", help="JSON files, such as configs/*.json")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="members a config: train.seed, train.seed + 1, ..."
    )
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=A,B,...",
        help="a setting and its values, such as loss.std_weight=0,0.01,0.1; several make all combinations",
    )
    parser.add_argument(
        "--sample", type=int, default=0, metavar="N", help="random search: N points drawn from --space"
    )
    parser.add_argument(
        "--space",
        type=Path,
        metavar="FILE",
        help='a JSON file: {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": true}, "KEY":'
        ' {"choices": [...]}}',
    )
    parser.add_argument("--mixed-data", action="store_true", help="members may differ in data and splits")
    add_training_flags(parser, "sweep", "the config's, or 'sweep' for several")
    hosts.add_arguments(parser)
    return parser


def plan_of(arguments: argparse.Namespace) -> tuple[list[Member], Path]:
    """Plans the members that the command's arguments ask for, and names the sweep's folder.

    Raises:
      UserError: see `plan.make_plan`.
    """
    if bool(arguments.sample) != (arguments.space is not None) or arguments.sample < 0:
        raise UserError("--sample N and --space FILE belong together, N at least 1.")
    name = arguments.name
    if name is None:
        name = Path(arguments.config[0]).stem if len(arguments.config) == 1 else "sweep"
    from_dict({"name": name}, "--name")  # refused if it is no name of a folder
    members = plan.make_plan(
        arguments.config,
        overrides=arguments.set,
        grid=arguments.grid,
        space=plan.read_space(arguments.space) if arguments.space else None,
        num_samples=arguments.sample,
        num_seeds=arguments.seeds,
        mixed_data=arguments.mixed_data,
    )
    return members, arguments.runs / name


def main(argv: Sequence[str] | None = None) -> int:
    """Trains configs x grid x sample x seeds side by side, evaluates all, and compares them."""
    arguments = _parser().parse_args(argv)
    runtime.configure()

    def command() -> None:
        members, folder = plan_of(arguments)
        data = load_data(members, arguments.mixed_data)
        with hosts.joined(arguments) as host:
            sweep(members, data, folder, conclude, host=host, **training_flags(arguments))

    return exit_code(command, STOPPED)


if __name__ == "__main__":
    sys.exit(main())
