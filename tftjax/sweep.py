"""Train many configs and seeds in one compiled program: `python -m tftjax.sweep configs/*.json --seeds 5`."""

import argparse
import contextlib
import hashlib
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tftjax import runtime, sweep_files, sweep_hosts, sweep_plan, sweep_progress
from tftjax.cli import STOPPED, exit_code
from tftjax.config.loading import from_dict
from tftjax.data.prepared import Data
from tftjax.ensemble import ensembles
from tftjax.errors import UserError
from tftjax.evaluate.evaluation import evaluate
from tftjax.evaluate.scoring import BaselineScores
from tftjax.storage import runs
from tftjax.sweep_data import load_data
from tftjax.sweep_ensembles import evaluate_ensembles
from tftjax.sweep_files import Ended, read_ended, write_ended
from tftjax.sweep_hosts import ALONE, Host
from tftjax.sweep_plan import Member
from tftjax.sweep_program import member_program
from tftjax.sweep_results import write_results
from tftjax.sweep_train import Round, Trainer, train_members
from tftjax.train import check_parameters
from tftjax.train_data import data_shapes


class Trained(NamedTuple):
    """A sweep whose members have all ended and are evaluated.

    Attributes:
      data: by name of a member.
      baselines: what `evaluate` knows by now.
    """

    folder: Path
    members: Sequence[Member]
    data: Mapping[str, Data]
    baselines: dict[Hashable, BaselineScores]


