"""Train configs anew for every year, and judge them on all years together.

    python -m tftjax.walkforward configs/control.json --first-test 2006 --last-test 2018 --seeds 3

A fold trains on `--train-years`, stops early on the `--val-years` after them, and is tested on the
`--test-years` after these; the next fold begins `--test-years` later, so that every test day is forecast
once. All folds and seeds are members of one sweep, in one compiled program where their shapes allow; each
is a run of its own, `members/<config>-<year>-s<seed>`, whose pictures `evaluate` draws on request. What comes
out: see walk_results.py.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from tftjax import runtime, sweep_hosts, walk_results
from tftjax.cli import STOPPED, exit_code
from tftjax.config.data import SplitDates
from tftjax.config.loading import Config, from_dict
from tftjax.data.prepared import Data
from tftjax.data.splits import Splits, folds
from tftjax.errors import UserError
from tftjax.sweep import say, sweep
from tftjax.sweep_data import load_data
from tftjax.sweep_plan import Member, make_plan
from tftjax.walk_pool import fold_facts

# Days after the first of January on which a year's data may begin and still count as whole, as it may end
# before the last of December.
HOLIDAYS = 31


def with_folds(members: Sequence[Member], dates: Sequence[SplitDates]) -> list[Member]:
    """Every member in every fold, fold after fold.

    Raises:
      UserError: configs that forecast other quantiles, or a purge under which targets of two splits overlap.
    """
    first = members[0].config
    for member in members:
        _check_walkable(member.config, first)
    found = []
    for fold in dates:
        year = str(fold.test.year)
        for member in members:
            raw = member.config.model_dump(mode="json")
            raw["name"] = f"{member.group}-{year}-s{member.config.train.seed}"
            raw["data"]["split_dates"] = fold.model_dump(mode="json")
            config = from_dict(raw, f"member {raw['name']}")
            found.append(Member(config.name, member.group, config, year))
    return found


def _check_walkable(config: Config, first: Config) -> None:
    purge, steps = config.data.purge, config.model.prediction_length
    if purge is not None and purge < steps:
        raise UserError(
            f"{config.name}: found data.purge {purge}, expected null or at least model.prediction_length"
            f" ({steps}): the targets of a fold's train, validation and test windows would overlap."
        )
    if config.model.quantiles != first.model.quantiles:
        raise UserError(
            f"{first.name} and {config.name} forecast the quantiles {first.model.quantiles} and"
            f" {config.model.quantiles}, whose pinball losses do not compare. Give them the same"
            " model.quantiles."
        )


def check_history(members: Sequence[Member], days: Mapping[str, pd.DatetimeIndex]) -> list[str]:
    """Refuses folds that would train on fewer years than they say.

    Args:
      days: of the data's rows, by name of a member.
    Returns:
      Messages about folds whose test years the data do not reach the end of.
    Raises:
      UserError: data that begin after a fold's train years do.
    """
    messages = {}
    for member in members:
        dates, index = member.config.data.split_dates, days[member.name]
        begins, ends = index.min(), index.max()
        if begins > pd.Timestamp(dates.train) + pd.Timedelta(days=HOLIDAYS):
            whole = begins.year + (begins.day_of_year > HOLIDAYS + 1)
            raise UserError(
                f"{member.name}: trains from {dates.train} on, but its data begin on {begins.date()}. Give"
                f" fewer --train-years (at most {max(0, dates.val.year - whole)} for this fold) or a later"
                f" --first-test (at least {dates.test.year + whole - dates.train.year})."
            )
        if ends < pd.Timestamp(dates.end) - pd.Timedelta(days=HOLIDAYS):
            messages[member.fold] = f"fold {member.fold} is tested to {ends.date()}, where the data end"
    return list(messages.values())


def plan_of(arguments: argparse.Namespace) -> tuple[list[Member], Path]:
    """The members that the command's arguments ask for, and the walk-forward's folder.

    Raises:
      UserError: a mistake in the configs, the seeds or the years.
    """
    dates = folds(
        arguments.first_test,
        arguments.last_test,
        train_years=arguments.train_years,
        val_years=arguments.val_years,
        test_years=arguments.test_years,
        expanding=arguments.expanding,
    )
    name = arguments.name
    if name is None:
        name = f"{Path(arguments.config[0]).stem}-walk" if len(arguments.config) == 1 else "walk"
    from_dict({"name": name}, "--name")  # refused if it is no name of a folder
    # Configs may differ in how they scale their data: `load_data` asks whether they forecast the same.
    seeds = make_plan(arguments.config, overrides=arguments.set, num_seeds=arguments.seeds, mixed_data=True)
    return with_folds(seeds, dates), arguments.runs / name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tftjax.walkforward", description=__doc__.partition("\n\n")[0]
    )
    parser.add_argument("config", nargs="+", help="JSON files, such as configs/control.json")
    parser.add_argument("--first-test", type=int, required=True, metavar="YEAR", help="of the first fold")
    parser.add_argument("--last-test", type=int, required=True, metavar="YEAR", help="of the last fold")
    parser.add_argument("--train-years", type=int, default=10, metavar="N", help="default: 10")
    parser.add_argument("--val-years", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--test-years", type=int, default=1, metavar="N", help="and step; default: 1")
    parser.add_argument(
        "--expanding", action="store_true", help="later folds train on all years from the first fold's on"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="train.seed, train.seed + 1, ...")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all members")
    parser.add_argument(
        "--name", help="name of the walk-forward; default: CONFIG-walk, or 'walk' for several"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs; default: runs")
    exclusive = parser.add_mutually_exclusive_group()
    exclusive.add_argument("--resume", action="store_true", help="go on where it stopped")
    exclusive.add_argument("--overwrite", action="store_true", help="replace the one of this name")
    sweep_hosts.add_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")
    return parser


def _introduction(members: Sequence[Member], data: Mapping[str, Data]) -> list[str]:
    """What is trained and tested: a line for the first and for the last fold."""
    lines = [f"{len({member.fold for member in members})} folds, from the first to the last:"]
    for member in (members[0], members[-1]):
        facts = fold_facts(data[member.name])
        spans = [f"{split} {facts[f'{split}_from']} to {facts[f'{split}_to']}" for split in Splits._fields]
        lines.append(f"  {', '.join(spans)}")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Trains configs x folds x seeds side by side, and judges them on all test years together."""
    arguments = _parser().parse_args(argv)
    runtime.configure()

    def command() -> None:
        members, folder = plan_of(arguments)
        data = load_data(members, mixed_data=False)
        messages = check_history(members, {name: own.panel.frame.index for name, own in data.items()})
        host = sweep_hosts.join(arguments.coordinator, arguments.process_id, arguments.num_processes)
        if not arguments.quiet and host.index == 0:
            print("\n".join([*_introduction(members, data), *messages]))
        sweep(
            members,
            data,
            folder,
            partial(walk_results.conclude, say=say),
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            quiet=arguments.quiet,
            host=host,
        )
        sweep_hosts.leave(host)

    return exit_code(command, STOPPED)


if __name__ == "__main__":
    sys.exit(main())
