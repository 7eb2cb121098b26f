"""Train a model for every test period: `python -m tftjax.walkforward CONFIG... --first-test 2006`."""

import argparse
from collections.abc import Mapping, Sequence
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
    rerun("walkforward")

from tftjax.config.loading import from_dict
from tftjax.data.splits import Splits
from tftjax.sweep.plan import Member, make_plan
from tftjax.walkforward.plan import (
    TEST_YEARS,
    TRAIN_YEARS,
    VAL_YEARS,
    YEAR,
    check_history,
    folds,
    with_folds,
)

LENGTHS = (
    *(f"{split}_{unit}" for split in Splits._fields for unit in ("years", "months")),
    "stride_months",
    "train_every",
)


def plan_of(arguments: argparse.Namespace) -> tuple[list[Member], Path]:
    """The members that the command's arguments ask for, and the walk-forward's folder.

    Raises:
      UserError: a mistake in the configs, the seeds or the dates.
    """
    dates = folds(
        arguments.first_test,
        arguments.last_test,
        **{name: getattr(arguments, name) for name in LENGTHS},
        expanding=arguments.expanding,
    )
    name = arguments.name
    if name is None:
        name = f"{Path(arguments.config[0]).stem}-walk" if len(arguments.config) == 1 else "walk"
    from_dict({"name": name}, "--name")  # refused if it is no name of a folder
    # Configs may differ in how they scale their data: `load_data` asks whether they forecast the same.
    seeds = make_plan(arguments.config, overrides=arguments.set, num_seeds=arguments.seeds, mixed_data=True)
    folder = arguments.runs / name
    start = folder if arguments.warm_start else None
    return with_folds(seeds, dates, start, arguments.test_months or YEAR * arguments.test_years), folder


def _add_folds(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `folds` takes."""
    parser.add_argument(
        "--first-test", metavar="YEAR", help="year (2006) or month (2006-04) of the first test; required"
    )
    parser.add_argument("--last-test", metavar="YEAR", help="year or month of the last test; required")
    for split, years, use in (
        ("train", TRAIN_YEARS, "to train on"),
        ("val", VAL_YEARS, "of validation"),
        ("test", TEST_YEARS, "to forecast"),
    ):
        length = parser.add_mutually_exclusive_group()
        length.add_argument(
            f"--{split}-years", type=int, default=years, metavar="N", help=f"years {use}; default: {years}"
        )
        length.add_argument(
            f"--{split}-months", type=int, metavar="N", help=f"months {use}, in place of years"
        )
    parser.add_argument(
        "--stride-months",
        type=int,
        metavar="N",
        help="months from one test to the next; default: the length of the test, so that they join up",
    )
    parser.add_argument(
        "--train-every",
        type=int,
        default=1,
        metavar="K",
        help="train anew for every K-th test only; each training forecasts K of them; default: 1",
    )
    parser.add_argument(
        "--expanding", action="store_true", help="later folds train on all rows from the first fold's on"
    )


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "walkforward",
        """
        Trains a model for every test year, on the years before it only, and judges all test years together:
        what a user would have had who trained anew every year. Each year is a fold: --train-years to train
        on, then --val-years to choose the epoch, then --test-years to forecast. Months in place of years make
        folds of months or quarters.
        """,
        "configs/control.json --first-test 2006 --last-test 2018",
        "my.json --first-test 2006 --last-test 2007 --test-months 3",
    )
    parser.add_argument("config", nargs="*", help="JSON files, such as configs/control.json")
    _add_folds(parser)
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="train each fold from N seeds: train.seed, train.seed + 1, ...; default: 1",
    )
    parser.add_argument(
        "--warm-start",
        action="store_true",
        help="each fold starts from the best parameters of the fold before, in place of random ones: of the"
        " same config and seed",
    )
    parser.add_argument(
        "--refit",
        action="store_true",
        help="then train every fold anew on its validation rows too, for the epochs that validation chose, as"
        " a walk-forward of its own in NAME-refit",
    )
    add_training_flags(parser, "walk-forward", "CONFIG-walk, or 'walk' for several")
    add_sharing_flags(parser, "walk-forward")
    return parser


def _introduction(num_folds: int, first_and_last: Sequence[Mapping[str, object]]) -> list[str]:
    """Lines with the days of the splits in the first and in the last fold, of what `fold_facts` returns."""
    lines = [f"{num_folds} folds, from the first to the last:"]
    for facts in first_and_last:
        spans = [f"{split} {facts[f'{split}_from']} to {facts[f'{split}_to']}" for split in Splits._fields]
        lines += [f"  {', '.join(spans[:2])},", f"    {spans[2]}"]
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Trains configs x folds x seeds side by side, and judges them on all test years together."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    check_sharing(parser, arguments, ["config", "first_test", "last_test"], ["refit"])
    if arguments.part and arguments.refit:
        parser.error("--refit needs all folds: leave it out of --part, and give it to --conclude")

    def command() -> None:
        # Not before the flags are known to be right, and where Ctrl-C is caught: it takes a second.
        with importing():
            from tftjax import runtime
            from tftjax.sweep.parts import gather, read_part
            from tftjax.sweep.run import load_data, sweep
            from tftjax.train import engine_on
            from tftjax.walkforward import refit, results
            from tftjax.walkforward.pool import fold_facts

        def fit_anew(folder, data, flags) -> None:
            if not arguments.quiet:
                print("\ntrained anew on train and validation rows, for the epochs that validation chose:")
            refit.refit(folder, data, None, **flags)

        if arguments.conclude:
            runtime.configure()
            members = gather(arguments.conclude, "walk-forward")
            data = load_data(members, mixed_data=False, folder=arguments.conclude[0])
            flags = {"resume": True, "quiet": arguments.quiet}
            sweep(members, data, arguments.conclude[0], results.conclude, **flags)
            if arguments.refit:
                fit_anew(arguments.conclude[0], data, flags)
            return
        part = read_part(arguments.part) if arguments.part else None
        members, folder = plan_of(arguments)
        if arguments.refit:
            refit.check_free(folder, **training_flags(arguments))
        with engine_on(arguments.on, arguments.actors, arguments.actor_cpus, arguments.actor_gpus) as engine:
            runtime.configure()
            begun = folder if arguments.resume or part else None
            data = load_data(members, mixed_data=False, folder=begun)
            days = {name: values.panel.frame.index for name, values in data.items()}
            messages = check_history(members, days)
            if not arguments.quiet:
                facts = [fold_facts(data[member.name]) for member in (members[0], members[-1])]
                num_folds = len({member.fold for member in members})
                print("\n".join([*_introduction(num_folds, facts), *messages]))
            flags = training_flags(arguments) | {"engine": engine}
            sweep(members, data, folder, results.conclude, part=part, **flags)
            if arguments.refit:
                fit_anew(folder, data, flags)

    return exit_code(command, STOPPED)