def sweep(
    members: Sequence[Member],
    data: Mapping[str, Data],
    folder: Path,
    conclude: Callable[[Trained], str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    host: Host = ALONE,
) -> None:
    """Trains members, each into a run directory of its own, evaluates them and summarises the results.

    Args:
      members: of `sweep_plan.make_plan`.
      data: of `load_data`.
      folder: of the sweep.
      conclude: writes the results, and returns what to print of them.
      resume: go on with the sweep that lies there, or begin it.
      overwrite: replace the sweep that lies there.
      quiet: print nothing but the messages that need action.
      host: which of several processes this is; each trains its share, the first one summarises.
    Raises:
      UserError: see the parts; nothing that a user made is lost.
    """
    quiet = quiet or host.index > 0
    baselines: dict[Hashable, BaselineScores] = {}  # members on the same data share them
    programs = sweep_plan.programs(members, {name: data_shapes(own) for name, own in data.items()})
    if not quiet:
        print(f"{len(members)} members in {len(programs)} program(s), in {folder}")
    if not (resume and (folder / "sweep.json").exists()):
        check_starts(programs, data, folder)
    with contextlib.ExitStack() as stack:
        if host.index == 0:
            sweep_files.create(folder, members, resume=resume, overwrite=overwrite)
            stack.enter_context(runs.lock(folder))
            for member in members:
                sweep_files.create_member(folder, member, data[member.name].whole, resume=resume)
        same = hashlib.sha256(repr(list(members)).encode()).hexdigest()[:8]
        sweep_hosts.wait_for_all(host, f"made {same}")  # unless another process has other members
        train_share(folder, [host.share(group) for group in programs], data, baselines, host, quiet)
        sweep_hosts.wait_for_all(host, "trained")
        if host.index == 0:
            text = conclude(Trained(folder, members, data, baselines))
            if not quiet:
                print(f"\n{text}\nresults, summary and plots in {folder}")


def train_share(
    folder: Path,
    programs: Sequence[Sequence[Member]],
    data: Mapping[str, Data],
    baselines: dict[Hashable, BaselineScores],
    host: Host,
    quiet: bool,
) -> None:
    """Trains and evaluates one process's members of every program; adds to `baselines`."""
    members = [member for group in programs for member in group]
    ended = read_ended(folder)
    with sweep_progress.choose(quiet)(members) as display:
        status = _Tally(members, ended, display)
        for number, group in enumerate(programs, start=1):
            if group:
                shared = member_program(group, data)
                show = status.shower(number, len(programs))
                train_members(Trainer(shared, number, folder, host.index, say, show), group, ended)
    for member in members:
        how, directory = ended[member.name], folder / "members" / member.name
        is_evaluated = how.evaluated and (directory / "evaluation" / "metrics.json").exists()
        if how.status != "diverged" and not is_evaluated:
            # Nobody looks at hundreds of folds one by one: who does, evaluates one anew.
            pictures = not member.fold
            evaluate(runs.open_run(directory, say, data[member.name]), baselines, say, pictures=pictures)
            ended[member.name] = how._replace(evaluated=True)
            write_ended(folder, host.index, ended)


def conclude(trained: Trained) -> str:
    """Evaluates the ensembles; writes tables and pictures of all members; returns the summary.

    Raises:
      UserError: there is nothing to compare, as every member diverged.
    """
    from tftjax.plots import sweeps  # matplotlib takes half a second to import: only where it is needed

    folder, members, ended = trained.folder, trained.members, read_ended(trained.folder)
    groups = {config: seeds for (config, _), seeds in ensembles(members, ended).items()}
    averaged = evaluate_ensembles(folder, groups, trained.data, trained.baselines, say)
    results, summary = write_results(folder, members, ended, averaged)
    if summary is None:
        raise all_diverged(folder)
    sweeps.draw(folder, results)
    return summary


def all_diverged(folder: Path) -> UserError:
    """What to say where there is nothing to compare."""
    return UserError(f"every member diverged: see {folder / 'ended.json'}. Lower train.learning_rate.")


def check_starts(programs: Sequence[Sequence[Member]], data: Mapping[str, Data], folder: Path) -> None:
    """Makes the checks of `check_parameters`, once for each program, fold and run that members start from."""
    for group in programs:
        for member in {(member.config.train.init_from, member.fold): member for member in group}.values():
            check_parameters(member.config, data[member.name], folder)


class _Tally:
    """Counts, for the display, what the calls of the programs bring."""

    def __init__(self, members: Sequence[Member], ended: dict[str, Ended], display):
        self.members, self.ended, self.display = members, ended, display
        self.best: dict[str, float] = {}

    def shower(self, number: int, num_programs: int):
        """Returns what shows a Round of a program."""

        def show(done: Round) -> None:
            for name, record in done.records.items():
                self.best[name] = min(self.best.get(name, np.inf), record["val/loss"])
            best: dict[str, list[float]] = {}
            for member in self.members:
                if member.name in self.best:
                    best.setdefault(member.group, []).append(self.best[member.name])
            over = [self.ended[member.name].status for member in self.members if member.name in self.ended]
            diverged = over.count("diverged")
            count = max(1, len(done.records))
            windows = sum(record["windows_per_s"] * record["seconds"] for record in done.records.values())
            self.display.update(
                sweep_progress.Status(
                    number,
                    num_programs,
                    max((record["epoch"] for record in done.records.values()), default=0),
                    len(self.members) - len(over),
                    len(over) - diverged,
                    diverged,
                    sum(bool(record["warnings"]) for record in done.records.values()),
                    windows / done.seconds,
                    done.epochs_left * done.seconds / count,
                    best,
                )
            )

        return show


def say(message: str) -> None:
    """Prints what needs action."""
    print(message, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tftjax.sweep", description=main.__doc__)
    parser.add_argument("config", nargs="+", help="JSON files, such as configs/*.json")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="train.seed, train.seed + 1, ...")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all members")
    parser.add_argument(
        "--grid", action="append", default=[], metavar="KEY=A,B,...", help="loss.std_weight=0,0.01,0.1"
    )
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="points drawn from --space")
    parser.add_argument("--space", type=Path, metavar="FILE", help='{KEY: {"low", "high", "log"}, ...}')
    parser.add_argument("--mixed-data", action="store_true", help="members may differ in data and splits")
    parser.add_argument("--name", help="name of the sweep; default: the config's, or 'sweep' for several")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs; default: runs")
    exclusive = parser.add_mutually_exclusive_group()
    exclusive.add_argument("--resume", action="store_true", help="go on where the sweep stopped")
    exclusive.add_argument("--overwrite", action="store_true", help="replace the sweep of this name")
    sweep_hosts.add_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")
    return parser


def plan_of(arguments: argparse.Namespace) -> tuple[list[Member], Path]:
    """The members that the command's arguments ask for, and the sweep's folder.

    Raises:
      UserError: see `sweep_plan.make_plan`.
    """
    if bool(arguments.sample) != (arguments.space is not None) or arguments.sample < 0:
        raise UserError("--sample N and --space FILE belong together, N at least 1.")
    name = arguments.name
    if name is None:
        name = Path(arguments.config[0]).stem if len(arguments.config) == 1 else "sweep"
    from_dict({"name": name}, "--name")  # refused if it is no name of a folder
    members = sweep_plan.make_plan(
        arguments.config,
        overrides=arguments.set,
        grid=arguments.grid,
        space=sweep_plan.read_space(arguments.space) if arguments.space else None,
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
        host = sweep_hosts.join(arguments.coordinator, arguments.process_id, arguments.num_processes)
        sweep(
            members,
            load_data(members, arguments.mixed_data),
            folder,
            conclude,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            quiet=arguments.quiet,
            host=host,
        )
        sweep_hosts.leave(host)

    return exit_code(command, STOPPED)


if __name__ == "__main__":
    sys.exit(main())
