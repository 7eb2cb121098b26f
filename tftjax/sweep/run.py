"""A sweep from its data to its summary: members trained in compiled programs, evaluated and compared."""

import contextlib
import functools
import json
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from tftjax.config.data import DataConfig
from tftjax.config.functions import NO_FUNCTIONS, Functions
from tftjax.config.hyperparameters import static_settings
from tftjax.data.checks import check_data, with_own_spread
from tftjax.data.loading import load_panel
from tftjax.data.panel import Panel
from tftjax.data.prepared import AFTER_LOADING, Data, prepare
from tftjax.errors import UserError, both
from tftjax.evaluate.evaluation import evaluate
from tftjax.evaluate.scoring import BaselineScores
from tftjax.runtime.processes import beside
from tftjax.storage import runs
from tftjax.storage.directories import SweepDirectory, lock
from tftjax.storage.runs import Ended
from tftjax.sweep import plan
from tftjax.sweep.ensembles import ensembles, evaluate_ensembles
from tftjax.sweep.members import claim, create_member, make_joint, read_ended, sources, write_ended
from tftjax.sweep.parts import Part
from tftjax.sweep.plan import Member
from tftjax.sweep.results import ranking, write_results
from tftjax.train import pictures, progress
from tftjax.train.cluster import EngineType
from tftjax.train.engine import MembersEngine, Training, data_shapes
from tftjax.train.loop import Group, Round, train_members
from tftjax.train.run import OWN_SPREAD, check_functions, check_parameters, each
from tftjax.train.tracking import FAILED, Tracking, check_trackers, kept_files


class Trained(NamedTuple):
    """A sweep whose members have all ended and are evaluated.

    Attributes:
      folder: the sweep's directory.
      data: each member's data, by its name.
      baselines: scores of baselines that `evaluate` has computed so far.
      functions: functions that were handed in.
    """

    folder: Path
    members: Sequence[Member]
    data: Mapping[str, Data]
    baselines: dict[Hashable, BaselineScores]
    functions: Functions = NO_FUNCTIONS


