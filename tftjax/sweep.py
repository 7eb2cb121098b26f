"""Train many configs and seeds in one compiled program: `python -m tftjax.sweep configs/*.json --seeds 5`."""

import argparse
import contextlib
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tftjax import runs, runtime, sweep_files, sweep_hosts, sweep_plan, sweep_progress
from tftjax.config import UserError, from_dict
from tftjax.config_errors import STOPPED, exit_code
from tftjax.data.loading import load_panel
from tftjax.evaluate import evaluate
from tftjax.sweep_hosts import ALONE, Host
from tftjax.sweep_plan import Member
from tftjax.sweep_program import member_program
from tftjax.sweep_results import write_results
from tftjax.sweep_train import Ended, Round, Trainer, read_ended, train_members, write_ended
from tftjax.train import check_data, check_parameters


def sweep(
    members: Sequence[Member],
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    mixed_data: bool = False,
    host: Host = ALONE,
) -> None:
    """Trains members, each into a run directory of its own, evaluates them and summarises the results.

    Args:
      members: of `sweep_plan.make_plan`.
      folder: of the sweep.
      resume: go on with the sweep that lies there, or begin it.
      overwrite: replace the sweep that lies there.
      quiet: print nothing but the messages that need action.
      mixed_data: whether members may forecast different rows.
      host: which of several processes this is; each trains its share, the first one summarises.
    Raises:
      UserError: see the parts; nothing that a user made is lost.
    """
    programs = sweep_plan.programs(members)
    quiet = quiet or host.index > 0
    if not quiet:
        print(f"{len(members)} members in {len(programs)} program(s), in {folder}")
    data = load_data(programs, mixed_data)
    if not (resume and (folder / "sweep.json").exists()):
        check_starts(programs, data, folder)
    with contextlib.ExitStack() as stack:
        if host.index == 0:
            sweep_files.create(folder, members, resume=resume, overwrite=overwrite)
            stack.enter_context(runs.lock(folder))
            for group, prepared in zip(programs, data, strict=True):
                for member in group:
                    sweep_files.create_member(folder, member, prepared.whole, resume=resume)
        same = hashlib.sha256(repr(list(members)).encode()).hexdigest()[:8]
        sweep_hosts.wait_for_all(host, f"made {same}")  # unless another process has other members
        train_share(folder, [host.share(group) for group in programs], data, host, quiet)
        sweep_hosts.wait_for_all(host, "trained")
        if host.index == 0:
            conclude(folder, members, quiet)


def train_share(
    folder: Path, programs: Sequence[Sequence[Member]], data: Sequence[runs.Data], host: Host, quiet: bool
) -> None:
    """Trains and evaluates one process's members of every program."""
    members = [member for group in programs for member in group]
    ended = read_ended(folder)
    with sweep_progress.choose(quiet)(members) as display:
        status = _Tally(members, ended, display)
        for number, (group, prepared) in enumerate(zip(programs, data, strict=True), start=1):
            if group:
                shared = member_program(group, prepared)
                show = status.shower(number, len(programs), shared.program)
                train_members(Trainer(shared, number, folder, host.index, _say, show), group, ended)
    baselines: dict = {}  # members on the same data share them
    for member in members:
        how, directory = ended[member.name], folder / "members" / member.name
        is_evaluated = how.evaluated and (directory / "evaluation" / "metrics.json").exists()
        if how.status != "diverged" and not is_evaluated:
            evaluate(runs.open_run(directory, _say), baselines, _say)
            ended[member.name] = how._replace(evaluated=True)
            write_ended(folder, host.index, ended)


def conclude(folder: Path, members: Sequence[Member], quiet: bool) -> None:
    """Writes tables and pictures of all members.

    Raises:
      UserError: there is nothing to compare, as every member diverged.
    """
    from tftjax import sweep_plots  # matplotlib takes half a second to import: only where it is needed

    results, summary = write_results(folder, members, read_ended(folder))
    if summary is None:
        raise UserError(f"every member diverged: see {folder / 'ended.json'}. Lower train.learning_rate.")
    sweep_plots.draw(folder, results)
    if not quiet:
        print(f"\n{summary}\nresults, summary and plots in {folder}")


def load_data(programs: Sequence[Sequence[Member]], mixed_data: bool) -> list[runs.Data]:
    """Loads and prepares the data of each program, each data set once.

    Raises:
      UserError: data that cannot be trained on, or that differ in what is forecast.
    """
    panels, prepared = {}, []
    for group in programs:
        config = group[0].config
        if config.data not in panels:
            panels[config.data] = load_panel(config.data)
        prepared.append(runs.prepare(panels[config.data], config))
        for member in group:
            check_data(member.config, prepared[-1])
    for group, data in zip(programs, prepared, strict=True):
        changed = _other_targets(prepared[0], data)
        if changed and not mixed_data:
            raise UserError(
                f"{programs[0][0].name} and {group[0].name} forecast different {changed} rows, so their "
                "metrics do not compare. Give them the same splits, or allow it with --mixed-data."
            )
    return prepared


def check_starts(programs: Sequence[Sequence[Member]], data: Sequence[runs.Data], folder: Path) -> None:
    """Makes the checks of `check_parameters`, once for each program and each run that members start from."""
    for group, prepared in zip(programs, data, strict=True):
        sources = {member.config.train.init_from: member.config for member in group}
        for config in sources.values():
            check_parameters(config, prepared, folder)


def _other_targets(a: runs.Data, b: runs.Data) -> str | None:
    """The first split of which two members would forecast other returns, other days or other series."""
    for split in ("val", "test"):
        one, other = (_targets(data, split) for data in (a, b))
        if not one.equals(other):
            return split
    return None


def _targets(data: runs.Data, split: str) -> pd.DataFrame:
    columns = [name for name in (data.panel.target, data.panel.id_column) if name]
    rows = [getattr(block.splits, split) for block in data.blocks]
    return data.panel.frame[columns].iloc[np.concatenate([np.arange(r.start, r.stop) for r in rows])]


class _Tally:
    """Counts, for the display, what the calls of the programs bring."""

    def __init__(self, members: Sequence[Member], ended: dict[str, Ended], display):
        self.members, self.ended, self.display = members, ended, display
        self.best: dict[str, float] = {}

    def shower(self, number: int, num_programs: int, program):
        """Returns what shows a Round of a program."""
        windows = program.steps_per_epoch * program.config.train.batch_size

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
            self.display.update(
                sweep_progress.Status(
                    number,
                    num_programs,
                    max((record["epoch"] for record in done.records.values()), default=0),
                    len(self.members) - len(over),
                    len(over) - diverged,
                    diverged,
                    sum(bool(record["warnings"]) for record in done.records.values()),
                    windows * len(done.records) / done.seconds,
                    done.epochs_left * done.seconds / count,
                    best,
                )
            )

        return show


def _say(message: str) -> None:
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
            folder,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            quiet=arguments.quiet,
            mixed_data=arguments.mixed_data,
            host=host,
        )
        sweep_hosts.leave(host)

    return exit_code(command, STOPPED)


if __name__ == "__main__":
    sys.exit(main())
