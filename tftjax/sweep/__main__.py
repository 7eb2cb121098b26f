"""Train many configs and seeds in one compiled program: `python -m tftjax.sweep configs/*.json --seeds 5`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tftjax.cli import (
    STOPPED,
    add_sharing_flags,
    add_training_flags,
    check_sharing,
    command_parser,
    exit_code,
    importing,
    rerun,
    training_flags,
)

if __name__ == "__main__":  # before the imports that take a second
    rerun("sweep")

from tftjax.config.loading import from_dict
from tftjax.sweep import plan
from tftjax.sweep.plan import Member


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "sweep",
        """
        Trains many configs and seeds side by side, judges all, and says which config to use and whether it
        can be told apart from the next and from the best baseline. Members whose configs differ in numbers
        only, such as learning rates and weights of penalties, share one compiled program.

        What is trained: configs x --grid x --sample x --seeds. Configs are chosen on validation rows; test
        rows are for the one that was chosen.
        """,
        "configs/*.json --seeds 5",
        "configs/control.json --grid loss.std_weight=0,0.01,0.1 --seeds 3",
        "configs/control.json --sample 20 --space space.json",
        "configs/*.json --seeds 5 --on ray",
        "configs/*.json --seeds 5 --part 2/8",
        "--conclude runs/sweep",
    )
    parser.add_argument("config", nargs="*", help="JSON files, such as configs/*.json")
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="train each config from N seeds: train.seed, train.seed + 1, ...; default: 1",
    )
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=A,B,...",
        help="try each of these values for a setting, as in --grid loss.std_weight=0,0.01,0.1; once for each"
        " setting, all combined",
    )
    parser.add_argument(
        "--sample", type=int, default=0, metavar="N", help="random search: try N points drawn from --space"
    )
    parser.add_argument(
        "--space",
        type=Path,
        metavar="FILE",
        help='JSON with the settings to draw and their ranges: {"train.learning_rate": {"low": 1e-4, "high":'
        ' 1e-2, "log": true}, "model.hidden_size": {"choices": [8, 16]}}',
    )
    parser.add_argument(
        "--mixed-data",
        action="store_true",
        help="let members differ in data and splits, so that their numbers do not compare",
    )
    add_training_flags(parser, "sweep", "the config's, or 'sweep' for several")
    add_sharing_flags(parser, "sweep")
    return parser


def plan_of(arguments: argparse.Namespace) -> tuple[list[Member], Path]:
    """Plans the members that the command's arguments ask for, and names the sweep's folder.

    Raises:
      UserError: see `plan.make_plan`.
    """
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
    parser = make_parser()
    arguments = parser.parse_args(argv)
    check_sharing(parser, arguments, ["config"])

    def command() -> None:
        # Not before the flags are known to be right, and where Ctrl-C is caught: it takes a second.
        with importing():
            from tftjax import runtime
            from tftjax.sweep.parts import gather, read_part
            from tftjax.sweep.run import conclude, load_data, sweep
            from tftjax.train import engine_on

        if arguments.conclude:
            runtime.configure()
            members = gather(arguments.conclude, "sweep")
            data = load_data(members, mixed_data=True, folder=arguments.conclude[0])
            sweep(members, data, arguments.conclude[0], conclude, resume=True, quiet=arguments.quiet)
            return
        part = read_part(arguments.part) if arguments.part else None
        members, folder = plan_of(arguments)
        with engine_on(arguments.on, arguments.actors, arguments.actor_cpus, arguments.actor_gpus) as engine:
            runtime.configure()
            begun = folder if arguments.resume or part else None
            data = load_data(members, arguments.mixed_data, folder=begun)
            flags = training_flags(arguments)
            sweep(members, data, folder, conclude, part=part, engine=engine, **flags)

    return exit_code(command, STOPPED)