def sweep(
    members: Sequence[Member],
    data: Mapping[str, Data],
    folder: Path,
    conclude: Callable[[Trained], str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    part: Part | None = None,
    engine: EngineType = MembersEngine,
    functions: Functions = NO_FUNCTIONS,
    track: Sequence[str] = (),
) -> None:
    """Trains members, each into a run directory of its own, evaluates and compares them.

    Args:
      members: what `plan.make_plan` returns.
      data: what `load_data` returns.
      folder: the sweep's directory.
      conclude: writes the results; returns what to print.
      resume: go on with the sweep in the folder, or begin it; of a part always so.
      overwrite: replace the sweep in the folder.
      quiet: print nothing but messages to act on.
      part: trains and evaluates these members only, beside other parts; nothing is summarised.
      engine: on what members are trained.
      functions: functions that were handed in, which the members' configs record.
      track: names in `train.tracking.TRACKERS`.
    Raises:
      UserError: see the parts; nothing that a user made is lost.
    """
    check_trackers(track)
    for config in {member.group: member.config for member in members}.values():
        check_functions(config, functions)
    given = members
    members = [member._replace(config=with_own_spread(member.config, data[member.name])) for member in given]
    baselines: dict[Hashable, BaselineScores] = {}  # members on the same data share them
    programs = plan.programs(members, {name: data_shapes(values) for name, values in data.items()})
    own, tag = (part.share(members), part.label) if part else (members, "")
    if not quiet:
        _introduce(given, members, part, f"{len(programs)} program(s), in {folder}")
    if not ((resume or part) and SweepDirectory(folder).plan.exists()):
        check_starts(programs, data, folder, functions)
    with contextlib.ExitStack() as locks:
        if part:
            make_joint(folder, members)
        else:
            locks.enter_context(claim(folder, members, resume=resume, overwrite=overwrite))
        ended = locks.enter_context(_own_members(folder, own, data, resume=resume or part is not None))
        tracking = locks.enter_context(Tracking(track, SweepDirectory(folder), folder.name))
        if own:  # a part of more than there are members has none
            with evaluations(folder, own, data, ended, baselines, functions, tag, tracking) as note:
                train_share(folder, programs, own, data, ended, quiet, functions, tag, engine, tracking, note)
        if part is None:
            text = conclude(Trained(folder, members, data, baselines, functions))
            tracking.end(kept=kept_files(SweepDirectory(folder)))
            if not quiet:
                print(f"\n{text}\nresults, summary and plots in {folder}")
        elif not quiet:
            print(f"\npart {part.number}/{part.count} is trained. After the last one: --conclude {folder}")


@contextlib.contextmanager
def _own_members(
    folder: Path, members: Sequence[Member], data: Mapping[str, Data], *, resume: bool
) -> Iterator[dict[str, Ended]]:
    """Makes members' directories, and locks those that are not done; gives who has ended."""
    like: dict[int, Path] = {}
    for member in members:
        panel = data[member.name].whole
        like[id(panel)] = create_member(folder, member, panel, resume=resume, like=like.get(id(panel)))
    ended = read_ended(folder)
    with contextlib.ExitStack() as locks:
        for member in members:
            if member.name not in ended or not ended[member.name].evaluated:
                locks.enter_context(lock(SweepDirectory(folder).member(member.name)))
        yield ended


def _introduce(given: Sequence[Member], members: Sequence[Member], part: Part | None, where: str) -> None:
    """Prints how many members there are, and the target_std of those that got that of their train rows."""
    some = f"part {part.number}/{part.count}, {len(part.share(members))} of " if part else ""
    print(f"{some}{len(members)} members in {where}")
    own = [member for member, before in zip(members, given, strict=True) if member != before]
    if own:
        spreads = sorted({member.config.loss.target_std for member in own})
        to = f" to {spreads[-1]:g}" if len(spreads) > 1 else ""
        print(f"loss.target_std {spreads[0]:g}{to} in {len(own)} of them: {OWN_SPREAD}")


def train_share(
    folder: Path,
    programs: Sequence[Sequence[Member]],
    members: Sequence[Member],
    data: Mapping[str, Data],
    ended: dict[str, Ended],
    quiet: bool,
    functions: Functions,
    part: str,
    engine: EngineType,
    tracking: Tracking,
    note: Callable[[], None],
) -> None:
    """Trains some members of programs; adds to `ended`.

    A program is gone through again where its members start from members of a later one.

    Args:
      note: is called after every round.
    """
    groups = {member.name: member.group for member in members}
    view = progress.SweepView(groups, ended, len(programs))
    shares = [[member for member in program if member.name in groups] for program in programs]
    with progress.display(view, quiet) as display:
        while any(name not in ended for name in groups):
            for view.program, own in enumerate(shares, start=1):
                if own:
                    configs = {member.name: member.config for member in own}
                    track = functools.partial(tracking.update, configs=configs.__getitem__)
                    show = each(display, track, lambda _: note())
                    train_program(folder, view.program, own, data, ended, part, show, functions, engine)


@contextlib.contextmanager
def evaluations(
    folder: Path,
    members: Sequence[Member],
    data: Mapping[str, Data],
    ended: dict[str, Ended],
    baselines: dict[Hashable, BaselineScores],
    functions: Functions,
    part: str,
    tracking: Tracking,
) -> Iterator[Callable[[], None]]:
    """Evaluates and draws members that have ended, in a thread: cores that training leaves idle do it.

    Gives a function to call between epochs: it begins what has ended since, and notes in `ended` what is
    evaluated. When the block ends, all members are evaluated, or what an evaluation raised is raised: the
    others' training does not end by it. Adds to `baselines`. What was evaluated before is left as it is.
    """
    drawn: deque[Member] = deque()
    running: deque[Future] = deque()

    def is_evaluated(member: Member) -> bool:
        written = SweepDirectory(folder).member(member.name).evaluation.metrics.exists()
        return member.name in ended and ended[member.name].evaluated and written

    left = {member.name: member for member in members if not is_evaluated(member)}

    def note() -> None:
        if not any(future.done() and future.exception() for future in running):
            for member in [left.pop(name) for name in list(left) if name in ended]:
                if ended[member.name].status == "diverged":
                    tracking.end(member.name, status=FAILED)
                else:
                    own = folder, member, data[member.name], baselines, functions
                    running.append(
                        executor.submit(_evaluate, *own, call, functools.partial(drawn.append, member))
                    )
        while running and running[0].done() and running[0].exception() is None:
            running.popleft()
        if drawn:
            _note_evaluated(folder, drawn, ended, part, tracking)

    # Nobody looks at hundreds of folds one by one: who does, evaluates one anew.
    with beside(sum(not member.fold for member in left.values())) as call:
        executor = ThreadPoolExecutor(1)
        try:
            # On a GPU an evaluation would take memory that training counts on: there it waits.
            yield note if jax.default_backend() == "cpu" else lambda: None
            note()
            while running:
                running[0].result()  # waits for it
                note()
        finally:
            executor.shutdown(cancel_futures=True)
    _note_evaluated(folder, drawn, ended, part, tracking)


def _evaluate(folder, member: Member, data: Data, baselines, functions: Functions, call, after) -> None:
    """Evaluates a member, and draws it by `call`; calls `after` when that is done."""
    run = runs.open_run(SweepDirectory(folder).member(member.name).path, data, functions)
    evaluated = evaluate(run, baselines)
    if member.fold:
        after()
    else:
        from tftjax.plots import theme  # half a second of matplotlib: only where something is drawn

        call(theme.save_each, pictures.drawings(run, evaluated), after)


def _note_evaluated(folder, drawn: deque[Member], ended: dict[str, Ended], part: str, tracking) -> None:
    """Takes members out of `drawn`, and writes that they are evaluated."""
    names = [drawn.popleft().name for _ in range(len(drawn))]
    ended |= {name: ended[name]._replace(evaluated=True) for name in names}
    write_ended(folder, part, ended)
    for name in names:
        tracking.end(name, kept_files(SweepDirectory(folder).member(name)))


def train_program(
    folder: Path,
    number: int,
    members: Sequence[Member],
    data: Mapping[str, Data],
    ended: dict[str, Ended],
    part: str,
    show: Callable[[Round], Any],
    functions: Functions,
    engine: EngineType = MembersEngine,
) -> None:
    """Trains members of one program until each has ended; adds to `ended`.

    Args:
      part: label of the part that they are of; empty if the sweep is not divided.
    """
    sweep = SweepDirectory(folder)
    trainings = [
        Training(member.name, member.config, data[member.name], sweep.member(member.name).path, functions)
        for member in members
    ]
    group = Group(
        trainings,
        label=f"program {number}: ",
        checkpoints=sweep.program_checkpoints(number, part),
        restored=sweep.all_checkpoints(number),
        write_ended=functools.partial(write_ended, folder, part),
        after=sources(folder, members),
    )
    train_members(group, engine, ended, show)


def conclude(trained: Trained) -> str:
    """Evaluates the ensembles; writes tables and pictures of all members; returns the summary.

    Raises:
      UserError: there is nothing to compare, as every member diverged.
    """
    from tftjax.plots import sweeps  # matplotlib takes half a second to import: only where it is needed

    folder, members, ended = trained.folder, trained.members, read_ended(trained.folder)
    groups = {config: seeds for (config, _), seeds in ensembles(members, ended).items()}
    averaged = evaluate_ensembles(folder, groups, trained.data, trained.baselines, trained.functions)
    results, summary = write_results(folder, members, ended, averaged)
    if summary is None:
        raise UserError(
            f"every member diverged: see {SweepDirectory(folder).ended()}. Lower train.learning_rate."
        )
    sweeps.draw(folder, results, ranking(results))
    return summary


def check_starts(
    programs: Sequence[Sequence[Member]], data: Mapping[str, Data], folder: Path, functions: Functions
) -> None:
    """Calls `check_parameters` once for each program, fold and run that members start from.

    Raises:
      UserError: see `check_parameters`; or a member validates days that the member was trained on which it
        starts from.
    """
    places = {name: place for place, name in enumerate(data)}
    after = {
        name: source
        for name, source in sources(folder, [member for group in programs for member in group]).items()
        if places.get(source, len(places)) < places[name]  # else it is refused, as any run in the folder
    }
    for group in programs:
        starts = {
            (None if member.name in after else member.config.train.init_from, member.fold): member
            for member in group
        }
        for (source, _), member in starts.items():
            train = member.config.train.model_copy(update={"init_from": source})
            config = member.config.model_copy(update={"train": train})
            check_parameters(config, data[member.name], folder, functions)
    for name, source in after.items():
        common = _days(data[name], "val").intersection(_days(data[source], "train"))
        if len(common):
            raise UserError(
                f"{name}: validates {len(common)} days that {source}, which it starts from, is trained on,"
                f" such as {common[0].date()}: no epoch can be chosen by them. Use one block of validation"
                f" (data.val_blocks), or no warm start ({both('--warm-start')})."
            )


def _days(data: Data, split: str) -> pd.DatetimeIndex:
    """The days of a split's target rows."""
    parts = [part for block in data.blocks for part in block.stretches(split)]
    return data.panel.frame.index[np.concatenate([np.arange(p.start, p.stop) for p in parts])].unique()


def load_data(
    members: Sequence[Member], mixed_data: bool, panel: Panel | None = None, folder: Path | None = None
) -> dict[str, Data]:
    """Loads and prepares the data of each member, by its name; each data set and each split of it once.

    Args:
      mixed_data: whether members, of the same fold, may forecast different rows.
      panel: the data of all members; None loads what their configs name.
      folder: the sweep's that is gone on with, if there is one in it; None for one that begins.
    Raises:
      UserError: data that cannot be trained on, or that differ in what is forecast.
    """
    panels, prepared, data = {}, {}, {}
    for member in members:
        config = member.config
        source = config.data.model_copy(update={key: getattr(DataConfig(), key) for key in AFTER_LOADING})
        if source not in panels:
            panels[source] = load_panel(config.data) if panel is None else panel
            if folder is not None:
                directory = SweepDirectory(folder).member(member.name).path
                panels[source] = runs.panel_to_go_on(directory, panels[source])
        # What a model asks of its data follows from its static settings.
        key = config.data, json.dumps(static_settings(config))
        try:
            if key not in prepared:
                prepared[key] = prepare(panels[source], config)
            check_data(config, prepared[key])
        except UserError as error:
            raise UserError(f"{member.name}: {error}") from error
        data[member.name] = prepared[key]
    firsts = {member.fold: member.name for member in reversed(members)}
    for member in members:
        first, name = firsts[member.fold], member.name
        if mixed_data or data[first] is data[name]:
            continue
        for split in ("val", "test"):
            if not _targets(data[first], split).equals(_targets(data[name], split)):
                raise UserError(
                    f"{first} and {name} forecast different {split} rows, so their metrics do not compare. "
                    "Give them the same splits; the command `tftjax sweep` allows it with --mixed-data."
                )
    return data


def _targets(data: Data, split: str) -> pd.DataFrame:
    """The returns, days and series that a split's forecasts are of."""
    columns = [name for name in (data.panel.target, data.panel.id_column) if name]
    rows = [getattr(block.splits, split) for block in data.blocks]
    return data.panel.frame[columns].iloc[np.concatenate([np.arange(r.start, r.stop) for r in rows])]
